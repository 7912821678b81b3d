//! Panics that go no further.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls what is a program's own where nothing may unwind: into C, out of an allocator, with work
/// half done. `None` when it panics; whatever it left behind is its own affair.
#[inline]
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(payload) => {
            discard(payload);
            None
        }
    }
}

/// Ends a caught panic. A plain message is dropped; any other payload is leaked, since its own
/// destructor may panic.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if !payload.is::<String>() && !payload.is::<&'static str>() {
        std::mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a payload's own");
        }
    }

    #[test]
    fn no_payload_panics_anew() {
        discard(catch_unwind(|| panic!("{}", 1)).unwrap_err());
        discard(catch_unwind(|| panic!("plain")).unwrap_err());
        discard(catch_unwind(|| panic_any(Bomb)).unwrap_err());
    }

    #[test]
    fn nothing_unwinds() {
        assert_eq!(caught(|| 1), Some(1));
        for payload in [Box::new("once") as Box<dyn Any + Send>, Box::new(Bomb)] {
            assert_eq!(caught(|| std::panic::resume_unwind(payload)), None::<u8>);
        }
    }
}

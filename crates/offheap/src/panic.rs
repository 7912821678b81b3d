//! What is left of a panic that goes no further.

use std::any::Any;

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
    use std::panic::{catch_unwind, panic_any};

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
}

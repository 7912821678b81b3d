//! Calls of a program's own pools where nothing may unwind.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `call` gives; `None` when it panics. A pool that unwinds is left as by a refusal: its own
/// state is its own affair.
#[inline]
pub(crate) fn contained<T>(call: impl FnOnce() -> Option<T>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result,
        Err(payload) => {
            // Its destructor may panic, too; what that would throw has to stay where it is.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(payload);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unwinds() {
        struct Throws;
        impl Drop for Throws {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new(()));
            }
        }
        assert_eq!(contained(|| Some(1)), Some(1));
        assert_eq!(contained(|| None::<u8>), None);
        for payload in [
            Box::new("once") as Box<dyn std::any::Any + Send>,
            Box::new(Throws),
        ] {
            let result: Option<u8> = contained(|| std::panic::resume_unwind(payload));
            assert_eq!(result, None);
        }
    }
}

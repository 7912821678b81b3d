//! Panics that go no further.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Ends what an export kept. Debug hooks report damage by a panic, which must not go into C.
pub(crate) fn end<T>(kept: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(move || drop(kept)))
        // A payload's own destructor may panic, except a plain message's.
        && !payload.is::<String>()
        && !payload.is::<&'static str>()
    {
        std::mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new(1));
        }
    }

    #[test]
    fn what_panics_when_it_ends_ends_quietly() {
        end(Bomb);
    }
}

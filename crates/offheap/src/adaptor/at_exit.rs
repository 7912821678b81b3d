//! What adaptors do when the process ends.

use crate::domain::Unhooked;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError, Weak};

/// Is told once that the process exits. Thread-locals may be gone by then; other threads may run.
pub(super) trait AtExit: Send + Sync {
    fn at_exit(&self);
}

type List = allocator_api2::vec::Vec<Weak<dyn AtExit>, Unhooked>;

static LIST: Mutex<List> = Mutex::new(List::new_in(Unhooked));

/// Tells `what` when the process exits, if it then still exists: at `exit` and the end of `main`,
/// not at an abort or a signal. Without memory for the list, nothing is told.
pub(super) fn at_exit(what: Weak<dyn AtExit>) {
    static REGISTERED: Once = Once::new();
    // Not before the first need: an unused library leaves the program's exit alone.
    REGISTERED.call_once(|| {
        // SAFETY: a function without preconditions, and ours is there until the process ends or
        // the library is unloaded, which runs it first.
        unsafe { libc::atexit(tell_all) };
    });
    let mut gone = List::new_in(Unhooked);
    let mut refused = None;
    let mut list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
    if list.len() == list.capacity() && gone.try_reserve(list.len()).is_ok() {
        let mut i = 0;
        while i < list.len() {
            if list[i].strong_count() == 0 {
                gone.push(list.swap_remove(i));
            } else {
                i += 1;
            }
        }
    }
    if list.try_reserve(1).is_ok() {
        list.push(what);
    } else {
        refused = Some(what);
    }
    drop(list);
    // A last weak pointer gives memory back: not under the lock.
    drop((gone, refused));
}

extern "C" fn tell_all() {
    // A panic must not leave a C callback.
    drop(catch_unwind(AssertUnwindSafe(|| {
        let list = {
            let mut list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *list, List::new_in(Unhooked))
        };
        for what in list.iter().filter_map(Weak::upgrade) {
            drop(catch_unwind(AssertUnwindSafe(|| what.at_exit())));
            // The last handle to a pool may end here; it can wait for the system.
            std::mem::forget(what);
        }
        std::mem::forget(list);
    })));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Nothing;

    impl AtExit for Nothing {
        fn at_exit(&self) {}
    }

    #[test]
    fn the_list_does_not_grow_with_what_is_gone() {
        let kept = Arc::new(Nothing);
        let weak = Arc::downgrade(&kept);
        at_exit(weak);
        for _ in 0..10_000 {
            at_exit(Arc::downgrade(&Arc::new(Nothing)) as Weak<dyn AtExit>);
        }
        let list = LIST.lock().unwrap();
        assert!(list.len() < 1000, "{}", list.len());
        let kept: Weak<dyn AtExit> = Arc::downgrade(&kept) as Weak<dyn AtExit>;
        assert!(list.iter().any(|weak| weak.ptr_eq(&kept)));
    }
}

//! Frames of a language above, told after the call.
//!
//! ```text
//!   JavaScript ──▶ binding ──▶ pool ──▶ Origin::capture: makes this call's Foreign, empty
//!       ▲                                   (one for all events of the call)
//!       └── binding: take_pending() ◀── back from the call; the same JavaScript frames still stand,
//!           so their stack is taken now, outside of every allocator, and put in
//! ```
//!
//! No JavaScript runs inside of an allocator, and nothing of the runtime is retained.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, OnceLock};

/// What the language above says of one call.
#[derive(Debug, Default)]
pub struct Foreign {
    stack: OnceLock<Arc<str>>,
    tags: OnceLock<Arc<str>>,
}

thread_local! {
    /// Whether a language above calls from this thread and will tell.
    static TELLS: Cell<bool> = const { Cell::new(false) };
    static PENDING: RefCell<Option<Arc<Foreign>>> = const { RefCell::new(None) };
    static CURRENT: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

impl Foreign {
    /// Tells the frames of the call, one a line, the innermost first. Only the first time counts.
    pub fn set_stack(&self, stack: Arc<str>) {
        drop(self.stack.set(stack));
    }

    /// Tells the tags that were in force. Only the first time counts.
    pub fn set_tags(&self, tags: Arc<str>) {
        drop(self.tags.set(tags));
    }

    /// The frames, one a line, the innermost first.
    pub fn stack(&self) -> Option<&Arc<str>> {
        self.stack.get()
    }

    /// The tags.
    pub fn tags(&self) -> Option<&Arc<str>> {
        self.tags.get()
    }
}

/// Says whether a binding on this thread will call [`take_pending`] after each call.
pub fn this_thread_has_foreign_frames(tells: bool) {
    TELLS.set(tells);
    if !tells {
        drop_pending();
    }
}

/// The [`Foreign`] of the call that runs on this thread; `None` where nobody will tell.
pub(super) fn pending() -> Option<Arc<Foreign>> {
    if !TELLS.get() {
        return None;
    }
    PENDING
        .try_with(|pending| {
            let mut pending = pending.try_borrow_mut().ok()?;
            Some(Arc::clone(pending.get_or_insert_default()))
        })
        .ok()
        .flatten()
}

/// What the events of the call that just ended on this thread wait for.
pub fn take_pending() -> Option<Arc<Foreign>> {
    PENDING
        .try_with(|pending| pending.try_borrow_mut().ok()?.take())
        .ok()
        .flatten()
}

/// Ends a stretch of work that no call of the language above stands for (a finalizer, say).
pub fn drop_pending() {
    drop(take_pending());
}

/// Tells this thread's frames of the language above beforehand, one a line: for hooks that decide by
/// the stack, which cannot wait until the call is back ([`Failing`](crate::Failing)). `None` ends it.
pub fn set_current_foreign(stack: Option<Arc<str>>) {
    let old = CURRENT.try_with(|current| match current.try_borrow_mut() {
        Ok(mut current) => std::mem::replace(&mut *current, stack),
        Err(_) => None,
    });
    // Freed outside of the borrow: an allocator may ask for it.
    drop(old);
}

/// What [`set_current_foreign`] told.
pub fn current_foreign() -> Option<Arc<str>> {
    CURRENT
        .try_with(|current| current.try_borrow().ok()?.clone())
        .ok()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs on a thread of its own: what a binding tells is the thread's.
    fn on_a_thread(body: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            scope.spawn(body);
        });
    }

    #[test]
    fn without_a_binding_there_is_nothing() {
        on_a_thread(|| {
            assert!(pending().is_none());
            assert!(take_pending().is_none());
        });
    }

    #[test]
    fn the_events_of_one_call_share_what_it_tells() {
        on_a_thread(|| {
            this_thread_has_foreign_frames(true);
            let (first, second) = (pending().unwrap(), pending().unwrap());
            assert!(Arc::ptr_eq(&first, &second));
            let taken = take_pending().unwrap();
            taken.set_stack("f (a.js:1:2)".into());
            taken.set_stack("too late".into());
            assert_eq!(first.stack().map(|s| &**s), Some("f (a.js:1:2)"));
            assert!(first.tags().is_none());
            // The next call has its own.
            assert!(take_pending().is_none());
            assert!(pending().unwrap().stack().is_none());
            drop_pending();
            assert!(take_pending().is_none());
        });
    }

    #[test]
    fn a_binding_that_goes_takes_its_call_with_it() {
        on_a_thread(|| {
            this_thread_has_foreign_frames(true);
            let waiting = pending().unwrap();
            this_thread_has_foreign_frames(false);
            assert_eq!(Arc::strong_count(&waiting), 1);
            assert!(pending().is_none());
        });
    }

    /// The slot is borrowed while it is filled: a capture from inside of that gets nothing.
    #[test]
    fn a_capture_inside_of_a_capture_gets_nothing() {
        on_a_thread(|| {
            this_thread_has_foreign_frames(true);
            PENDING.with(|slot| {
                let _borrowed = slot.borrow_mut();
                assert!(pending().is_none());
                assert!(take_pending().is_none());
            });
        });
    }
}

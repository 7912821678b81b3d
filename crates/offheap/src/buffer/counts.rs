//! The two counts of a block: who uses it, and who only keeps its memory in place.

use crate::sync::{AtomicUsize, Ordering, fence};

/// Strong and parked references, in the manner of `Arc`: all strong references together hold one
/// parked one, so the memory goes when the second count reaches zero.
#[derive(Debug)]
pub(crate) struct Counts {
    strong: AtomicUsize,
    parked: AtomicUsize,
}

/// What a strong reference leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// Others use the block.
    Shared,
    /// Nobody is left: free the memory and its account.
    Free,
    /// Nobody uses the block, but its memory must stay: settle the account, then call
    /// [`Counts::release_parked`].
    Parked,
}

impl Counts {
    /// One strong reference.
    pub(crate) fn new() -> Self {
        Self {
            strong: AtomicUsize::new(1),
            parked: AtomicUsize::new(1),
        }
    }

    /// Adds a strong reference.
    #[inline]
    pub(crate) fn retain(&self) {
        // No order needed: the caller has a reference already.
        let before = self.strong.fetch_add(1, Ordering::Relaxed);
        // A count cannot overflow while each reference takes at least a word of memory, unless
        // references are forgotten on purpose. In this form the check is of the sign that the
        // increment leaves, as in `Arc`.
        assert!(
            before <= isize::MAX as usize,
            "too many references to one block"
        );
    }

    /// Gives a strong reference up.
    #[inline]
    pub(crate) fn release(&self) -> Released {
        // The only reference of both kinds: nobody can make another one, so no locked operation.
        if self.strong.load(Ordering::Acquire) != 1 {
            return self.release_shared();
        }
        if self.parked.load(Ordering::Acquire) == 1 {
            return Released::Free;
        }
        // Alone with parked references, which cannot become strong ones.
        self.strong.store(0, Ordering::Release);
        Released::Parked
    }

    /// As [`release`](Self::release), for one that is likely not the last: without the load, which
    /// waits for the locked operation before it (2 ns of the 20 of a clone and its drop).
    #[inline]
    pub(crate) fn release_shared(&self) -> Released {
        if self.strong.fetch_sub(1, Ordering::Release) != 1 {
            return Released::Shared;
        }
        fence(Ordering::Acquire);
        #[cfg(offheap_tsan)] // which does not know fences
        let _ = self.strong.load(Ordering::Acquire);
        if self.parked.load(Ordering::Acquire) == 1 {
            Released::Free
        } else {
            Released::Parked
        }
    }

    /// Adds a parked reference. The caller has a strong one.
    pub(crate) fn park(&self) {
        let before = self.parked.fetch_add(1, Ordering::Relaxed);
        assert!(
            before < isize::MAX as usize,
            "too many references to one block"
        );
    }

    /// Gives a parked reference up; true when the memory must be freed.
    pub(crate) fn release_parked(&self) -> bool {
        if self.parked.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        fence(Ordering::Acquire);
        #[cfg(offheap_tsan)] // which does not know fences
        let _ = self.parked.load(Ordering::Acquire);
        true
    }

    /// Whether the caller's strong reference is the only reference of both kinds.
    #[inline]
    pub(crate) fn is_unique(&self) -> bool {
        self.strong.load(Ordering::Acquire) == 1 && self.parked.load(Ordering::Acquire) == 1
    }

    /// How many strong references there are.
    pub(crate) fn strong(&self) -> usize {
        self.strong.load(Ordering::Acquire)
    }
}

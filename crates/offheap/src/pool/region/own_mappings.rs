//! How many regions are mappings of their own.

use super::os;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The count of the regions that merge with no neighbour: moved ones, and those with a tail or a
/// part of another kind. They may be a quarter of the mappings that the system allows, so that
/// regions alone never use them up; beyond, blocks are copied and come without tails.
#[derive(Debug)]
pub(super) struct OwnMappings(AtomicUsize);

impl OwnMappings {
    pub(super) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Whether there may be one more; it counts then.
    pub(super) fn take(&self) -> bool {
        let max = os::max_mappings() / 4;
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < max).then_some(n + 1)
            })
            .is_ok()
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// The end of `n` of them.
    pub(super) fn give_back(&self, n: usize) {
        if n != 0 {
            self.0.fetch_sub(n, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_and_no_more() {
        os::refusal::MAX_MAPPINGS.set(Some(9));
        let own = OwnMappings::new();
        assert!(own.take() && own.take() && !own.take());
        own.give_back(1);
        assert!(own.take() && !own.take());
        os::refusal::MAX_MAPPINGS.set(None);
    }
}

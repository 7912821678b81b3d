//! A figure of an allocator with its history.

/// One figure of an allocator, for all pools above it together. `None` is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendCount {
    /// Now.
    pub current: Option<u64>,
    /// The most there has been since the allocator was made, or since its peaks were reset.
    pub peak: Option<u64>,
    /// The sum of all increases.
    pub total: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{BackendStatistics, system_memory_pool};

    fn known(current: u64) -> BackendCount {
        BackendCount {
            current: Some(current),
            peak: Some(current + 1),
            total: None,
        }
    }

    #[test]
    fn the_other_figures_follow_from_the_counts() {
        let none = BackendCount::default();
        let all = BackendStatistics::of_counts(none, known(10), known(100));
        assert_eq!((all.usable, all.resident), (Some(10), Some(100)));
        assert_eq!((all.retained, all.cached), (Some(90), None));
        assert_eq!((all.requested, all.reserved.peak), (none, Some(101)));
        let unknown = BackendStatistics::of_counts(known(1), none, known(100));
        assert_eq!((unknown.usable, unknown.retained), (None, None));
        let nothing = BackendStatistics::of_counts(none, none, none);
        assert_eq!(nothing, BackendStatistics::default());
    }

    #[test]
    fn backends_tell_what_is_current() {
        let now = system_memory_pool().backend_statistics();
        assert_eq!(now.allocated.current, now.usable);
        assert_eq!(now.reserved.current, now.resident);
        assert_eq!((now.allocated.total, now.requested.total), (None, None));
    }
}

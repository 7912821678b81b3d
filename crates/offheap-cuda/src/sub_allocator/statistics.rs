//! What a sub-allocating pool has done.

use offheap::{BackendCount, BackendStatistics};

/// A number with its history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Now.
    pub current: u64,
    /// The most there has been since the pool was made, or since the peaks were reset.
    pub peak: u64,
    /// The sum of all increases.
    pub total: u64,
}

impl Count {
    pub(super) fn add(&mut self, amount: u64) {
        self.current += amount;
        self.total += amount;
        self.peak = self.peak.max(self.current);
    }

    pub(super) fn subtract(&mut self, amount: u64) {
        self.current = self.current.saturating_sub(amount);
    }

    pub(super) fn reset_peak(&mut self) {
        self.peak = self.current;
    }
}

impl From<Count> for BackendCount {
    fn from(count: Count) -> Self {
        Self {
            current: Some(count.current),
            peak: Some(count.peak),
            total: Some(count.total),
        }
    }
}

/// The counters of a [`SubAllocator`](super::SubAllocator), all of one moment.
///
/// The three kinds of bytes are PyTorch's: the difference between requested and allocated is
/// rounding, the difference between allocated and reserved is what the pool keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubAllocatorStatistics {
    /// Bytes that callers asked for.
    pub requested: Count,
    /// Bytes of the blocks handed out, after rounding.
    pub allocated: Count,
    /// Bytes held from upstream.
    pub reserved: Count,
    /// Blocks handed out.
    pub blocks: Count,
    /// Chunks held from upstream; the total is the number of allocations there.
    pub chunks: Count,
    /// Chunks that upstream refused.
    pub upstream_refusals: u64,
    /// Blocks taken from the free blocks of another stream.
    pub stolen_blocks: u64,
    /// Blocks made by joining free blocks of more than one stream.
    pub merged_blocks: u64,
    /// Waits for another stream's event that were given to a stream.
    pub waits: u64,
    /// Events recorded.
    pub event_records: u64,
    /// Times that the host waited for an event or the device.
    pub host_waits: u64,
    /// Blocks freed that other streams still use.
    pub pending_blocks: u64,
    /// Slabs, empty ones included.
    pub slabs: u64,
    /// Free blocks, beside the free slots of slabs.
    pub free_blocks: u64,
    /// Size of the largest free block, in bytes.
    pub largest_free: u64,
    /// Streams that have blocks here, or had and may come back.
    pub streams: u64,
    /// Requests that failed for want of memory.
    pub out_of_memory: u64,
}

impl From<SubAllocatorStatistics> for BackendStatistics {
    fn from(found: SubAllocatorStatistics) -> Self {
        Self::of_counts(
            found.requested.into(),
            found.allocated.into(),
            found.reserved.into(),
        )
    }
}

/// Why the last request failed for want of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfMemoryReport {
    /// Bytes asked for.
    pub requested: u64,
    /// Bytes handed out.
    pub allocated: u64,
    /// Bytes held from upstream.
    pub reserved: u64,
    /// Bytes that the pool may hold from upstream.
    pub maximum: Option<u64>,
    /// Bytes of the largest free block, after all that could be joined was.
    pub largest_free: u64,
    /// What upstream said, if it was asked.
    pub upstream: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_has_a_history() {
        let mut count = Count::default();
        count.add(10);
        count.subtract(4);
        count.add(1);
        assert_eq!((count.current, count.peak, count.total), (7, 10, 11));
        count.reset_peak();
        assert_eq!(count.peak, 7);
    }
}

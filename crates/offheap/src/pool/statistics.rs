//! A pool's figures.

use super::backend::BackendStatistics;

/// What a pool has given out, as of one moment.
///
/// Figures read while other threads allocate are a moment's sum; read from a quiet pool they are
/// exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Bytes in live allocations, as asked for: rounding and headers do not count.
    pub bytes_allocated: u64,
    /// The most that `bytes_allocated` has been since the start or the last reset (Arrow's
    /// `max_memory`).
    pub peak_bytes: u64,
    /// Bytes ever allocated; growth adds its difference, a shrink nothing.
    pub total_bytes_allocated: u64,
    /// Allocations and growing reallocations.
    pub num_allocations: u64,
    /// Allocations that were not freed.
    pub live_allocations: u64,
    /// Bytes that were given back while a runtime may still use the memory.
    pub parked_bytes: u64,
    /// This pool's own limit in bytes.
    pub limit_bytes: Option<u64>,
    /// Bytes that can still be had under every limit of the chain.
    pub available: Option<u64>,
    /// What the allocator underneath tells, for all pools above it together.
    pub backend: BackendStatistics,
}

/// What is still alive in a pool that was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeakReport {
    /// The pool's name.
    pub pool: String,
    /// Bytes in live allocations.
    pub bytes: u64,
    /// How many allocations are live.
    pub allocations: u64,
}

impl LeakReport {
    /// Whether nothing is alive.
    pub fn is_empty(&self) -> bool {
        self.allocations == 0
    }
}

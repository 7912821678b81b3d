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

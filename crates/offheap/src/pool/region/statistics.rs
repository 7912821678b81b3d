//! The figures of all regions.

/// What the regions of the whole process hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RegionStatistics {
    /// Bytes committed for live blocks.
    pub(crate) live: u64,
    /// Bytes of freed regions that wait for the next request.
    pub(crate) cached: u64,
    /// The most that can be resident: what is live or cached may have been touched to the last
    /// page, and nothing else was.
    pub(crate) resident: u64,
}

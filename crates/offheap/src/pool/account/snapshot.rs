//! A moment's figures.

/// A moment's figures of an [`Account`](super::Account).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) bytes: u64,
    pub(crate) peak: u64,
    pub(crate) total: u64,
    pub(crate) num_allocations: u64,
    pub(crate) live: u64,
    pub(crate) parked: u64,
}

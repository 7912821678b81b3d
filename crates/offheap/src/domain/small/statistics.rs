//! What the small-object allocator holds.

/// Figures of the small-object allocator under the object domain.
///
/// While no other thread is inside of the allocator all of them are exact. While others are, each
/// class is counted at a slightly different moment, and blocks that move between a thread and the
/// central lists just then may be counted as live though they are free, or as cached though they
/// are not: at most 65 a thread and class, or the 256 of a magazine whose thread ends just then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SmallObjectStatistics {
    /// Arenas held now, an empty one that is kept included.
    pub arenas: u64,
    /// Their bytes, 256 KiB each.
    pub arena_bytes: u64,
    /// Blocks that callers hold.
    pub live_blocks: u64,
    /// Their bytes, each rounded up to its size class.
    pub live_bytes: u64,
    /// Free blocks that threads keep in their magazines; they hold their arenas in place.
    pub cached_blocks: u64,
    /// Arenas ever taken into use.
    pub arenas_allocated_total: u64,
    /// Arenas ever given back.
    pub arenas_freed_total: u64,
}

//! How a built-in pool is made.

/// Options of [`memory_pool_named_with`](crate::pool::memory_pool_named_with).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Whether blocks of 1 MiB and more are mapped by offheap, as they are unless somebody says
    /// otherwise, here or with `OFFHEAP_LARGE_BLOCKS=0` in the environment. `false` leaves them to
    /// the allocator, for comparison; the pool `mapped` has no other way.
    pub large_blocks: bool,
}

impl PoolOptions {
    /// The usual ones.
    pub const DEFAULT: Self = Self { large_blocks: true };

    /// Leaves large blocks to the allocator.
    #[must_use]
    pub const fn without_large_blocks(self) -> Self {
        Self {
            large_blocks: false,
        }
    }
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

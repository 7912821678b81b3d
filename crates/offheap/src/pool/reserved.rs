//! What happens to a reservation whose allocation fails.

use super::handle::Pool;

/// Bytes reserved under every limit of a chain, given back unless they are kept: also when a source
/// of the program's own panics.
pub(super) struct Reserved<'a> {
    pool: &'a Pool,
    n: u64,
}

impl<'a> Reserved<'a> {
    /// Takes charge of `n` bytes that were reserved for `pool`.
    #[inline]
    pub(super) fn new(pool: &'a Pool, n: u64) -> Self {
        Self { pool, n }
    }

    /// The allocation was made: the bytes are held.
    #[inline]
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.pool.unreserve(self.n);
    }
}

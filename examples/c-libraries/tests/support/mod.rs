//! What the tests of process-wide hooks share.

use offheap::{Alignment, Pool};
use std::ptr::NonNull;

/// Holds all of a limited pool but some bytes.
pub(crate) struct Ballast {
    pool: Pool,
    block: NonNull<u8>,
    size: usize,
}

impl Ballast {
    /// Leaves `left` bytes of what is available now.
    pub(crate) fn leaving(pool: &Pool, left: u64) -> Self {
        let size = (pool.available().unwrap() - left) as usize;
        Self {
            pool: pool.clone(),
            block: pool.allocate(size, Alignment::DEFAULT).unwrap(),
            size,
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // SAFETY: the block that `leaving` allocated.
        unsafe { self.pool.free(self.block, self.size, Alignment::DEFAULT) };
    }
}

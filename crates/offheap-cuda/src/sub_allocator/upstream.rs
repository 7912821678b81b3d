//! Where a sub-allocating pool takes its chunks from.

use offheap::Result;
use std::sync::Arc;

/// A source of large chunks at plain addresses: device memory, pinned memory, another pool, or a
/// simulation (RMM's `simulated_memory_resource`).
///
/// The pool never reads or writes the bytes, and calls this under its lock: an implementation must
/// not call the pool back.
pub trait Upstream: Send + Sync {
    /// The address of a new chunk of `size` bytes, a multiple of
    /// [`GRANULARITY`](super::GRANULARITY). Both the size asked for and the address are multiples of
    /// it; the address is not zero.
    ///
    /// # Errors
    /// Any: the pool asks for less, gives free chunks back and asks again, and then fails itself.
    fn allocate_chunk(&self, size: u64) -> Result<u64>;

    /// Takes a chunk back. Work that used it has completed.
    ///
    /// # Errors
    /// The chunk is then still the pool's.
    fn free_chunk(&self, address: u64, size: u64) -> Result<()>;
}

impl<T: Upstream + ?Sized> Upstream for Arc<T> {
    fn allocate_chunk(&self, size: u64) -> Result<u64> {
        (**self).allocate_chunk(size)
    }

    fn free_chunk(&self, address: u64, size: u64) -> Result<()> {
        (**self).free_chunk(address, size)
    }
}

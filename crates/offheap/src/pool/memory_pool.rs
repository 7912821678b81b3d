//! The trait behind every source of memory.

use super::backend::BackendStatistics;
use crate::alignment::Alignment;
use crate::error::Result;
use std::fmt::Debug;
use std::ptr::NonNull;

/// A source of memory: what adaptors and a program's own allocators implement (Arrow's
/// `MemoryPool`, RMM's `device_memory_resource`).
///
/// A [`Pool`](super::Pool) made with [`Pool::custom`](super::Pool::custom) puts accounting, limits
/// and the block of zero bytes on top, so an implementation only allocates.
///
/// # Safety
/// - `allocate` returns a block of at least `size` bytes at a multiple of `alignment` that no other
///   live block overlaps;
/// - `reallocate` does the same, keeps the first `min(old_size, new_size)` bytes, and leaves the old
///   block valid when it fails;
/// - a block stays valid, from any thread, until `free` or a successful `reallocate`.
pub unsafe trait MemoryPool: Send + Sync + Debug {
    /// A new block of `size` bytes: never zero, always a multiple of 64.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) when memory cannot be had.
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>>;

    /// Changes the size of a block, moving it if need be.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate); the old block is then still valid.
    ///
    /// # Safety
    /// - `ptr` came from this pool with `old_size` and `alignment`, and is live;
    /// - nobody uses the block during the call.
    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>>;

    /// Gives a block back.
    ///
    /// # Safety
    /// - `ptr` came from this pool with `size` and `alignment`, is live, and nobody uses it any
    ///   more.
    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment);

    /// The name of the allocator underneath.
    fn backend_name(&self) -> &str;

    /// Gives unused memory back to the system, as far as that is possible.
    fn release_unused(&self) {}

    /// Prints the allocator's own statistics to stderr.
    fn print_stats(&self) {}

    /// What the allocator knows about itself.
    fn backend_statistics(&self) -> BackendStatistics {
        BackendStatistics::default()
    }
}

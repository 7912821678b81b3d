//! The trait behind every source of memory.

use super::Pool;
use super::backend::BackendStatistics;
use crate::alignment::Alignment;
use crate::error::Result;
use crate::location::Location;
use std::any::Any;
use std::fmt::Debug;
use std::ptr::NonNull;

/// How a source treats the bytes between a block's size and the next multiple of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// The source is asked for sizes rounded up to 64, so it need not think of padding.
    Rounded,
    /// The source is asked for the sizes that its users ask for, and makes room for the padding:
    /// an adaptor that passes requests on.
    Passed,
    /// The source is asked for the sizes that its users ask for, and makes no room beyond them: a
    /// buffer's capacity is its size. Debug hooks, whose guards start there, and allocators that
    /// must see exact sizes.
    None,
}

/// What happens to a live block beside being resized and freed, for adaptors that care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The block left every account, but its memory waits for work in flight before it is freed.
    Parked,
    /// From now on nobody may write the block.
    Sealed,
    /// The block may be written again.
    Unsealed,
    /// The block's user is done with it, and only views that must not be used any more still show it:
    /// whoever writes it from now on uses a stale view.
    Ended,
    /// The block is about to be freed by a garbage collector because nobody disposed of it.
    Forgotten,
}

/// A source of memory: what adaptors and a program's own allocators implement (Arrow's
/// `MemoryPool`, RMM's `device_memory_resource`).
///
/// A [`Pool`](super::Pool) made with [`Pool::custom`](super::Pool::custom) puts accounting, limits
/// and the block of zero bytes on top, so an implementation only allocates.
///
/// # Safety
/// - `allocate` returns a block of at least `size` bytes at a multiple of `alignment` that no other
///   live block overlaps; where [`padding`](Self::padding) is [`Passed`](Padding::Passed), of at
///   least `size` rounded up to 64;
/// - `allocate_zeroed` does the same, and all of those bytes are zero;
/// - `reallocate` does as `allocate`, keeps the first `min(old_size, new_size)` bytes, and leaves the old
///   block valid when it fails;
/// - a block stays valid, from any thread, until `free` or a successful `reallocate`;
/// - where [`location`](Self::location) says that the CPU may read and write the memory, it may; elsewhere
///   all of this holds on the device, whose addresses the blocks have.
pub unsafe trait MemoryPool: Any + Send + Sync + Debug {
    /// A new block of `size` bytes: never zero, and a multiple of 64 unless
    /// [`padding`](Self::padding) says otherwise.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) when memory cannot be had.
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>>;

    /// As [`allocate`](Self::allocate), with every byte zero, the padding included.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let block = self.allocate(size, alignment)?;
        let bytes = match self.padding() {
            Padding::Passed => crate::alignment::padded(size).unwrap_or(size),
            Padding::Rounded | Padding::None => size,
        };
        // SAFETY: a new block of `bytes` bytes that nobody else knows.
        unsafe { block.write_bytes(0, bytes) };
        Ok(block)
    }

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

    /// As [`free`](Self::free), for sources that check what they are given: `freed` is `size`, and
    /// becomes the size that the block really had, or `None` when nothing was given back (a double
    /// free, say). Pools count that. Set before anything that may panic.
    ///
    /// # Safety
    /// - as for [`free`](Self::free), as far as the source does not check it.
    unsafe fn free_checked(
        &self,
        ptr: NonNull<u8>,
        size: usize,
        alignment: Alignment,
        _freed: &mut Option<usize>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.free(ptr, size, alignment) };
    }

    /// Tells that a live block was [parked](Notice::Parked): by [`notice`](Self::notice), unless an
    /// adaptor has pools under it that are to stop counting the bytes, too.
    ///
    /// # Safety
    /// - `ptr` came from this pool with `size` and is live, and its end will be
    ///   [`free_parked`](Self::free_parked).
    unsafe fn park(&self, ptr: NonNull<u8>, size: usize) {
        self.notice(ptr, size, Notice::Parked);
    }

    /// As [`free`](Self::free), for a block that was parked.
    ///
    /// # Safety
    /// - as for [`free`](Self::free), and the block went through [`park`](Self::park).
    unsafe fn free_parked(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { self.free_checked(ptr, size, alignment, &mut Some(size)) };
    }

    /// Which sizes this source is asked for, and whether its blocks have padding. Asked once, when
    /// a pool is made over it.
    fn padding(&self) -> Padding {
        Padding::Rounded
    }

    /// The pool that an adaptor's memory comes from.
    fn upstream(&self) -> Option<&Pool> {
        None
    }

    /// Where the memory lies: of an adaptor, where its upstream's does. Asked once, when a pool is
    /// made over it.
    ///
    /// A source of memory that the CPU cannot reach says so here, and its blocks are addresses of the
    /// device: [`allocate_zeroed`](Self::allocate_zeroed) is then its own, too, since the provided one
    /// writes.
    fn location(&self) -> Location {
        self.upstream().map_or(Location::CPU, Pool::location)
    }

    /// Tells what happened to a live block of this source. Adaptors pass it on.
    fn notice(&self, _ptr: NonNull<u8>, _size: usize, _notice: Notice) {}

    /// The name of the allocator underneath.
    fn backend_name(&self) -> &str;

    /// Gives unused memory back to the system, as far as that is possible.
    fn release_unused(&self) {}

    /// Prints the allocator's own statistics to stderr.
    fn print_stats(&self) {}

    /// What the allocator knows about itself: [`BackendStatistics::of_counts`] makes the figures of one that
    /// counts by itself. Adaptors answer what their upstream does.
    fn backend_statistics(&self) -> BackendStatistics {
        BackendStatistics::default()
    }
}

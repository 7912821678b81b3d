//! The `object` domain's own allocator as a pool.

use super::domain::Domain;
use super::small::{self, SmallObjectStatistics};
use crate::alignment::Alignment;
use crate::error::{Error, Result};
use crate::pool::{MemoryPool, Padding, Pool, PoolCore};
use std::ptr::NonNull;
use std::sync::LazyLock;

/// Small blocks from arenas, larger ones from the `mem` domain.
#[derive(Debug)]
struct SmallObjects;

fn is_small(size: usize, alignment: Alignment) -> bool {
    size <= small::MAX_SMALL && alignment.get() <= 64
}

// SAFETY: small blocks are the small-object allocator's, others the `mem` domain's; the sizes and
// alignments of a block say which.
unsafe impl MemoryPool for SmallObjects {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let block = if is_small(size, alignment) {
            small::allocate(size, alignment.get())
        } else {
            NonNull::new(Domain::Mem.aligned_malloc(size, alignment))
        };
        block.ok_or_else(|| Error::allocator_refused(size as u64, 0, "object".to_owned()))
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        if !is_small(old_size, alignment) && !is_small(new_size, alignment) {
            // SAFETY: the caller's promise: a live block of the `mem` domain.
            let moved = unsafe { Domain::Mem.realloc(ptr.as_ptr(), new_size) };
            return NonNull::new(moved)
                .ok_or_else(|| Error::allocator_refused(new_size as u64, 0, "object".to_owned()));
        }
        let new = self.allocate(new_size, alignment)?;
        // SAFETY: two live blocks of at least as many bytes; the caller gives the old one up.
        unsafe {
            new.copy_from_nonoverlapping(ptr, old_size.min(new_size));
            self.free(ptr, old_size, alignment);
        }
        Ok(new)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        if is_small(size, alignment) {
            // SAFETY: the caller's promise: a block of `small::allocate` with these figures.
            unsafe { small::free(ptr, size, alignment.get()) };
        } else {
            // SAFETY: the caller's promise: a block of `Domain::Mem.aligned_malloc`.
            unsafe { Domain::Mem.free(ptr.as_ptr()) };
        }
    }

    fn padding(&self) -> Padding {
        // A class of 16 bytes is not to be rounded up to 64.
        Padding::None
    }

    fn backend_name(&self) -> &str {
        "object"
    }

    fn release_unused(&self) {
        small::release_unused();
    }
}

static OBJECT_POOL: LazyLock<PoolCore> = LazyLock::new(|| PoolCore::built_in(SmallObjects));

/// The pool of small objects: up to 512 bytes (and alignments up to 64) come from arenas of 256 KiB
/// in classes of 16 bytes, as in CPython's `pymalloc`; anything else comes from the `mem` domain.
/// Its buffers have no padding. Cost: an allocation and free of 64 bytes are what mimalloc takes.
pub fn object_memory_pool() -> Pool {
    Pool::of_static(&OBJECT_POOL)
}

/// What the small-object allocator holds: arenas, blocks, and what threads keep for their next
/// requests. Cost: a lock for each of the 32 classes.
pub fn small_object_statistics() -> SmallObjectStatistics {
    small::statistics()
}

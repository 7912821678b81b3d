//! PEP 445's use cases 1 and 2 in Rust: a source that wastes some bytes of every allocation, over
//! whatever pool, and arenas with some more.

use offheap::domain::ArenaSource;
use offheap::{Alignment, MemoryPool, Padding, Pool, Result};
use std::ptr::NonNull;

/// Allocates `padding` bytes more than it is asked for.
#[derive(Debug)]
pub struct Padded {
    /// Where the memory comes from.
    pub upstream: Pool,
    /// Bytes wasted per allocation.
    pub padding: usize,
}

impl Padded {
    fn with_padding(&self, size: usize) -> usize {
        // Too much for the upstream pool, which says so.
        size.saturating_add(self.padding)
    }
}

// SAFETY: every block is the upstream pool's, which keeps the promises, and larger than asked for.
unsafe impl MemoryPool for Padded {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.upstream.allocate(self.with_padding(size), alignment)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        let (old, new) = (self.with_padding(old_size), self.with_padding(new_size));
        // SAFETY: the caller's promise; the block was asked for with its padding.
        unsafe { self.upstream.reallocate(ptr, old, new, alignment) }
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: as above.
        unsafe { self.upstream.free(ptr, self.with_padding(size), alignment) };
    }

    // Asked for the very sizes that the program asks for, not for sizes rounded up to 64.
    fn padding(&self) -> Padding {
        match self.upstream.padding() {
            Padding::None => Padding::None,
            Padding::Rounded | Padding::Passed => Padding::Passed,
        }
    }

    fn upstream(&self) -> Option<&Pool> {
        Some(&self.upstream)
    }

    fn backend_name(&self) -> &str {
        self.upstream.backend_name()
    }
}

/// Arenas from a pool, with `padding` bytes more each.
#[derive(Debug)]
pub struct PaddedArenas {
    /// Where the arenas come from.
    pub pool: Pool,
    /// Bytes wasted per arena.
    pub padding: usize,
}

// SAFETY: an arena is a live block of the pool, larger than asked for.
unsafe impl ArenaSource for PaddedArenas {
    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        self.pool
            .allocate(size + self.padding, Alignment::DEFAULT)
            .ok()
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize) {
        // SAFETY: the caller's promise: an arena of `allocate`.
        unsafe {
            self.pool.free(ptr, size + self.padding, Alignment::DEFAULT);
        };
    }
}

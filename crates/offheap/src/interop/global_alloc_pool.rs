//! Any `GlobalAlloc` as a source of pools.

use crate::alignment::Alignment;
use crate::error::{Error, Result};
use crate::pool::{Inside, MemoryPool, Pool};
use std::alloc::{GlobalAlloc, Layout};
use std::borrow::Cow;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Any [`GlobalAlloc`] as a [`MemoryPool`] source: `std::alloc::System`, or an allocator crate that
/// offers nothing else.
///
/// As [`AllocatorPool`](super::AllocatorPool): alignment is honoured, also when a block grows, and a
/// reallocation that fails leaves the old block valid.
///
/// ```
/// use offheap::{GlobalAllocPool, MutableBuffer, Pool};
/// use std::alloc::System;
///
/// let pool = Pool::custom(GlobalAllocPool::named(System, "std")).limit(1000);
/// assert_eq!(MutableBuffer::zeroed(1000, &pool)?.address() % 64, 0);
/// assert_eq!(pool.backend_name(), "std");
///
/// // The same, shorter.
/// let pool = Pool::from_global_alloc(System);
/// assert_eq!(pool.backend_name(), "global-alloc");
/// # Ok::<(), offheap::Error>(())
/// ```
pub struct GlobalAllocPool<G> {
    allocator: G,
    name: Cow<'static, str>,
    held: AtomicU64,
}

impl<G> GlobalAllocPool<G> {
    /// A source that takes its memory from `allocator`. Its name is `global-alloc`.
    pub fn new(allocator: G) -> Self {
        Self::named(allocator, "global-alloc")
    }

    /// As [`new`](Self::new), with a name for errors and reports.
    pub fn named(allocator: G, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            allocator,
            name: name.into(),
            held: AtomicU64::new(0),
        }
    }

    /// The allocator.
    pub fn allocator(&self) -> &G {
        &self.allocator
    }

    #[cold]
    fn refused(&self, size: usize) -> Error {
        // The error needs memory itself, which an exhausted allocator would not give.
        let _inside = Inside::enter();
        let held = self.held.load(Ordering::Relaxed);
        Error::allocator_refused(size as u64, held, self.name.to_string())
    }

    fn layout(&self, size: usize, alignment: Alignment) -> Result<Layout> {
        // A size that cannot be rounded up to the alignment: nobody has it.
        Layout::from_size_align(size, alignment.get()).map_err(|_| self.refused(size))
    }
}

impl Pool {
    /// A pool over any `GlobalAlloc`: [`Pool::custom`] of a [`GlobalAllocPool`].
    pub fn from_global_alloc(allocator: impl GlobalAlloc + Send + Sync + 'static) -> Self {
        Self::custom(GlobalAllocPool::new(allocator))
    }
}

impl<G> fmt::Debug for GlobalAllocPool<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobalAllocPool")
            .field("name", &self.name)
            .field("allocator", &std::any::type_name::<G>())
            .field("held", &self.held.load(Ordering::Relaxed))
            .finish()
    }
}

// SAFETY: a `GlobalAlloc` gives aligned blocks that overlap nothing, keeps the contents and the
// alignment in `realloc`, and the old block when that returns null; blocks stay valid while it
// lives, which is as long as the pool. It is Send and Sync, so any thread may use it.
unsafe impl<G: GlobalAlloc + Send + Sync + 'static> MemoryPool for GlobalAllocPool<G> {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let layout = self.layout(size, alignment)?;
        // SAFETY: a source's sizes are never zero.
        let block = unsafe { self.allocator.alloc(layout) };
        let block = NonNull::new(block).ok_or_else(|| self.refused(size))?;
        self.held.fetch_add(size as u64, Ordering::Relaxed);
        Ok(block)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        let old = self.layout(old_size, alignment)?;
        // `realloc` wants the new size to be one that has a layout.
        self.layout(new_size, alignment)?;
        // SAFETY: the caller's promise: a live block of that layout; the new size is not zero and
        // has a layout.
        let block = unsafe { self.allocator.realloc(ptr.as_ptr(), old, new_size) };
        let block = NonNull::new(block).ok_or_else(|| self.refused(new_size))?;
        self.held.fetch_add(
            (new_size as u64).wrapping_sub(old_size as u64),
            Ordering::Relaxed,
        );
        Ok(block)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: `allocate` made this layout for the caller's block, so it is a valid one.
        let layout = unsafe { Layout::from_size_align_unchecked(size, alignment.get()) };
        // SAFETY: the caller's promise.
        unsafe { self.allocator.dealloc(ptr.as_ptr(), layout) };
        self.held.fetch_sub(size as u64, Ordering::Relaxed);
    }

    fn backend_name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::alloc::System;

    #[test]
    fn errors_name_the_allocator_and_carry_the_numbers() {
        let pool = Pool::custom(GlobalAllocPool::named(System, "std"));
        let alignment = Alignment::new(128).unwrap();
        let block = pool.allocate(600, alignment).unwrap();
        // The size alone could be an object's; rounded up to the alignment it cannot.
        for size in [isize::MAX as usize - 63, isize::MAX as usize - 4096] {
            // SAFETY: a live block with its size.
            let grown = unsafe { pool.reallocate(block, 600, size, alignment) };
            for error in [
                pool.allocate(size, alignment).unwrap_err(),
                grown.unwrap_err(),
            ] {
                let ErrorKind::OutOfMemory {
                    allocated, pool, ..
                } = error.kind()
                else {
                    panic!("{error:?}");
                };
                assert_eq!((*allocated, pool.as_str()), (640, "std"));
            }
        }
        // SAFETY: as above.
        unsafe { pool.free(block, 600, alignment) };
        let source = GlobalAllocPool::new(System);
        assert!(format!("{source:?}").contains("System"));
        assert!(matches!(source.allocator(), System));
    }
}

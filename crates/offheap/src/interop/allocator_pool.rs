//! Any allocator-api2 allocator as a source of pools.

use crate::alignment::Alignment;
use crate::error::{Error, Result};
use crate::pool::{Inside, MemoryPool, Pool};
use allocator_api2::alloc::{Allocator, Layout};
use std::borrow::Cow;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Any allocator-api2 [`Allocator`] as a [`MemoryPool`] source (Arrow's `STLMemoryPool`).
///
/// The allocator is asked for the alignment that was asked of the pool, also when a block grows
/// (Arrow's forgets it: 33 of 64 of its buffers are not at a multiple of 64); a reallocation that
/// fails leaves the old block valid. Sizes are rounded up to 64, as for every source.
///
/// Cost beside the allocator's own: a virtual call, and one counter for the figure in errors.
///
/// ```
/// use allocator_api2::alloc::Global;
/// use offheap::{AllocatorPool, MutableBuffer, Pool};
///
/// let pool = Pool::custom(AllocatorPool::new(Global)).limit(1 << 20);
/// let buffer = MutableBuffer::zeroed(1000, &pool)?;
/// assert_eq!((buffer.address() % 64, pool.bytes_allocated()), (0, 1000));
///
/// // The same, shorter.
/// let pool = Pool::from_allocator(Global);
/// assert_eq!(pool.backend_name(), "allocator");
/// # Ok::<(), offheap::Error>(())
/// ```
pub struct AllocatorPool<A> {
    allocator: A,
    name: Cow<'static, str>,
    held: AtomicU64,
}

impl<A> AllocatorPool<A> {
    /// A source that takes its memory from `allocator`. Its name is `allocator`.
    pub fn new(allocator: A) -> Self {
        Self::named(allocator, "allocator")
    }

    /// As [`new`](Self::new), with a name for errors and reports.
    pub fn named(allocator: A, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            allocator,
            name: name.into(),
            held: AtomicU64::new(0),
        }
    }

    /// The allocator.
    pub fn allocator(&self) -> &A {
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
        // Too large for an object, once rounded up to the alignment: nobody has it.
        Layout::from_size_align(size, alignment.get()).map_err(|_| self.refused(size))
    }
}

impl Pool {
    /// A pool over any allocator-api2 0.2 allocator: [`Pool::custom`] of an [`AllocatorPool`].
    pub fn from_allocator(allocator: impl Allocator + Send + Sync + 'static) -> Self {
        Self::custom(AllocatorPool::new(allocator))
    }
}

impl<A> fmt::Debug for AllocatorPool<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllocatorPool")
            .field("name", &self.name)
            .field("allocator", &std::any::type_name::<A>())
            .field("held", &self.held.load(Ordering::Relaxed))
            .finish()
    }
}

// SAFETY: an `Allocator` gives aligned blocks that overlap nothing, keeps the contents and, when it
// fails, the old block in `grow` and `shrink`; blocks stay valid while it lives, which is as long as
// the pool. It is Send and Sync, so any thread may use it.
unsafe impl<A: Allocator + Send + Sync + 'static> MemoryPool for AllocatorPool<A> {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let layout = self.layout(size, alignment)?;
        let block = self
            .allocator
            .allocate(layout)
            .map_err(|_| self.refused(size))?;
        self.held.fetch_add(size as u64, Ordering::Relaxed);
        Ok(block.cast())
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        let old = self.layout(old_size, alignment)?;
        let new = self.layout(new_size, alignment)?;
        // SAFETY: the caller's promise: a live block of that layout; each call is made for the
        // direction that it is for.
        let block = unsafe {
            if new_size >= old_size {
                self.allocator.grow(ptr, old, new)
            } else {
                self.allocator.shrink(ptr, old, new)
            }
        }
        .map_err(|_| self.refused(new_size))?;
        self.held.fetch_add(
            (new_size as u64).wrapping_sub(old_size as u64),
            Ordering::Relaxed,
        );
        Ok(block.cast())
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: `allocate` made this layout for the caller's block, so it is a valid one.
        let layout = unsafe { Layout::from_size_align_unchecked(size, alignment.get()) };
        // SAFETY: the caller's promise.
        unsafe { self.allocator.deallocate(ptr, layout) };
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
    use crate::interop::PoolAllocator;
    use crate::pool::system_memory_pool;

    #[test]
    fn errors_name_the_allocator_and_carry_the_numbers() {
        let inner = system_memory_pool().limit(1000);
        let pool = Pool::custom(AllocatorPool::named(PoolAllocator::new(&inner), "arena"));
        let alignment = Alignment::DEFAULT;
        let block = pool.allocate(600, alignment).unwrap();
        let error = pool.allocate(401, alignment).unwrap_err();
        assert_eq!(
            error.kind(),
            &ErrorKind::OutOfMemory {
                requested: 448,
                limit: None,
                allocated: 640,
                pool: "arena".into()
            }
        );
        // SAFETY: a live block with its size.
        let block = unsafe { pool.reallocate(block, 600, 900, alignment).unwrap() };
        assert_eq!(inner.bytes_allocated(), 960);
        // SAFETY: as above.
        unsafe {
            assert!(pool.reallocate(block, 900, 1100, alignment).is_err());
            let block = pool.reallocate(block, 900, 10, alignment).unwrap();
            pool.free(block, 10, alignment);
        }
        assert_eq!((inner.bytes_allocated(), pool.bytes_allocated()), (0, 0));
        assert_eq!(pool.backend_name(), "arena");
        assert_eq!(pool.name(), "arena");
    }

    #[test]
    fn debug_needs_no_debug_of_the_allocator() {
        struct Silent;
        // SAFETY: nothing is ever given out.
        unsafe impl Allocator for Silent {
            fn allocate(
                &self,
                _: Layout,
            ) -> std::result::Result<NonNull<[u8]>, allocator_api2::alloc::AllocError> {
                Err(allocator_api2::alloc::AllocError)
            }

            unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
        }
        let source = AllocatorPool::new(Silent);
        let text = format!("{source:?}");
        assert!(
            text.contains("Silent") && text.contains("held: 0"),
            "{text}"
        );
        assert!(source.allocate(64, Alignment::DEFAULT).is_err());
        assert!(matches!(source.allocator(), Silent));
    }
}

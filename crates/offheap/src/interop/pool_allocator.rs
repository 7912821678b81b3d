//! A pool as an allocator of collections.

use crate::alignment::Alignment;
use crate::pool::{Pool, default_memory_pool};
use allocator_api2::alloc::{AllocError, Allocator, Layout};
use std::ptr::NonNull;

/// A pool as allocator-api2's [`Allocator`] (Arrow's `stl::allocator`): collections whose memory is
/// counted and limited.
///
/// What counts is what the collection asks for, to the byte. Growing and shrinking are the pool's
/// own reallocations, so a large block may grow in place; only where the alignment changes, too,
/// both blocks are held for a moment. Layouts of no bytes never reach the pool and count nothing.
///
/// Two are equal when their pools are one. Cost beside the pool's own call: none.
///
/// ```
/// use allocator_api2::vec::Vec;
/// use offheap::PoolAllocator;
///
/// let query = offheap::default_memory_pool().limit(1000);
/// let mut values = Vec::with_capacity_in(100, PoolAllocator::new(&query));
/// values.extend(0..100_u64);
/// assert_eq!(query.bytes_allocated(), 800);
///
/// // Out of memory is a value where the collection has a call for that.
/// assert!(values.try_reserve(100).is_err());
/// assert_eq!((values.len(), values[99], query.bytes_allocated()), (100, 99, 800));
/// drop(values);
/// assert_eq!(query.bytes_allocated(), 0);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolAllocator {
    pool: Pool,
}

impl PoolAllocator {
    /// An allocator over `pool`, which it holds: the pool cannot go before the collection.
    pub fn new(pool: &Pool) -> Self {
        Self { pool: pool.clone() }
    }

    /// The pool that the memory comes from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    #[inline]
    fn allocate_block(&self, layout: Layout, zeroed: bool) -> Result<NonNull<[u8]>, AllocError> {
        let block = if layout.size() == 0 {
            dangling(layout)
        } else {
            self.pool
                .allocate_prefixed(0, layout.size(), alignment(layout)?, zeroed)
                .ok_or(AllocError)?
        };
        // Never more than was asked for: a collection would give back what it was told it has.
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    /// # Safety
    /// - `ptr` is a live block of this allocator's pool that fits `old`;
    /// - nobody uses the block during the call.
    unsafe fn resize(
        &self,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if old.align() == new.align() && old.size() != 0 && new.size() != 0 {
            // SAFETY: the caller's promise; the block was asked for with no prefix.
            let block = unsafe {
                self.pool
                    .reallocate_prefixed(ptr, 0, old.size(), new.size(), alignment(old)?)
            };
            return Ok(NonNull::slice_from_raw_parts(
                block.ok_or(AllocError)?,
                new.size(),
            ));
        }
        let block = self.allocate_block(new, false)?;
        let kept = old.size().min(new.size());
        // SAFETY: both blocks have as many bytes, and a new block overlaps no live one.
        unsafe { ptr.copy_to_nonoverlapping(block.cast(), kept) };
        // SAFETY: the caller gives the old block up.
        unsafe { self.deallocate(ptr, old) };
        Ok(block)
    }
}

/// An address for no bytes.
#[inline]
fn dangling(layout: Layout) -> NonNull<u8> {
    let address = std::ptr::without_provenance_mut(layout.align());
    // An alignment is never zero.
    NonNull::new(address).unwrap_or(NonNull::dangling())
}

#[inline]
fn alignment(layout: Layout) -> Result<Alignment, AllocError> {
    Alignment::new(layout.align()).map_err(|_| AllocError)
}

impl Default for PoolAllocator {
    /// Over the default pool of this moment.
    fn default() -> Self {
        Self {
            pool: default_memory_pool(),
        }
    }
}

impl From<Pool> for PoolAllocator {
    fn from(pool: Pool) -> Self {
        Self { pool }
    }
}

// SAFETY: the pool's blocks are aligned, overlap nothing, stay valid until they are given back, and
// a clone has the same pool.
unsafe impl Allocator for PoolAllocator {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.allocate_block(layout, false)
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.allocate_block(layout, true)
    }

    #[inline]
    unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        if let Ok(alignment) = alignment(layout) {
            // SAFETY: the caller's promise: a live block of this pool that fits the layout, whose
            // length was the layout's size.
            unsafe { self.pool.free_prefixed(ptr, 0, layout.size(), alignment) };
        }
    }

    unsafe fn grow(
        &self,
        ptr: NonNull<u8>,
        old_layout: Layout,
        new_layout: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.resize(ptr, old_layout, new_layout) }
    }

    unsafe fn grow_zeroed(
        &self,
        ptr: NonNull<u8>,
        old_layout: Layout,
        new_layout: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        let block = unsafe { self.resize(ptr, old_layout, new_layout)? };
        let added = new_layout.size() - old_layout.size();
        // SAFETY: the block has `new_layout.size()` bytes, which is not less than the old size.
        unsafe {
            block
                .cast::<u8>()
                .add(old_layout.size())
                .write_bytes(0, added);
        }
        Ok(block)
    }

    unsafe fn shrink(
        &self,
        ptr: NonNull<u8>,
        old_layout: Layout,
        new_layout: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.resize(ptr, old_layout, new_layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::system_memory_pool;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn no_bytes_never_reach_the_pool() {
        let pool = system_memory_pool().proxy();
        let allocator = PoolAllocator::new(&pool);
        for align in [1, 64, 1 << 20, 1 << 40] {
            let block = allocator.allocate(layout(0, align)).unwrap();
            assert_eq!(block.len(), 0);
            assert_eq!(block.cast::<u8>().addr().get() % align, 0);
            // SAFETY: the block just allocated.
            unsafe { allocator.deallocate(block.cast(), layout(0, align)) };
        }
        assert_eq!(pool.num_allocations(), 0);
    }

    #[test]
    fn blocks_grow_and_shrink_from_and_to_nothing_and_other_alignments() {
        let pool = system_memory_pool().proxy();
        let allocator = PoolAllocator::new(&pool);
        let steps = [
            layout(0, 8),
            layout(10, 8),
            layout(10_000, 8),
            layout(10_000, 1024),
            layout(20_000, 16),
        ];
        let mut block = allocator.allocate(steps[0]).unwrap();
        for pair in steps.windows(2) {
            // SAFETY: a live block with its layout; the next one is not smaller.
            block = unsafe {
                allocator
                    .grow_zeroed(block.cast(), pair[0], pair[1])
                    .unwrap()
            };
            assert_eq!(block.len(), pair[1].size());
            assert_eq!(block.cast::<u8>().addr().get() % pair[1].align(), 0);
            // SAFETY: the block has that many bytes, all initialised.
            let bytes = unsafe { block.as_ref() };
            assert!(bytes[pair[0].size()..].iter().all(|byte| *byte == 0));
            assert!(bytes[..pair[0].size()].iter().all(|byte| *byte == 7));
            // SAFETY: as above.
            unsafe { block.cast::<u8>().write_bytes(7, pair[1].size()) };
            assert_eq!(pool.bytes_allocated(), pair[1].size() as u64);
            assert_eq!(pool.live_allocations(), 1);
        }
        for pair in [
            [steps[4], steps[3]],
            [steps[3], steps[1]],
            [steps[1], steps[0]],
        ] {
            // SAFETY: a live block with its layout; the next one is not larger.
            block = unsafe { allocator.shrink(block.cast(), pair[0], pair[1]).unwrap() };
            // SAFETY: the bytes were written above.
            assert!(unsafe { block.as_ref() }.iter().all(|byte| *byte == 7));
            assert_eq!(pool.bytes_allocated(), pair[1].size() as u64);
        }
        // SAFETY: the block of no bytes.
        unsafe { allocator.deallocate(block.cast(), steps[0]) };
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    }

    #[test]
    fn what_cannot_be_had_leaves_the_block() {
        let pool = system_memory_pool().limit(100);
        let allocator = PoolAllocator::from(pool.clone());
        let block = allocator.allocate_zeroed(layout(60, 4)).unwrap();
        // SAFETY: a live block with its layout.
        unsafe {
            assert!(
                allocator
                    .grow(block.cast(), layout(60, 4), layout(101, 4))
                    .is_err()
            );
            // Another alignment needs a second block beside the first.
            assert!(
                allocator
                    .grow(block.cast(), layout(60, 4), layout(61, 8))
                    .is_err()
            );
            assert_eq!(block.as_ref(), [0; 60]);
            assert_eq!(pool.bytes_allocated(), 60);
            allocator.deallocate(block.cast(), layout(60, 4));
        }
        assert!(allocator.allocate(layout(1, 1 << 40)).is_err());
        assert!(
            allocator
                .allocate(layout(isize::MAX as usize - 7, 8))
                .is_err()
        );
        assert_eq!(pool.live_allocations(), 0);
    }

    #[test]
    fn equal_means_one_pool() {
        let pool = system_memory_pool().proxy();
        let allocator = PoolAllocator::new(&pool);
        assert_eq!(allocator, allocator.clone());
        assert_eq!(allocator.pool(), &pool);
        assert_ne!(allocator, PoolAllocator::new(&system_memory_pool().proxy()));
        assert_eq!(PoolAllocator::default().pool(), &default_memory_pool());
    }
}

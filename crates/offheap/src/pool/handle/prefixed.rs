//! Blocks with bytes that do not count, from calls that build no error.
//!
//! A global allocator cannot build an [`Error`](crate::Error) for its own refusal: the error's box
//! would be the next request. And whoever keeps a header in front of its blocks must not charge it
//! to the pool: headers never count.

use super::{Base, Freed, Padding, Pool, Seen};
use crate::alignment::{Alignment, padded};
use crate::pool::reserved::Reserved;
use crate::pool::zero::zero_size_block;
use std::ptr::NonNull;

impl Pool {
    /// As `admit`, without an error.
    #[inline]
    fn admit_quietly(&self, n: u64) -> Option<Reserved<'_>> {
        if self.is_any_closed() {
            return None;
        }
        self.core().account.reserve(n).ok()?;
        Some(Reserved::new(self, n))
    }

    /// What the base is asked for: a source sees the size itself where it makes room for the padding
    /// or has none. `None` for sizes that nobody has.
    #[inline]
    fn whole(&self, prefix: usize, size: usize) -> Option<usize> {
        let bytes = prefix.checked_add(size)?;
        let whole = padded(bytes)?;
        Some(match self.core().padding {
            Padding::Rounded => whole,
            Padding::Passed => bytes,
            Padding::None if prefix == 0 => bytes,
            // `Inside` needs the room.
            Padding::None => bytes.max(64),
        })
    }

    /// A block of `prefix + size` bytes, of which `size` count. `None` when memory, a limit or a
    /// closed pool refuses.
    #[inline]
    pub(crate) fn allocate_prefixed(
        &self,
        prefix: usize,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Option<NonNull<u8>> {
        if !self.is_cpu() {
            return None;
        }
        let whole = self.whole(prefix, size)?;
        let n = size as u64;
        let reserved = self.admit_quietly(n)?;
        let block = match &self.core().base {
            _ if whole == 0 => zero_size_block(alignment),
            Base::Backend(backend) => backend.allocate(whole, alignment, zeroed)?,
            Base::Custom(source) => {
                let block = if zeroed {
                    source.allocate_zeroed(whole, alignment)
                } else {
                    source.allocate(whole, alignment)
                };
                block.ok()?
            }
        };
        reserved.keep();
        self.core().account.commit_allocation(n);
        Some(block)
    }

    /// Changes what counts of a block from `old_size` to `new_size`; the first
    /// `prefix + min(old_size, new_size)` bytes are kept. `None` leaves the block as it was.
    ///
    /// # Safety
    /// - `block` came from [`allocate_prefixed`](Self::allocate_prefixed) of this pool with
    ///   `prefix`, `old_size` and `alignment`, and is live;
    /// - nobody uses the block during the call.
    pub(crate) unsafe fn reallocate_prefixed(
        &self,
        block: NonNull<u8>,
        prefix: usize,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Option<NonNull<u8>> {
        // A live block's size could be padded once, so it can be now.
        let old = self.whole(prefix, old_size)?;
        let new = self.whole(prefix, new_size)?;
        let growth = new_size.saturating_sub(old_size) as u64;
        let reserved = if growth == 0 {
            None
        } else {
            Some(self.admit_quietly(growth)?)
        };
        let moved = match &self.core().base {
            _ if old == new => block,
            _ if new == 0 => {
                // SAFETY: the caller's promise; `old` is what was asked for.
                unsafe { self.free_whole(block, old, alignment, &mut Some(old)) };
                zero_size_block(alignment)
            }
            Base::Backend(backend) if old == 0 => backend.allocate(new, alignment, false)?,
            Base::Custom(source) if old == 0 => source.allocate(new, alignment).ok()?,
            // SAFETY: the caller's promise; these sizes are what was asked for.
            Base::Backend(backend) => unsafe { backend.reallocate(block, old, new, alignment)? },
            Base::Custom(source) => {
                // SAFETY: as above.
                unsafe { source.reallocate(block, old, new, alignment) }.ok()?
            }
        };
        match reserved {
            Some(reserved) => {
                reserved.keep();
                self.core().account.commit_growth(growth);
            }
            None => {
                let n = (old_size - new_size) as u64;
                self.core().account.commit_shrink(n);
            }
        }
        Some(moved)
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// - `block` came from [`allocate_prefixed`](Self::allocate_prefixed) of this pool with
    ///   `prefix`, `size` and `alignment`, is live, and nobody uses it any more.
    #[inline]
    pub(crate) unsafe fn free_prefixed(
        &self,
        block: NonNull<u8>,
        prefix: usize,
        size: usize,
        alignment: Alignment,
    ) {
        // As in `reallocate_prefixed`.
        let whole = self.whole(prefix, size).unwrap_or(size);
        // Also when a source, or what reports its damage, panics.
        let mut freed = Some(size);
        let counted = Freed {
            pool: self,
            freed: &mut freed,
            is_end: true,
        };
        if whole != 0 {
            let mut seen = Seen {
                freed: Some(whole),
                asked: whole,
                size,
                told: counted.freed,
            };
            // SAFETY: the caller's promise; that size is what was asked for.
            unsafe { self.free_whole(block, whole, alignment, &mut seen.freed) };
        }
    }

    /// # Safety
    /// - `block` came from this pool's base with `whole` and `alignment`, and nobody uses it.
    #[inline]
    unsafe fn free_whole(
        &self,
        block: NonNull<u8>,
        whole: usize,
        alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        match &self.core().base {
            // SAFETY: the caller's promise.
            Base::Backend(backend) => unsafe { backend.free(block, whole, alignment) },
            // SAFETY: as above.
            Base::Custom(source) => unsafe {
                source.free_checked(block, whole, alignment, freed);
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::system_memory_pool;

    const ALIGNMENT: Alignment = Alignment::DEFAULT;

    #[test]
    fn only_what_was_asked_for_counts() {
        let under = system_memory_pool().proxy();
        for pool in [under.limit(100), Pool::custom(under.clone()).limit(100)] {
            let block = pool.allocate_prefixed(16, 100, ALIGNMENT, true).unwrap();
            assert_eq!((pool.bytes_allocated(), pool.available()), (100, Some(0)));
            assert!(pool.allocate_prefixed(16, 1, ALIGNMENT, false).is_none());
            // A header alone is no byte, but an allocation.
            let empty = pool.allocate_prefixed(16, 0, ALIGNMENT, false).unwrap();
            assert_ne!(empty, block);
            assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (100, 2));
            // SAFETY: live blocks with their sizes.
            unsafe {
                assert_eq!(std::slice::from_raw_parts(block.as_ptr(), 116), [0; 116]);
                block.write_bytes(7, 116);
                assert!(
                    pool.reallocate_prefixed(block, 16, 100, 101, ALIGNMENT)
                        .is_none()
                );
                let block = pool
                    .reallocate_prefixed(block, 16, 100, 40, ALIGNMENT)
                    .unwrap();
                assert_eq!(std::slice::from_raw_parts(block.as_ptr(), 56), [7; 56]);
                let block = pool
                    .reallocate_prefixed(block, 16, 40, 90, ALIGNMENT)
                    .unwrap();
                assert_eq!(std::slice::from_raw_parts(block.as_ptr(), 56), [7; 56]);
                pool.free_prefixed(block, 16, 90, ALIGNMENT);
                pool.free_prefixed(empty, 16, 0, ALIGNMENT);
            }
            let now = pool.statistics();
            assert_eq!((now.bytes_allocated, now.live_allocations), (0, 0));
            assert_eq!((now.peak_bytes, now.total_bytes_allocated), (100, 150));
            assert_eq!(now.num_allocations, 3);
        }
        assert_eq!(under.live_allocations(), 0);
    }

    #[test]
    fn without_a_prefix_it_is_the_pools_own_call() {
        let pool = system_memory_pool().proxy();
        let block = pool.allocate_prefixed(0, 0, ALIGNMENT, false).unwrap();
        assert_eq!(block, zero_size_block(ALIGNMENT));
        // SAFETY: live blocks with their sizes; both kinds of calls ask for the same sizes.
        unsafe {
            let block = pool
                .reallocate_prefixed(block, 0, 0, 10, ALIGNMENT)
                .unwrap();
            let block = pool.reallocate(block, 10, 1000, ALIGNMENT).unwrap();
            let block = pool
                .reallocate_prefixed(block, 0, 1000, 0, ALIGNMENT)
                .unwrap();
            assert_eq!(block, zero_size_block(ALIGNMENT));
            pool.free_prefixed(block, 0, 0, ALIGNMENT);
        }
        assert_eq!(pool.live_allocations(), 0);
        for (prefix, size) in [
            (16, usize::MAX),
            (16, isize::MAX as usize - 63),
            (usize::MAX, 1),
        ] {
            assert!(
                pool.allocate_prefixed(prefix, size, ALIGNMENT, false)
                    .is_none()
            );
        }
    }

    #[test]
    fn a_closed_pool_gives_nothing_more() {
        let pool = system_memory_pool().proxy();
        let block = pool.allocate_prefixed(16, 10, ALIGNMENT, false).unwrap();
        pool.close().unwrap();
        assert!(
            pool.proxy()
                .allocate_prefixed(16, 10, ALIGNMENT, false)
                .is_none()
        );
        // SAFETY: a live block with its size.
        unsafe {
            assert!(
                pool.reallocate_prefixed(block, 16, 10, 11, ALIGNMENT)
                    .is_none()
            );
            let block = pool
                .reallocate_prefixed(block, 16, 10, 9, ALIGNMENT)
                .unwrap();
            pool.free_prefixed(block, 16, 9, ALIGNMENT);
        }
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

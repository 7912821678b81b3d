//! Whether this thread serves an allocation.

use super::handle::Pool;
use crate::alignment::Alignment;
use std::cell::Cell;
use std::ptr::{self, NonNull};

thread_local! {
    // Neither needs a destructor, so both are there to the last moment of a thread.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static DEFERRED: Cell<*mut Deferred> = const { Cell::new(ptr::null_mut()) };
}

/// A block to be freed, written into itself: every block has 64 bytes or more.
struct Deferred {
    next: *mut Deferred,
    pool: &'static Pool,
    prefix: usize,
    size: usize,
    alignment: Alignment,
}

const _: () = assert!(size_of::<Deferred>() <= 64 && align_of::<Deferred>() <= 64);

/// The time that this thread spends inside of a pool, where it must not come back to the same pool
/// by way of the program's global allocator.
///
/// A pool installed there ([`PoolGlobalAlloc::install`](crate::PoolGlobalAlloc::install)) may hold a
/// lock, or be its own caller without end. So meanwhile allocations pass it by, and what was its own
/// is given back to it when the thread has left.
pub(crate) struct Inside {
    was: bool,
}

impl Inside {
    /// Until the value is dropped.
    #[inline]
    pub(crate) fn enter() -> Self {
        // No thread-local storage any more: as if inside.
        let was = INSIDE.try_with(|inside| inside.replace(true));
        Self {
            was: was.unwrap_or(true),
        }
    }

    /// Whether this thread is.
    #[inline]
    pub(crate) fn is_inside() -> bool {
        INSIDE.try_with(Cell::get).unwrap_or(true)
    }

    /// Frees a block when this thread has left. `false` without thread-local storage: then it is
    /// still the caller's.
    ///
    /// # Safety
    /// - `block` came from `pool.allocate_prefixed` with these values, of which `prefix + size` is
    ///   not zero, is live, and nobody uses it any more;
    /// - this thread is inside.
    pub(crate) unsafe fn defer(
        pool: &'static Pool,
        block: NonNull<u8>,
        prefix: usize,
        size: usize,
        alignment: Alignment,
    ) -> bool {
        DEFERRED
            .try_with(|first| {
                let block = block.cast::<Deferred>();
                // SAFETY: the block's size was rounded up to 64, and it is at a multiple of 64, so
                // there is room for the entry.
                unsafe {
                    block.write(Deferred {
                        next: first.get(),
                        pool,
                        prefix,
                        size,
                        alignment,
                    });
                }
                first.set(block.as_ptr());
            })
            .is_ok()
    }

    #[cold]
    fn free_deferred() {
        while let Some(first) = DEFERRED.with(|first| NonNull::new(first.get())) {
            // SAFETY: `defer` wrote the entry, and nobody else has it.
            let Deferred {
                next,
                pool,
                prefix,
                size,
                alignment,
            } = unsafe { first.read() };
            DEFERRED.set(next);
            crate::panic::caught(|| {
                // SAFETY: the promise of `defer`'s caller.
                unsafe { pool.free_prefixed(first.cast(), prefix, size, alignment) };
            });
        }
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        if self.was {
            return;
        }
        // Still inside: what is freed here may free more.
        if DEFERRED
            .try_with(Cell::get)
            .is_ok_and(|first| !first.is_null())
        {
            Self::free_deferred();
        }
        let _ = INSIDE.try_with(|inside| inside.set(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::system_memory_pool;
    use std::sync::OnceLock;

    #[test]
    fn it_nests_and_ends_with_an_unwinding() {
        assert!(!Inside::is_inside());
        let outer = Inside::enter();
        drop(Inside::enter());
        assert!(Inside::is_inside());
        drop(outer);
        assert!(!Inside::is_inside());
        let unwound = std::panic::catch_unwind(|| {
            let _inside = Inside::enter();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(unwound.is_err() && !Inside::is_inside());
    }

    #[test]
    fn what_is_deferred_is_freed_at_the_outermost_end() {
        static POOL: OnceLock<Pool> = OnceLock::new();
        let pool = POOL.get_or_init(|| system_memory_pool().proxy());
        let alignment = Alignment::DEFAULT;
        let outer = Inside::enter();
        for size in [1, 40, 1000] {
            let inner = Inside::enter();
            let block = pool.allocate_prefixed(16, size, alignment, false).unwrap();
            // SAFETY: the block just allocated; this thread is inside.
            assert!(unsafe { Inside::defer(pool, block, 16, size, alignment) });
            drop(inner);
        }
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (1041, 3));
        drop(outer);
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    }
}

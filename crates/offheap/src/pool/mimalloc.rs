//! mimalloc, version 2 (version 3.3 crashes when the addon is loaded first in a worker that exits:
//! microsoft/mimalloc#1287).

use super::backend::{Allocator, BackendStatistics};
use crate::alignment::Alignment;
use libmimalloc_sys as mi;
use std::ptr;

/// Microsoft's mimalloc.
#[derive(Debug)]
pub(crate) struct Mimalloc;

/// Up to here a block of a size that is a multiple of 64 is at a multiple of 64 already
/// (a page's blocks start at a multiple of the block size), so the cheaper plain call does;
/// the check below makes sure.
const NATURALLY_ALIGNED: usize = 64 << 10;

#[cold]
#[inline(never)]
fn allocate_aligned(size: usize, alignment: usize, zeroed: bool) -> *mut u8 {
    // SAFETY: `alignment` is a power of two; any size may be asked for.
    unsafe {
        if zeroed {
            mi::mi_zalloc_aligned(size, alignment)
        } else {
            mi::mi_malloc_aligned(size, alignment)
        }
    }
    .cast()
}

// SAFETY: the aligned calls honour the alignment, the plain ones are checked; a failing
// mi_realloc_aligned leaves the old block alone.
unsafe impl Allocator for Mimalloc {
    const NAME: &'static str = "mimalloc";

    #[inline]
    fn allocate(size: usize, alignment: Alignment, zeroed: bool) -> *mut u8 {
        let alignment = alignment.get().max(64);
        if alignment == 64 && size <= NATURALLY_ALIGNED {
            // SAFETY: any size may be asked for.
            let block = unsafe {
                if zeroed {
                    mi::mi_zalloc(size)
                } else {
                    mi::mi_malloc(size)
                }
            }
            .cast::<u8>();
            if block.addr() & 63 == 0 {
                return block;
            }
            // SAFETY: the block is mimalloc's and nobody else knows it.
            unsafe { mi::mi_free(block.cast()) };
        }
        allocate_aligned(size, alignment, zeroed)
    }

    unsafe fn reallocate(
        block: *mut u8,
        _old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> *mut u8 {
        // SAFETY: the caller's block is mimalloc's; the alignment is a power of two.
        unsafe { mi::mi_realloc_aligned(block.cast(), new_size, alignment.get().max(64)) }.cast()
    }

    #[inline]
    unsafe fn free(block: *mut u8, _size: usize, _alignment: Alignment) {
        // SAFETY: the caller's block is mimalloc's and not yet freed.
        unsafe { mi::mi_free(block.cast()) };
    }

    fn release_unused() {
        // SAFETY: neither has preconditions. mi_collect sweeps the calling thread's heap, the memory
        // that other threads have given back and the heaps of those that ended; it returns at once
        // on a thread that has no heap yet, so there is an allocation first.
        unsafe {
            mi::mi_free(mi::mi_malloc(64));
            mi::mi_collect(true);
        }
    }

    fn print_stats() {
        // SAFETY: null stands for mimalloc's own output, stderr.
        unsafe { mi::mi_stats_print(ptr::null_mut()) };
    }

    fn statistics() -> BackendStatistics {
        // mimalloc counts whole arenas as committed (1 GiB from the start), and nothing finer in a
        // release build: it is unknown how much is resident.
        BackendStatistics::default()
    }
}

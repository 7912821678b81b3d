//! The C library's malloc.
//!
//! `posix_memalign` costs 72-113 ns where `malloc` costs 5-12 ns (glibc 2.36), so up to a page's
//! alignment a block is over-allocated by one alignment unit and the start of malloc's block is
//! remembered in the 8 bytes before the data:
//!
//! ```text
//!   malloc's block                       data, a multiple of `alignment`
//!   ├── 16 … alignment bytes, last 8: ──┤├── size bytes ──┤
//!       the distance to the block's start
//! ```

use super::backend::{Allocator, BackendStatistics};
use crate::alignment::Alignment;
use std::ptr;

/// The C library's allocator.
#[derive(Debug)]
pub(crate) struct System;

/// Up to here blocks are over-allocated; beyond, the waste would be more than a page. (Windows has
/// no aligned call whose block `free` takes.)
const MAX_HEADER_ALIGNMENT: usize = if cfg!(unix) { 4096 } else { 1 << 33 };
/// malloc's own guarantee on every 64-bit target.
const MALLOC_ALIGNMENT: usize = 16;

/// The alignment in force: every block is at least at a multiple of 64.
const fn unit(alignment: Alignment) -> usize {
    if alignment.get() < 64 {
        64
    } else {
        alignment.get()
    }
}

/// The data's address in a block of malloc's: at least 16 bytes in, and aligned.
///
/// # Safety
/// - `base` is a block of at least `unit` bytes and a multiple of 16; `unit` is at least 64.
unsafe fn data_of(base: *mut u8, unit: usize) -> *mut u8 {
    let distance = unit - (base.addr() & (unit - 1));
    // SAFETY: `distance` is 1 to `unit`, so the result is inside or one past `unit` bytes.
    let data = unsafe { base.add(distance) };
    // SAFETY: `base` is a multiple of 16 and `data` of 64, so at least 16 bytes lie between them;
    // the 8 before `data` are ours and aligned.
    unsafe { data.cast::<usize>().sub(1).write(distance) };
    data
}

/// The inverse of [`data_of`].
///
/// # Safety
/// - `data` came from [`data_of`].
unsafe fn base_of(data: *mut u8) -> (*mut u8, usize) {
    // SAFETY: `data_of` wrote the distance there.
    let distance = unsafe { data.cast::<usize>().sub(1).read() };
    // SAFETY: `data` lies `distance` bytes into the block.
    (unsafe { data.sub(distance) }, distance)
}

/// A block of `size` bytes at a multiple of `unit`, a power of two and more than a page; null when
/// memory cannot be had.
#[cfg(unix)]
fn allocate_aligned(size: usize, unit: usize) -> *mut u8 {
    let mut block = ptr::null_mut();
    // SAFETY: `unit` is a power of two and a multiple of a pointer's size.
    if unsafe { libc::posix_memalign(&raw mut block, unit, size) } != 0 {
        return ptr::null_mut();
    }
    block.cast()
}

/// Never asked: every alignment is had with a header.
#[cfg(not(unix))]
fn allocate_aligned(_size: usize, _unit: usize) -> *mut u8 {
    ptr::null_mut()
}

// SAFETY: `allocate` aligns as `data_of` says or as posix_memalign does; `reallocate` copies before
// it frees, or relies on realloc, which keeps the old block when it fails.
unsafe impl Allocator for System {
    const NAME: &'static str = "system";

    fn allocate(size: usize, alignment: Alignment, zeroed: bool) -> *mut u8 {
        let unit = unit(alignment);
        if unit <= MAX_HEADER_ALIGNMENT {
            let Some(total) = size.checked_add(unit) else {
                return ptr::null_mut();
            };
            // SAFETY: malloc and calloc take any size.
            let base = unsafe {
                if zeroed {
                    libc::calloc(1, total)
                } else {
                    libc::malloc(total)
                }
            }
            .cast::<u8>();
            if base.is_null() {
                return base;
            }
            debug_assert!(base.addr() & (MALLOC_ALIGNMENT - 1) == 0);
            // SAFETY: the block has `unit` bytes and more, and malloc's alignment is 16.
            unsafe { data_of(base, unit) }
        } else {
            let block = allocate_aligned(size, unit);
            if zeroed && !block.is_null() {
                // SAFETY: the block has `size` bytes.
                unsafe { block.write_bytes(0, size) };
            }
            block
        }
    }

    unsafe fn reallocate(
        data: *mut u8,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> *mut u8 {
        let unit = unit(alignment);
        if unit <= MAX_HEADER_ALIGNMENT {
            let Some(total) = new_size.checked_add(unit) else {
                return ptr::null_mut();
            };
            // SAFETY: the caller's block came from `allocate` with the same alignment.
            let (base, old_distance) = unsafe { base_of(data) };
            // SAFETY: `base` is a live block of malloc's.
            let base = unsafe { libc::realloc(base.cast(), total) }.cast::<u8>();
            if base.is_null() {
                return base;
            }
            // SAFETY: the old distance was at most `unit`, inside of the new block.
            let moved = unsafe { base.add(old_distance) };
            let new_distance = unit - (base.addr() & (unit - 1));
            if new_distance != old_distance {
                let kept = old_size.min(new_size);
                // SAFETY: both ranges lie in the new block, which has `new_size + unit` bytes, and
                // a shrinking realloc kept the first `new_size + unit` bytes.
                unsafe { ptr::copy(moved, base.add(new_distance), kept) };
            }
            // SAFETY: as in `allocate`; the distance is written after the bytes have moved away.
            unsafe { data_of(base, unit) }
        } else {
            let new = Self::allocate(new_size, alignment, false);
            if !new.is_null() {
                // SAFETY: both blocks have as many bytes, and a new block overlaps no live one.
                unsafe { ptr::copy_nonoverlapping(data, new, old_size.min(new_size)) };
                // SAFETY: the caller gives the old block up.
                unsafe { Self::free(data, old_size, alignment) };
            }
            new
        }
    }

    unsafe fn free(data: *mut u8, _size: usize, alignment: Alignment) {
        let base = if unit(alignment) <= MAX_HEADER_ALIGNMENT {
            // SAFETY: the caller's block came from `allocate` with the same alignment.
            unsafe { base_of(data).0 }
        } else {
            data
        };
        // SAFETY: `base` is malloc's or posix_memalign's block, not yet freed.
        unsafe { libc::free(base.cast()) };
    }

    fn release_unused() {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: malloc_trim has no preconditions.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    fn print_stats() {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            unsafe extern "C" {
                fn malloc_stats();
            }
            // SAFETY: malloc_stats has no preconditions; it writes to stderr.
            unsafe { malloc_stats() };
        }
        #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
        eprintln!("the C library has no allocator statistics");
    }

    fn statistics() -> BackendStatistics {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            // glibc has it since 2.33; found at run time, so that older ones load the library too.
            // SAFETY: a C string; RTLD_DEFAULT looks in what is loaded.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"mallinfo2".as_ptr()) };
            if found.is_null() {
                return BackendStatistics::default();
            }
            // SAFETY: glibc's own declaration; the function has no preconditions.
            let info = unsafe {
                std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn() -> libc::mallinfo2>(
                    found,
                )()
            };
            BackendStatistics {
                // Of the whole process: everything shares the C library's malloc.
                retained: Some(info.fordblks as u64),
                ..BackendStatistics::default()
            }
        }
        #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
        BackendStatistics::default()
    }
}

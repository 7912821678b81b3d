//! Windows: VirtualAlloc and VirtualFree. A reservation goes back whole, so nothing is cut or
//! joined; growth in place commits more of the reservation, a move copies.

use super::os::Relocation;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// A reservation goes back whole.
pub(super) const SPLITS: bool = false;

const MEM_COMMIT: u32 = 0x1000;
const MEM_RESERVE: u32 = 0x2000;
const MEM_DECOMMIT: u32 = 0x4000;
const MEM_RELEASE: u32 = 0x8000;
const PAGE_NOACCESS: u32 = 0x01;
const PAGE_READWRITE: u32 = 0x04;

/// How often another thread may take the aligned place that was just found.
const TRIES: usize = 16;

unsafe extern "system" {
    fn VirtualAlloc(place: *mut c_void, size: usize, kind: u32, protection: u32) -> *mut c_void;
    fn VirtualFree(place: *mut c_void, size: usize, kind: u32) -> i32;
}

/// The same on every Windows that Rust builds for.
pub(super) const fn page_size() -> usize {
    4096
}

/// Every committed byte is charged.
pub(super) const fn is_strict() -> bool {
    true
}

/// There is no limit; this one only bounds how much is counted.
pub(super) const fn max_mappings() -> usize {
    1 << 30
}

fn reserve_at(place: *mut c_void, size: usize, accessible: bool) -> Option<NonNull<u8>> {
    let (kind, protection) = if accessible {
        (MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE)
    } else {
        (MEM_RESERVE, PAGE_NOACCESS)
    };
    // SAFETY: a new reservation touches nothing that exists.
    NonNull::new(unsafe { VirtualAlloc(place, size, kind, protection) }.cast())
}

/// A reservation cannot be trimmed, so a larger one finds an aligned place, which is then reserved.
pub(super) fn reserve(size: usize, alignment: usize, accessible: bool) -> Option<NonNull<u8>> {
    for _ in 0..TRIES {
        let found = reserve_at(ptr::null_mut(), size.checked_add(alignment)?, false)?;
        let before = found.addr().get().wrapping_neg() & (alignment - 1);
        // SAFETY: the reservation is the one just made.
        unsafe { VirtualFree(found.as_ptr().cast(), 0, MEM_RELEASE) };
        let place = found.as_ptr().wrapping_add(before);
        if let Some(start) = reserve_at(place.cast(), size, accessible) {
            return Some(start);
        }
    }
    None
}

/// # Safety
/// As [`os::commit`](super::os::commit).
pub(super) unsafe fn commit(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's range is ours.
    let done = unsafe { VirtualAlloc(start.as_ptr().cast(), size, MEM_COMMIT, PAGE_READWRITE) };
    !done.is_null()
}

/// # Safety
/// As [`os::decommit`](super::os::decommit).
pub(super) unsafe fn decommit(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's range is ours, and nobody needs its contents.
    size == 0 || unsafe { VirtualFree(start.as_ptr().cast(), size, MEM_DECOMMIT) != 0 }
}

/// # Safety
/// As [`os::discard`](super::os::discard).
pub(super) unsafe fn discard(start: NonNull<u8>, size: usize) -> bool {
    // Committed anew, the pages are zero. Between the two calls the charge is given up: when it
    // cannot be had again, the range would be lost to its owner, so the caller fills it with zeros.
    let _ = (start, size);
    size == 0
}

/// # Safety
/// As [`os::unmap`](super::os::unmap).
pub(super) unsafe fn unmap(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's range is a whole reservation.
    size == 0 || unsafe { VirtualFree(start.as_ptr().cast(), 0, MEM_RELEASE) != 0 }
}

/// Pages do not move here: the caller copies.
///
/// # Safety
/// As [`os::relocate`](super::os::relocate).
pub(super) const unsafe fn relocate(
    _old: NonNull<u8>,
    _old_size: usize,
    _place: NonNull<u8>,
    _place_size: usize,
) -> Relocation {
    Relocation::Refused
}

/// Large pages need a privilege and are never paged out: left alone.
///
/// # Safety
/// As [`os::advise_huge`](super::os::advise_huge).
pub(super) const unsafe fn advise_huge(_start: NonNull<u8>, _size: usize) {}

/// # Safety
/// As [`os::advise_small`](super::os::advise_small).
pub(super) const unsafe fn advise_small(_start: NonNull<u8>, _size: usize) {}

//! macOS, and other unixes without mremap: mmap, mprotect, madvise.

use super::os::Relocation;
use std::ptr::{self, NonNull};

/// A mapping may be given back in parts.
pub(super) const SPLITS: bool = true;

pub(super) fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(16 << 10)
}

/// These systems charge no page before it is touched.
pub(super) const fn is_strict() -> bool {
    false
}

/// macOS has no limit of its own; this one only bounds how much is counted.
pub(super) const fn max_mappings() -> usize {
    1 << 20
}

fn map_at(
    place: *mut libc::c_void,
    size: usize,
    protection: i32,
    flags: i32,
) -> Option<NonNull<u8>> {
    // SAFETY: a private mapping; where the caller gives a place, the range is the caller's.
    let start = unsafe {
        libc::mmap(
            place,
            size,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANON | flags,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(start.cast())
}

const WRITABLE: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn map(size: usize, accessible: bool) -> Option<NonNull<u8>> {
    let protection = if accessible {
        WRITABLE
    } else {
        libc::PROT_NONE
    };
    map_at(ptr::null_mut(), size, protection, 0)
}

pub(super) fn reserve(size: usize, alignment: usize, accessible: bool) -> Option<NonNull<u8>> {
    let first = map(size, accessible)?;
    if first.addr().get() & (alignment - 1) == 0 {
        return Some(first);
    }
    // SAFETY: mapped above, and nobody knows it.
    unsafe { unmap(first, size) };
    let slack = alignment - page_size();
    let start = map(size.checked_add(slack)?, accessible)?;
    let before = start.addr().get().wrapping_neg() & (alignment - 1);
    // SAFETY: `before` is at most the slack.
    let aligned = unsafe { start.add(before) };
    // SAFETY: `before + size` is at most the mapping's size.
    let after = unsafe { aligned.add(size) };
    // SAFETY: both ends are whole pages of the mapping, and nobody uses them.
    unsafe {
        unmap(start, before);
        unmap(after, slack - before);
    }
    Some(aligned)
}

/// # Safety
/// As [`os::commit`](super::os::commit).
pub(super) unsafe fn commit(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's range is ours.
    unsafe { libc::mprotect(start.as_ptr().cast(), size, WRITABLE) == 0 }
}

/// # Safety
/// As [`os::decommit`](super::os::decommit).
pub(super) unsafe fn decommit(start: NonNull<u8>, size: usize) -> bool {
    map_at(
        start.as_ptr().cast(),
        size,
        libc::PROT_NONE,
        libc::MAP_FIXED,
    )
    .is_some()
}

/// A new mapping in the place of the old one: macOS's MADV_DONTNEED keeps the contents, and
/// MADV_FREE_REUSABLE may or may not.
///
/// # Safety
/// As [`os::discard`](super::os::discard).
pub(super) unsafe fn discard(start: NonNull<u8>, size: usize) -> bool {
    size == 0 || map_at(start.as_ptr().cast(), size, WRITABLE, libc::MAP_FIXED).is_some()
}

/// # Safety
/// As [`os::unmap`](super::os::unmap).
pub(super) unsafe fn unmap(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's range is ours, and nobody uses it.
    size == 0 || unsafe { libc::munmap(start.as_ptr().cast(), size) == 0 }
}

/// Pages do not move here without sharing them first: the caller copies, once, for the place has
/// room for later growth.
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

/// The system chooses by itself.
///
/// # Safety
/// As [`os::advise_huge`](super::os::advise_huge).
pub(super) const unsafe fn advise_huge(_start: NonNull<u8>, _size: usize) {}

/// # Safety
/// As [`os::advise_small`](super::os::advise_small).
pub(super) const unsafe fn advise_small(_start: NonNull<u8>, _size: usize) {}

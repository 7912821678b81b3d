//! What the operating system offers for regions, and the place where tests make it refuse.

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::linux as system;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
use super::macos as system;
#[cfg(windows)]
use super::windows as system;
use std::ptr::NonNull;

pub(super) use system::SPLITS;

/// How an attempt to move pages ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relocation {
    /// They are at the new place; the old addresses are no longer ours.
    Done,
    /// Both places are as they were.
    Refused,
    /// The pages are where they were; the new place may be gone, and nobody may use it again.
    PlaceLost,
}

/// Bytes in a page of the system's.
pub(crate) fn page_size() -> usize {
    system::page_size()
}

/// `size` bytes of addresses, whole pages, at a multiple of `alignment`: zero, writable when
/// `accessible`, else to be [committed](commit) first. No memory is used before it is touched.
pub(crate) fn reserve(size: usize, alignment: usize, accessible: bool) -> Option<NonNull<u8>> {
    if refusal::is_due() {
        return None;
    }
    system::reserve(size, alignment, accessible)
}

/// Makes addresses writable. `false` when the system has no memory for them; they are as before.
///
/// # Safety
/// - the range is whole pages of one [`reserve`]d range, and nobody uses it.
pub(super) unsafe fn commit(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's promise.
    !refusal::is_due() && unsafe { system::commit(start, size) }
}

/// The reverse of [`commit`]: the memory goes back.
///
/// # Safety
/// - as for [`commit`], for a committed range.
pub(super) unsafe fn decommit(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's promise.
    !refusal::is_due() && unsafe { system::decommit(start, size) }
}

/// Gives the memory of accessible addresses back: they read as zero. `false` when they stay as they
/// were.
///
/// # Safety
/// - the range is whole pages of one accessible range, and nobody needs its contents.
pub(crate) unsafe fn discard(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's promise.
    !refusal::is_due() && unsafe { system::discard(start, size) }
}

/// Gives addresses back. `false` when the system cannot part a mapping: they are still ours.
///
/// # Safety
/// - the range is whole pages of [`reserve`]'s, and nobody uses it. Where [`SPLITS`] is false it is
///   all that one call gave.
pub(crate) unsafe fn unmap(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's promise.
    !refusal::is_due() && unsafe { system::unmap(start, size) }
}

/// As [`unmap`]; addresses that cannot be given back lose their memory.
///
/// # Safety
/// - as for [`unmap`], for an accessible range.
pub(crate) unsafe fn give_back(start: NonNull<u8>, size: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if !unmap(start, size) {
            discard(start, size);
        }
    }
}

/// Moves the pages of `old` to `place`, which has `place_size` bytes, all of them of the kind that
/// `old` is.
///
/// # Safety
/// - both are whole [`reserve`]d ranges, accessible, apart from one another, and nobody uses them;
///   `place_size` is at least `old_size`.
pub(super) unsafe fn relocate(
    old: NonNull<u8>,
    old_size: usize,
    place: NonNull<u8>,
    place_size: usize,
) -> Relocation {
    if refusal::is_due() {
        return Relocation::Refused;
    }
    // SAFETY: the caller's promise.
    unsafe { system::relocate(old, old_size, place, place_size) }
}

/// Asks for huge pages; the system may refuse, and nothing is worse then.
///
/// # Safety
/// - the range is whole pages of one accessible range.
pub(super) unsafe fn advise_huge(start: NonNull<u8>, size: usize) {
    if !refusal::is_due() {
        // SAFETY: the caller's promise.
        unsafe { system::advise_huge(start, size) }
    }
}

/// Asks for small pages where the system would choose huge ones unasked.
///
/// # Safety
/// - the range is whole pages of one accessible range.
pub(super) unsafe fn advise_small(start: NonNull<u8>, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { system::advise_small(start, size) }
}

/// Whether the system wants every accessible byte to be paid for, so that tails must not be
/// accessible.
pub(super) fn is_strict() -> bool {
    #[cfg(test)]
    if refusal::STRICT.with(std::cell::Cell::get) {
        return true;
    }
    system::is_strict()
}

/// How many mappings a process may have.
pub(super) fn max_mappings() -> usize {
    #[cfg(test)]
    if let Some(mappings) = refusal::MAX_MAPPINGS.with(std::cell::Cell::get) {
        return mappings;
    }
    system::max_mappings()
}

/// Makes the calls of this thread fail, in tests.
#[cfg(test)]
pub(super) mod refusal {
    use std::cell::Cell;

    thread_local! {
        /// How many calls succeed before the one that fails.
        static AFTER: Cell<Option<usize>> = const { Cell::new(None) };
        static FOR_EVER: Cell<bool> = const { Cell::new(false) };
        static CALLS: Cell<usize> = const { Cell::new(0) };
        pub(in super::super) static STRICT: Cell<bool> = const { Cell::new(false) };
        pub(in super::super) static MAX_MAPPINGS: Cell<Option<usize>> = const { Cell::new(None) };
    }

    pub(super) fn is_due() -> bool {
        CALLS.set(CALLS.get() + 1);
        match AFTER.get() {
            None => false,
            Some(0) => {
                if !FOR_EVER.get() {
                    AFTER.set(None);
                }
                true
            }
            Some(n) => {
                AFTER.set(Some(n - 1));
                false
            }
        }
    }

    /// Runs `body` while the call after `n` others fails, or all from then on; says how many calls
    /// there were.
    pub(in super::super) fn after(n: usize, for_ever: bool, body: impl FnOnce()) -> usize {
        AFTER.set(Some(n));
        FOR_EVER.set(for_ever);
        CALLS.set(0);
        body();
        AFTER.set(None);
        CALLS.get()
    }
}

#[cfg(not(test))]
mod refusal {
    #[inline]
    pub(super) const fn is_due() -> bool {
        false
    }
}

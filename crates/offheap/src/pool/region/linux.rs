//! Linux: mmap, mremap, madvise.

use super::os::Relocation;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A mapping may be given back in parts.
pub(super) const SPLITS: bool = true;

/// After a failure that may have cost addresses, so many blocks are copied instead of moved.
const MOVES_LEFT_OUT: usize = 1000;

/// A number that is found out once; zero stands for unknown yet.
fn once(cell: &AtomicUsize, find: impl FnOnce() -> usize) -> usize {
    match cell.load(Ordering::Relaxed) {
        0 => {
            let found = find();
            cell.store(found, Ordering::Relaxed);
            found
        }
        known => known,
    }
}

pub(super) fn page_size() -> usize {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    once(&PAGE, || {
        // SAFETY: sysconf has no preconditions.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).unwrap_or(4096)
    })
}

/// The first bytes of a file, read without allocating.
fn read<'a>(path: &std::ffi::CStr, buffer: &'a mut [u8]) -> &'a [u8] {
    // SAFETY: a C string.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return &[];
    }
    // SAFETY: the buffer has as many bytes.
    let n = unsafe { libc::read(file, buffer.as_mut_ptr().cast(), buffer.len()) };
    // SAFETY: the file was opened above.
    unsafe { libc::close(file) };
    &buffer[..usize::try_from(n).unwrap_or(0)]
}

fn read_number(path: &std::ffi::CStr) -> Option<usize> {
    let mut buffer = [0; 24];
    let digits = read(path, &mut buffer);
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

/// Strict overcommit (mode 2) charges every writable byte, touched or not.
pub(super) fn is_strict() -> bool {
    overcommit() == 2
}

fn overcommit() -> usize {
    static MODE: AtomicUsize = AtomicUsize::new(0);
    once(&MODE, || {
        1 + read_number(c"/proc/sys/vm/overcommit_memory").unwrap_or(0)
    }) - 1
}

/// Whether a mapping of `size` bytes is more than the machine has, memory and swap together. In the
/// usual mode (0) the kernel refuses those, but not with NORESERVE; in mode 1 somebody wants them.
fn is_hopeless(size: usize) -> bool {
    /// Who asks for less need not be looked at.
    const LARGE: usize = 256 << 20;
    static ALL: AtomicUsize = AtomicUsize::new(0);
    size > LARGE
        && overcommit() == 0
        && size
            > once(&ALL, || {
                // SAFETY: sysinfo has no pointers inside: zero bytes are one.
                let mut system: libc::sysinfo = unsafe { std::mem::zeroed() };
                // SAFETY: the out-pointer is a sysinfo of ours.
                if unsafe { libc::sysinfo(&raw mut system) } != 0 {
                    return usize::MAX;
                }
                let units = system.totalram.saturating_add(system.totalswap) as usize;
                units.saturating_mul(system.mem_unit as usize).max(LARGE)
            })
}

pub(super) fn max_mappings() -> usize {
    static MAX: AtomicUsize = AtomicUsize::new(0);
    once(&MAX, || {
        read_number(c"/proc/sys/vm/max_map_count").map_or(65_530, |max| max.max(1))
    })
}

/// Whether the system uses huge pages unasked.
fn huge_pages_unasked() -> bool {
    static MODE: AtomicUsize = AtomicUsize::new(0);
    once(&MODE, || {
        let mut buffer = [0; 64];
        let modes = read(c"/sys/kernel/mm/transparent_hugepage/enabled", &mut buffer);
        1 + usize::from(modes.starts_with(b"[always]"))
    }) == 2
}

fn map(size: usize, accessible: bool) -> Option<NonNull<u8>> {
    if accessible && is_hopeless(size) {
        return None;
    }
    let protection = if accessible {
        libc::PROT_READ | libc::PROT_WRITE
    } else {
        libc::PROT_NONE
    };
    // SAFETY: a fresh private mapping touches nothing that exists.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(start.cast())
}

/// Without slack first: below a region there is mostly room for the next one, aligned by itself, so
/// that the two become one mapping.
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
    // SAFETY: both ends are whole pages of the mapping, and nobody uses them. At the limit of
    // mappings they may stay: addresses without memory.
    unsafe {
        unmap(start, before);
        unmap(after, slack - before);
    }
    Some(aligned)
}

/// # Safety
/// As [`os::commit`](super::os::commit).
pub(super) unsafe fn commit(start: NonNull<u8>, size: usize) -> bool {
    let writable = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the caller's range is ours.
    unsafe { libc::mprotect(start.as_ptr().cast(), size, writable) == 0 }
}

/// # Safety
/// As [`os::decommit`](super::os::decommit).
pub(super) unsafe fn decommit(start: NonNull<u8>, size: usize) -> bool {
    // A new mapping in the place of the old one: mprotect alone would leave the bytes charged.
    // SAFETY: the caller's range is ours, and nobody needs its contents.
    let place = unsafe {
        libc::mmap(
            start.as_ptr().cast(),
            size,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    place != libc::MAP_FAILED
}

/// # Safety
/// As [`os::discard`](super::os::discard).
pub(super) unsafe fn discard(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's range is ours, and nobody needs its contents.
    size == 0 || unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_DONTNEED) == 0 }
}

/// # Safety
/// As [`os::unmap`](super::os::unmap).
pub(super) unsafe fn unmap(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's range is ours, and nobody uses it.
    size == 0 || unsafe { libc::munmap(start.as_ptr().cast(), size) == 0 }
}

/// # Safety
/// As [`os::relocate`](super::os::relocate).
pub(super) unsafe fn relocate(
    old: NonNull<u8>,
    old_size: usize,
    place: NonNull<u8>,
    place_size: usize,
) -> Relocation {
    /// How many moves to leave out. See below.
    static PAUSE: AtomicUsize = AtomicUsize::new(0);
    let next = |left: usize| left.checked_sub(1);
    if PAUSE
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        .is_ok()
    {
        return Relocation::Refused;
    }
    // Growing while moving makes one mapping of it, which can move again.
    // SAFETY: both ranges are the caller's; the pages keep their contents.
    let moved = unsafe {
        libc::mremap(
            old.as_ptr().cast(),
            old_size,
            place_size,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            place.as_ptr(),
        )
    };
    if moved != libc::MAP_FAILED {
        return Relocation::Done;
    }
    // The kernel checks the number of mappings first, then clears the place, then checks the rest.
    // What is at the place now may be ours or, when it was cleared, another thread's of the process:
    // it is given up either way. Only where nothing is does this mapping come to be; else addresses
    // without memory may be lost, so a process at its limit of mappings does not try each time.
    // SAFETY: NOREPLACE touches nothing that exists.
    let again = unsafe {
        libc::mmap(
            place.as_ptr().cast(),
            place_size,
            libc::PROT_NONE,
            libc::MAP_PRIVATE
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if again != place.as_ptr().cast() {
        PAUSE.store(MOVES_LEFT_OUT, Ordering::Relaxed);
    }
    if again != libc::MAP_FAILED {
        // SAFETY: mapped just now (kernels before 4.17 choose another place), and nobody knows it.
        unsafe { libc::munmap(again, place_size) };
    }
    Relocation::PlaceLost
}

/// # Safety
/// As [`os::advise_huge`](super::os::advise_huge).
pub(super) unsafe fn advise_huge(start: NonNull<u8>, size: usize) {
    // SAFETY: advice about the caller's range changes no contents.
    unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
}

/// # Safety
/// As [`os::advise_small`](super::os::advise_small).
pub(super) unsafe fn advise_small(start: NonNull<u8>, size: usize) {
    if huge_pages_unasked() {
        // SAFETY: advice about the caller's range changes no contents.
        unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_NOHUGEPAGE) };
    }
}

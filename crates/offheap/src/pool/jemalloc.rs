//! jemalloc 5.3, with its own symbols: it never replaces the process's malloc.

use super::backend::{Allocator, BackendStatistics};
use crate::alignment::Alignment;
use crate::error::{Error, Result};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use tikv_jemalloc_ctl::raw;
use tikv_jemalloc_sys as je;

/// Jason Evans' jemalloc.
#[derive(Debug)]
pub(crate) struct Jemalloc;

#[inline]
const fn flags(alignment: Alignment) -> c_int {
    let alignment = if alignment.get() < 64 {
        64
    } else {
        alignment.get()
    };
    je::MALLOCX_LG_ALIGN(alignment.trailing_zeros() as usize)
}

/// Whether the system has some mappings and addresses left.
///
/// A thread's first call of jemalloc may make an arena, and where that fails jemalloc 5.3 goes through a
/// null pointer (`tcache_arena_associate`). Threads that only give memory back, the timer's above all,
/// would be the first to end a process that has come to its limits. Cost: some microseconds.
fn has_room_for_an_arena() -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        /// An arena takes a few; the kernel joins and parts them as it likes.
        const PARTS: usize = 8;
        /// Of which it has 2 MiB, cut out of more.
        const SIZE: usize = 8 << 20;
        let page = super::region::page_size();
        // SAFETY: a fresh private mapping touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return false;
        }
        let parted = (0..PARTS).all(|part| {
            // SAFETY: every second page at the mapping's start (of 64 KiB at most), which nobody else knows.
            unsafe {
                let page_start = start.byte_add(2 * part * page);
                libc::mprotect(page_start, page, libc::PROT_READ) == 0
            }
        });
        // SAFETY: the whole mapping.
        unsafe { libc::munmap(start, SIZE) };
        parted
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    true
}

/// jemalloc's name for "all arenas".
const ALL_ARENAS_PURGE: &[u8] = b"arena.4096.purge\0";

// SAFETY: the x-calls honour the alignment; a failing rallocx leaves the old block alone.
unsafe impl Allocator for Jemalloc {
    const NAME: &'static str = "jemalloc";

    #[inline]
    fn allocate(size: usize, alignment: Alignment, zeroed: bool) -> *mut u8 {
        let zero = if zeroed { je::MALLOCX_ZERO } else { 0 };
        // SAFETY: `size` is not zero, the flags hold a power of two.
        unsafe { je::mallocx(size, flags(alignment) | zero) }.cast()
    }

    unsafe fn reallocate(
        block: *mut u8,
        _old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> *mut u8 {
        // SAFETY: the caller's block is jemalloc's; `new_size` is not zero.
        unsafe { je::rallocx(block.cast(), new_size, flags(alignment)) }.cast()
    }

    #[inline]
    unsafe fn free(block: *mut u8, size: usize, alignment: Alignment) {
        // SAFETY: the caller's block was allocated with this size and alignment.
        unsafe { je::sdallocx(block.cast(), size, flags(alignment)) };
    }

    fn release_unused() {
        if !has_room_for_an_arena() {
            return;
        }
        // SAFETY: the key takes no value.
        unsafe {
            je::mallctl(
                ALL_ARENAS_PURGE.as_ptr().cast(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                0,
            );
        }
    }

    fn print_stats() {
        eprint!(
            "{}",
            stats_string("").unwrap_or_else(|error| error.to_string())
        );
    }

    fn statistics() -> BackendStatistics {
        let (Ok(allocated), Ok(active), Ok(resident)) = (
            stat("stats.allocated"),
            stat("stats.active"),
            stat("stats.resident"),
        ) else {
            return BackendStatistics::default();
        };
        BackendStatistics {
            usable: Some(allocated),
            resident: Some(resident),
            retained: Some(resident.saturating_sub(active)),
            fragmented: Some(active.saturating_sub(allocated)),
            ..BackendStatistics::default()
        }
    }
}

/// One of jemalloc's figures by its name, such as `stats.resident` or `thread.allocated`.
///
/// Keys under `stats.` are refreshed first. Cost: some microseconds.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a key that is unknown or no number.
pub fn stat(name: &str) -> Result<u64> {
    let unknown = || {
        Error::invalid_argument(
            "name",
            format_args!("'{name}'"),
            "the name of a numeric jemalloc statistic",
        )
    };
    // Reading some keys does something (`arenas.create`), and others are texts or pointers, which
    // mallctl cannot tell from numbers (`opt.dss`, `thread.allocatedp`): only these are open.
    const FAMILIES: [&str; 2] = ["stats.", "approximate_stats."];
    const KEYS: [&str; 3] = ["thread.allocated", "thread.deallocated", "thread.peak.read"];
    let is_open = FAMILIES.iter().any(|family| name.starts_with(family)) || KEYS.contains(&name);
    if !is_open || name.ends_with(".dss") {
        return Err(unknown());
    }
    let key = CString::new(name).map_err(|_| unknown())?;
    if name.starts_with("stats.") {
        // SAFETY: `epoch` takes a u64.
        unsafe { raw::write(b"epoch\0", 1_u64) }.map_err(|_| unknown())?;
    }
    let mut value = [0_u8; 8];
    let mut length = 8_usize;
    // SAFETY: at most `length` bytes are written; a key of another size is refused with EINVAL.
    let result = unsafe {
        je::mallctl(
            key.as_ptr(),
            value.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    match (result, length) {
        (0, 8) => Ok(u64::from_ne_bytes(value)),
        _ => {
            let mut word = [0_u8; 4];
            let mut length = 4_usize;
            // SAFETY: as above, for 32-bit keys.
            let result = unsafe {
                je::mallctl(
                    key.as_ptr(),
                    word.as_mut_ptr().cast(),
                    &raw mut length,
                    ptr::null_mut(),
                    0,
                )
            };
            if (result, length) == (0, 4) {
                Ok(u64::from(u32::from_ne_bytes(word)))
            } else {
                Err(unknown())
            }
        }
    }
}

/// Sets after how many milliseconds unused pages go back to the system, for every arena.
///
/// Arrow's call of this name reaches future arenas only; ours also those that exist.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) below -1 (which stands for never).
pub fn set_decay_ms(ms: i64) -> Result<()> {
    let invalid = || Error::invalid_argument("ms", ms, "-1 (never), 0 (at once) or milliseconds");
    let ms = isize::try_from(ms)
        .ok()
        .filter(|ms| *ms >= -1)
        .ok_or_else(invalid)?;
    // SAFETY: both keys take an ssize_t.
    unsafe {
        raw::write(b"arenas.dirty_decay_ms\0", ms).map_err(|_| invalid())?;
        raw::write(b"arenas.muzzy_decay_ms\0", ms).map_err(|_| invalid())?;
    }
    // SAFETY: the key gives an unsigned.
    let arenas = unsafe { raw::read::<u32>(b"arenas.narenas\0") }.map_err(|_| invalid())?;
    for arena in 0..arenas {
        for kind in ["dirty", "muzzy"] {
            let key = format!("arena.{arena}.{kind}_decay_ms\0");
            // SAFETY: the key takes an ssize_t; an arena that is not initialised refuses it, which
            // changes nothing.
            let _ = unsafe { raw::write(key.as_bytes(), ms) };
        }
    }
    Ok(())
}

/// Starts the calling thread's `thread.peak.read` anew.
///
/// # Errors
/// [`NotSupported`](crate::ErrorKind::NotSupported) when jemalloc was built without statistics.
pub fn peak_reset() -> Result<()> {
    // SAFETY: the key takes no value.
    let result = unsafe {
        je::mallctl(
            c"thread.peak.reset".as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::not_supported("jemalloc has no thread.peak"))
    }
}

/// jemalloc's statistics as text; `options` as in `malloc_stats_print` (`J` for JSON).
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for options with a NUL byte.
pub fn stats_string(options: &str) -> Result<String> {
    unsafe extern "C" fn write(into: *mut c_void, text: *const c_char) {
        // SAFETY: `into` is the String below, alive through the call, and `text` a C string.
        let (into, text) = unsafe { (&mut *into.cast::<String>(), CStr::from_ptr(text)) };
        into.push_str(&text.to_string_lossy());
    }
    let options = CString::new(options)
        .map_err(|_| Error::invalid_argument("options", options, "text without NUL bytes"))?;
    let mut text = String::new();
    // SAFETY: the callback and the String live through the call; options is a C string.
    unsafe {
        je::malloc_stats_print(Some(write), (&raw mut text).cast(), options.as_ptr());
    }
    Ok(text)
}

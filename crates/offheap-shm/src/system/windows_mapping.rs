//! Views of a section.

use super::Access;
use super::windows::{Section, last_error};
use crate::failure::{MAPPED, malformed, no_memory, no_permission, refused};
use offheap::Result;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_COMMITMENT_LIMIT, ERROR_INVALID_ADDRESS, ERROR_NOT_ENOUGH_MEMORY,
};
use windows_sys::Win32::System::Memory::{
    FILE_MAP_COPY, FILE_MAP_READ, FILE_MAP_WRITE, MEM_COMMIT, MEM_MAPPED, MEM_RELEASE, MEM_RESERVE,
    MEMORY_BASIC_INFORMATION, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFileEx, PAGE_NOACCESS,
    UnmapViewOfFile, VirtualAlloc, VirtualFree, VirtualQuery,
};
use windows_sys::Win32::System::ProcessStatus::GetMappedFileNameW;
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// Views start at multiples of this.
const GRANULARITY: usize = 64 << 10;

/// How often another thread may take the aligned place that was just found.
const TRIES: usize = 16;

/// Pages of shared memory in this process, unmapped when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the pages belong to the process, not to a thread; they are reached by raw pointers alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

fn view(section: &Section, len: usize, access: Access, place: *mut u8) -> Option<NonNull<u8>> {
    let access = match access {
        Access::Read => FILE_MAP_READ,
        Access::ReadPrivately => FILE_MAP_COPY,
        Access::Write => FILE_MAP_READ | FILE_MAP_WRITE,
    };
    // SAFETY: the section is open; a new view touches nothing that exists.
    let view = unsafe { MapViewOfFileEx(section.raw(), access, 0, 0, len, place.cast()) };
    NonNull::new(view.Value.cast())
}

/// An address at which `len` bytes are free now.
fn free_place(len: usize, alignment: usize) -> Option<*mut u8> {
    let all = len.checked_add(alignment)?;
    // SAFETY: a new reservation touches nothing that exists.
    let found = unsafe { VirtualAlloc(ptr::null(), all, MEM_RESERVE, PAGE_NOACCESS) };
    let found = NonNull::new(found.cast::<u8>())?.as_ptr();
    // SAFETY: the reservation just made, which nobody knows.
    unsafe { VirtualFree(found.cast(), 0, MEM_RELEASE) };
    Some(found.wrapping_add(found.addr().wrapping_neg() & (alignment - 1)))
}

impl Mapping {
    /// Maps the first `len` bytes of a section at a multiple of `alignment`.
    ///
    /// # Errors
    /// - [`OutOfMemory`](offheap::ErrorKind::OutOfMemory) when no addresses are left;
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) when the section is shorter.
    pub(crate) fn new(
        section: &Section,
        len: usize,
        alignment: usize,
        access: Access,
    ) -> Result<Self> {
        let start = if alignment > GRANULARITY {
            (0..TRIES).find_map(|_| view(section, len, access, free_place(len, alignment)?))
        } else {
            view(section, len, access, ptr::null_mut())
        };
        let Some(start) = start else {
            let error = last_error();
            return Err(match error.raw_os_error().map(|code| code as u32) {
                // Also a view that is longer than the section.
                Some(ERROR_ACCESS_DENIED) => malformed("size", "a handle with its memory's size"),
                Some(ERROR_NOT_ENOUGH_MEMORY | ERROR_COMMITMENT_LIMIT | ERROR_INVALID_ADDRESS) => {
                    no_memory(len as u64, None)
                }
                _ => refused("MapViewOfFileEx", len as u64, &error),
            });
        };
        MAPPED.fetch_add(len as u64, Ordering::Relaxed);
        Ok(Self { start, len })
    }

    /// Whether every page is there: another process may have made a section whose pages are only reserved,
    /// or lie in a file, which may not be readable later.
    ///
    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) when not.
    pub(crate) fn check_pages(&self) -> Result<()> {
        let mut about = MaybeUninit::<MEMORY_BASIC_INFORMATION>::zeroed();
        // SAFETY: the call fills the struct, whose size it is told, or leaves its zeros.
        let about = unsafe {
            VirtualQuery(
                self.start.as_ptr().cast(),
                about.as_mut_ptr(),
                size_of::<MEMORY_BASIC_INFORMATION>(),
            );
            about.assume_init()
        };
        let mut name = [0_u16; 16];
        // SAFETY: the name is written to as many characters as are told.
        let in_file = unsafe {
            GetMappedFileNameW(
                GetCurrentProcess(),
                self.start.as_ptr().cast(),
                name.as_mut_ptr(),
                name.len() as u32,
            )
        };
        let whole = about.RegionSize >= self.len;
        if whole && about.State == MEM_COMMIT && about.Type == MEM_MAPPED && in_file == 0 {
            Ok(())
        } else {
            Err(malformed("memory", "a handle of memory with all its pages"))
        }
    }

    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let view = MEMORY_MAPPED_VIEW_ADDRESS {
            Value: self.start.as_ptr().cast(),
        };
        // SAFETY: the pages are this value's, and whoever has an address of theirs keeps the value.
        unsafe { UnmapViewOfFile(view) };
        MAPPED.fetch_sub(self.len as u64, Ordering::Relaxed);
    }
}

/// The system kept a section from this process.
pub(super) fn kept(error: &std::io::Error, call: &str, size: u64) -> offheap::Error {
    match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_ACCESS_DENIED) => no_permission("memory of another user"),
        Some(ERROR_NOT_ENOUGH_MEMORY | ERROR_COMMITMENT_LIMIT) => no_memory(size, None),
        _ => refused(call, size, error),
    }
}

//! Mappings of a file descriptor.

use super::Access;
use crate::failure::{MAPPED, no_memory, no_permission, refused};
use offheap::{Error, ErrorKind, Result};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

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

/// Addresses of nothing, given back unless they are used.
struct Reserved(Mapping);

impl Reserved {
    /// `len` bytes of addresses at a multiple of `alignment`, both whole pages.
    fn new(len: usize, alignment: usize, page: usize) -> io::Result<Self> {
        let all = len
            .checked_add(alignment - page)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
        // SAFETY: a new mapping touches nothing that exists.
        let first = unsafe { libc::mmap(ptr::null_mut(), all, libc::PROT_NONE, flags, -1, 0) };
        if first == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first: *mut u8 = first.cast();
        let before = first.addr().wrapping_neg() & (alignment - 1);
        let start = first.wrapping_add(before);
        let after = all - before - len;
        // SAFETY: both ends are whole pages of the mapping just made, and nobody knows them.
        unsafe {
            if before > 0 {
                libc::munmap(first.cast(), before);
            }
            if after > 0 {
                libc::munmap(start.wrapping_add(len).cast(), after);
            }
        }
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        MAPPED.fetch_add(len as u64, Ordering::Relaxed);
        Ok(Self(Mapping { start, len }))
    }
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, all of its whole pages, at a multiple of `alignment`.
    ///
    /// # Errors
    /// - [`OutOfMemory`](offheap::ErrorKind::OutOfMemory) when no addresses or mappings are left;
    /// - [`Immutable`](offheap::ErrorKind::Immutable) when the file may not be written, but `access` is for that.
    pub(crate) fn new(
        file: BorrowedFd<'_>,
        len: usize,
        alignment: usize,
        access: Access,
        page: usize,
    ) -> Result<Self> {
        let reserved = if alignment > page {
            Some(Reserved::new(len, alignment, page).map_err(|e| refused("mmap", len as u64, &e))?)
        } else {
            None
        };
        let (place, fixed) = match &reserved {
            Some(Reserved(mapping)) => (mapping.start.as_ptr().cast(), libc::MAP_FIXED),
            None => (ptr::null_mut(), 0),
        };
        let (protection, kind) = match access {
            Access::Read => (libc::PROT_READ, libc::MAP_SHARED),
            // Pages of its own are the exception: none are reserved.
            Access::ReadPrivately => (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_NORESERVE,
            ),
            Access::Write => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED),
        };
        // SAFETY: a new mapping, or one over addresses that are reserved above for it alone.
        let start =
            unsafe { libc::mmap(place, len, protection, kind | fixed, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) if access == Access::Write => {
                    Error::new(ErrorKind::Immutable {
                        what: "open frozen shared memory for writing",
                    })
                }
                Some(libc::EPERM | libc::EACCES) => no_permission("mmap"),
                // Also of what is longer than the address space.
                Some(libc::ENOMEM | libc::EINVAL | libc::EOVERFLOW | libc::EAGAIN) => {
                    no_memory(len as u64, None)
                }
                _ => refused("mmap", len as u64, &error),
            });
        }
        if let Some(reserved) = reserved {
            return Ok(reserved.0);
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| no_memory(len as u64, None))?;
        MAPPED.fetch_add(len as u64, Ordering::Relaxed);
        Ok(Self { start, len })
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
        // SAFETY: the pages are this value's, and whoever has an address of theirs keeps the value.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(result, 0, "munmap: {}", io::Error::last_os_error());
        MAPPED.fetch_sub(self.len as u64, Ordering::Relaxed);
    }
}

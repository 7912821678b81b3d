//! Shared memory as a source of pools.

use crate::failure::{MAPPED, NAME};
use crate::memory::SharedMemory;
use crate::options::SharedMemoryOptions;
use crate::registry;
use crate::system;
use crate::trailer;
use offheap::pool::BackendStatistics;
use offheap::{Alignment, DeviceType, Error, ErrorKind, Location, MemoryPool, Result};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// Where shared memory lies: the CPU reads and writes it like its own. Arrow's codes have none for it, so
/// it is an extension's.
pub const SHARED_MEMORY: Location = Location::shared(DeviceType::EXT_DEV, -1);

/// Gives a pool shared memory: `Pool::custom(SharedMemorySource::new(options))` counts, and every adaptor
/// (limit, proxy, track, log, …) works on it.
///
/// Each block is shared memory of its own, so that another process sees one block and not its neighbours,
/// and a freed block can never be written again while somebody else reads it. So a block costs a file
/// descriptor, a mapping, ten system calls (Linux), and whole pages: 4 KiB for the smallest, and its size and
/// 64 bytes more, rounded up. It is for few large blocks: many small things go into one.
///
/// A block grows in place within its last page; beyond that it is copied, since shared memory has a fixed
/// size.
#[derive(Debug)]
pub struct SharedMemorySource {
    options: SharedMemoryOptions,
}

/// Bytes that a block of `size` bytes has room for.
fn room(size: usize) -> Option<usize> {
    trailer::whole(size, system::page_size()).map(|whole| whole - trailer::BYTES)
}

/// An error of a block says what was asked for, not what was tried.
#[cold]
fn asked_for(size: usize, error: Error) -> Error {
    match error.into_kind() {
        ErrorKind::OutOfMemory {
            limit,
            allocated,
            pool,
            ..
        } => Error::new(ErrorKind::OutOfMemory {
            requested: size as u64,
            limit,
            allocated,
            pool,
        }),
        other => Error::new(other),
    }
}

impl SharedMemorySource {
    /// A source of memory with these options. Blocks are always
    /// [`freezable`](SharedMemoryOptions::freezable): [`export`](crate::export) freezes them.
    ///
    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for the label.
    pub fn new(options: SharedMemoryOptions) -> Result<Self> {
        options.check()?;
        Ok(Self {
            options: SharedMemoryOptions {
                freezable: true,
                ..options
            },
        })
    }
}

impl Default for SharedMemorySource {
    fn default() -> Self {
        Self {
            options: SharedMemoryOptions {
                freezable: true,
                ..SharedMemoryOptions::default()
            },
        }
    }
}

// SAFETY: every block is a mapping of its own, at the alignment asked for, zero, and in the registry until it
// is freed; `reallocate` copies before it frees. The CPU reads and writes it.
unsafe impl MemoryPool for SharedMemorySource {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        // All that the pages have room for, so that the block can grow there. What has no room is refused.
        let memory =
            SharedMemory::create_aligned(room(size).unwrap_or(size), alignment, &self.options)
                .map_err(|error| asked_for(size, error))?;
        let start = memory.as_ptr();
        registry::insert(memory);
        Ok(start)
    }

    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        // New pages are zero.
        self.allocate(size, alignment)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        if room(old_size) == room(new_size) {
            return Ok(ptr);
        }
        let new = self.allocate(new_size, alignment)?;
        // SAFETY: both blocks have as many bytes, and no two mappings overlap.
        unsafe { new.copy_from_nonoverlapping(ptr, old_size.min(new_size)) };
        // SAFETY: the caller gives the old block up.
        unsafe { self.free(ptr, old_size, alignment) };
        Ok(new)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { self.free_checked(ptr, size, alignment, &mut Some(size)) };
    }

    unsafe fn free_checked(
        &self,
        ptr: NonNull<u8>,
        _size: usize,
        _alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        let memory = registry::remove(ptr.addr().get());
        if memory.is_none() {
            *freed = None;
        }
    }

    fn location(&self) -> Location {
        SHARED_MEMORY
    }

    fn backend_name(&self) -> &'static str {
        NAME
    }

    /// Of the whole process: [`usable`](BackendStatistics::usable) are the bytes that are mapped, also of
    /// memory that others created.
    fn backend_statistics(&self) -> BackendStatistics {
        let mut statistics = BackendStatistics::default();
        statistics.usable = Some(MAPPED.load(Ordering::Relaxed));
        statistics.retained = Some(0);
        statistics
    }
}

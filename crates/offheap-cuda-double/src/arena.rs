//! Memory with two addresses: one that the CPU cannot touch, one where the bytes are.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::result::{CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_OPERATING_SYSTEM, CUresult};

/// Bytes before the data in the file: magic, nonce, table of exported blocks.
pub(crate) const HEADER: u64 = 64 << 10;
const MAGIC: u64 = 0x4F48_4355_4441_4D45;
const SLOTS: usize = (HEADER as usize - 64) / 8;
/// Bytes that are filled at once; filling takes time, and pages.
const MOST_FILLED: u64 = 64 << 20;
const PAGE: u64 = 4096;
/// Device addresses start at a multiple of this, as on real hardware.
const BASE_ALIGNMENT: u64 = 2 << 20;

/// A part of the address space that this process owns, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: usize,
    length: usize,
}

impl Mapping {
    fn new(
        length: u64,
        protection: i32,
        flags: i32,
        fd: i32,
        offset: u64,
    ) -> Result<Self, CUresult> {
        let length = usize::try_from(length).map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)?;
        let offset = i64::try_from(offset).map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)?;
        // SAFETY: no fixed address, so nothing that exists is replaced.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(CUDA_ERROR_OPERATING_SYSTEM);
        }
        Ok(Self {
            base: base as usize,
            length,
        })
    }

    /// Memory that the CPU can read and write: host allocations and managed memory.
    ///
    /// # Errors
    /// `CUDA_ERROR_OPERATING_SYSTEM` when the operating system refuses.
    pub(crate) fn readable(length: u64) -> Result<Self, CUresult> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::new(
            length.next_multiple_of(PAGE),
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        )
    }

    /// Addresses that fault when touched.
    fn unreadable(length: u64) -> Result<Self, CUresult> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::new(length, libc::PROT_NONE, flags, -1, 0)
    }

    fn file(fd: BorrowedFd<'_>, offset: u64, length: u64) -> Result<Self, CUresult> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        Self::new(
            length,
            protection,
            libc::MAP_SHARED | libc::MAP_NORESERVE,
            fd.as_raw_fd(),
            offset,
        )
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this object owns the range, and whoever had a pointer into it held the object.
        unsafe { libc::munmap(self.base as *mut libc::c_void, self.length) };
    }
}

/// Device memory: a file without a name, mapped once for the bytes, and a range of addresses of the same length that
/// faults when the CPU touches it. Processes that open the file share the bytes.
#[derive(Debug)]
pub(crate) struct Arena {
    file: File,
    addresses: Mapping,
    bytes: Mapping,
    header: Option<Mapping>,
    base: u64,
    /// Where the byte of `base` is mapped.
    data: usize,
    nonce: u64,
    /// Addresses from here on have never been allocated.
    fresh: AtomicU64,
}

impl Arena {
    /// A new arena of `size` bytes; pages cost nothing before they are written.
    ///
    /// # Errors
    /// `CUDA_ERROR_OPERATING_SYSTEM` when the operating system refuses.
    pub(crate) fn create(size: u64) -> Result<Self, CUresult> {
        let size = size.next_multiple_of(BASE_ALIGNMENT);
        // SAFETY: the name is a literal that ends in NUL.
        let fd = unsafe { libc::memfd_create(c"offheap-cuda-double".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(CUDA_ERROR_OPERATING_SYSTEM);
        }
        // SAFETY: just opened, and nobody else has it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.set_len(HEADER + size)
            .map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)?;
        let mut nonce = [0_u8; 8];
        // SAFETY: the buffer is 8 bytes long.
        if unsafe { libc::getrandom(nonce.as_mut_ptr().cast(), 8, 0) } != 8 {
            return Err(CUDA_ERROR_OPERATING_SYSTEM);
        }
        let mut arena = Self::map(file, 0, size)?;
        let header = arena.header()?;
        header[0].store(MAGIC, Ordering::Relaxed);
        header[1].store(u64::from_ne_bytes(nonce), Ordering::Relaxed);
        header[2].store(size, Ordering::Release);
        arena.nonce = u64::from_ne_bytes(nonce);
        Ok(arena)
    }

    /// Maps a part of another process's arena.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE` when the file is none of ours, not the one meant, or too short.
    pub(crate) fn open(
        file: File,
        nonce: Option<u64>,
        offset: u64,
        size: u64,
    ) -> Result<Self, CUresult> {
        let length = file
            .metadata()
            .map_err(|_| CUDA_ERROR_INVALID_HANDLE)?
            .len();
        if length < HEADER
            || size == 0
            || offset
                .checked_add(size)
                .is_none_or(|end| end > length - HEADER)
        {
            return Err(CUDA_ERROR_INVALID_HANDLE);
        }
        let mut arena = Self::map(file, offset, size)?;
        let header = arena.header()?;
        let found = header[1].load(Ordering::Relaxed);
        if header[0].load(Ordering::Relaxed) != MAGIC || nonce.is_some_and(|nonce| nonce != found) {
            return Err(CUDA_ERROR_INVALID_HANDLE);
        }
        arena.nonce = found;
        Ok(arena)
    }

    /// The size of the data in a file that is an arena.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE` when it is none.
    pub(crate) fn size_of(file: &File) -> Result<u64, CUresult> {
        let length = file
            .metadata()
            .map_err(|_| CUDA_ERROR_INVALID_HANDLE)?
            .len();
        length
            .checked_sub(HEADER)
            .filter(|&size| size > 0)
            .ok_or(CUDA_ERROR_INVALID_HANDLE)
    }

    fn map(file: File, offset: u64, size: u64) -> Result<Self, CUresult> {
        let start = offset / PAGE * PAGE;
        let length = (offset + size - start).next_multiple_of(PAGE);
        let bytes = Mapping::file(file.as_fd(), HEADER + start, length)?;
        let header = Mapping::file(file.as_fd(), 0, HEADER)?;
        let addresses = Mapping::unreadable(length + BASE_ALIGNMENT)?;
        let within = offset - start;
        let base = (addresses.base() as u64).next_multiple_of(BASE_ALIGNMENT) + within;
        let data = bytes.base() + within as usize;
        Ok(Self {
            file,
            addresses,
            bytes,
            header: Some(header),
            base,
            data,
            nonce: 0,
            fresh: AtomicU64::new(base),
        })
    }

    fn header(&self) -> Result<&[AtomicU64], CUresult> {
        let header = self.header.as_ref().ok_or(CUDA_ERROR_INVALID_HANDLE)?;
        // SAFETY: the mapping holds HEADER bytes, is aligned to a page, lives as long as `self`, and is only accessed
        // through atomics, here and in other processes.
        Ok(unsafe {
            std::slice::from_raw_parts(header.base() as *const AtomicU64, HEADER as usize / 8)
        })
    }

    /// Notes the device for whoever opens the file.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE` without a header.
    pub(crate) fn set_device(&self, ordinal: u64) -> Result<(), CUresult> {
        self.header()?[3].store(ordinal, Ordering::Release);
        Ok(())
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE` without a header.
    pub(crate) fn device(&self) -> Result<u64, CUresult> {
        Ok(self.header()?[3].load(Ordering::Acquire))
    }

    /// The first device address.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn nonce(&self) -> u64 {
        self.nonce
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where the byte of a device address of this arena is mapped.
    pub(crate) fn data(&self, address: u64) -> usize {
        debug_assert!(address >= self.base && self.addresses.length > 0 && self.bytes.length > 0);
        self.data + (address - self.base) as usize
    }

    /// Lists a block as exported; the slot goes into its handle.
    pub(crate) fn export(&self, id: u64) -> Option<u32> {
        let slots = &self.header().ok()?[8..][..SLOTS];
        let index = slots
            .iter()
            .position(|slot| slot.load(Ordering::Acquire) == id)
            .or_else(|| {
                slots
                    .iter()
                    .position(|slot| slot.load(Ordering::Acquire) == 0)
            })?;
        slots[index].store(id, Ordering::Release);
        u32::try_from(index).ok()
    }

    /// Ends the export of a block that is freed.
    pub(crate) fn retract(&self, slot: u32) {
        if let Some(slot) = self
            .header()
            .ok()
            .and_then(|header| header.get(8 + slot as usize))
        {
            slot.store(0, Ordering::Release);
        }
    }

    pub(crate) fn is_exported(&self, slot: u32, id: u64) -> bool {
        id != 0
            && (slot as usize) < SLOTS
            && self
                .header()
                .is_ok_and(|header| header[8 + slot as usize].load(Ordering::Acquire) == id)
    }

    /// Memory up to `end` is allocated. Filled with 0xCB the first time, since a device's memory is not zero; more than
    /// 64 MiB at once stay zero, which costs no pages.
    pub(crate) fn first_use(&self, end: u64) {
        let start = self.fresh.fetch_max(end, Ordering::AcqRel);
        if start < end && end - start <= MOST_FILLED {
            self.fill(start, 0xCB, end - start);
        }
    }

    fn fill(&self, address: u64, byte: u8, size: u64) {
        // SAFETY: the callers' ranges lie in this arena, whose bytes are mapped for writing.
        unsafe { std::ptr::write_bytes(self.data(address) as *mut u8, byte, size as usize) };
    }

    /// Fills freed memory with 0xDB. Beyond 64 MiB the pages go back to the operating system instead.
    pub(crate) fn poison(&self, address: u64, size: u64) {
        if size <= MOST_FILLED {
            self.fill(address, 0xDB, size);
            return;
        }
        let offset = (HEADER + (address - self.base)) as libc::off_t;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: an open file and a range inside it. Failure leaves the old bytes, which is no harm.
        unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset, size as libc::off_t) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_openings_share_bytes() {
        let arena = Arena::create(4 << 20).unwrap();
        let file = arena.file().try_clone().unwrap();
        let other = Arena::open(file, Some(arena.nonce()), 4096 + 512, 512).unwrap();
        let address = arena.base() + 4096 + 512;
        // SAFETY: both lie in mapped data.
        unsafe {
            *(arena.data(address) as *mut u8) = 42;
            assert_eq!(*(other.data(other.base()) as *const u8), 42);
        }
        assert_eq!(other.base() % 512, 0);
    }

    #[test]
    fn strangers_are_refused() {
        let arena = Arena::create(1 << 20).unwrap();
        let file = || arena.file().try_clone().unwrap();
        assert_eq!(
            Arena::open(file(), Some(1), 0, 512).unwrap_err(),
            CUDA_ERROR_INVALID_HANDLE
        );
        assert_eq!(
            Arena::open(file(), None, 1 << 40, 512).unwrap_err(),
            CUDA_ERROR_INVALID_HANDLE
        );
        assert_eq!(
            Arena::open(file(), None, u64::MAX, 512).unwrap_err(),
            CUDA_ERROR_INVALID_HANDLE
        );
    }

    #[test]
    fn exports_end() {
        let arena = Arena::create(1 << 20).unwrap();
        let slot = arena.export(7).unwrap();
        assert_eq!(arena.export(7), Some(slot));
        assert!(arena.is_exported(slot, 7));
        arena.retract(slot);
        assert!(!arena.is_exported(slot, 7));
    }
}

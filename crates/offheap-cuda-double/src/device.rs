//! A simulated GPU.

use std::sync::Arc;

use crate::arena::Arena;
use crate::free_space::FreeSpace;
use crate::result::{CUDA_ERROR_OUT_OF_MEMORY, CUresult};

/// Address space for each byte of memory, so that fragmentation of addresses does not exhaust it: a real device
/// remaps pages.
const ADDRESSES_PER_BYTE: u64 = 4;

/// One device: its memory and its primary context.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) ordinal: usize,
    pub(crate) arena: Arc<Arena>,
    /// Free addresses of `arena`.
    pub(crate) space: FreeSpace,
    pub(crate) total: u64,
    /// Bytes of plain blocks and of what pools hold.
    pub(crate) used: u64,
    /// The primary context while it is retained, and how often.
    pub(crate) primary: Option<u64>,
    pub(crate) retained: u32,
    /// How the primary context waits; kept, without effect.
    pub(crate) flags: u32,
    pub(crate) default_pool: u64,
    /// The pool that `cuMemAllocAsync` uses.
    pub(crate) current_pool: u64,
}

impl Device {
    /// # Errors
    /// `CUDA_ERROR_OPERATING_SYSTEM` when the addresses cannot be had.
    pub(crate) fn new(ordinal: usize, total: u64) -> Result<Self, CUresult> {
        let size = address_space(total);
        let arena = Arc::new(Arena::create(size)?);
        let mut space = FreeSpace::default();
        space.release(arena.base(), size);
        Ok(Self {
            ordinal,
            arena,
            space,
            total,
            used: 0,
            primary: None,
            retained: 0,
            flags: 0,
            default_pool: 0,
            current_pool: 0,
        })
    }

    pub(crate) fn free(&self) -> u64 {
        self.total - self.used
    }

    /// Takes `size` bytes, a multiple of the granule.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY`.
    pub(crate) fn allocate(&mut self, size: u64) -> Result<u64, CUresult> {
        if size > self.free() {
            return Err(CUDA_ERROR_OUT_OF_MEMORY);
        }
        let address = self.space.allocate(size).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
        self.used += size;
        Ok(address)
    }

    pub(crate) fn release(&mut self, address: u64, size: u64) {
        self.space.release(address, size);
        self.used -= size;
    }

    /// The same in every process, as a real device's.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let mut uuid = *b"offheap-double-\0";
        uuid[15] = self.ordinal as u8;
        uuid
    }

    pub(crate) fn name(&self) -> String {
        format!("offheap CUDA test double {}", self.ordinal)
    }
}

/// Bytes of address space for a device or an exportable pool with `total` bytes of memory.
pub(crate) fn address_space(total: u64) -> u64 {
    (total * ADDRESSES_PER_BYTE).next_multiple_of(2 << 20)
}

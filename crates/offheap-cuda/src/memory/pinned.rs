//! Page-locked memory of the CPU as the source of a pool.

use crate::driver::{abi, is_exiting};
use crate::gpu::Gpu;
use offheap::{Alignment, DeviceType, Error, Location, MemoryPool, Result};
use std::ptr::{self, NonNull};

/// `cuMemHostAlloc` for each block: portable to all contexts, mapped for the GPU, and cached: write-combined
/// memory, cudarc's default, is a hundred times slower to read.
#[derive(Debug)]
pub(crate) struct PinnedSource {
    gpu: &'static Gpu,
}

/// Blocks begin on pages.
const PAGE: usize = 4096;

impl PinnedSource {
    pub(crate) fn new(gpu: &'static Gpu) -> Self {
        Self { gpu }
    }
}

// SAFETY: blocks are the driver's, on pages of their own, and stay until they are freed.
unsafe impl MemoryPool for PinnedSource {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        if alignment.get() > PAGE {
            return Err(Error::not_supported(format!(
                "page-locked memory is aligned to {PAGE} bytes, not {}",
                alignment.get()
            )));
        }
        let bound = self.gpu.bind()?;
        let mut block = ptr::null_mut();
        let flags = abi::MEMHOSTALLOC_PORTABLE | abi::MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: the out-pointer is ours.
        let code = unsafe { (bound.table.mem_host_alloc)(&raw mut block, size, flags) };
        match NonNull::new(block) {
            Some(block) if code == abi::SUCCESS => Ok(block.cast()),
            _ => Err(self.gpu.refused(bound.table, "cuMemHostAlloc", code, size)),
        }
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        let block = self.allocate(new_size, alignment)?;
        // SAFETY: both are live blocks with as many bytes, and apart; the CPU may use them.
        unsafe {
            block.copy_from_nonoverlapping(ptr, old_size.min(new_size));
            self.free(ptr, old_size, alignment);
        }
        Ok(block)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, _size: usize, _alignment: Alignment) {
        if !is_exiting()
            && let Ok(bound) = self.gpu.bind()
        {
            // SAFETY: the caller's block, which nobody uses.
            unsafe { (bound.table.mem_free_host)(ptr.as_ptr().cast()) };
        }
    }

    fn location(&self) -> Location {
        Location::shared(DeviceType::CUDA_HOST, i64::from(self.gpu.ordinal))
    }

    fn backend_name(&self) -> &'static str {
        "cuda host"
    }
}

//! Page-locked memory of the CPU as the source of a pool.

use super::aligned::Aligned;
use crate::driver::{abi, check, is_exiting};
use crate::gpu::Gpu;
use offheap::{Alignment, DeviceType, Error, ErrorKind, Location, MemoryPool, Result};
use std::ptr::{self, NonNull};

/// `cuMemHostAlloc` for each block: portable to all contexts, mapped for the GPU, and cached: write-combined
/// memory, cudarc's default, is a hundred times slower to read.
#[derive(Debug)]
pub(crate) struct PinnedSource {
    gpu: &'static Gpu,
    aligned: Aligned,
}

impl PinnedSource {
    pub(crate) fn new(gpu: &'static Gpu) -> Self {
        Self {
            gpu,
            aligned: Aligned::default(),
        }
    }
}

// SAFETY: blocks are the driver's, on pages of their own, and stay until they are freed.
unsafe impl MemoryPool for PinnedSource {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let bytes = Aligned::bytes_for(size, alignment.get()).ok_or_else(|| {
            Error::new(ErrorKind::OutOfMemory {
                requested: size as u64,
                limit: None,
                allocated: 0,
                pool: "cuda host".to_owned(),
            })
        })?;
        let bound = self.gpu.bind()?;
        let mut block = ptr::null_mut();
        let flags = abi::MEMHOSTALLOC_PORTABLE | abi::MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: the out-pointer is ours.
        let code = unsafe { (bound.table.mem_host_alloc)(&raw mut block, bytes, flags) };
        match NonNull::new(block) {
            Some(block) if code == abi::SUCCESS => {
                let start = self
                    .aligned
                    .place(block.addr().get() as u64, alignment.get());
                let skipped = start as usize - block.addr().get();
                // SAFETY: the block has the bytes that are skipped, too.
                Ok(unsafe { block.cast::<u8>().add(skipped) })
            }
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

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { self.free_checked(ptr, size, alignment, &mut Some(size)) };
    }

    unsafe fn free_checked(
        &self,
        ptr: NonNull<u8>,
        _size: usize,
        alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        if is_exiting() {
            return;
        }
        let start = ptr.addr().get() as u64;
        let base = self.aligned.take(start, alignment.get());
        let given = self.gpu.bind().and_then(|bound| {
            // SAFETY: the caller's block, which nobody uses; an address that is none is refused.
            check(bound.table, "cuMemFreeHost", unsafe {
                let before = (start - base) as usize;
                (bound.table.mem_free_host)(ptr.as_ptr().sub(before).cast())
            })
        });
        if given.is_err() {
            self.aligned.put(start, base);
            *freed = None;
        }
    }

    fn location(&self) -> Location {
        Location::shared(DeviceType::CUDA_HOST, i64::from(self.gpu.ordinal))
    }

    fn backend_name(&self) -> &'static str {
        "cuda host"
    }
}

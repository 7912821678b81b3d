//! Memory of the CPU that is page-locked later.

use crate::device::CudaDevice;
use crate::driver::{abi, check, is_exiting};
use crate::gpu::Gpu;
use offheap::{Block, DeviceType, Error, Result};

/// A block of the CPU's memory that the driver has page-locked, so that copies of it are as fast as of
/// [pinned](crate::CudaDevice::host_manager) memory. It is unlocked when this is dropped, without
/// waiting for the GPU: not before copies of it are done. The block lives at least as long.
#[derive(Debug)]
pub struct RegisteredMemory {
    gpu: &'static Gpu,
    block: Block,
}

impl RegisteredMemory {
    pub(crate) fn new(gpu: &'static Gpu, block: Block) -> Result<Self> {
        if !block.is_cpu() {
            return Err(Error::not_supported(format!(
                "memory of {} cannot be registered: only the CPU's can",
                block.location()
            )));
        }
        let kind = block.location().device_type;
        if matches!(kind, DeviceType::CUDA_HOST | DeviceType::CUDA_MANAGED) {
            return Err(Error::not_supported(format!(
                "memory of {} is the driver's own: it copies from and to it as it is",
                block.location()
            )));
        }
        if block.size() == 0 {
            return Err(Error::invalid_argument(
                "buffer",
                "an empty one",
                "a buffer of one byte at least",
            ));
        }
        let bound = gpu.bind()?;
        let (start, size) = (block.as_ptr().as_ptr(), block.size());
        // SAFETY: the block's bytes, which this value keeps.
        let code = unsafe {
            let flags = abi::MEMHOSTALLOC_PORTABLE | abi::MEMHOSTALLOC_DEVICEMAP;
            (bound.table.mem_host_register)(start.cast(), size, flags)
        };
        if code == abi::HOST_MEMORY_ALREADY_REGISTERED {
            return Err(Error::busy("the memory is registered already"));
        }
        check(bound.table, "cuMemHostRegister", code)?;
        Ok(Self { gpu, block })
    }

    /// The GPU by which it was locked; all of the process may use it.
    pub fn cuda_device(&self) -> CudaDevice {
        CudaDevice::of_gpu(self.gpu)
    }

    /// The block.
    pub fn block(&self) -> &Block {
        &self.block
    }
}

impl Drop for RegisteredMemory {
    fn drop(&mut self) {
        if !is_exiting()
            && let Ok(bound) = self.gpu.bind()
        {
            // SAFETY: registered by `new`, once.
            unsafe { (bound.table.mem_host_unregister)(self.block.as_ptr().as_ptr().cast()) };
        }
    }
}

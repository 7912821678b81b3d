//! The memory manager of shared memory.

use crate::device::shared_memory_device;
use crate::exchange::is_shared;
use offheap::{
    Alignment, Block, Device, DeviceBuffer, DeviceReader, DeviceWriter, MemoryManager,
    MutableDeviceBuffer, Pool, Result, default_cpu_memory_manager,
};
use std::sync::Arc;

/// Copies whatever the CPU can read to shared memory, and views shared memory in place; the CPU's manager
/// views it in place, too. Ordinary memory cannot become shared: viewing it here is not supported, and
/// `view_or_copy_to` copies.
#[derive(Debug)]
pub struct SharedMemoryManager {
    pool: Pool,
}

impl SharedMemoryManager {
    /// Of a pool of shared memory.
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }
}

impl MemoryManager for SharedMemoryManager {
    fn device(&self) -> Arc<dyn Device> {
        shared_memory_device()
    }

    fn pool(&self) -> Option<Pool> {
        Some(self.pool.clone())
    }

    fn copy_from(&self, source: &DeviceBuffer) -> Result<Option<Block>> {
        let Ok(bytes) = source.as_cpu() else {
            return Ok(None);
        };
        if let Some(stream) = source.memory_manager().own_stream() {
            stream.synchronize()?;
        }
        let block = self.allocate(bytes.len(), Alignment::DEFAULT, true)?;
        // SAFETY: a new block, all zero, with room for as many bytes, that overlaps nothing.
        unsafe {
            let start = block.as_ptr().as_ptr();
            start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(Some(block))
    }

    fn view_from(&self, source: &DeviceBuffer) -> Result<Option<(Block, usize)>> {
        // A view of shared memory that another manager, the CPU's say, has of it.
        Ok(is_shared(source).then(|| (source.block().clone(), source.offset())))
    }

    // From here on it is memory like any that the CPU reads.

    fn read(&self, source: &DeviceBuffer, offset: usize, target: &mut [u8]) -> Result<()> {
        default_cpu_memory_manager().read(source, offset, target)
    }

    fn write(&self, target: &mut MutableDeviceBuffer, offset: usize, bytes: &[u8]) -> Result<()> {
        default_cpu_memory_manager().write(target, offset, bytes)
    }

    fn reader(&self, buffer: DeviceBuffer) -> Result<Box<dyn DeviceReader>> {
        default_cpu_memory_manager().reader(buffer)
    }

    fn writer(&self, buffer: MutableDeviceBuffer) -> Result<Box<dyn DeviceWriter>> {
        default_cpu_memory_manager().writer(buffer)
    }
}

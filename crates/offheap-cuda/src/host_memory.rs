//! The manager of page-locked memory.

use crate::device::{CudaDevice, Kind};
use crate::event::CudaEvent;
use crate::gpu::Gpu;
use crate::manager::stream_of;
use crate::memory::PinnedSource;
use crate::sub_allocator::{
    NoStreams, PoolUpstream, StreamId, SubAllocator, SubAllocatorOptions, SubAllocatorSource,
    SubAllocatorStatistics,
};
use offheap::{
    Alignment, Block, Device, DeviceBuffer, DeviceReader, DeviceType, DeviceWriter, Error,
    MemoryManager, MutableDeviceBuffer, Pool, Result, SyncEvent, cpu_device,
};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

/// Page-locked memory of the CPU, from a pool that cuts large blocks of it (Arrow's `CudaHostBuffer`; CuPy's
/// `PinnedMemoryPool`): a counted handle. `cuMemHostAlloc` alone takes some hundred microseconds and more.
#[derive(Debug, Clone)]
pub struct CudaHostMemoryManager {
    gpu: &'static Gpu,
    pool: Pool,
}

/// Less is not locked at once: each call of the driver is slow.
const LEAST_CHUNK: u64 = 4 << 20;

impl CudaHostMemoryManager {
    pub(crate) fn create(gpu: &'static Gpu) -> Result<Self> {
        let chunks = PoolUpstream::new(Pool::custom(PinnedSource::new(gpu)));
        let options = SubAllocatorOptions::new()
            .name("cuda host")
            .minimum_growth(LEAST_CHUNK);
        let cache = SubAllocator::new(chunks, NoStreams, options)?;
        // Copies keep the blocks that they use, so a freed one is nobody's.
        let source = SubAllocatorSource::on_host(Arc::new(cache), StreamId(0))?;
        Ok(Self {
            gpu,
            pool: Pool::custom(source),
        })
    }

    pub(crate) fn over(gpu: &'static Gpu, pool: &Pool) -> Result<Self> {
        if pool.location().device_type != DeviceType::CUDA_HOST {
            return Err(Error::invalid_argument(
                "pool",
                pool.name(),
                "a pool of page-locked memory",
            ));
        }
        Ok(Self {
            gpu,
            pool: pool.clone(),
        })
    }

    /// The pool.
    pub fn cuda_pool(&self) -> &Pool {
        &self.pool
    }

    /// The GPU.
    pub fn cuda_device(&self) -> CudaDevice {
        CudaDevice::of_gpu(self.gpu)
    }

    /// What cuts the chunks.
    fn cache(&self) -> Result<&SubAllocator<PoolUpstream, NoStreams>> {
        match self.pool.find_source::<SubAllocatorSource<NoStreams>>() {
            Some(source) => Ok(source.allocator()),
            None => Err(Error::invalid_argument(
                "pool",
                self.pool.name(),
                "a pool of offheap-cuda's memory",
            )),
        }
    }

    /// What the allocator tells beside its pool's own figures.
    ///
    /// # Errors
    /// Never for a manager that was made here.
    pub fn allocator_statistics(&self) -> Result<SubAllocatorStatistics> {
        Ok(self.cache()?.statistics())
    }

    /// Makes the peaks of the allocator's figures what is current.
    ///
    /// # Errors
    /// Never for a manager that was made here.
    pub fn reset_allocator_peaks(&self) -> Result<()> {
        self.cache()?.reset_peaks();
        Ok(())
    }

    /// Gives chunks that no block uses back, but for `keep` bytes.
    ///
    /// # Errors
    /// What the driver says.
    pub fn trim(&self, keep: u64) -> Result<()> {
        self.cache()?.trim(keep).map(drop)
    }
}

/// The CPU's own manager does what the CPU can do.
fn cpu() -> Result<Arc<dyn MemoryManager>> {
    cpu_device().default_memory_manager()
}

impl MemoryManager for CudaHostMemoryManager {
    fn device(&self) -> Arc<dyn Device> {
        Arc::new(CudaDevice::of_kind(self.gpu, Kind::Host))
    }

    fn pool(&self) -> Option<Pool> {
        Some(self.pool.clone())
    }

    fn copy_from(&self, source: &DeviceBuffer) -> Result<Option<Block>> {
        if !source.is_cpu() && stream_of(&**source.memory_manager()).is_none() {
            return Ok(None);
        }
        let block = self.allocate(source.len(), Alignment::DEFAULT, false)?;
        let padding = block.capacity() - source.len();
        // SAFETY: a new block that the CPU may write.
        let target = unsafe {
            block.as_ptr().add(source.len()).write_bytes(0, padding);
            std::slice::from_raw_parts_mut(block.as_ptr().as_ptr(), source.len())
        };
        source.read(0, target)?;
        Ok(Some(block))
    }

    fn view_to(
        &self,
        source: &DeviceBuffer,
        to: &Arc<dyn MemoryManager>,
    ) -> Result<Option<(Block, usize)>> {
        let is_the_cpus = to.device().device_type() == DeviceType::CPU;
        Ok(is_the_cpus.then(|| (source.block().clone(), source.offset())))
    }

    fn view_from(&self, source: &DeviceBuffer) -> Result<Option<(Block, usize)>> {
        let is_pinned = source.block().location().device_type == DeviceType::CUDA_HOST;
        Ok(is_pinned.then(|| (source.block().clone(), source.offset())))
    }

    fn read(&self, source: &DeviceBuffer, offset: usize, target: &mut [u8]) -> Result<()> {
        cpu()?.read(source, offset, target)
    }

    fn write(&self, target: &mut MutableDeviceBuffer, offset: usize, bytes: &[u8]) -> Result<()> {
        cpu()?.write(target, offset, bytes)
    }

    fn reader(&self, buffer: DeviceBuffer) -> Result<Box<dyn DeviceReader>> {
        cpu()?.reader(buffer)
    }

    fn writer(&self, buffer: MutableDeviceBuffer) -> Result<Box<dyn DeviceWriter>> {
        cpu()?.writer(buffer)
    }

    unsafe fn wrap_sync_event(&self, event: NonNull<c_void>) -> Result<Arc<dyn SyncEvent>> {
        // SAFETY: the caller's promise. It is the GPU that writes such memory, so the events are its.
        Ok(Arc::new(unsafe { CudaEvent::wrap_at(self.gpu, event)? }))
    }
}

//! Managers of a GPU's memory.

use crate::copy;
use crate::device::{CudaDevice, Kind};
use crate::driver::abi;
use crate::event::CudaEvent;
use crate::files::{CudaBufferReader, CudaBufferWriter};
use crate::gpu::Gpu;
use crate::memory::{
    Allocator, CudaSource, CudaStreams, DriverPoolOptions, DriverPoolStatistics,
    OutOfMemoryHandlers,
};
use crate::stream::CudaStream;
use crate::sub_allocator::{
    PoolUpstream, SubAllocator, SubAllocatorOptions, SubAllocatorStatistics,
};
use offheap::{
    Alignment, Block, Device, DeviceBuffer, DeviceReader, DeviceType, DeviceWriter, Error,
    MemoryManager, MutableDeviceBuffer, Pool, Result, Stream, SyncEvent,
};
use std::any::Any;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

/// What a manager's allocator tells beside its pool's own figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocatorStatistics {
    /// `cuMemAlloc` keeps nothing.
    None,
    /// A pool of the driver's.
    DriverPool(DriverPoolStatistics),
    /// Our own sub-allocator.
    SubAllocator(SubAllocatorStatistics),
}

/// Memory of one GPU from one pool, used on one stream (Arrow's `CudaMemoryManager`): a counted handle.
///
/// Buffers are allocated and freed in the order of the stream. Copies run there, too, after what the other
/// buffer's stream has at that moment.
#[derive(Debug, Clone)]
pub struct CudaMemoryManager {
    gpu: &'static Gpu,
    pool: Pool,
    stream: CudaStream,
}

impl CudaMemoryManager {
    fn make(allocator: Allocator, stream: CudaStream) -> Result<Self> {
        let handlers = Arc::new(OutOfMemoryHandlers::default());
        Self::of_source(CudaSource::new(allocator, stream, handlers)?)
    }

    fn of_source(source: CudaSource) -> Result<Self> {
        let (gpu, stream) = (source.gpu(), source.stream().clone());
        Ok(Self {
            gpu,
            pool: Pool::custom(source),
            stream,
        })
    }

    pub(crate) fn plain(gpu: &'static Gpu) -> Result<Self> {
        Self::make(Allocator::Plain, CudaStream::create(gpu, None)?)
    }

    pub(crate) fn of_driver_pool(gpu: &'static Gpu, options: &DriverPoolOptions) -> Result<Self> {
        if gpu.attribute(abi::attribute::MEMORY_POOLS_SUPPORTED)? == 0 {
            return Err(Error::not_supported(format!(
                "the driver has no memory pools on {}",
                gpu.location()
            )));
        }
        let stream = CudaStream::create(gpu, None)?;
        let pool = crate::memory::DriverPool::create(gpu, &stream, options)?;
        Self::make(Allocator::Driver(Arc::new(pool)), stream)
    }

    pub(crate) fn cached(gpu: &'static Gpu, options: SubAllocatorOptions) -> Result<Self> {
        let chunks = Self::plain(gpu)?.pool;
        let cache = SubAllocator::new(PoolUpstream::new(chunks), CudaStreams(gpu), options)?;
        Self::make(
            Allocator::Cached(Arc::new(cache)),
            CudaStream::create(gpu, None)?,
        )
    }

    pub(crate) fn managed(gpu: &'static Gpu) -> Result<Self> {
        if gpu.attribute(abi::attribute::MANAGED_MEMORY)? == 0 {
            return Err(Error::not_supported(format!(
                "{} has no managed memory",
                gpu.location()
            )));
        }
        Self::make(Allocator::Managed, CudaStream::create(gpu, None)?)
    }

    /// Over a pool that leads to a source of this GPU's.
    pub(crate) fn over(stream: CudaStream, pool: &Pool) -> Self {
        Self {
            gpu: stream.gpu(),
            pool: pool.clone(),
            stream,
        }
    }

    fn source(&self) -> Result<&CudaSource> {
        self.pool.find_source().ok_or_else(|| {
            Error::invalid_argument("pool", self.pool.name(), "a pool of offheap-cuda's memory")
        })
    }

    /// The same allocator on another stream: buffers of the new manager are that stream's. They count in a
    /// pool of their own; limits on this manager's pool are not the new one's.
    ///
    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for another GPU's stream, and for the
    /// [per-thread](CudaDevice::per_thread_stream) one: it is another on each thread, so that nothing would be
    /// ordered by it once a buffer changes threads.
    pub fn on(&self, stream: &CudaStream) -> Result<Self> {
        if stream.gpu() != self.gpu {
            return Err(Error::invalid_argument(
                "stream",
                format_args!("one of {}", stream.gpu().location()),
                "a stream of the manager's GPU",
            ));
        }
        if stream.is_per_thread() {
            return Err(Error::invalid_argument(
                "stream",
                "the per-thread default stream",
                "a stream that is the same on all threads",
            ));
        }
        let source = self.source()?;
        Self::of_source(CudaSource::new(
            source.allocator().clone(),
            stream.clone(),
            Arc::clone(source.handlers()),
        )?)
    }

    /// The same memory under another pool: a limit, say, or an adaptor over this manager's.
    ///
    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for a pool of other memory.
    pub fn with_pool(&self, pool: &Pool) -> Result<Self> {
        match pool.find_source::<CudaSource>() {
            Some(source) if pool.location() == self.pool.location() => {
                Ok(Self::over(source.stream().clone(), pool))
            }
            _ => Err(Error::invalid_argument(
                "pool",
                format_args!("'{}' of {}", pool.name(), pool.location()),
                "a pool of this GPU's memory",
            )),
        }
    }

    /// The stream.
    pub fn stream(&self) -> &CudaStream {
        &self.stream
    }

    /// The pool.
    pub fn cuda_pool(&self) -> &Pool {
        &self.pool
    }

    /// The GPU.
    pub fn cuda_device(&self) -> CudaDevice {
        CudaDevice::of_gpu(self.gpu)
    }

    /// Gives cached memory back to the GPU, but for `keep` bytes, after what the stream has now is done.
    ///
    /// # Errors
    /// What the driver says.
    pub fn trim(&self, keep: u64) -> Result<()> {
        match self.source()?.allocator() {
            Allocator::Driver(pool) => {
                self.stream.synchronize()?;
                pool.trim(keep)
            }
            Allocator::Cached(allocator) => allocator.trim(keep).map(drop),
            Allocator::Plain | Allocator::Managed => Ok(()),
        }
    }

    /// What the allocator tells.
    ///
    /// # Errors
    /// What the driver says.
    pub fn allocator_statistics(&self) -> Result<AllocatorStatistics> {
        Ok(match self.source()?.allocator() {
            Allocator::Driver(pool) => AllocatorStatistics::DriverPool(pool.statistics()?),
            Allocator::Cached(allocator) => {
                AllocatorStatistics::SubAllocator(allocator.statistics())
            }
            Allocator::Plain | Allocator::Managed => AllocatorStatistics::None,
        })
    }

    /// Makes the peaks of the allocator's figures what is current.
    ///
    /// # Errors
    /// What the driver says.
    pub fn reset_allocator_peaks(&self) -> Result<()> {
        match self.source()?.allocator() {
            Allocator::Driver(pool) => pool.reset_peaks(),
            Allocator::Cached(allocator) => {
                allocator.reset_peaks();
                Ok(())
            }
            Allocator::Plain | Allocator::Managed => Ok(()),
        }
    }

    /// Has `handler` called when memory runs out, after cached memory was given back, with the bytes asked
    /// for; when it says that it freed something, the request is tried again, at most 16 times. It counts for
    /// every stream of the allocator. The number takes it away again
    /// ([`remove_out_of_memory_handler`](Self::remove_out_of_memory_handler)).
    ///
    /// # Errors
    /// Never for a manager that was made here.
    pub fn on_out_of_memory(
        &self,
        handler: impl Fn(u64) -> bool + Send + Sync + 'static,
    ) -> Result<u64> {
        Ok(self.source()?.handlers().add(Arc::new(handler)))
    }

    /// Takes a handler away.
    ///
    /// # Errors
    /// Never for a manager that was made here.
    pub fn remove_out_of_memory_handler(&self, id: u64) -> Result<()> {
        self.source()?.handlers().remove(id);
        Ok(())
    }

    fn kind(&self) -> Kind {
        if self.pool.location().device_type == DeviceType::CUDA_MANAGED {
            Kind::Managed
        } else {
            Kind::Device
        }
    }
}

/// What a view on the GPU is of, and keeps. A type of its own: foreign memory may be owned by any buffer.
#[derive(Debug)]
struct Viewed(DeviceBuffer);

/// The stream in whose order a buffer's bytes are written.
pub(crate) fn stream_of(manager: &dyn MemoryManager) -> Option<CudaStream> {
    let manager: &dyn Any = manager;
    manager
        .downcast_ref::<CudaMemoryManager>()
        .map(|manager| manager.stream.clone())
}

impl MemoryManager for CudaMemoryManager {
    fn device(&self) -> Arc<dyn Device> {
        Arc::new(CudaDevice::of_kind(self.gpu, self.kind()))
    }

    fn pool(&self) -> Option<Pool> {
        Some(self.pool.clone())
    }

    fn own_stream(&self) -> Option<Arc<dyn Stream>> {
        Some(Arc::new(self.stream.clone()))
    }

    fn copy_from(&self, source: &DeviceBuffer) -> Result<Option<Block>> {
        let from_gpu = source.location().device_type == DeviceType::CUDA
            || source.location().device_type == DeviceType::CUDA_MANAGED;
        if !source.is_cpu() && !from_gpu {
            return Ok(None);
        }
        let block = self.allocate(source.len(), Alignment::DEFAULT, false)?;
        if !source.is_empty() {
            if let Some(other) = stream_of(&**source.memory_manager()) {
                self.stream.wait_stream(&other)?;
            }
            // SAFETY: the new block has as many bytes; the source's are its own.
            unsafe {
                copy::start(
                    &self.stream,
                    address_of(&block),
                    source.into(),
                    source.len(),
                )?
            };
            self.stream.synchronize()?;
        }
        Ok(Some(block))
    }

    fn copy_to(&self, source: &DeviceBuffer, to: &Arc<dyn MemoryManager>) -> Result<Option<Block>> {
        if !to.is_cpu() {
            return Ok(None);
        }
        let block = to.allocate(source.len(), Alignment::DEFAULT, false)?;
        let padding = block.capacity() - source.len();
        // SAFETY: a new block of the CPU's, whose capacity may be written.
        unsafe { block.as_ptr().add(source.len()).write_bytes(0, padding) };
        if !source.is_empty() {
            // SAFETY: the new block has as many bytes, which the CPU may write.
            let target =
                unsafe { std::slice::from_raw_parts_mut(block.as_ptr().as_ptr(), source.len()) };
            self.read(source, 0, target)?;
        }
        Ok(Some(block))
    }

    fn view_from(&self, source: &DeviceBuffer) -> Result<Option<(Block, usize)>> {
        let location = source.location();
        if location.device_id != i64::from(self.gpu.ordinal) {
            return Ok(None);
        }
        // What the view is read by comes after what the source's stream has.
        if let Some(other) = stream_of(&**source.memory_manager()) {
            self.stream.wait_stream(&other)?;
        }
        let as_it_is = || Ok(Some((source.block().clone(), source.offset())));
        let start = match (self.kind(), location.device_type) {
            (Kind::Device, DeviceType::CUDA) | (Kind::Managed, DeviceType::CUDA_MANAGED) => {
                return as_it_is();
            }
            // No bytes are nowhere.
            (Kind::Device, DeviceType::CUDA_MANAGED | DeviceType::CUDA_HOST)
                if source.is_empty() =>
            {
                return as_it_is();
            }
            // Managed memory has one address everywhere.
            (Kind::Device, DeviceType::CUDA_MANAGED) => source.address() as u64,
            (Kind::Device, DeviceType::CUDA_HOST) => {
                copy::device_address(self.gpu, source.address())?
            }
            // Only managed memory moves by itself.
            _ => return Ok(None),
        };
        let Some(start) = NonNull::new(std::ptr::with_exposed_provenance_mut(start as usize))
        else {
            return Ok(None);
        };
        let location = self.pool.location();
        // SAFETY: the GPU reaches the bytes there as long as the source lives, which the view keeps.
        let view =
            unsafe { Block::foreign_at(start, source.len(), location, Viewed(source.clone()))? };
        Ok(Some((view, 0)))
    }

    fn view_to(
        &self,
        source: &DeviceBuffer,
        to: &Arc<dyn MemoryManager>,
    ) -> Result<Option<(Block, usize)>> {
        // A view of host memory goes back to what it is of; no bytes are viewed as they are.
        let viewed = source
            .block()
            .owner()
            .and_then(|owner| owner.downcast_ref::<Viewed>());
        let (block, offset) = match viewed {
            Some(Viewed(original)) => (original.block(), original.offset() + source.offset()),
            None => (source.block(), source.offset()),
        };
        let to = to.device();
        let is_home = match to.device_type() {
            DeviceType::CPU => block.is_cpu(),
            _ => to.location() == block.location(),
        };
        Ok(is_home.then(|| (block.clone(), offset)))
    }

    fn read(&self, source: &DeviceBuffer, offset: usize, target: &mut [u8]) -> Result<()> {
        let from = source.address() as u64 + offset as u64;
        // SAFETY: the range was checked; the target is borrowed until the copy is done.
        unsafe { copy::to_host(&self.stream, from, target.as_mut_ptr(), target.len())? };
        self.stream.synchronize()
    }

    fn write(&self, target: &mut MutableDeviceBuffer, offset: usize, bytes: &[u8]) -> Result<()> {
        let to = target.address() as u64 + offset as u64;
        // SAFETY: the range was checked; the bytes are borrowed until the copy is done.
        unsafe { copy::from_host(&self.stream, to, bytes.as_ptr(), bytes.len())? };
        self.stream.synchronize()
    }

    fn reader(&self, buffer: DeviceBuffer) -> Result<Box<dyn DeviceReader>> {
        Ok(Box::new(CudaBufferReader::new(buffer)))
    }

    fn writer(&self, buffer: MutableDeviceBuffer) -> Result<Box<dyn DeviceWriter>> {
        Ok(Box::new(CudaBufferWriter::new(buffer, 0)?))
    }

    unsafe fn wrap_sync_event(&self, event: NonNull<c_void>) -> Result<Arc<dyn SyncEvent>> {
        // SAFETY: the caller's promise.
        Ok(Arc::new(unsafe { CudaEvent::wrap_at(self.gpu, event)? }))
    }

    fn make_sync_event(&self) -> Result<Arc<dyn SyncEvent>> {
        Ok(Arc::new(CudaDevice::of_gpu(self.gpu).create_event(false)?))
    }

    fn on_stream(&self, stream: &dyn Stream) -> Result<Option<Arc<dyn MemoryManager>>> {
        let any: &dyn Any = stream;
        let stream = any.downcast_ref::<CudaStream>().ok_or_else(|| {
            Error::invalid_argument("stream", "another device's", "a stream of CUDA")
        })?;
        Ok(Some(Arc::new(self.on(stream)?)))
    }
}

fn address_of(block: &Block) -> u64 {
    block.as_ptr().addr().get() as u64
}

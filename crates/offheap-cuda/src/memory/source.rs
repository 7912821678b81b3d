//! Memory of a GPU as the source of a pool.

use super::aligned::{Aligned, USUAL};
use super::cached::{CudaBytes, CudaStreams};
use super::driver_pool::DriverPool;
use super::hooks::OutOfMemoryHandlers;
use crate::driver::{abi, check, is_exiting};
use crate::gpu::Gpu;
use crate::stream::CudaStream;
use crate::sub_allocator::{PoolUpstream, SubAllocator, SubAllocatorSource};
use offheap::{
    Alignment, BackendStatistics, DeviceType, Error, ErrorKind, Location, MemoryPool, Padding,
    Result,
};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// What gives memory, whatever the stream.
#[derive(Debug, Clone)]
pub(crate) enum Allocator {
    /// `cuMemAlloc` and `cuMemFree`, for each block.
    Plain,
    /// A pool of the driver's.
    Driver(Arc<DriverPool>),
    /// Our own cache of large chunks.
    Cached(Arc<SubAllocator<PoolUpstream, CudaStreams>>),
    /// `cuMemAllocManaged`.
    Managed,
}

/// One allocator on one stream: blocks are the stream's, and go back in its order.
#[derive(Debug)]
pub(crate) struct CudaSource {
    gpu: &'static Gpu,
    stream: CudaStream,
    allocator: Allocator,
    cached: Option<SubAllocatorSource<CudaStreams, CudaBytes>>,
    aligned: Aligned,
    handlers: Arc<OutOfMemoryHandlers>,
    location: Location,
}

/// Retries after callbacks that say they freed something: one that always says so must not go on for ever.
const MOST_RETRIES: usize = 16;

impl CudaSource {
    pub(crate) fn new(
        allocator: Allocator,
        stream: CudaStream,
        handlers: Arc<OutOfMemoryHandlers>,
    ) -> Result<Self> {
        let gpu = stream.gpu();
        let cached = match &allocator {
            Allocator::Cached(allocator) => {
                let id = crate::sub_allocator::StreamId(stream.raw().addr() as u64);
                Some(SubAllocatorSource::on_device(
                    Arc::clone(allocator),
                    id,
                    CudaBytes(gpu),
                ))
            }
            _ => None,
        };
        let ordinal = i64::from(gpu.ordinal);
        let location = match allocator {
            // Where the CPU may only use it while the GPU is idle, it counts as the GPU's.
            Allocator::Managed
                if gpu.attribute(abi::attribute::CONCURRENT_MANAGED_ACCESS)? != 0 =>
            {
                Location::shared(DeviceType::CUDA_MANAGED, ordinal)
            }
            Allocator::Managed => Location::device(DeviceType::CUDA_MANAGED, ordinal),
            _ => gpu.location(),
        };
        Ok(Self {
            gpu,
            stream,
            allocator,
            cached,
            aligned: Aligned::default(),
            handlers,
            location,
        })
    }

    pub(crate) fn gpu(&self) -> &'static Gpu {
        self.gpu
    }

    pub(crate) fn stream(&self) -> &CudaStream {
        &self.stream
    }

    pub(crate) fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    pub(crate) fn handlers(&self) -> &Arc<OutOfMemoryHandlers> {
        &self.handlers
    }

    /// A block of the driver's own size and alignment.
    fn driver_block(&self, size: usize) -> Result<u64> {
        let call = match &self.allocator {
            Allocator::Driver(pool) => return pool.allocate(size, &self.stream),
            Allocator::Managed => "cuMemAllocManaged",
            Allocator::Plain | Allocator::Cached(_) => "cuMemAlloc",
        };
        let bound = self.gpu.bind()?;
        let mut address = 0;
        // SAFETY: the out-pointer is ours.
        let code = unsafe {
            if matches!(self.allocator, Allocator::Managed) {
                let flags = abi::MEM_ATTACH_GLOBAL;
                (bound.table.mem_alloc_managed)(&raw mut address, size, flags)
            } else {
                (bound.table.mem_alloc)(&raw mut address, size)
            }
        };
        if code == abi::SUCCESS {
            Ok(address)
        } else {
            Err(self.gpu.refused(bound.table, call, code, size))
        }
    }

    fn free_driver_block(&self, address: u64) -> Result<()> {
        if let Allocator::Driver(pool) = &self.allocator {
            return pool.free(address, &self.stream);
        }
        let bound = self.gpu.bind()?;
        // SAFETY: the caller's block, which nobody uses; the driver waits for work that does.
        check(bound.table, "cuMemFree", unsafe {
            (bound.table.mem_free)(address)
        })
    }

    #[cold]
    fn too_large(&self, size: usize) -> Error {
        Error::new(ErrorKind::OutOfMemory {
            requested: size as u64,
            limit: None,
            allocated: 0,
            pool: self.location.to_string(),
        })
    }

    fn try_once(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        if let Some(cached) = &self.cached {
            return cached.allocate(size, alignment);
        }
        let Allocator::Driver(pool) = &self.allocator else {
            return self.try_driver(size, alignment);
        };
        pool.count(size)?;
        self.try_driver(size, alignment)
            .inspect_err(|_| pool.uncount(size))
    }

    fn try_driver(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let alignment = alignment.get();
        let bytes = Aligned::bytes_for(size, alignment).ok_or_else(|| self.too_large(size))?;
        let base = self.driver_block(bytes)?;
        if !base.is_multiple_of(USUAL as u64) {
            // No driver is known to do that; the block would be neither aligned nor large enough.
            self.free_driver_block(base)?;
            return Err(Error::device_unavailable(
                "driver-error",
                format!("the driver gave memory at {base:#x}, no multiple of {USUAL}"),
            ));
        }
        let start = self.aligned.place(base, alignment);
        NonNull::new(ptr::with_exposed_provenance_mut(start as usize))
            .ok_or_else(|| Error::device_unavailable("driver-error", "the driver gave address 0"))
    }

    /// What waits to be used again goes back, so that a request may fit.
    fn make_room(&self) -> Result<()> {
        match &self.allocator {
            Allocator::Driver(pool) => {
                // What was freed in the stream's order ends only when the stream gets there.
                self.stream.synchronize()?;
                pool.trim(0)
            }
            Allocator::Cached(allocator) => allocator.trim(0).map(drop),
            Allocator::Plain | Allocator::Managed => Ok(()),
        }
    }

    /// Tries, gives cached memory back and tries again, asks the callbacks and tries again.
    fn make(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let mut answer = self.try_once(size, alignment);
        let is_refused =
            |answer: &Result<NonNull<u8>>| matches!(answer, Err(error) if error.is_out_of_memory());
        if is_refused(&answer) && self.make_room().is_ok() {
            answer = self.try_once(size, alignment);
        }
        let mut tries = 0;
        while is_refused(&answer) && tries < MOST_RETRIES && self.handlers.ask(size as u64) {
            tries += 1;
            // What was freed may have gone to the cache.
            let _ = self.make_room();
            answer = self.try_once(size, alignment);
        }
        answer
    }

    /// Fills the first `size` bytes, in the stream's order.
    fn zero(&self, start: NonNull<u8>, size: usize) -> Result<()> {
        let bound = self.gpu.bind()?;
        // Every allocator's padding, also where it is not in the size: blocks of the cache have room for it.
        let size = size.next_multiple_of(64);
        // SAFETY: a new block of as many bytes.
        check(bound.table, "cuMemsetD8Async", unsafe {
            let address = start.addr().get() as u64;
            (bound.table.memset_d8_async)(address, 0, size, self.stream.raw())
        })?;
        self.finish()
    }

    /// Waits for what was given to the stream for a block, where others could not wait for it.
    fn finish(&self) -> Result<()> {
        // The CPU does not wait for streams.
        if self.location.is_cpu {
            self.stream.synchronize()?;
        }
        Ok(())
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// What is no live block of that size, as far as the allocator can tell, and what the driver says. It is then
    /// what it was before.
    fn give(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) -> Result<()> {
        if is_exiting() {
            return Ok(());
        }
        if let Some(cached) = &self.cached {
            return cached.give(ptr, size);
        }
        // Not after the free: the address may be another thread's block then.
        let start = ptr.addr().get() as u64;
        let base = self.aligned.take(start, alignment.get());
        let freed = self.free_driver_block(base);
        match (&freed, &self.allocator) {
            (Err(_), _) => self.aligned.put(start, base),
            (Ok(()), Allocator::Driver(pool)) => pool.uncount(size),
            (Ok(()), _) => {}
        }
        freed
    }
}

impl Drop for CudaSource {
    fn drop(&mut self) {
        if let Allocator::Cached(allocator) = &self.allocator
            && !is_exiting()
        {
            // The stream may end now, and its handle be another's.
            let id = crate::sub_allocator::StreamId(self.stream.raw().addr() as u64);
            drop(allocator.retire_stream(id));
        }
    }
}

// SAFETY: blocks are the driver's, or cut from its chunks without overlap, at multiples of the alignment;
// they stay until they are freed. The GPU's writes of zeros and copies are in the stream's order, in which
// blocks are used. The location says where they are.
unsafe impl MemoryPool for CudaSource {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.make(size, alignment)
    }

    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let block = self.make(size, alignment)?;
        match self.zero(block, size) {
            Ok(()) => Ok(block),
            Err(error) => {
                drop(self.give(block, size, alignment));
                Err(error)
            }
        }
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        if let Some(cached) = &self.cached
            && cached.resize(ptr, old_size, new_size)?
        {
            return Ok(ptr);
        }
        let block = self.make(new_size, alignment)?;
        let copy = || {
            let bound = self.gpu.bind()?;
            // SAFETY: both are live blocks with as many bytes, and apart.
            check(bound.table, "cuMemcpyDtoDAsync", unsafe {
                (bound.table.memcpy_dtod_async)(
                    block.addr().get() as u64,
                    ptr.addr().get() as u64,
                    old_size.min(new_size),
                    self.stream.raw(),
                )
            })?;
            self.finish()
        };
        if let Err(error) = copy() {
            drop(self.give(block, new_size, alignment));
            return Err(error);
        }
        drop(self.give(ptr, old_size, alignment));
        Ok(block)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // There is nobody to tell: an error of earlier work comes again at the next call that can tell.
        drop(self.give(ptr, size, alignment));
    }

    unsafe fn free_checked(
        &self,
        ptr: NonNull<u8>,
        size: usize,
        alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        if self.give(ptr, size, alignment).is_err() {
            *freed = None;
        }
    }

    fn padding(&self) -> Padding {
        match self.allocator {
            // Its blocks are multiples of 256, and it counts what was asked for.
            Allocator::Cached(_) => Padding::Passed,
            _ => Padding::Rounded,
        }
    }

    fn location(&self) -> Location {
        self.location
    }

    fn backend_name(&self) -> &'static str {
        match self.allocator {
            Allocator::Plain => "cuda",
            Allocator::Driver(_) => "cuda driver pool",
            Allocator::Cached(_) => "cuda pool",
            Allocator::Managed => "cuda managed",
        }
    }

    fn release_unused(&self) {
        drop(self.make_room());
    }

    fn backend_statistics(&self) -> BackendStatistics {
        match &self.allocator {
            Allocator::Driver(pool) => pool
                .statistics()
                .map_or_else(|_| BackendStatistics::default(), BackendStatistics::from),
            Allocator::Cached(allocator) => allocator.statistics().into(),
            // The driver does not say how it rounds, and keeps nothing.
            Allocator::Plain | Allocator::Managed => BackendStatistics::default(),
        }
    }
}

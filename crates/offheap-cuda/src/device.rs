//! GPUs as devices.

use crate::driver::{self, abi};
use crate::event::CudaEvent;
use crate::gpu::{self, Gpu};
use crate::host_memory::CudaHostMemoryManager;
use crate::manager::CudaMemoryManager;
use crate::memory::{CudaSource, DriverPoolOptions, RegisteredMemory};
use crate::stream::CudaStream;
use crate::sub_allocator::SubAllocatorOptions;
use offheap::{
    Block, Device, DeviceType, Error, Location, MemoryManager, Pool, Result, Stream,
    register_device_mapper,
};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// A GPU (Arrow's `CudaDevice`): a plain handle, of its own memory, or of memory of one of the other kinds
/// that it has.
#[derive(Debug, Clone, Copy)]
pub struct CudaDevice {
    gpu: &'static Gpu,
    kind: Kind,
}

/// Which of a GPU's kinds of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Device,
    Host,
    Managed,
}

/// What a GPU is, as the driver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProperties {
    /// `NVIDIA H200`.
    pub name: String,
    /// The number that is the GPU's in every process.
    pub uuid: [u8; 16],
    /// Where it is plugged in: `0000:01:00.0`.
    pub pci_bus_id: String,
    /// Bytes of memory.
    pub total_memory: u64,
    /// Major and minor version.
    pub compute_capability: (i32, i32),
    /// How many multiprocessors it has.
    pub multiprocessors: i32,
    /// Whether it shares the CPU's memory.
    pub is_integrated: bool,
    /// Whether the driver has pools.
    pub has_memory_pools: bool,
    /// Whether these can be [exportable](crate::DriverPoolOptions::exportable).
    pub has_exportable_memory_pools: bool,
    /// Whether it has managed memory.
    pub has_managed_memory: bool,
    /// Whether the CPU may use managed memory while the GPU works.
    pub has_concurrent_managed_access: bool,
}

/// All GPUs that this process may use; none where CUDA [cannot be used](crate::status).
pub fn devices() -> Vec<CudaDevice> {
    let count = gpu::count().unwrap_or(0);
    (0..count)
        .filter_map(|ordinal| CudaDevice::new(i64::from(ordinal)).ok())
        .collect()
}

impl CudaDevice {
    /// The GPU with an ordinal, from 0 on.
    ///
    /// # Errors
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for a number that no GPU has;
    /// - [`DeviceUnavailable`](offheap::ErrorKind::DeviceUnavailable) without any.
    pub fn new(ordinal: i64) -> Result<Self> {
        register_devices();
        Ok(Self::of_gpu(gpu::gpu(ordinal)?))
    }

    pub(crate) fn of_gpu(gpu: &'static Gpu) -> Self {
        Self {
            gpu,
            kind: Kind::Device,
        }
    }

    pub(crate) fn of_kind(gpu: &'static Gpu, kind: Kind) -> Self {
        Self { gpu, kind }
    }

    pub(crate) fn gpu(&self) -> &'static Gpu {
        self.gpu
    }

    /// Its number.
    pub fn ordinal(&self) -> i32 {
        self.gpu.ordinal
    }

    /// What it is.
    ///
    /// # Errors
    /// What the driver says.
    pub fn properties(&self) -> Result<DeviceProperties> {
        use abi::attribute as of;
        let gpu = self.gpu;
        Ok(DeviceProperties {
            name: gpu.name()?,
            uuid: gpu.uuid()?,
            pci_bus_id: gpu.pci_bus_id()?,
            total_memory: gpu.total_memory()?,
            compute_capability: (
                gpu.attribute(of::COMPUTE_CAPABILITY_MAJOR)?,
                gpu.attribute(of::COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: gpu.attribute(of::MULTIPROCESSOR_COUNT)?,
            is_integrated: gpu.attribute(of::INTEGRATED)? != 0,
            has_memory_pools: gpu.attribute(of::MEMORY_POOLS_SUPPORTED)? != 0,
            has_exportable_memory_pools: crate::memory::can_export(gpu)?,
            has_managed_memory: gpu.attribute(of::MANAGED_MEMORY)? != 0,
            has_concurrent_managed_access: gpu.attribute(of::CONCURRENT_MANAGED_ACCESS)? != 0,
        })
    }

    /// Free and total bytes of the GPU, of all processes.
    ///
    /// # Errors
    /// What the driver says.
    pub fn memory_info(&self) -> Result<(u64, u64)> {
        self.gpu.memory_info()
    }

    /// Whether this GPU can reach `peer`'s memory directly.
    ///
    /// # Errors
    /// What the driver says.
    pub fn can_access_peer(&self, peer: &Self) -> Result<bool> {
        self.gpu.can_access(peer.gpu)
    }

    /// Lets this GPU reach `peer`'s memory directly, to the end of the process. Copies work without it.
    ///
    /// # Errors
    /// [`NotSupported`](offheap::ErrorKind::NotSupported) where it cannot.
    pub fn enable_peer_access(&self, peer: &Self) -> Result<()> {
        self.gpu.enable_access(peer.gpu)
    }

    /// Waits for everything that this process gave the GPU.
    ///
    /// # Errors
    /// What the driver says, of earlier work, too.
    pub fn synchronize(&self) -> Result<()> {
        self.gpu.synchronize()
    }

    /// A new stream; lower priorities are more urgent, `None` is the usual one.
    ///
    /// # Errors
    /// What the driver says.
    pub fn create_stream(&self, priority: Option<i32>) -> Result<CudaStream> {
        CudaStream::create(self.gpu, priority)
    }

    /// As [`create_stream`](Self::create_stream), of one that does what other libraries give the
    /// [legacy default stream](Self::default_stream) in order with its own work: each waits for the other.
    ///
    /// # Errors
    /// What the driver says.
    pub fn create_blocking_stream(&self, priority: Option<i32>) -> Result<CudaStream> {
        CudaStream::create_blocking(self.gpu, priority)
    }

    /// The legacy default stream.
    pub fn default_stream(&self) -> CudaStream {
        CudaStream::default_of(self.gpu)
    }

    /// The calling thread's default stream: the handle stands for another stream on each thread that uses it.
    ///
    /// It records, waits and copies as any other; managers [refuse](CudaMemoryManager::on) it.
    pub fn per_thread_stream(&self) -> CudaStream {
        CudaStream::per_thread(self.gpu)
    }

    /// A new event that was never recorded, whose moment has come. With `timing` it notes the time, for
    /// [`CudaEvent::elapsed_ms`]. [`CudaStream::record`] is cheaper: it uses events again.
    ///
    /// # Errors
    /// What the driver says.
    pub fn create_event(&self, timing: bool) -> Result<CudaEvent> {
        // Not one that was used before: until it is recorded it would be its last user's moment.
        let flags = if timing { 0 } else { abi::EVENT_DISABLE_TIMING };
        CudaEvent::create(self.gpu, flags)
    }

    /// The GPU's manager for whoever names no other: of a pool of the driver's of our own where it has
    /// pools, else of `cuMemAlloc`; on a stream of its own. The same at each call.
    ///
    /// # Errors
    /// What the driver says.
    pub fn manager(&self) -> Result<CudaMemoryManager> {
        let defaults = defaults(self.gpu)?;
        let mut device = lock(&defaults.device);
        if device.is_none() {
            let pools = self.gpu.attribute(abi::attribute::MEMORY_POOLS_SUPPORTED)? != 0;
            *device = Some(if pools {
                self.driver_pool_manager(&DriverPoolOptions::default())?
            } else {
                self.plain_manager()?
            });
        }
        device
            .clone()
            .ok_or_else(|| Error::not_supported("unreachable"))
    }

    /// A manager of a new pool of the driver's.
    ///
    /// # Errors
    /// - [`NotSupported`](offheap::ErrorKind::NotSupported) where the driver has none, or none of the kind asked for;
    /// - what the driver says.
    pub fn driver_pool_manager(&self, options: &DriverPoolOptions) -> Result<CudaMemoryManager> {
        CudaMemoryManager::of_driver_pool(self.gpu, options)
    }

    /// A manager of `cuMemAlloc` and `cuMemFree`, whose free waits for the whole GPU.
    ///
    /// # Errors
    /// What the driver says.
    pub fn plain_manager(&self) -> Result<CudaMemoryManager> {
        CudaMemoryManager::plain(self.gpu)
    }

    /// A manager of a new sub-allocating pool.
    ///
    /// # Errors
    /// What the driver says, and the options.
    pub fn pool_manager(&self, options: SubAllocatorOptions) -> Result<CudaMemoryManager> {
        CudaMemoryManager::cached(self.gpu, options)
    }

    /// A manager of memory that moves between CPU and GPU by itself. The same at each call.
    ///
    /// # Errors
    /// - [`NotSupported`](offheap::ErrorKind::NotSupported) where the GPU has none;
    /// - what the driver says.
    pub fn managed_manager(&self) -> Result<CudaMemoryManager> {
        let defaults = defaults(self.gpu)?;
        let mut managed = lock(&defaults.managed);
        if managed.is_none() {
            *managed = Some(CudaMemoryManager::managed(self.gpu)?);
        }
        managed
            .clone()
            .ok_or_else(|| Error::not_supported("unreachable"))
    }

    /// The manager of page-locked memory of the CPU, from a pool. The same at each call.
    ///
    /// # Errors
    /// What the driver says.
    pub fn host_manager(&self) -> Result<CudaHostMemoryManager> {
        let defaults = defaults(self.gpu)?;
        let mut host = lock(&defaults.host);
        if host.is_none() {
            *host = Some(CudaHostMemoryManager::create(self.gpu)?);
        }
        host.clone()
            .ok_or_else(|| Error::not_supported("unreachable"))
    }

    /// Page-locks a block of the CPU's memory, so that copies of it are as fast as of pinned memory.
    ///
    /// # Errors
    /// - [`NotSupported`](offheap::ErrorKind::NotSupported) for memory that the CPU does not reach, and the driver's own;
    /// - [`Busy`](offheap::ErrorKind::Busy) for memory that is registered already;
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for an empty block;
    /// - what the driver says.
    pub fn register_host(&self, block: &Block) -> Result<RegisteredMemory> {
        RegisteredMemory::new(self.gpu, block.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One GPU's managers that are made once.
#[derive(Debug, Default)]
struct Defaults {
    device: Mutex<Option<CudaMemoryManager>>,
    host: Mutex<Option<CudaHostMemoryManager>>,
    managed: Mutex<Option<CudaMemoryManager>>,
}

fn defaults(gpu: &'static Gpu) -> Result<&'static Defaults> {
    static ALL: Mutex<Vec<(i32, &'static Defaults)>> = Mutex::new(Vec::new());
    driver::driver()?;
    let mut all = lock(&ALL);
    if let Some((_, found)) = all.iter().find(|(ordinal, _)| *ordinal == gpu.ordinal) {
        return Ok(found);
    }
    let new: &'static Defaults = Box::leak(Box::default());
    all.push((gpu.ordinal, new));
    Ok(new)
}

/// Makes CUDA's types of devices known to the core, once, for those who import foreign memory before any GPU
/// was asked for. The driver is not looked for.
pub fn register_devices() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mapper = |kind: Kind| match kind {
            Kind::Device => {
                |id: i64| -> Result<Arc<dyn Device>> { Ok(Arc::new(CudaDevice::new(id)?)) }
            }
            Kind::Host => |id: i64| -> Result<Arc<dyn Device>> {
                Ok(Arc::new(CudaDevice::of_kind(gpu::gpu(id)?, Kind::Host)))
            },
            Kind::Managed => |id: i64| -> Result<Arc<dyn Device>> {
                Ok(Arc::new(CudaDevice::of_kind(gpu::gpu(id)?, Kind::Managed)))
            },
        };
        for (device_type, kind) in [
            (DeviceType::CUDA, Kind::Device),
            (DeviceType::CUDA_HOST, Kind::Host),
            (DeviceType::CUDA_MANAGED, Kind::Managed),
        ] {
            // Somebody else's may be there already, who then says what CUDA is.
            drop(register_device_mapper(device_type, mapper(kind)));
        }
    });
}

impl Device for CudaDevice {
    fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Device => "cuda",
            Kind::Host => "cuda_host",
            Kind::Managed => "cuda_managed",
        }
    }

    fn location(&self) -> Location {
        let ordinal = i64::from(self.gpu.ordinal);
        match self.kind {
            Kind::Device => self.gpu.location(),
            Kind::Host => Location::shared(DeviceType::CUDA_HOST, ordinal),
            Kind::Managed => {
                let concurrent = abi::attribute::CONCURRENT_MANAGED_ACCESS;
                if self.gpu.attribute(concurrent).is_ok_and(|has| has != 0) {
                    Location::shared(DeviceType::CUDA_MANAGED, ordinal)
                } else {
                    Location::device(DeviceType::CUDA_MANAGED, ordinal)
                }
            }
        }
    }

    fn default_memory_manager(&self) -> Result<Arc<dyn MemoryManager>> {
        Ok(match self.kind {
            Kind::Device => Arc::new(self.manager()?),
            Kind::Host => Arc::new(self.host_manager()?),
            Kind::Managed => Arc::new(self.managed_manager()?),
        })
    }

    fn memory_manager(&self, pool: &Pool) -> Result<Arc<dyn MemoryManager>> {
        if pool.location() != self.location() {
            return Err(Error::invalid_argument(
                "pool",
                format_args!("'{}' of {}", pool.name(), pool.location()),
                "a pool of this device's memory",
            ));
        }
        if self.kind == Kind::Host {
            return Ok(Arc::new(CudaHostMemoryManager::over(self.gpu, pool)?));
        }
        let source = pool.find_source::<CudaSource>().ok_or_else(|| {
            Error::invalid_argument("pool", pool.name(), "a pool of offheap-cuda's memory")
        })?;
        Ok(Arc::new(CudaMemoryManager::over(
            source.stream().clone(),
            pool,
        )))
    }

    fn make_stream(&self) -> Result<Arc<dyn Stream>> {
        Ok(Arc::new(self.create_stream(None)?))
    }
}

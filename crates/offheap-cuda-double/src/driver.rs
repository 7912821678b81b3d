//! The state of the driver.

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use crate::arena::Arena;
use crate::block::{Backing, Block, GRANULE, Kind, Place};
use crate::call_log::CallLog;
use crate::config::Config;
use crate::context::{self, Context};
use crate::device::Device;
use crate::event::Event;
use crate::failures::Failures;
use crate::left::Left;
use crate::pool::Pool;
use crate::result::{
    CUDA_ERROR_CONTEXT_IS_DESTROYED, CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_DEVICE,
    CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUresult,
};
use crate::stream::Stream;

/// What the environment asked for, and what counts and fails calls.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// Why the environment cannot be used.
    pub(crate) mistake: Option<String>,
    log: Mutex<CallLog>,
    failures: Mutex<Failures>,
}

impl Settings {
    fn read() -> Self {
        let (config, mut mistake) = match Config::read(std::env::vars_os()) {
            Ok(config) => (config, None),
            Err(mistake) => (Config::default(), Some(mistake)),
        };
        let mut log = CallLog::default();
        if let Err(error) = log.open(config.log.as_deref()) {
            mistake = Some(format!("OFFHEAP_CUDA_DOUBLE_LOG: {error}"));
        }
        let failures = Failures::parse(&config.fail).unwrap_or_default();
        Self {
            config,
            mistake,
            log: Mutex::new(log),
            failures: Mutex::new(failures),
        }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, CallLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static SETTINGS: RwLock<Option<Arc<Settings>>> = RwLock::new(None);
static INITIALIZED: AtomicBool = AtomicBool::new(false);
static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);
/// Work has run.
pub(crate) static PROGRESS: Condvar = Condvar::new();

/// The settings, read from the environment at the first call.
pub(crate) fn settings() -> Arc<Settings> {
    if let Some(settings) = SETTINGS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
    {
        return Arc::clone(settings);
    }
    let mut slot = SETTINGS.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(slot.get_or_insert_with(|| Arc::new(Settings::read())))
}

pub(crate) fn is_initialized() -> bool {
    INITIALIZED.load(Ordering::Acquire)
}

/// All state, under one lock.
#[derive(Debug, Default)]
pub(crate) struct Driver {
    pub(crate) devices: Vec<Device>,
    pub(crate) contexts: HashMap<u64, Context>,
    pub(crate) streams: HashMap<u64, Stream>,
    pub(crate) events: HashMap<u64, Event>,
    pub(crate) pools: HashMap<u64, Pool>,
    /// Allocations that a program may name: a block leaves when its free is submitted.
    pub(crate) blocks: BTreeMap<u64, Arc<Block>>,
    /// Virtual nanoseconds of the host.
    pub(crate) time: u64,
    pub(crate) speed: u64,
    pub(crate) queries: u32,
    pub(crate) pageable_blocks: bool,
    /// Work that touched memory before its allocation or after its free.
    pub(crate) violations: u64,
}

/// The lock on the driver's state.
pub(crate) type Guard = MutexGuard<'static, Option<Driver>>;

pub(crate) fn lock() -> Guard {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers that are never used again in this process, so that stale handles are known as such.
static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

pub(crate) fn number() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A handle: a number that is no address, of a range that tells the kind.
pub(crate) fn handle(kind: u8) -> u64 {
    u64::from(kind) << 56 | number() << 4
}

pub(crate) const CONTEXT: u8 = 0xC0;
pub(crate) const STREAM: u8 = 0x57;
pub(crate) const EVENT: u8 = 0xE0;
pub(crate) const POOL: u8 = 0x90;

pub(crate) fn as_handle(number: u64) -> *mut c_void {
    std::ptr::without_provenance_mut(number as usize)
}

pub(crate) fn as_number(handle: *mut c_void) -> u64 {
    handle.addr() as u64
}

/// Sets the driver up from the settings. Later calls do nothing.
///
/// # Errors
/// `CUDA_ERROR_OPERATING_SYSTEM` when the devices' addresses cannot be had.
pub(crate) fn initialize() -> Result<(), CUresult> {
    let mut guard = lock();
    if is_initialized() {
        return Ok(());
    }
    let config = settings().config.clone();
    let mut driver = Driver {
        speed: config.stream_speed,
        queries: config.queries,
        pageable_blocks: config.pageable_blocks,
        ..Driver::default()
    };
    for ordinal in 0..config.devices {
        let mut device = Device::new(ordinal, config.memory)?;
        let mut pool = Pool::new(ordinal, None, false, 0);
        pool.is_default = true;
        let token = handle(POOL);
        driver.pools.insert(token, pool);
        (device.default_pool, device.current_pool) = (token, token);
        driver.devices.push(device);
    }
    *guard = Some(driver);
    INITIALIZED.store(true, Ordering::Release);
    Ok(())
}

/// What is left of all that was made, for the log's last line.
pub(crate) fn left() -> String {
    // Another thread may be in the driver when the process exits, and never come out.
    let Ok(guard) = DRIVER.try_lock() else {
        return "in use".to_owned();
    };
    guard.as_ref().map(Left::of).unwrap_or_default().to_string()
}

/// Forgets everything, and reads the environment again at the next call.
pub(crate) fn reset() {
    let mut guard = lock();
    INITIALIZED.store(false, Ordering::Release);
    *guard = None;
    *SETTINGS.write().unwrap_or_else(PoisonError::into_inner) = None;
    drop(guard);
    PROGRESS.notify_all();
}

/// What [`lock`] holds, once the driver is initialised.
pub(crate) trait State {
    fn state(&mut self) -> &mut Driver;
}

impl State for Guard {
    fn state(&mut self) -> &mut Driver {
        // A reset while a call waits leaves that call with an empty driver: every handle is unknown to it.
        self.get_or_insert_default()
    }
}

impl Driver {
    /// The context that the calling thread has bound.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_CONTEXT` without one, `CUDA_ERROR_CONTEXT_IS_DESTROYED` for a released one, or the error
    /// that the context is stuck in.
    pub(crate) fn current(&self) -> Result<u64, CUresult> {
        let token = context::current().ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
        let context = self
            .contexts
            .get(&token)
            .ok_or(CUDA_ERROR_CONTEXT_IS_DESTROYED)?;
        if context.error == 0 {
            Ok(token)
        } else {
            Err(context.error)
        }
    }

    /// Whether a context returns an error from now on.
    pub(crate) fn has_failed(&self, context: u64) -> bool {
        self.contexts
            .get(&context)
            .is_none_or(|context| context.error != 0)
    }

    /// The device of the calling thread's context.
    ///
    /// # Errors
    /// As [`Driver::current`].
    pub(crate) fn current_device(&self) -> Result<usize, CUresult> {
        let token = self.current()?;
        self.contexts
            .get(&token)
            .map(|context| context.device)
            .ok_or(CUDA_ERROR_INVALID_CONTEXT)
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_DEVICE`.
    pub(crate) fn device(&self, ordinal: i32) -> Result<&Device, CUresult> {
        usize::try_from(ordinal)
            .ok()
            .and_then(|ordinal| self.devices.get(ordinal))
            .ok_or(CUDA_ERROR_INVALID_DEVICE)
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_DEVICE`.
    pub(crate) fn device_mut(&mut self, ordinal: i32) -> Result<&mut Device, CUresult> {
        usize::try_from(ordinal)
            .ok()
            .and_then(|ordinal| self.devices.get_mut(ordinal))
            .ok_or(CUDA_ERROR_INVALID_DEVICE)
    }

    /// The stream of a handle; 0, `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD` are those of the bound context.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE`, or as [`Driver::current`].
    pub(crate) fn stream(&mut self, handle: *mut c_void) -> Result<u64, CUresult> {
        let token = self.current()?;
        let number = as_number(handle);
        let context = self
            .contexts
            .get_mut(&token)
            .ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
        match number {
            0 | crate::abi::CU_STREAM_LEGACY => Ok(context.legacy),
            crate::abi::CU_STREAM_PER_THREAD => {
                let device = context.device;
                let thread = context::thread_number();
                let id = *context
                    .per_thread
                    .entry(thread)
                    .or_insert_with(|| self::handle(STREAM));
                self.streams
                    .entry(id)
                    .or_insert_with(|| Stream::new(token, device, 0, 0));
                Ok(id)
            }
            _ => match self.streams.get(&number) {
                Some(stream) if !stream.destroyed => Ok(number),
                _ => Err(CUDA_ERROR_INVALID_HANDLE),
            },
        }
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE`.
    pub(crate) fn event(&mut self, handle: *mut c_void) -> Result<&mut Event, CUresult> {
        self.events
            .get_mut(&as_number(handle))
            .ok_or(CUDA_ERROR_INVALID_HANDLE)
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE`.
    pub(crate) fn pool(&mut self, handle: *mut c_void) -> Result<(u64, &mut Pool), CUresult> {
        let token = as_number(handle);
        match self.pools.get_mut(&token) {
            Some(pool) if !pool.destroyed => Ok((token, pool)),
            _ => Err(CUDA_ERROR_INVALID_VALUE),
        }
    }

    /// The allocation that holds an address.
    pub(crate) fn block(&self, address: u64) -> Option<&Arc<Block>> {
        let (_, block) = self.blocks.range(..=address).next_back()?;
        (address - block.address < block.size).then_some(block)
    }

    /// A range that lies wholly in one allocation.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` when it does not.
    pub(crate) fn place(&self, address: u64, length: u64) -> Result<Place, CUresult> {
        let block = self.block(address).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        if length > block.size - (address - block.address) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        Ok(Place {
            data: block.data(address),
            block: Some(Arc::clone(block)),
        })
    }

    /// A range of host memory: an allocation that the CPU can read, or the program's own.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` for null, for device memory, and for a range that leaves its allocation.
    pub(crate) fn host_place(
        &self,
        pointer: *const c_void,
        length: u64,
    ) -> Result<Place, CUresult> {
        let address = pointer.addr() as u64;
        if address == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        match self.block(address) {
            Some(block) if block.is_device() => Err(CUDA_ERROR_INVALID_VALUE),
            // A copy may take in more than what is registered.
            Some(block) if matches!(block.kind, Kind::Registered(_)) => Ok(Place {
                data: address as usize,
                block: Some(Arc::clone(block)),
            }),
            Some(_) => self.place(address, length),
            None if self.is_device_address(address) => Err(CUDA_ERROR_INVALID_VALUE),
            None => Ok(Place {
                data: address as usize,
                block: None,
            }),
        }
    }

    /// Either kind of range, as `cuMemcpy` takes them.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE`.
    pub(crate) fn any_place(&self, address: u64, length: u64) -> Result<Place, CUresult> {
        match self.block(address) {
            Some(block) if block.is_device() => self.place(address, length),
            _ => self.host_place(std::ptr::without_provenance(address as usize), length),
        }
    }

    /// Whether an address belongs to a device's memory, allocated or not.
    fn is_device_address(&self, address: u64) -> bool {
        let within = |arena: &Arena, total: u64| {
            let length = crate::device::address_space(total);
            address >= arena.base() && address - arena.base() < length
        };
        self.devices
            .iter()
            .any(|device| within(&device.arena, device.total))
            || self.pools.values().any(|pool| {
                let total = self
                    .devices
                    .get(pool.device)
                    .map_or(0, |device| device.total);
                pool.own
                    .as_ref()
                    .is_some_and(|own| within(&own.arena, total))
            })
    }

    /// Lists a new allocation.
    pub(crate) fn add_block(
        &mut self,
        address: u64,
        size: u64,
        owner: (usize, u64),
        kind: Kind,
        backing: Backing,
    ) {
        let ordered = !matches!(kind, Kind::Pool(_));
        if let (Backing::Arena(arena), Kind::Plain | Kind::Pool(_)) = (&backing, &kind) {
            arena.first_use(address + size.next_multiple_of(GRANULE));
        }
        let block = Block {
            id: number(),
            address,
            size,
            device: owner.0,
            context: owner.1,
            kind,
            backing,
            allocated: AtomicBool::new(ordered),
            freed: AtomicBool::new(false),
            exported: AtomicU32::new(0),
        };
        self.blocks.insert(address, Arc::new(block));
    }

    /// The memory of a block is free from now on: poisons it and gives it to whom it came from.
    pub(crate) fn finish_free(&mut self, block: &Block, pool_free: Option<u64>) {
        block.freed.store(true, Ordering::Release);
        if let (Backing::Arena(arena), Kind::Plain | Kind::Pool(_)) = (&block.backing, &block.kind)
        {
            arena.poison(block.address, block.rounded());
            if let Some(slot) = block.exported.load(Ordering::Acquire).checked_sub(1) {
                arena.retract(slot);
            }
        }
        match block.kind {
            Kind::Plain => {
                if let Some(device) = self.devices.get_mut(block.device) {
                    device.release(block.address, block.rounded());
                }
            }
            Kind::Pool(token) => {
                if let (Some(pool), Some(number)) = (self.pools.get_mut(&token), pool_free) {
                    pool.settle(block.rounded(), number);
                }
                self.drop_pool_if_done(token);
            }
            Kind::ImportedFromPool(token) => {
                if let Some(pool) = self.pools.get_mut(&token) {
                    pool.live -= 1;
                }
                self.drop_pool_if_done(token);
            }
            _ => {}
        }
    }

    /// A destroyed pool goes when its last block has.
    pub(crate) fn drop_pool_if_done(&mut self, token: u64) {
        let Some(pool) = self.pools.get_mut(&token) else {
            return;
        };
        if pool.destroyed && pool.live == 0 {
            if let Some(device) = self.devices.get_mut(pool.device) {
                pool.trim(device, 0);
            }
            self.pools.remove(&token);
        }
    }

    /// After a synchronisation: pools give back what is beyond their thresholds.
    pub(crate) fn trim_pools(&mut self, device: usize) {
        for pool in self
            .pools
            .values_mut()
            .filter(|pool| pool.device == device && !pool.imported)
        {
            let threshold = pool.threshold;
            if let Some(device) = self.devices.get_mut(device) {
                pool.trim(device, threshold);
            }
        }
    }

    /// Work touched memory that it must not: the context fails from now on, as after an illegal address.
    pub(crate) fn violation(&mut self, context: u64, what: &str) {
        self.violations += 1;
        settings().log().line(&format!("violation: {what}"));
        eprintln!("offheap-cuda-double: {what}");
        if let Some(context) = self.contexts.get_mut(&context) {
            context.error = crate::result::CUDA_ERROR_ILLEGAL_ADDRESS;
        }
    }
}

//! One GPU and its primary context.

use crate::driver::{Table, abi, check, driver, failed};
use crate::event_pool::EventPool;
use offheap::{DeviceType, Error, ErrorKind, Location, Result};
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::fmt;
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A GPU of this process: there to its end, as its primary context is, which other CUDA code of the
/// process (PyTorch's, say) shares.
pub(crate) struct Gpu {
    pub(crate) ordinal: i32,
    device: abi::Device,
    context: abi::Context,
    pub(crate) events: EventPool,
}

// SAFETY: the context is a handle that any thread may use.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

static GPUS: OnceLock<Vec<OnceLock<Gpu>>> = OnceLock::new();
static MAKING: Mutex<()> = Mutex::new(());

/// How many GPUs there are.
///
/// # Errors
/// Without any.
pub(crate) fn count() -> Result<i32> {
    let table = driver()?;
    let mut count: c_int = 0;
    // SAFETY: the out-pointer is ours.
    check(table, "cuDeviceGetCount", unsafe {
        (table.device_get_count)(&raw mut count)
    })?;
    Ok(count)
}

/// The GPU with an ordinal; its primary context is made at the first call.
///
/// # Errors
/// - [`InvalidArgument`](ErrorKind::InvalidArgument) for an ordinal that no GPU has;
/// - without any GPU, and what the driver says.
pub(crate) fn gpu(ordinal: i64) -> Result<&'static Gpu> {
    let table = driver()?;
    let count = count()?;
    let all = GPUS.get_or_init(|| (0..count).map(|_| OnceLock::new()).collect());
    let place = usize::try_from(ordinal)
        .ok()
        .and_then(|index| all.get(index))
        .ok_or_else(|| {
            Error::invalid_argument("ordinal", ordinal, "the number of a GPU, from 0 on")
        })?;
    if let Some(gpu) = place.get() {
        return Ok(gpu);
    }
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(gpu) = place.get() {
        return Ok(gpu);
    }
    let (mut device, mut context) = (0, ptr::null_mut());
    // SAFETY: the out-pointers are ours.
    unsafe {
        let ordinal = ordinal as c_int;
        check(
            table,
            "cuDeviceGet",
            (table.device_get)(&raw mut device, ordinal),
        )?;
        check(
            table,
            "cuDevicePrimaryCtxRetain",
            (table.device_primary_ctx_retain)(&raw mut context, device),
        )?;
    }
    Ok(place.get_or_init(|| Gpu {
        ordinal: ordinal as i32,
        device,
        context,
        events: EventPool::new(),
    }))
}

/// The calling thread's context is the GPU's while this lives; then it is what it was.
///
/// Node's finalizers and workers are threads without a context, where every call would fail and a free would
/// leak; and a thread of other CUDA code keeps its own.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) table: &'static Table,
    before: Option<abi::Context>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && !crate::driver::is_exiting()
        {
            // SAFETY: what was current before; a failure leaves ours, which is harmless.
            unsafe { (self.table.ctx_set_current)(before) };
        }
    }
}

impl Gpu {
    /// Makes the GPU's context current. Cost: one call of the driver, 10 to 20 ns, when it is already.
    pub(crate) fn bind(&self) -> Result<Bound> {
        let table = driver()?;
        let mut before = ptr::null_mut();
        // SAFETY: the out-pointer is ours; the context was retained for good.
        unsafe {
            check(
                table,
                "cuCtxGetCurrent",
                (table.ctx_get_current)(&raw mut before),
            )?;
            if before == self.context {
                return Ok(Bound {
                    table,
                    before: None,
                });
            }
            check(
                table,
                "cuCtxSetCurrent",
                (table.ctx_set_current)(self.context),
            )?;
        }
        Ok(Bound {
            table,
            before: Some(before),
        })
    }

    pub(crate) fn context(&self) -> abi::Context {
        self.context
    }

    pub(crate) fn location(&self) -> Location {
        Location::device(DeviceType::CUDA, i64::from(self.ordinal))
    }

    /// One of the device's attributes.
    pub(crate) fn attribute(&self, attribute: c_uint) -> Result<i32> {
        let table = driver()?;
        let mut value = 0;
        // SAFETY: the out-pointer is ours.
        check(table, "cuDeviceGetAttribute", unsafe {
            (table.device_get_attribute)(&raw mut value, attribute, self.device)
        })?;
        Ok(value)
    }

    pub(crate) fn name(&self) -> Result<String> {
        let table = driver()?;
        let mut name: [c_char; 256] = [0; 256];
        // SAFETY: the buffer has as many bytes; the driver ends the string with a zero.
        unsafe {
            check(
                table,
                "cuDeviceGetName",
                (table.device_get_name)(name.as_mut_ptr(), 256, self.device),
            )?;
            Ok(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
        }
    }

    pub(crate) fn pci_bus_id(&self) -> Result<String> {
        let table = driver()?;
        let mut id: [c_char; 64] = [0; 64];
        // SAFETY: as in `name`.
        unsafe {
            check(
                table,
                "cuDeviceGetPCIBusId",
                (table.device_get_pci_bus_id)(id.as_mut_ptr(), 64, self.device),
            )?;
            Ok(CStr::from_ptr(id.as_ptr()).to_string_lossy().into_owned())
        }
    }

    pub(crate) fn uuid(&self) -> Result<[u8; 16]> {
        let table = driver()?;
        let mut uuid = abi::Uuid { bytes: [0; 16] };
        // SAFETY: the out-pointer is ours.
        check(table, "cuDeviceGetUuid", unsafe {
            (table.device_get_uuid)(&raw mut uuid, self.device)
        })?;
        Ok(uuid.bytes.map(|byte| byte as u8))
    }

    pub(crate) fn total_memory(&self) -> Result<u64> {
        let table = driver()?;
        let mut bytes = 0;
        // SAFETY: the out-pointer is ours.
        check(table, "cuDeviceTotalMem", unsafe {
            (table.device_total_mem)(&raw mut bytes, self.device)
        })?;
        Ok(bytes as u64)
    }

    /// Free and total bytes.
    pub(crate) fn memory_info(&self) -> Result<(u64, u64)> {
        let bound = self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the out-pointers are ours.
        check(bound.table, "cuMemGetInfo", unsafe {
            (bound.table.mem_get_info)(&raw mut free, &raw mut total)
        })?;
        Ok((free as u64, total as u64))
    }

    pub(crate) fn can_access(&self, peer: &Self) -> Result<bool> {
        if ptr::eq(self, peer) {
            return Ok(true);
        }
        let table = driver()?;
        let mut can = 0;
        // SAFETY: the out-pointer is ours.
        check(table, "cuDeviceCanAccessPeer", unsafe {
            (table.device_can_access_peer)(&raw mut can, self.device, peer.device)
        })?;
        Ok(can != 0)
    }

    /// Lets this GPU reach `peer`'s memory. Doing it twice does nothing.
    pub(crate) fn enable_access(&self, peer: &Self) -> Result<()> {
        if !self.can_access(peer)? || ptr::eq(self, peer) {
            return Err(Error::not_supported(format!(
                "{} cannot reach the memory of {}",
                self.location(),
                peer.location()
            )));
        }
        let bound = self.bind()?;
        // SAFETY: the peer's context was retained for good.
        let code = unsafe { (bound.table.ctx_enable_peer_access)(peer.context, 0) };
        if code == abi::PEER_ACCESS_ALREADY_ENABLED {
            return Ok(());
        }
        check(bound.table, "cuCtxEnablePeerAccess", code)
    }

    /// Whether an address is one of this GPU's own memory.
    pub(crate) fn has_address(&self, address: u64) -> Result<bool> {
        let bound = self.bind()?;
        let (mut kind, mut ordinal): (c_uint, c_int) = (0, -1);
        // SAFETY: both attributes are as wide as the out-pointers are, which are ours; the driver looks the address up
        // and does not use it.
        let codes = unsafe {
            let ask = bound.table.pointer_get_attribute;
            [
                ask(
                    (&raw mut kind).cast(),
                    abi::pointer_attribute::MEMORY_TYPE,
                    address,
                ),
                ask(
                    (&raw mut ordinal).cast(),
                    abi::pointer_attribute::DEVICE_ORDINAL,
                    address,
                ),
            ]
        };
        for code in codes {
            match code {
                abi::SUCCESS => {}
                abi::INVALID_VALUE => return Ok(false),
                code => return Err(failed(bound.table, "cuPointerGetAttribute", code)),
            }
        }
        Ok(kind == abi::MEMORYTYPE_DEVICE && ordinal == self.ordinal)
    }

    /// Waits for everything that the GPU was given by this process.
    pub(crate) fn synchronize(&self) -> Result<()> {
        let bound = self.bind()?;
        // SAFETY: no preconditions.
        check(bound.table, "cuCtxSynchronize", unsafe {
            (bound.table.ctx_synchronize)()
        })
    }

    /// The error of an allocation that failed.
    #[cold]
    pub(crate) fn refused(
        &self,
        table: &Table,
        call: &'static str,
        code: abi::Result,
        requested: usize,
    ) -> Error {
        if code != abi::OUT_OF_MEMORY {
            return failed(table, call, code);
        }
        let (free, total) = self.memory_info().unwrap_or_default();
        Error::new(ErrorKind::OutOfMemory {
            requested: requested as u64,
            limit: None,
            allocated: total.saturating_sub(free),
            pool: format!("{}, of {total} bytes {free} are free", self.location()),
        })
    }
}

impl PartialEq for Gpu {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.ordinal)
    }
}

//! Memory and events of other processes.

use crate::driver::{abi, check, driver, is_exiting};
use crate::event::CudaEvent;
use crate::gpu::{self, Gpu};
use crate::manager::CudaMemoryManager;
use crate::stream::CudaStream;
use offheap::{Block, DeviceBuffer, DeviceType, Error, MemoryManager, MutableDeviceBuffer, Result};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// What another process needs to open memory of a GPU: plain numbers, for JSON or any other way.
///
/// Its receiver must be a process of the same user on the same machine, and not the one that made it. The
/// memory lives as long as its maker keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaIpcHandle {
    /// The GPU's UUID: ordinals differ where processes see different GPUs.
    pub device: [u8; 16],
    /// The driver's handle of the whole allocation.
    pub handle: [u8; 64],
    /// Where the bytes begin in the allocation.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
}

/// What another process needs to wait for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaIpcEventHandle {
    /// The GPU's UUID.
    pub device: [u8; 16],
    /// The driver's handle.
    pub handle: [u8; 64],
}

/// The GPU with a UUID.
fn gpu_of(uuid: &[u8; 16]) -> Result<&'static Gpu> {
    for ordinal in 0..gpu::count()? {
        let gpu = gpu::gpu(i64::from(ordinal))?;
        if gpu.uuid()? == *uuid {
            return Ok(gpu);
        }
    }
    let uuid: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(Error::invalid_argument(
        "handle",
        format_args!("of GPU {uuid}"),
        "a handle of a GPU that this process may use",
    ))
}

/// A handle of a buffer's bytes for other processes; of no bytes, too, which are opened as no bytes.
///
/// # Errors
/// - [`NotSupported`](offheap::ErrorKind::NotSupported) for memory that is no GPU's, or comes from a pool of
///   the driver's, which has no such handles: allocate with
///   [`plain_manager`](crate::CudaDevice::plain_manager) or [`pool_manager`](crate::CudaDevice::pool_manager);
/// - what the driver says.
pub fn export_memory(buffer: &DeviceBuffer) -> Result<CudaIpcHandle> {
    let location = buffer.location();
    if location.device_type != DeviceType::CUDA {
        return Err(Error::not_supported(format!(
            "memory of {location} has no handle for other processes: only memory of a GPU has"
        )));
    }
    let gpu = gpu::gpu(location.device_id)?;
    if buffer.is_empty() {
        // They are nowhere, so there is no allocation.
        return Ok(CudaIpcHandle {
            device: gpu.uuid()?,
            handle: [0; 64],
            offset: 0,
            length: 0,
        });
    }
    let bound = gpu.bind()?;
    let address = buffer.address() as u64;
    let (mut base, mut size) = (0, 0);
    let mut handle = abi::IpcHandle { bytes: [0; 64] };
    // SAFETY: the out-pointers are ours; addresses that are no allocation's are refused.
    unsafe {
        check(
            bound.table,
            "cuMemGetAddressRange",
            (bound.table.mem_get_address_range)(&raw mut base, &raw mut size, address),
        )?;
        let code = (bound.table.ipc_get_mem_handle)(&raw mut handle, base);
        if code != abi::SUCCESS {
            let why = crate::driver::failed(bound.table, "cuIpcGetMemHandle", code);
            return Err(Error::not_supported(format!(
                "the memory has no handle for other processes ({why}): memory of the driver's pools has none, \
                 that of `plain` and `pool` managers has"
            )));
        }
    }
    Ok(CudaIpcHandle {
        device: gpu.uuid()?,
        handle: handle.bytes,
        offset: address - base,
        length: buffer.len() as u64,
    })
}

/// An opened allocation: the driver opens each once.
#[derive(Debug)]
struct Opened {
    gpu: &'static Gpu,
    handle: [u8; 64],
    base: u64,
    users: usize,
}

static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

/// One use of an opened allocation.
#[derive(Debug)]
struct Use {
    gpu: &'static Gpu,
    base: u64,
}

impl Use {
    fn open(gpu: &'static Gpu, handle: &[u8; 64]) -> Result<Self> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = opened
            .iter_mut()
            .find(|each| each.gpu == gpu && each.handle == *handle)
        {
            found.users += 1;
            return Ok(Self {
                gpu,
                base: found.base,
            });
        }
        let bound = gpu.bind()?;
        let mut base = 0;
        // SAFETY: the out-pointer is ours; the driver checks the handle.
        check(bound.table, "cuIpcOpenMemHandle", unsafe {
            let handle = abi::IpcHandle { bytes: *handle };
            let flags = abi::IPC_MEM_LAZY_ENABLE_PEER_ACCESS;
            (bound.table.ipc_open_mem_handle)(&raw mut base, handle, flags)
        })
        .map_err(stale)?;
        opened.push(Opened {
            gpu,
            handle: *handle,
            base,
            users: 1,
        });
        Ok(Self { gpu, base })
    }
}

/// What the driver says of a handle that is none, or whose maker is gone.
fn stale(error: Error) -> Error {
    Error::invalid_argument(
        "handle",
        error,
        "a handle that another process made and keeps alive",
    )
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = opened
            .iter()
            .position(|each| each.gpu == self.gpu && each.base == self.base)
        else {
            return;
        };
        opened[index].users -= 1;
        if opened[index].users > 0 {
            return;
        }
        opened.swap_remove(index);
        if !is_exiting()
            && let Ok(bound) = self.gpu.bind()
        {
            // Work that uses it may be under way, of streams that are not known here.
            drop(self.gpu.synchronize());
            // SAFETY: opened by `open`, and the last user is gone.
            unsafe { (bound.table.ipc_close_mem_handle)(self.base) };
        }
    }
}

/// Opens memory of another process, in place: a mutable buffer that no pool counts. It is closed with the
/// last slice.
///
/// # Errors
/// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for a handle that is malformed or forged, of
///   this process, of a GPU that is not here, or whose maker let the memory go;
/// - [`OutOfRange`](offheap::ErrorKind::OutOfRange) for a length beyond the allocation.
///
/// # Safety
/// - nobody, in no process, writes the bytes while this one reads them, but in an order that both keep (by
///   [events](open_event)).
pub unsafe fn open_memory(handle: &CudaIpcHandle) -> Result<MutableDeviceBuffer> {
    driver()?;
    let gpu = gpu_of(&handle.device)?;
    if *handle
        == (CudaIpcHandle {
            device: handle.device,
            handle: [0; 64],
            offset: 0,
            length: 0,
        })
    {
        let manager: Arc<dyn MemoryManager> = Arc::new(CudaMemoryManager::plain(gpu)?);
        return MutableDeviceBuffer::allocate(0, &manager);
    }
    let (Ok(offset), Ok(length)) = (
        usize::try_from(handle.offset),
        usize::try_from(handle.length),
    ) else {
        return Err(Error::range(handle.offset, handle.length, usize::MAX));
    };
    let opened = Use::open(gpu, &handle.handle)?;
    let size = {
        let bound = gpu.bind()?;
        let (mut base, mut size) = (0, 0);
        // SAFETY: the out-pointers are ours.
        check(bound.table, "cuMemGetAddressRange", unsafe {
            (bound.table.mem_get_address_range)(&raw mut base, &raw mut size, opened.base)
        })?;
        size
    };
    match offset.checked_add(length) {
        Some(end) if end <= size => {}
        _ => return Err(Error::range(offset, length, size)),
    }
    let start = std::ptr::with_exposed_provenance_mut(opened.base as usize + offset);
    let start = NonNull::new(start).ok_or_else(|| {
        Error::invalid_argument(
            "handle",
            "address 0",
            "a handle of another process's memory",
        )
    })?;
    let manager: Arc<dyn MemoryManager> =
        Arc::new(CudaMemoryManager::plain(gpu).and_then(|manager| {
            // Copies of it run on a stream of its own.
            let stream = CudaStream::create(gpu, None)?;
            manager.on(&stream)
        })?);
    // SAFETY: the driver's address of as many bytes, which the owner keeps open.
    let block = unsafe { Block::foreign_at(start, length, gpu.location(), opened)? };
    // SAFETY: the range is the block's; the rest is the caller's promise.
    Ok(unsafe { MutableDeviceBuffer::from_block(block, 0, length, manager) })
}

/// A new event that other processes can wait for.
///
/// # Errors
/// What the driver says.
pub fn create_shared_event(device: &crate::CudaDevice) -> Result<CudaEvent> {
    let flags = abi::EVENT_DISABLE_TIMING | abi::EVENT_INTERPROCESS;
    CudaEvent::create(device.gpu(), flags)
}

/// A handle of an event of [`create_shared_event`] for other processes.
///
/// # Errors
/// What the driver says, of other events.
pub fn export_event(event: &CudaEvent) -> Result<CudaIpcEventHandle> {
    let gpu = event.gpu();
    let bound = gpu.bind()?;
    let mut handle = abi::IpcHandle { bytes: [0; 64] };
    // SAFETY: a live event; the out-pointer is ours.
    check(bound.table, "cuIpcGetEventHandle", unsafe {
        (bound.table.ipc_get_event_handle)(&raw mut handle, event.raw())
    })?;
    Ok(CudaIpcEventHandle {
        device: gpu.uuid()?,
        handle: handle.bytes,
    })
}

/// Opens an event of another process.
///
/// # Errors
/// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for a handle that is no such event's any more.
pub fn open_event(handle: &CudaIpcEventHandle) -> Result<CudaEvent> {
    driver()?;
    let gpu = gpu_of(&handle.device)?;
    let bound = gpu.bind()?;
    let mut raw: *mut c_void = std::ptr::null_mut();
    // SAFETY: the out-pointer is ours; the driver checks the handle.
    check(bound.table, "cuIpcOpenEventHandle", unsafe {
        let handle = abi::IpcHandle {
            bytes: handle.handle,
        };
        (bound.table.ipc_open_event_handle)(&raw mut raw, handle)
    })
    .map_err(stale)?;
    Ok(CudaEvent::opened(gpu, raw))
}

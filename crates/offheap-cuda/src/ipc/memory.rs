//! Memory of several processes.

use super::handle::{CudaIpcHandle, CudaIpcMemory};
use super::opened::Use;
use crate::driver::{abi, check, driver};
use crate::gpu::{self, Gpu};
use crate::manager::CudaMemoryManager;
use crate::memory::{Allocator, CudaSource, DriverPool};
use crate::stream::CudaStream;
use offheap::{Block, DeviceBuffer, DeviceType, Error, MemoryManager, MutableDeviceBuffer, Result};
use std::ptr::NonNull;
use std::sync::Arc;

/// The GPU with a UUID.
pub(super) fn gpu_of(uuid: &[u8; 16]) -> Result<&'static Gpu> {
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

/// The driver's pool that a buffer comes from, whatever limits and adaptors are between.
fn driver_pool(buffer: &DeviceBuffer) -> Option<&DriverPool> {
    let source: &CudaSource = buffer.block().pool()?.find_source()?;
    match source.allocator() {
        Allocator::Driver(pool) => Some(pool),
        _ => None,
    }
}

/// The handle of no bytes: they are nowhere, so there is no allocation.
fn of_nothing(device: [u8; 16]) -> CudaIpcHandle {
    CudaIpcHandle {
        device,
        handle: CudaIpcMemory::Legacy([0; 64]),
        offset: 0,
        length: 0,
    }
}

/// A handle of a buffer's bytes for other processes; of no bytes, too, which are opened as no bytes.
///
/// The maker keeps the buffer until the others have closed theirs: the driver does not, and of a pool's memory
/// demands it. Of an exportable pool's buffer, this waits until its allocation has its turn in its stream, as
/// the driver asks; that its bytes are there is for an [event](crate::create_shared_event) to say.
///
/// # Errors
/// - [`NotSupported`](offheap::ErrorKind::NotSupported) for memory that is no GPU's, was opened from another process,
///   or comes from a pool of the driver's that is not [exportable](crate::DriverPoolOptions::exportable): allocate with
///   [`plain_manager`](crate::CudaDevice::plain_manager), [`pool_manager`](crate::CudaDevice::pool_manager) or an
///   exportable pool;
/// - of an exportable pool's memory, [`DeviceUnavailable`](offheap::ErrorKind::DeviceUnavailable) where the system has no
///   descriptor, thread or random bits left;
/// - what the driver says.
pub fn export_memory(buffer: &DeviceBuffer) -> Result<CudaIpcHandle> {
    let location = buffer.location();
    if location.device_type != DeviceType::CUDA {
        return Err(Error::not_supported(format!(
            "memory of {location} has no handle for other processes: only memory of a GPU has"
        )));
    }
    let is_opened = |owner: &(dyn std::any::Any + Send + Sync)| owner.is::<Use>();
    if buffer.block().owner().is_some_and(is_opened) {
        return Err(Error::not_supported(
            "the memory is another process's: handles are their maker's",
        ));
    }
    let gpu = gpu::gpu(location.device_id)?;
    if buffer.is_empty() {
        return Ok(of_nothing(gpu.uuid()?));
    }
    let address = buffer.address() as u64;
    let (handle, base) = match driver_pool(buffer).and_then(DriverPool::exportable) {
        Some(pool) => pool.export(gpu, address)?,
        None => legacy(gpu, address)?,
    };
    Ok(CudaIpcHandle {
        device: gpu.uuid()?,
        handle,
        offset: address - base,
        length: buffer.len() as u64,
    })
}

/// The driver's handle of the allocation with an address, and where it begins.
fn legacy(gpu: &Gpu, address: u64) -> Result<(CudaIpcMemory, u64)> {
    let bound = gpu.bind()?;
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
                "the memory has no handle for other processes ({why}): memory of `plain` and `pool` managers has, and \
                 that of the driver's pools that are exportable"
            )));
        }
    }
    Ok((CudaIpcMemory::Legacy(handle.bytes), base))
}

/// The bytes of an allocation that is open.
fn size_of(gpu: &Gpu, opened: &Use) -> Result<usize> {
    let bound = gpu.bind()?;
    let (mut base, mut size) = (0, 0);
    // SAFETY: the out-pointers are ours.
    check(bound.table, "cuMemGetAddressRange", unsafe {
        (bound.table.mem_get_address_range)(&raw mut base, &raw mut size, opened.base())
    })?;
    Ok(size)
}

/// Opens the allocation, and tells its bytes.
fn open(gpu: &'static Gpu, handle: &CudaIpcHandle) -> Result<(Use, usize)> {
    match &handle.handle {
        CudaIpcMemory::Legacy(bytes) => {
            let opened = Use::open(gpu, bytes)?;
            let size = size_of(gpu, &opened)?;
            Ok((opened, size))
        }
        #[cfg(target_os = "linux")]
        CudaIpcMemory::Pool(pool) => {
            let taken = super::descriptors::ask(pool)?;
            if taken.device != handle.device {
                return Err(Error::invalid_argument(
                    "handle",
                    "one of another GPU than its memory's",
                    "a handle as its maker gave it",
                ));
            }
            let size = usize::try_from(taken.size)
                .map_err(|_| Error::range(handle.offset, handle.length, usize::MAX))?;
            Ok((Use::take(gpu, pool.number, &taken)?, size))
        }
        #[cfg(not(target_os = "linux"))]
        CudaIpcMemory::Pool(_) => Err(Error::not_supported(
            "pools of the driver's are shared between processes on Linux only",
        )),
    }
}

/// Opens memory of another process, in place: a mutable buffer that no pool counts. It is closed with the
/// last slice, after all work that this process gave the GPU.
///
/// Of an exportable pool's memory, its maker is asked: some 30 system calls here and a thread of its own there,
/// whatever else it does.
///
/// # Errors
/// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for a handle that is malformed or forged, of
///   this process, of a GPU that is not here, or (of legacy handles, where the driver does not tell) whose maker let the
///   memory go;
/// - [`OutOfRange`](offheap::ErrorKind::OutOfRange) for a length beyond the allocation;
/// - of an exportable pool's memory, [`Disposed`](offheap::ErrorKind::Disposed) when its maker freed it or ended,
///   [`NotSupported`](offheap::ErrorKind::NotSupported) when the two processes cannot see each other (PID or
///   network namespaces), and [`DeviceUnavailable`](offheap::ErrorKind::DeviceUnavailable) when the system refuses:
///   `permission` (another user's), `descriptors`, `no-proc`, `no-answer` (the maker is stopped), `system`.
///
/// # Safety
/// - nobody, in no process, writes the bytes while this one reads them, but in an order that both keep (by
///   [events](crate::open_event)).
pub unsafe fn open_memory(handle: &CudaIpcHandle) -> Result<MutableDeviceBuffer> {
    driver()?;
    let gpu = gpu_of(&handle.device)?;
    if *handle == of_nothing(handle.device) {
        let manager: Arc<dyn MemoryManager> = Arc::new(CudaMemoryManager::plain(gpu)?);
        return MutableDeviceBuffer::allocate(0, &manager);
    }
    let (Ok(offset), Ok(length)) = (
        usize::try_from(handle.offset),
        usize::try_from(handle.length),
    ) else {
        return Err(Error::range(handle.offset, handle.length, usize::MAX));
    };
    let (opened, size) = open(gpu, handle)?;
    match offset.checked_add(length) {
        Some(end) if end <= size => {}
        _ => return Err(Error::range(offset, length, size)),
    }
    let start = std::ptr::with_exposed_provenance_mut(opened.base() as usize + offset);
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

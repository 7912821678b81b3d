//! Events of several processes.

use super::handle::CudaIpcEventHandle;
use super::memory::gpu_of;
use super::opened::stale;
use crate::driver::{abi, check, driver};
use crate::event::CudaEvent;
use offheap::Result;
use std::ffi::c_void;

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

//! Memory and events of other processes.

use core::ffi::{c_char, c_uint};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::abi::{
    CU_EVENT_DISABLE_TIMING, CU_EVENT_INTERPROCESS, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS,
    CUdeviceptr, CUevent, CUipcEventHandle, CUipcMemHandle,
};
use crate::arena::Arena;
use crate::block::{Backing, Kind};
use crate::driver::{Driver, EVENT, State, as_handle, handle, lock};
use crate::entry::{Outcome, cuda_api, store};
use crate::event::Event;
use crate::ipc_handle::{self, IpcHandle};
use crate::result::{
    CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_HANDLE,
    CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY, CUresult,
};
use crate::shared_event::SharedEvent;

/// The handle of the allocation that an address lies in. Memory of pools, managed and host memory have none.
fn export(driver: &mut Driver, address: CUdeviceptr) -> Result<[u8; 64], CUresult> {
    driver.current()?;
    let block = driver.block(address).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let (Kind::Plain, Backing::Arena(arena)) = (&block.kind, &block.backing) else {
        return Err(CUDA_ERROR_INVALID_VALUE);
    };
    let slot = arena.export(block.id).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    block.exported.store(slot + 1, Ordering::Release);
    let handle = IpcHandle {
        kind: ipc_handle::MEMORY,
        process: std::process::id(),
        fd: arena.file().as_raw_fd() as u32,
        nonce: arena.nonce(),
        offset: block.address - arena.base(),
        size: block.size,
        id: block.id,
        slot,
        device: block.device as u32,
    };
    Ok(handle.encode())
}

fn import(driver: &mut Driver, bytes: [u8; 64], flags: c_uint) -> Result<CUdeviceptr, CUresult> {
    let context = driver.current()?;
    if flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let handle = IpcHandle::decode(&bytes, ipc_handle::MEMORY)?;
    // The process that made a handle cannot open it.
    if handle.process == std::process::id() {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    let device = handle.device as usize;
    if device >= driver.devices.len() {
        return Err(CUDA_ERROR_INVALID_DEVICE);
    }
    for block in driver.blocks.values() {
        if let Kind::Imported { opened, handle } = &block.kind
            && *handle == bytes
            && block.context == context
        {
            opened.fetch_add(1, Ordering::AcqRel);
            return Ok(block.address);
        }
    }
    let arena = Arena::open(
        handle.open()?,
        Some(handle.nonce),
        handle.offset,
        handle.size,
    )?;
    if !arena.is_exported(handle.slot, handle.id) {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    let address = arena.base();
    let kind = Kind::Imported {
        opened: AtomicU32::new(1),
        handle: bytes,
    };
    driver.add_block(
        address,
        handle.size,
        (device, context),
        kind,
        Backing::Arena(Arc::new(arena)),
    );
    Ok(address)
}

/// Waits for nothing: work in flight on the memory is the program's mistake, and found when it runs.
fn close(driver: &mut Driver, address: CUdeviceptr) -> Outcome {
    driver.current()?;
    let block = driver
        .blocks
        .get(&address)
        .cloned()
        .ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let Kind::Imported { opened, .. } = &block.kind else {
        return Err(CUDA_ERROR_INVALID_VALUE);
    };
    if opened.fetch_sub(1, Ordering::AcqRel) == 1 {
        driver.blocks.remove(&address);
        driver.finish_free(&block, None);
    }
    Ok(())
}

fn export_event(driver: &mut Driver, event: CUevent) -> Result<[u8; 64], CUresult> {
    driver.current()?;
    let event = driver.event(event)?;
    let shared = event
        .shared
        .as_ref()
        .filter(|_| !event.imported)
        .ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    let handle = IpcHandle {
        kind: ipc_handle::EVENT,
        process: std::process::id(),
        fd: shared.file().as_raw_fd() as u32,
        nonce: shared.nonce(),
        ..IpcHandle::default()
    };
    Ok(handle.encode())
}

fn import_event(driver: &mut Driver, bytes: &[u8; 64]) -> Result<u64, CUresult> {
    let context = driver.current()?;
    let ipc = IpcHandle::decode(bytes, ipc_handle::EVENT)?;
    if ipc.process == std::process::id() {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    let shared = SharedEvent::open(ipc.open()?, ipc.nonce).map_err(|code| match code {
        CUDA_ERROR_INVALID_HANDLE => code,
        _ => CUDA_ERROR_MAP_FAILED,
    })?;
    let id = handle(EVENT);
    let event = Event {
        context,
        flags: CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING,
        record: None,
        shared: Some(Arc::new(shared)),
        imported: true,
        queries: 0,
    };
    driver.events.insert(id, event);
    Ok(id)
}

cuda_api! {
    /// The handle of a device allocation, for other processes.
    [Driver] fn cuIpcGetMemHandle(pHandle: *mut CUipcMemHandle, dptr: CUdeviceptr) {
        if pHandle.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let bytes = export(lock().state(), dptr)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pHandle, CUipcMemHandle { reserved: bytes.map(|byte| byte as c_char) }) }
    }

    /// Opens another process's allocation; opened again, it has the same address and must be closed as often.
    [Driver] fn cuIpcOpenMemHandle_v2(pdptr: *mut CUdeviceptr, handle: CUipcMemHandle, Flags: c_uint) {
        if pdptr.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let address = import(lock().state(), handle.reserved.map(|byte| byte as u8), Flags)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pdptr, address) }
    }

    /// Closes it.
    [Driver] fn cuIpcCloseMemHandle(dptr: CUdeviceptr) {
        close(lock().state(), dptr)
    }

    /// The handle of an event that was made with `CU_EVENT_INTERPROCESS`, for other processes.
    [Driver] fn cuIpcGetEventHandle(pHandle: *mut CUipcEventHandle, event: CUevent) {
        if pHandle.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let bytes = export_event(lock().state(), event)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pHandle, CUipcEventHandle { reserved: bytes.map(|byte| byte as c_char) }) }
    }

    /// Opens another process's event.
    [Driver] fn cuIpcOpenEventHandle(phEvent: *mut CUevent, handle: CUipcEventHandle) {
        if phEvent.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let id = import_event(lock().state(), &handle.reserved.map(|byte| byte as u8))?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(phEvent, as_handle(id)) }
    }
}

//! Host memory that the device can reach.

use core::ffi::{c_uint, c_void};

use crate::abi::{CU_MEMHOSTALLOC_DEVICEMAP, CUdeviceptr};
use crate::arena::Mapping;
use crate::block::{Backing, Kind};
use crate::driver::{Driver, State, lock};
use crate::engine::{advance, everything};
use crate::entry::{Outcome, cuda_api, store};
use crate::result::{
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
    CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_OUT_OF_MEMORY, CUresult,
};

fn allocate(driver: &mut Driver, size: usize, flags: c_uint) -> Result<u64, CUresult> {
    let context = driver.current()?;
    let ordinal = driver.current_device()?;
    if size == 0 || flags & !7 != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if size as u64 >= 1 << 46 {
        return Err(CUDA_ERROR_OUT_OF_MEMORY);
    }
    let mapping = Mapping::readable(size as u64).map_err(|_| CUDA_ERROR_OUT_OF_MEMORY)?;
    let address = mapping.base() as u64;
    driver.add_block(
        address,
        size as u64,
        (ordinal, context),
        Kind::Host(flags),
        Backing::Mapped(mapping),
    );
    Ok(address)
}

/// Ends a host allocation or a registration, after the work that may use it.
fn remove(pointer: *mut c_void, registered: bool) -> Outcome {
    let missing = if registered {
        CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED
    } else {
        CUDA_ERROR_INVALID_VALUE
    };
    let address = pointer.addr() as u64;
    let mut guard = lock();
    let driver = guard.state();
    driver.current()?;
    let block = driver.blocks.get(&address).cloned().ok_or(missing)?;
    match block.kind {
        Kind::Registered(_) if registered => {}
        Kind::Host(_) if !registered => {}
        _ => return Err(missing),
    }
    let targets = everything(driver, None);
    guard = advance(guard, targets);
    let driver = guard.state();
    match driver.blocks.get(&address) {
        Some(found) if found.id == block.id => driver.blocks.remove(&address),
        _ => return Err(missing),
    };
    driver.finish_free(&block, None);
    Ok(())
}

fn register(driver: &mut Driver, pointer: *mut c_void, size: usize, flags: c_uint) -> Outcome {
    let context = driver.current()?;
    let ordinal = driver.current_device()?;
    let address = pointer.addr() as u64;
    let end = address
        .checked_add(size as u64)
        .ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if address == 0 || size == 0 || flags & !15 != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let last = driver.blocks.range(..end).next_back();
    if last.is_some_and(|(_, block)| block.address + block.size > address) {
        return Err(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    }
    driver.add_block(
        address,
        size as u64,
        (ordinal, context),
        Kind::Registered(flags),
        Backing::Foreign,
    );
    Ok(())
}

cuda_api! {
    /// Allocates page-locked host memory.
    [Driver] fn cuMemHostAlloc(pp: *mut *mut c_void, bytesize: usize, Flags: c_uint) {
        if pp.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let address = allocate(lock().state(), bytesize, Flags)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pp, std::ptr::with_exposed_provenance_mut(address as usize)) }
    }

    /// As `cuMemHostAlloc` without flags.
    [Driver] fn cuMemAllocHost_v2(pp: *mut *mut c_void, bytesize: usize) {
        if pp.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let address = allocate(lock().state(), bytesize, 0)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pp, std::ptr::with_exposed_provenance_mut(address as usize)) }
    }

    /// Frees it. The pages are unmapped: whoever touches them afterwards crashes.
    [Driver] fn cuMemFreeHost(p: *mut c_void) {
        remove(p, false)
    }

    /// Registers memory of the program's own.
    [Driver] fn cuMemHostRegister_v2(p: *mut c_void, bytesize: usize, Flags: c_uint) {
        register(lock().state(), p, bytesize, Flags)
    }

    /// Ends a registration.
    [Driver] fn cuMemHostUnregister(p: *mut c_void) {
        remove(p, true)
    }

    /// The device's address of host memory: the same.
    [Driver] fn cuMemHostGetDevicePointer_v2(pdptr: *mut CUdeviceptr, p: *mut c_void, Flags: c_uint) {
        let address = p.addr() as u64;
        let mut guard = lock();
        let driver = guard.state();
        driver.current()?;
        let block = driver.block(address).filter(|_| Flags == 0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        if !matches!(block.kind, Kind::Host(_) | Kind::Registered(_)) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pdptr, address) }
    }

    /// The flags of a host allocation. With unified addresses all of them are mapped.
    [Driver] fn cuMemHostGetFlags(pFlags: *mut c_uint, p: *mut c_void) {
        let mut guard = lock();
        let driver = guard.state();
        driver.current()?;
        let block = driver.block(p.addr() as u64).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let flags = match block.kind {
            Kind::Host(flags) => flags | CU_MEMHOSTALLOC_DEVICEMAP,
            Kind::Registered(flags) => flags | CU_MEMHOSTALLOC_DEVICEMAP,
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        };
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pFlags, flags) }
    }
}

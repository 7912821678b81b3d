//! Allocation of device and managed memory, and of pools' memory in stream order.

use core::ffi::c_uint;
use std::sync::Arc;

use crate::abi::{CU_MEM_ATTACH_GLOBAL, CU_MEM_ATTACH_HOST, CUdeviceptr, CUmemoryPool, CUstream};
use crate::arena::Mapping;
use crate::block::{Backing, Block, GRANULE, Kind};
use crate::driver::{Driver, Guard, State, lock, number, settings};
use crate::engine::{advance, depend, everything_on, submit};
use crate::entry::{Outcome, cuda_api, store};
use crate::pool::Reuse;
use crate::result::{
    CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_OUT_OF_MEMORY, CUresult,
};
use crate::stream::Work;

/// A size in whole granules; what is larger than any device does not fit.
fn rounded(size: usize) -> Result<u64, CUresult> {
    (size as u64)
        .checked_next_multiple_of(GRANULE)
        .filter(|&size| size < 1 << 46)
        .ok_or(CUDA_ERROR_OUT_OF_MEMORY)
}

/// Ends an allocation at once: its work has run, or its context goes.
pub(crate) fn forget(driver: &mut Driver, block: &Arc<Block>) {
    let pool_free = match block.kind {
        Kind::Pool(token) => {
            let free = number();
            let size = block.rounded();
            if let Some(pool) = driver.pools.get_mut(&token) {
                pool.defer(block.address, size, (0, 0), free);
            }
            Some(free)
        }
        _ => None,
    };
    driver.finish_free(block, pool_free);
}

fn allocate(driver: &mut Driver, size: usize) -> Result<CUdeviceptr, CUresult> {
    let context = driver.current()?;
    let ordinal = driver.current_device()?;
    if size == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let device = &mut driver.devices[ordinal];
    let address = device.allocate(rounded(size)?)?;
    let backing = Backing::Arena(Arc::clone(&device.arena));
    driver.add_block(
        address,
        size as u64,
        (ordinal, context),
        Kind::Plain,
        backing,
    );
    Ok(address)
}

/// `cuMemFree` waits for the device when the memory is plain or managed; for a pool's memory the driver takes it that
/// all work on it has run.
fn free(mut guard: Guard, address: CUdeviceptr) -> Outcome {
    let driver = guard.state();
    driver.current()?;
    let block = driver
        .blocks
        .get(&address)
        .cloned()
        .ok_or(CUDA_ERROR_INVALID_VALUE)?;
    match block.kind {
        Kind::Plain | Kind::Managed => {
            let targets = everything_on(driver, block.device);
            guard = advance(guard, targets);
        }
        Kind::Pool(_) | Kind::ImportedFromPool(_) => {}
        // Host memory has its own function, an imported block is closed.
        Kind::Host(_) | Kind::Registered(_) | Kind::Imported { .. } => {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
    }
    let driver = guard.state();
    // Two threads may have freed it while the work ran: one of them is wrong.
    match driver.blocks.get(&address) {
        Some(found) if found.id == block.id => driver.blocks.remove(&address),
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    forget(driver, &block);
    Ok(())
}

/// Allocates from a pool in the order of a stream.
pub(crate) fn allocate_from(
    driver: &mut Driver,
    token: u64,
    size: usize,
    stream: u64,
) -> Result<u64, CUresult> {
    let bytes = rounded(size)?;
    let Driver {
        streams,
        pools,
        devices,
        ..
    } = driver;
    let Some(own) = streams.get(&stream) else {
        return Err(CUDA_ERROR_INVALID_VALUE);
    };
    let context = own.context;
    let pool = pools.get_mut(&token).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if pool.imported {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let ordinal = pool.device;
    let device = devices.get_mut(ordinal).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let executed = |id: u64| streams.get(&id).map_or(u64::MAX, |stream| stream.executed);
    let reuse = pool.allocate(device, bytes, stream, &own.knows, executed)?;
    let backing = Backing::Arena(Arc::clone(pool.arena(device)));
    let (address, wait) = match reuse {
        Reuse::Free(address) => (address, None),
        Reuse::After(address, wait) => (address, wait),
    };
    if let Some(point) = wait {
        depend(driver, stream, point, None)?;
    }
    driver.add_block(
        address,
        size as u64,
        (ordinal, context),
        Kind::Pool(token),
        backing,
    );
    if let Some(block) = driver.blocks.get(&address).cloned() {
        submit(driver, stream, Work::Allocate(block))?;
    }
    Ok(address)
}

fn allocate_async(
    dptr: *mut CUdeviceptr,
    size: usize,
    pool: Option<CUmemoryPool>,
    stream: CUstream,
) -> Outcome {
    if dptr.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut guard = lock();
    let driver = guard.state();
    let stream = driver.stream(stream)?;
    if !settings().config.pools {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    let token = match pool {
        Some(pool) => driver.pool(pool)?.0,
        None => {
            let ordinal = driver
                .streams
                .get(&stream)
                .map_or(0, |stream| stream.device);
            driver.devices[ordinal].current_pool
        }
    };
    let address = if size == 0 {
        0
    } else {
        allocate_from(driver, token, size, stream)?
    };
    // SAFETY: the caller's promise for out-parameters.
    unsafe { store(dptr, address) }
}

fn free_async(driver: &mut Driver, address: CUdeviceptr, stream: CUstream) -> Outcome {
    let stream = driver.stream(stream)?;
    let block = driver
        .blocks
        .get(&address)
        .cloned()
        .ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if !matches!(
        block.kind,
        Kind::Plain | Kind::Pool(_) | Kind::ImportedFromPool(_)
    ) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    driver.blocks.remove(&address);
    let free = number();
    let kind = Work::Free {
        block: Arc::clone(&block),
        number: free,
    };
    let point = submit(driver, stream, kind)?;
    if let Kind::Pool(token) = block.kind
        && let Some(pool) = driver.pools.get_mut(&token)
    {
        pool.defer(address, block.rounded(), point, free);
    }
    Ok(())
}

fn allocate_managed(
    driver: &mut Driver,
    size: usize,
    flags: c_uint,
) -> Result<CUdeviceptr, CUresult> {
    let context = driver.current()?;
    let ordinal = driver.current_device()?;
    if size == 0 || !matches!(flags, CU_MEM_ATTACH_GLOBAL | CU_MEM_ATTACH_HOST) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mapping = Mapping::readable(rounded(size)?).map_err(|_| CUDA_ERROR_OUT_OF_MEMORY)?;
    let address = mapping.base() as u64;
    driver.add_block(
        address,
        size as u64,
        (ordinal, context),
        Kind::Managed,
        Backing::Mapped(mapping),
    );
    Ok(address)
}

/// `cuMemAllocAsync`, under a name that a build without the symbol has too.
///
/// # Safety
/// As in the CUDA driver API.
#[cfg_attr(not(feature = "without-async-alloc"), unsafe(no_mangle))]
pub unsafe extern "C" fn cuMemAllocAsync(
    dptr: *mut CUdeviceptr,
    bytesize: usize,
    hStream: CUstream,
) -> CUresult {
    let arguments = [
        ("dptr", dptr.addr() as u64),
        ("bytesize", bytesize as u64),
        ("hStream", hStream.addr() as u64),
    ];
    crate::entry::enter(
        "cuMemAllocAsync",
        &arguments,
        crate::entry::Needs::Driver,
        || allocate_async(dptr, bytesize, None, hStream),
    )
}

cuda_api! {
    /// Free and total bytes of the bound context's device.
    [Driver] fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let mut guard = lock();
        let driver = guard.state();
        let device = &driver.devices[driver.current_device()?];
        // SAFETY: the caller's promise for out-parameters.
        unsafe {
            store(free, device.free() as usize)?;
            store(total, device.total as usize)
        }
    }

    /// Allocates device memory.
    [Driver] fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) {
        if dptr.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let address = allocate(lock().state(), bytesize)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(dptr, address) }
    }

    /// Frees device or managed memory.
    [Driver] fn cuMemFree_v2(dptr: CUdeviceptr) {
        free(lock(), dptr)
    }

    /// Allocates from a pool in stream order.
    [Driver] fn cuMemAllocFromPoolAsync(
        dptr: *mut CUdeviceptr,
        bytesize: usize,
        pool: CUmemoryPool,
        hStream: CUstream,
    ) {
        allocate_async(dptr, bytesize, Some(pool), hStream)
    }

    /// Frees in stream order.
    [Driver] fn cuMemFreeAsync(dptr: CUdeviceptr, hStream: CUstream) {
        free_async(lock().state(), dptr, hStream)
    }

    /// Allocates memory that the device and the CPU can both reach.
    [Driver] fn cuMemAllocManaged(dptr: *mut CUdeviceptr, bytesize: usize, flags: c_uint) {
        if dptr.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let address = allocate_managed(lock().state(), bytesize, flags)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(dptr, address) }
    }

    /// The allocation that an address lies in.
    [Driver] fn cuMemGetAddressRange_v2(pbase: *mut CUdeviceptr, psize: *mut usize, dptr: CUdeviceptr) {
        let mut guard = lock();
        let driver = guard.state();
        driver.current()?;
        let block = driver.block(dptr).ok_or(crate::result::CUDA_ERROR_NOT_FOUND)?;
        // SAFETY: the caller's promise for out-parameters; either may be null.
        unsafe {
            if !pbase.is_null() {
                store(pbase, block.address)?;
            }
            if !psize.is_null() {
                store(psize, block.size as usize)?;
            }
        }
        Ok(())
    }
}

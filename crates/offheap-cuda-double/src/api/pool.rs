//! Memory pools.

use core::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::abi::{
    CU_MEM_ACCESS_FLAGS_PROT_NONE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
    CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
    CU_MEM_LOCATION_TYPE_DEVICE, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as RELEASE_THRESHOLD,
    CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT as RESERVED_CURRENT,
    CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH as RESERVED_HIGH,
    CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES as REUSE_INTERNAL,
    CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES as REUSE_FOLLOW,
    CU_MEMPOOL_ATTR_USED_MEM_CURRENT as USED_CURRENT, CU_MEMPOOL_ATTR_USED_MEM_HIGH as USED_HIGH,
    CUdevice, CUdeviceptr, CUmemAccessDesc, CUmemLocation, CUmemPoolProps, CUmemPoolPtrExportData,
    CUmemoryPool,
};
use crate::arena::Arena;
use crate::block::{Backing, Kind};
use crate::driver::{Driver, Guard, POOL, State, as_handle, handle, lock, settings};
use crate::entry::{Outcome, cuda_api, store};
use crate::ipc_handle::{self, IpcHandle};
use crate::pool::Pool;
use crate::result::{
    CUDA_ERROR_ALREADY_MAPPED, CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_HANDLE,
    CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_OPERATING_SYSTEM,
    CUDA_ERROR_OUT_OF_MEMORY, CUresult,
};

/// The driver, if its devices have pools.
fn with_pools() -> Result<Guard, CUresult> {
    if settings().config.pools {
        Ok(lock())
    } else {
        Err(CUDA_ERROR_NOT_SUPPORTED)
    }
}

fn create(driver: &mut Driver, properties: &CUmemPoolProps) -> Result<u64, CUresult> {
    let location = properties.location;
    if properties.allocType != CU_MEM_ALLOCATION_TYPE_PINNED
        || location.type_ != CU_MEM_LOCATION_TYPE_DEVICE
    {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let device = driver.device(location.id)?;
    let maximum = properties.maxSize as u64;
    let pool = match properties.handleTypes {
        0 => Pool::new(device.ordinal, None, false, maximum),
        CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR if settings().config.pool_handles => {
            Pool::exportable(device, maximum)?
        }
        _ => return Err(CUDA_ERROR_NOT_SUPPORTED),
    };
    let token = handle(POOL);
    driver.pools.insert(token, pool);
    Ok(token)
}

/// The pool goes when its last block is freed.
fn destroy(driver: &mut Driver, pool: CUmemoryPool) -> Outcome {
    let (token, pool) = driver.pool(pool)?;
    if pool.is_default {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    pool.destroyed = true;
    for device in driver
        .devices
        .iter_mut()
        .filter(|device| device.current_pool == token)
    {
        device.current_pool = device.default_pool;
    }
    driver.drop_pool_if_done(token);
    Ok(())
}

/// # Safety
/// `value` is null or points to what the attribute asks for: an `int`, from the threshold on 64 bits.
unsafe fn set_attribute(pool: &mut Pool, attribute: c_uint, value: *const c_void) -> Outcome {
    if value.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not null, so what the attribute asks for by the caller's promise.
    let int = || unsafe { value.cast::<c_int>().read_unaligned() };
    // SAFETY: as above.
    let long = || unsafe { value.cast::<u64>().read_unaligned() };
    match attribute {
        REUSE_FOLLOW..=REUSE_INTERNAL => {
            pool.reuse[(attribute - REUSE_FOLLOW) as usize] = int() != 0
        }
        RELEASE_THRESHOLD => pool.threshold = long(),
        // High-water marks can only be reset.
        RESERVED_HIGH if long() == 0 => pool.reserved_high = pool.reserved,
        USED_HIGH if long() == 0 => pool.used_high = pool.used,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    }
    Ok(())
}

/// # Safety
/// `value` is null or valid for writing what the attribute holds.
unsafe fn get_attribute(pool: &Pool, attribute: c_uint, value: *mut c_void) -> Outcome {
    let number = match attribute {
        REUSE_FOLLOW..=REUSE_INTERNAL => {
            let flag = c_int::from(pool.reuse[(attribute - REUSE_FOLLOW) as usize]);
            // SAFETY: the caller's promise.
            return unsafe { store(value.cast::<c_int>(), flag) };
        }
        RELEASE_THRESHOLD => pool.threshold,
        RESERVED_CURRENT => pool.reserved,
        RESERVED_HIGH => pool.reserved_high,
        USED_CURRENT => pool.used,
        USED_HIGH => pool.used_high,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    // SAFETY: the caller's promise.
    unsafe { store(value.cast::<u64>(), number) }
}

fn set_access(driver: &mut Driver, pool: CUmemoryPool, description: CUmemAccessDesc) -> Outcome {
    let location = description.location;
    let device = driver.device(location.id)?.ordinal;
    let (_, pool) = driver.pool(pool)?;
    let flags = description.flags;
    if location.type_ != CU_MEM_LOCATION_TYPE_DEVICE
        || !matches!(
            flags,
            CU_MEM_ACCESS_FLAGS_PROT_NONE | CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        )
        || device == pool.device && flags == CU_MEM_ACCESS_FLAGS_PROT_NONE
        || device != pool.device && !settings().config.peers
    {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    pool.access.insert(device, flags);
    Ok(())
}

fn export(
    driver: &mut Driver,
    pool: CUmemoryPool,
    kind: c_uint,
    flags: c_ulonglong,
) -> Result<c_int, CUresult> {
    let (_, pool) = driver.pool(pool)?;
    let own = pool
        .own
        .as_ref()
        .filter(|_| !pool.imported)
        .ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if kind != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    own.arena.set_device(pool.device as u64)?;
    // SAFETY: the arena's file is open; the new descriptor is the caller's.
    match unsafe { libc::fcntl(own.arena.file().as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => Err(CUDA_ERROR_OPERATING_SYSTEM),
        fd => Ok(fd),
    }
}

fn import(
    driver: &mut Driver,
    fd: c_int,
    kind: c_uint,
    flags: c_ulonglong,
) -> Result<u64, CUresult> {
    if kind != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || flags != 0 || fd < 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not negative. A number that is no open descriptor fails to be cloned, and is not closed here.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let file = File::from(
        borrowed
            .try_clone_to_owned()
            .map_err(|_| CUDA_ERROR_INVALID_VALUE)?,
    );
    let size = Arena::size_of(&file).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let arena = Arena::open(file, None, 0, size).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let device = arena.device()? as usize;
    if device >= driver.devices.len() {
        return Err(CUDA_ERROR_INVALID_DEVICE);
    }
    let token = handle(POOL);
    driver
        .pools
        .insert(token, Pool::new(device, Some(Arc::new(arena)), true, 0));
    Ok(token)
}

fn export_pointer(driver: &mut Driver, address: CUdeviceptr) -> Result<[u8; 64], CUresult> {
    let block = driver
        .blocks
        .get(&address)
        .ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let (Kind::Pool(token), Backing::Arena(arena)) = (&block.kind, &block.backing) else {
        return Err(CUDA_ERROR_INVALID_VALUE);
    };
    if driver
        .pools
        .get(token)
        .is_none_or(|pool| pool.own.is_none())
    {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let slot = arena.export(block.id).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    block.exported.store(slot + 1, Ordering::Release);
    let handle = IpcHandle {
        kind: ipc_handle::POINTER,
        process: std::process::id(),
        nonce: arena.nonce(),
        offset: address - arena.base(),
        size: block.size,
        id: block.id,
        slot,
        device: block.device as u32,
        ..IpcHandle::default()
    };
    Ok(handle.encode())
}

fn import_pointer(
    driver: &mut Driver,
    pool: CUmemoryPool,
    data: &[u8; 64],
) -> Result<CUdeviceptr, CUresult> {
    let context = driver.current()?;
    let handle = IpcHandle::decode(data, ipc_handle::POINTER)?;
    let (token, pool) = driver.pool(pool)?;
    let own = pool
        .own
        .as_ref()
        .filter(|_| pool.imported)
        .ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let arena = Arc::clone(&own.arena);
    if arena.nonce() != handle.nonce || !arena.is_exported(handle.slot, handle.id) {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    let device = pool.device;
    let address = arena.base() + handle.offset;
    if driver.blocks.contains_key(&address) {
        return Err(CUDA_ERROR_ALREADY_MAPPED);
    }
    if let Some(pool) = driver.pools.get_mut(&token) {
        pool.live += 1;
    }
    driver.add_block(
        address,
        handle.size,
        (device, context),
        Kind::ImportedFromPool(token),
        Backing::Arena(arena),
    );
    Ok(address)
}

cuda_api! {
    /// The pool that a device has from the start.
    [Driver] fn cuDeviceGetDefaultMemPool(pool_out: *mut CUmemoryPool, dev: CUdevice) {
        let token = with_pools()?.state().device(dev)?.default_pool;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pool_out, as_handle(token)) }
    }

    /// The pool that `cuMemAllocAsync` uses on a device.
    [Driver] fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, dev: CUdevice) {
        let token = with_pools()?.state().device(dev)?.current_pool;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pool, as_handle(token)) }
    }

    /// Sets it. The pool must be the device's.
    [Driver] fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool) {
        let mut guard = with_pools()?;
        let driver = guard.state();
        let (token, pool) = driver.pool(pool)?;
        let owner = pool.device;
        let device = driver.device_mut(dev)?;
        if owner != device.ordinal {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        device.current_pool = token;
        Ok(())
    }

    /// Makes a pool.
    [Driver] fn cuMemPoolCreate(pool: *mut CUmemoryPool, poolProps: *const CUmemPoolProps) {
        if pool.is_null() || poolProps.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: not null, so properties by the caller's promise.
        let properties = unsafe { poolProps.read_unaligned() };
        let token = create(with_pools()?.state(), &properties)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pool, as_handle(token)) }
    }

    /// Destroys a pool that is not a device's default; its blocks stay valid until they are freed.
    [Driver] fn cuMemPoolDestroy(pool: CUmemoryPool) {
        destroy(with_pools()?.state(), pool)
    }

    /// Gives memory back that is not used, down to `minBytesToKeep`.
    [Driver] fn cuMemPoolTrimTo(pool: CUmemoryPool, minBytesToKeep: usize) {
        let mut guard = with_pools()?;
        let driver = guard.state();
        let (token, _) = driver.pool(pool)?;
        let Driver { pools, devices, .. } = driver;
        // Pools of several processes "do not support releasing physical blocks back to the OS" (programming guide).
        if let Some(pool) = pools.get_mut(&token).filter(|pool| pool.own.is_none()) {
            let device = devices.get_mut(pool.device).ok_or(CUDA_ERROR_INVALID_DEVICE)?;
            pool.trim(device, minBytesToKeep as u64);
        }
        Ok(())
    }

    /// Sets an attribute.
    [Driver] fn cuMemPoolSetAttribute(pool: CUmemoryPool, attr: c_uint, value: *mut c_void) {
        let mut guard = with_pools()?;
        // SAFETY: the caller's promise for arguments.
        unsafe { set_attribute(guard.state().pool(pool)?.1, attr, value) }
    }

    /// Reads an attribute.
    [Driver] fn cuMemPoolGetAttribute(pool: CUmemoryPool, attr: c_uint, value: *mut c_void) {
        let mut guard = with_pools()?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { get_attribute(guard.state().pool(pool)?.1, attr, value) }
    }

    /// Lets devices access a pool's memory. The double keeps it and does not act on it.
    [Driver] fn cuMemPoolSetAccess(pool: CUmemoryPool, map: *const CUmemAccessDesc, count: usize) {
        let mut guard = with_pools()?;
        if map.is_null() && count > 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        for index in 0..count {
            // SAFETY: the caller's promise: `count` descriptions.
            let description = unsafe { map.add(index).read_unaligned() };
            set_access(guard.state(), pool, description)?;
        }
        Ok(())
    }

    /// What a device may do with a pool's memory.
    [Driver] fn cuMemPoolGetAccess(flags: *mut c_uint, memPool: CUmemoryPool, location: *mut CUmemLocation) {
        let mut guard = with_pools()?;
        if location.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: not null, so a location by the caller's promise.
        let location = unsafe { location.read_unaligned() };
        let driver = guard.state();
        let device = driver.device(location.id)?.ordinal;
        let (_, pool) = driver.pool(memPool)?;
        let own = if device == pool.device { CU_MEM_ACCESS_FLAGS_PROT_READWRITE } else { CU_MEM_ACCESS_FLAGS_PROT_NONE };
        let found = pool.access.get(&device).copied().unwrap_or(own);
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(flags, found) }
    }

    /// A file descriptor, for other processes, of a pool that was made with that handle type. The caller closes it.
    [Driver] fn cuMemPoolExportToShareableHandle(
        handle_out: *mut c_void,
        pool: CUmemoryPool,
        handleType: c_uint,
        flags: c_ulonglong,
    ) {
        if handle_out.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let fd = export(with_pools()?.state(), pool, handleType, flags)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(handle_out.cast::<c_int>(), fd) }
    }

    /// Opens another process's pool. The descriptor stays the caller's.
    [Driver] fn cuMemPoolImportFromShareableHandle(
        pool_out: *mut CUmemoryPool,
        handle: *mut c_void,
        handleType: c_uint,
        flags: c_ulonglong,
    ) {
        if pool_out.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let fd = c_int::try_from(handle.addr()).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
        let token = import(with_pools()?.state(), fd, handleType, flags)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pool_out, as_handle(token)) }
    }

    /// What another process needs to open a block of an exported pool.
    [Driver] fn cuMemPoolExportPointer(shareData_out: *mut CUmemPoolPtrExportData, ptr: CUdeviceptr) {
        if shareData_out.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let reserved = export_pointer(with_pools()?.state(), ptr)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(shareData_out, CUmemPoolPtrExportData { reserved }) }
    }

    /// Opens a block of an imported pool. It is freed here before it is freed where it comes from.
    [Driver] fn cuMemPoolImportPointer(
        ptr_out: *mut CUdeviceptr,
        pool: CUmemoryPool,
        shareData: *mut CUmemPoolPtrExportData,
    ) {
        if ptr_out.is_null() || shareData.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: not null, so the data by the caller's promise.
        let data = unsafe { shareData.read_unaligned() };
        let address = import_pointer(with_pools()?.state(), pool, &data.reserved)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(ptr_out, address) }
    }
}

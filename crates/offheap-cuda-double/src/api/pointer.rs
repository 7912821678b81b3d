//! What is known of an address, and hints for managed memory.

use core::ffi::{c_int, c_uint, c_void};

use crate::abi::{
    CU_DEVICE_CPU, CU_MEM_LOCATION_TYPE_DEVICE, CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST, CUdevice,
    CUdeviceptr, CUmemLocation, CUstream,
};
use crate::block::{Block, Kind};
use crate::driver::{Driver, State, as_handle, lock};
use crate::engine::submit;
use crate::entry::{Outcome, cuda_api, store};
use crate::result::{CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_VALUE};
use crate::stream::Work;

/// A value of an attribute, as wide as the attribute is.
enum Value {
    Int(u32),
    Long(u64),
    Handle(u64),
}

fn attribute(
    driver: &Driver,
    block: &Block,
    number: c_uint,
    address: CUdeviceptr,
) -> Option<Value> {
    let is_host = matches!(block.kind, Kind::Host(_) | Kind::Registered(_));
    let exportable = |token: &u64| {
        driver
            .pools
            .get(token)
            .is_some_and(|pool| pool.own.is_some() && !pool.imported)
    };
    Some(match number {
        1 => Value::Handle(block.context),
        2 => Value::Int(if is_host {
            CU_MEMORYTYPE_HOST
        } else {
            CU_MEMORYTYPE_DEVICE
        }),
        3 => Value::Long(address),
        4 if block.is_device() => return None,
        4 => Value::Long(address),
        6 => Value::Int(0),
        7 => Value::Long(block.id),
        8 => Value::Int(u32::from(matches!(block.kind, Kind::Managed))),
        9 => Value::Int(block.device as u32),
        10 => Value::Int(u32::from(matches!(block.kind, Kind::Plain))),
        11 => Value::Long(block.address),
        12 => Value::Long(block.size),
        13 => Value::Int(1),
        14 => Value::Long(match &block.kind {
            Kind::Pool(token) => u64::from(exportable(token)),
            _ => 0,
        }),
        15 => Value::Int(0),
        16 => Value::Int(3),
        17 => Value::Handle(match block.kind {
            Kind::Pool(token) | Kind::ImportedFromPool(token) => token,
            _ => 0,
        }),
        _ => return None,
    })
}

/// # Safety
/// `data` is null or valid for writing what the attribute holds.
unsafe fn write(data: *mut c_void, value: Value) -> Outcome {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        match value {
            Value::Int(value) => store(data.cast::<u32>(), value),
            Value::Long(value) => store(data.cast::<u64>(), value),
            Value::Handle(value) => store(data.cast::<*mut c_void>(), as_handle(value)),
        }
    }
}

/// What an attribute of an address is that the driver does not know.
fn nothing(number: c_uint) -> Option<Value> {
    Some(match number {
        1 | 17 => Value::Handle(0),
        2 | 6 | 8 | 10 | 13 | 15 | 16 => Value::Int(0),
        9 => Value::Int((-2_i32) as u32),
        3 | 4 | 7 | 11 | 12 | 14 => Value::Long(0),
        _ => return None,
    })
}

fn managed(driver: &Driver, address: CUdeviceptr, count: usize) -> Outcome {
    let place = driver.place(address, count as u64)?;
    let is_managed = place
        .block
        .is_some_and(|block| matches!(block.kind, Kind::Managed));
    if is_managed && count > 0 {
        Ok(())
    } else {
        Err(CUDA_ERROR_INVALID_VALUE)
    }
}

fn prefetch(address: CUdeviceptr, count: usize, device: CUdevice, stream: CUstream) -> Outcome {
    let mut guard = lock();
    let driver = guard.state();
    let id = driver.stream(stream)?;
    managed(driver, address, count)?;
    if device != CU_DEVICE_CPU {
        driver.device(device)?;
    }
    submit(driver, id, Work::Nothing)?;
    Ok(())
}

fn advise(address: CUdeviceptr, count: usize, advice: c_uint, device: CUdevice) -> Outcome {
    let mut guard = lock();
    let driver = guard.state();
    driver.current()?;
    managed(driver, address, count)?;
    match advice {
        1 | 2 => Ok(()),
        3..=6 if device == CU_DEVICE_CPU => Ok(()),
        3..=6 => driver.device(device).map(|_| ()),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

fn location(location: CUmemLocation) -> Result<CUdevice, u32> {
    match location.type_ {
        CU_MEM_LOCATION_TYPE_DEVICE => Ok(location.id),
        // The host, with or without a NUMA node.
        2..=4 => Ok(CU_DEVICE_CPU),
        _ => Err(CUDA_ERROR_INVALID_DEVICE),
    }
}

cuda_api! {
    /// One attribute of an address. An address that the driver does not know is an error.
    [Driver] fn cuPointerGetAttribute(data: *mut c_void, attribute: c_uint, ptr: CUdeviceptr) {
        let mut guard = lock();
        let driver = guard.state();
        driver.current()?;
        let block = driver.block(ptr).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let value = self::attribute(driver, block, attribute, ptr).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { write(data, value) }
    }

    /// Several attributes. Of an address that the driver does not know all are zero, and that is no error.
    [Driver] fn cuPointerGetAttributes(
        numAttributes: c_uint,
        attributes: *mut c_uint,
        data: *mut *mut c_void,
        ptr: CUdeviceptr,
    ) {
        let mut guard = lock();
        let driver = guard.state();
        driver.current()?;
        if attributes.is_null() || data.is_null() || numAttributes == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        for index in 0..numAttributes as usize {
            // SAFETY: the caller's promise: both have `numAttributes` elements.
            let (number, target) = unsafe { (attributes.add(index).read(), data.add(index).read()) };
            let known = driver.block(ptr).and_then(|block| attribute(driver, block, number, ptr));
            let value = known.or_else(|| nothing(number)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            // SAFETY: the caller's promise for out-parameters.
            unsafe { write(target, value)? };
        }
        Ok(())
    }

    /// Sets an attribute: only `CU_POINTER_ATTRIBUTE_SYNC_MEMOPS` can be set, and here has no effect.
    [Driver] fn cuPointerSetAttribute(value: *const c_void, attribute: c_uint, ptr: CUdeviceptr) {
        let mut guard = lock();
        let driver = guard.state();
        driver.current()?;
        let block = driver.block(ptr).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        if value.is_null() || attribute != 6 || !block.is_device() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        Ok(())
    }

    /// Moves managed memory: a place in the stream's order, nothing else here.
    [Driver] fn cuMemPrefetchAsync(devPtr: CUdeviceptr, count: usize, dstDevice: CUdevice, hStream: CUstream) {
        prefetch(devPtr, count, dstDevice, hStream)
    }

    /// As `cuMemPrefetchAsync`, with a location.
    [Driver] fn cuMemPrefetchAsync_v2(
        devPtr: CUdeviceptr,
        count: usize,
        location: CUmemLocation,
        flags: c_uint,
        hStream: CUstream,
    ) {
        if flags != 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        prefetch(devPtr, count, self::location(location)?, hStream)
    }

    /// Advice on managed memory, checked and otherwise ignored.
    [Driver] fn cuMemAdvise(devPtr: CUdeviceptr, count: usize, advice: c_uint, device: CUdevice) {
        advise(devPtr, count, advice, device)
    }

    /// As `cuMemAdvise`, with a location.
    [Driver] fn cuMemAdvise_v2(devPtr: CUdeviceptr, count: usize, advice: c_uint, location: CUmemLocation) {
        let device = if matches!(advice, 1 | 2) { CU_DEVICE_CPU } else { self::location(location)? };
        advise(devPtr, count, advice, device)
    }

    /// A device-to-device property: only whether access is supported is ever true.
    [Driver] fn cuDeviceGetP2PAttribute(
        value: *mut c_int,
        attrib: c_uint,
        srcDevice: CUdevice,
        dstDevice: CUdevice,
    ) {
        let mut guard = lock();
        guard.state().device(srcDevice)?;
        guard.state().device(dstDevice)?;
        if srcDevice == dstDevice {
            return Err(CUDA_ERROR_INVALID_DEVICE);
        }
        let peers = crate::driver::settings().config.peers;
        let found = match attrib {
            1 | 3 => 0,
            2 => c_int::from(peers),
            4 => 0,
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        };
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(value, found) }
    }
}

//! Devices and their properties.

use core::ffi::{c_char, c_int, c_uint};

use crate::abi::{CUdevice, CUuuid};
use crate::driver::{State, lock, settings};
use crate::entry::{Outcome, cuda_api, store};
use crate::result::{CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_VALUE};

/// The attributes that a program which manages memory asks for; the others that exist are 0.
fn attribute(number: c_uint, ordinal: CUdevice) -> Option<c_int> {
    let config = &settings().config;
    Some(match number {
        1 => 1024,            // threads per block
        2 | 3 => 1024,        // block x, y
        4 => 64,              // block z
        5 => i32::MAX,        // grid x
        6 | 7 => 65535,       // grid y, z
        8 => 48 << 10,        // shared memory per block
        9 => 64 << 10,        // constant memory
        10 => 32,             // warp
        11 => i32::MAX,       // pitch
        13 => 1_980_000,      // clock, kHz
        14 => 512,            // texture alignment
        15 => 1,              // copies overlap
        16 => 4,              // multiprocessors
        19 => 1,              // maps host memory
        31 => 1,              // concurrent kernels
        33 => 0x80 + ordinal, // PCI bus
        36 => 1_000_000,      // memory clock, kHz
        37 => 512,            // bus width, bits
        38 => 1 << 20,        // L2 cache
        39 => 2048,           // threads per multiprocessor
        40 => 2,              // copy engines
        41 => 1,              // unified addressing
        75 => 9,              // compute capability
        76 => 0,
        78 => 1,                          // stream priorities
        83 => 1,                          // managed memory
        89 => 1,                          // concurrent managed access
        91 => 1,                          // host pointers of registered memory
        99 => 1,                          // host registration
        115 => c_int::from(config.pools), // memory pools
        // Handles of pools: POSIX file descriptors.
        119 => c_int::from(config.pools && config.pool_handles),
        125 => 1, // IPC events
        _ if (1..=150).contains(&number) => 0,
        _ => return None,
    })
}

fn copy_name(name: &str, target: *mut c_char, length: c_int) -> Outcome {
    let room = usize::try_from(length)
        .ok()
        .filter(|&room| room > 0 && !target.is_null());
    let room = room.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let bytes = &name.as_bytes()[..name.len().min(room - 1)];
    // SAFETY: the caller's promise: `length` bytes for writing, of which one is left for the NUL.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.cast(), bytes.len());
        *target.add(bytes.len()) = 0;
    }
    Ok(())
}

fn uuid(result: *mut CUuuid, device: CUdevice) -> Outcome {
    let uuid = lock().state().device(device)?.uuid();
    // SAFETY: the caller's promise for out-parameters.
    unsafe {
        store(
            result,
            CUuuid {
                bytes: uuid.map(|byte| byte as c_char),
            },
        )
    }
}

cuda_api! {
    /// The number of devices.
    [Driver] fn cuDeviceGetCount(count: *mut c_int) {
        let devices = lock().state().devices.len();
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(count, devices as c_int) }
    }

    /// The handle of a device: its ordinal.
    [Driver] fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) {
        lock().state().device(ordinal)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(device, ordinal) }
    }

    /// The name of a device.
    [Driver] fn cuDeviceGetName(name: *mut c_char, len: c_int, dev: CUdevice) {
        let text = lock().state().device(dev)?.name();
        copy_name(&text, name, len)
    }

    /// The UUID of a device, the same in every process.
    [Driver] fn cuDeviceGetUuid(uuid: *mut CUuuid, dev: CUdevice) {
        self::uuid(uuid, dev)
    }

    /// As `cuDeviceGetUuid`.
    [Driver] fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, dev: CUdevice) {
        self::uuid(uuid, dev)
    }

    /// The memory of a device in bytes.
    [Driver] fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice) {
        let total = lock().state().device(dev)?.total;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(bytes, total as usize) }
    }

    /// An attribute of a device.
    [Driver] fn cuDeviceGetAttribute(pi: *mut c_int, attrib: c_uint, dev: CUdevice) {
        lock().state().device(dev)?;
        let value = attribute(attrib, dev).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pi, value) }
    }

    /// The PCI bus id of a device, as `domain:bus:device.function`.
    [Driver] fn cuDeviceGetPCIBusId(pciBusId: *mut c_char, len: c_int, dev: CUdevice) {
        lock().state().device(dev)?;
        copy_name(&format!("0000:{:02X}:00.0", 0x80 + dev), pciBusId, len)
    }

    /// Whether a device can access another's memory.
    [Driver] fn cuDeviceCanAccessPeer(canAccessPeer: *mut c_int, dev: CUdevice, peerDev: CUdevice) {
        let mut guard = lock();
        guard.state().device(dev)?;
        guard.state().device(peerDev).map_err(|_| CUDA_ERROR_INVALID_DEVICE)?;
        let can = dev != peerDev && settings().config.peers;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(canAccessPeer, c_int::from(can)) }
    }
}

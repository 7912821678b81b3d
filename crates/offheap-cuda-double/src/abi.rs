//! Types and constants of the driver API's C interface.

#![allow(
    missing_docs,
    reason = "NVIDIA's names, documented in the CUDA driver API reference"
)]

use core::ffi::{c_char, c_int, c_uchar, c_uint, c_void};

pub type CUdevice = c_int;
pub type CUdeviceptr = u64;
/// Handles are numbers that nothing dereferences: a wrong one is an error, never a crash.
pub type CUcontext = *mut c_void;
pub type CUstream = *mut c_void;
pub type CUevent = *mut c_void;
pub type CUmemoryPool = *mut c_void;
pub type CUhostFn = Option<unsafe extern "C" fn(*mut c_void)>;
pub type CUstreamCallback =
    Option<unsafe extern "C" fn(CUstream, crate::result::CUresult, *mut c_void)>;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUuuid {
    pub bytes: [c_char; 16],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUipcMemHandle {
    pub reserved: [c_char; 64],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUipcEventHandle {
    pub reserved: [c_char; 64],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUmemLocation {
    pub type_: c_uint,
    pub id: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUmemAccessDesc {
    pub location: CUmemLocation,
    pub flags: c_uint,
}

/// As from CUDA 12.6 on; earlier headers call `maxSize` and `usage` reserved, and zero them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUmemPoolProps {
    pub allocType: c_uint,
    pub handleTypes: c_uint,
    pub location: CUmemLocation,
    pub win32SecurityAttributes: *mut c_void,
    pub maxSize: usize,
    pub usage: u16,
    pub reserved: [c_uchar; 54],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUmemPoolPtrExportData {
    pub reserved: [c_uchar; 64],
}

pub const CU_STREAM_NON_BLOCKING: c_uint = 1;
pub const CU_STREAM_LEGACY: u64 = 1;
pub const CU_STREAM_PER_THREAD: u64 = 2;

pub const CU_EVENT_BLOCKING_SYNC: c_uint = 1;
pub const CU_EVENT_DISABLE_TIMING: c_uint = 2;
pub const CU_EVENT_INTERPROCESS: c_uint = 4;

pub const CU_MEMHOSTALLOC_PORTABLE: c_uint = 1;
pub const CU_MEMHOSTALLOC_DEVICEMAP: c_uint = 2;
pub const CU_MEMHOSTALLOC_WRITECOMBINED: c_uint = 4;
pub const CU_MEMHOSTREGISTER_READ_ONLY: c_uint = 8;

pub const CU_MEM_ATTACH_GLOBAL: c_uint = 1;
pub const CU_MEM_ATTACH_HOST: c_uint = 2;
pub const CU_MEM_ATTACH_SINGLE: c_uint = 4;

pub const CU_MEMORYTYPE_HOST: c_uint = 1;
pub const CU_MEMORYTYPE_DEVICE: c_uint = 2;
pub const CU_MEMORYTYPE_UNIFIED: c_uint = 4;

pub const CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS: c_uint = 1;
pub const CU_MEM_LOCATION_TYPE_DEVICE: c_uint = 1;
pub const CU_MEM_ALLOCATION_TYPE_PINNED: c_uint = 1;
pub const CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR: c_uint = 1;
pub const CU_MEM_ACCESS_FLAGS_PROT_NONE: c_uint = 0;
pub const CU_MEM_ACCESS_FLAGS_PROT_READ: c_uint = 1;
pub const CU_MEM_ACCESS_FLAGS_PROT_READWRITE: c_uint = 3;
pub const CU_DEVICE_CPU: CUdevice = -1;

pub const CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES: c_uint = 1;
pub const CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC: c_uint = 2;
pub const CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES: c_uint = 3;
pub const CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: c_uint = 4;
pub const CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: c_uint = 5;
pub const CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: c_uint = 6;
pub const CU_MEMPOOL_ATTR_USED_MEM_CURRENT: c_uint = 7;
pub const CU_MEMPOOL_ATTR_USED_MEM_HIGH: c_uint = 8;

/// A number that tells two IPC handles apart in the log.
pub(crate) fn handle_tag(bytes: &[c_char; 64]) -> u64 {
    // FNV-1a.
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte as u8)).wrapping_mul(0x100_0000_01B3)
    })
}

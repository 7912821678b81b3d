//! The C interface of the driver API, as far as it is used here (`cuda.h` of CUDA 12).

use std::ffi::{c_char, c_int, c_uint, c_void};

pub(crate) type Result = c_uint;
pub(crate) type Device = c_int;
pub(crate) type DevicePtr = u64;
pub(crate) type Context = *mut c_void;
pub(crate) type Stream = *mut c_void;
pub(crate) type Event = *mut c_void;
pub(crate) type MemPool = *mut c_void;
pub(crate) type StreamCallback = unsafe extern "C" fn(Stream, Result, *mut c_void);

pub(crate) const SUCCESS: Result = 0;
pub(crate) const INVALID_VALUE: Result = 1;
pub(crate) const OUT_OF_MEMORY: Result = 2;
pub(crate) const DEINITIALIZED: Result = 4;
pub(crate) const STUB_LIBRARY: Result = 34;
pub(crate) const NO_DEVICE: Result = 100;
pub(crate) const INVALID_DEVICE: Result = 101;
pub(crate) const INVALID_HANDLE: Result = 400;
pub(crate) const PEER_ACCESS_ALREADY_ENABLED: Result = 704;
pub(crate) const NOT_READY: Result = 600;
pub(crate) const HOST_MEMORY_ALREADY_REGISTERED: Result = 712;
pub(crate) const NOT_SUPPORTED: Result = 801;

pub(crate) const STREAM_DEFAULT: c_uint = 0;
pub(crate) const STREAM_NON_BLOCKING: c_uint = 1;
/// `CU_STREAM_PER_THREAD`.
pub(crate) const STREAM_PER_THREAD: usize = 2;
pub(crate) const EVENT_DISABLE_TIMING: c_uint = 2;
pub(crate) const EVENT_INTERPROCESS: c_uint = 4;
pub(crate) const MEMHOSTALLOC_PORTABLE: c_uint = 1;
pub(crate) const MEMHOSTALLOC_DEVICEMAP: c_uint = 2;
pub(crate) const MEM_ATTACH_GLOBAL: c_uint = 1;
pub(crate) const IPC_MEM_LAZY_ENABLE_PEER_ACCESS: c_uint = 1;

pub(crate) mod attribute {
    use std::ffi::c_uint;
    pub(crate) const MULTIPROCESSOR_COUNT: c_uint = 16;
    pub(crate) const INTEGRATED: c_uint = 18;
    pub(crate) const COMPUTE_CAPABILITY_MAJOR: c_uint = 75;
    pub(crate) const COMPUTE_CAPABILITY_MINOR: c_uint = 76;
    pub(crate) const MANAGED_MEMORY: c_uint = 83;
    pub(crate) const CONCURRENT_MANAGED_ACCESS: c_uint = 89;
    pub(crate) const MEMORY_POOLS_SUPPORTED: c_uint = 115;
    /// Bits of `CUmemAllocationHandleType`.
    #[cfg(target_os = "linux")]
    pub(crate) const MEMPOOL_SUPPORTED_HANDLE_TYPES: c_uint = 119;
}

pub(crate) mod pointer_attribute {
    use std::ffi::c_uint;
    pub(crate) const DEVICE_ORDINAL: c_uint = 9;
    pub(crate) const RANGE_START_ADDR: c_uint = 11;
    pub(crate) const RANGE_SIZE: c_uint = 12;
}

pub(crate) mod pool_attribute {
    use std::ffi::c_uint;
    pub(crate) const RELEASE_THRESHOLD: c_uint = 4;
    pub(crate) const RESERVED_MEM_CURRENT: c_uint = 5;
    pub(crate) const RESERVED_MEM_HIGH: c_uint = 6;
    pub(crate) const USED_MEM_CURRENT: c_uint = 7;
    pub(crate) const USED_MEM_HIGH: c_uint = 8;
}

pub(crate) const MEM_ALLOCATION_TYPE_PINNED: c_uint = 1;
pub(crate) const MEM_LOCATION_TYPE_DEVICE: c_uint = 1;
#[cfg(target_os = "linux")]
pub(crate) const MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR: c_uint = 1;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uuid {
    pub(crate) bytes: [c_char; 16],
}

/// `CUipcMemHandle` and `CUipcEventHandle`: 64 bytes that the driver reads.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpcHandle {
    pub(crate) bytes: [u8; 64],
}

/// `CUmemPoolPtrExportData`: 64 bytes that the driver reads.
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "there are no descriptors of pools")
)]
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemPoolPtrExportData {
    pub(crate) bytes: [u8; 64],
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemLocation {
    pub(crate) kind: c_uint,
    pub(crate) id: c_int,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemPoolProps {
    pub(crate) alloc_type: c_uint,
    pub(crate) handle_types: c_uint,
    pub(crate) location: MemLocation,
    pub(crate) win32_security_attributes: *mut c_void,
    /// Of CUDA 12.6; reserved, and zero, before.
    pub(crate) max_size: usize,
    pub(crate) reserved: [u8; 56],
}

const _: () = assert!(size_of::<MemPoolProps>() == 88);

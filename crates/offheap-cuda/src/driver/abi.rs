//! Types and numbers of the driver's C interface, as far as this crate uses them.

#![allow(
    missing_docs,
    non_snake_case,
    reason = "NVIDIA's names, documented in the CUDA driver API reference"
)]

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_ushort, c_void};

pub type CUdevice = c_int;
pub type CUdeviceptr = u64;
pub type CUcontext = *mut c_void;
pub type CUstream = *mut c_void;
pub type CUevent = *mut c_void;
pub type CUmemoryPool = *mut c_void;
pub type CUhostFn = unsafe extern "C" fn(*mut c_void);

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

/// As from CUDA 12.6 on. Before 12.2 `max_size` is reserved, too; zeros are right for all.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUmemPoolProps {
    pub alloc_type: c_uint,
    pub handle_types: c_uint,
    pub location: CUmemLocation,
    pub win32_security_attributes: *mut c_void,
    pub max_size: usize,
    pub usage: c_ushort,
    pub reserved: [c_uchar; 54],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUmemPoolPtrExportData {
    pub reserved: [c_uchar; 64],
}

/// Result codes that this crate tells apart.
#[derive(Debug)]
pub struct Code;

impl Code {
    pub const SUCCESS: u32 = 0;
    pub const INVALID_VALUE: u32 = 1;
    pub const OUT_OF_MEMORY: u32 = 2;
    pub const NOT_INITIALIZED: u32 = 3;
    pub const DEINITIALIZED: u32 = 4;
    pub const STUB_LIBRARY: u32 = 34;
    pub const DEVICE_UNAVAILABLE: u32 = 46;
    pub const NO_DEVICE: u32 = 100;
    pub const INVALID_DEVICE: u32 = 101;
    pub const NOT_READY: u32 = 600;
    pub const PEER_ACCESS_ALREADY_ENABLED: u32 = 704;
    pub const PEER_ACCESS_NOT_ENABLED: u32 = 705;
    pub const HOST_MEMORY_ALREADY_REGISTERED: u32 = 712;
    pub const NOT_SUPPORTED: u32 = 801;
    pub const SYSTEM_DRIVER_MISMATCH: u32 = 803;
}

/// Attributes of devices (`CUdevice_attribute`).
#[derive(Debug)]
pub struct Attribute;

impl Attribute {
    pub const MULTIPROCESSOR_COUNT: u32 = 16;
    pub const INTEGRATED: u32 = 18;
    pub const CAN_MAP_HOST_MEMORY: u32 = 19;
    pub const MEMORY_CLOCK_RATE: u32 = 36;
    pub const GLOBAL_MEMORY_BUS_WIDTH: u32 = 37;
    pub const L2_CACHE_SIZE: u32 = 38;
    pub const ASYNC_ENGINE_COUNT: u32 = 40;
    pub const UNIFIED_ADDRESSING: u32 = 41;
    pub const COMPUTE_CAPABILITY_MAJOR: u32 = 75;
    pub const COMPUTE_CAPABILITY_MINOR: u32 = 76;
    pub const MANAGED_MEMORY: u32 = 83;
    pub const PAGEABLE_MEMORY_ACCESS: u32 = 88;
    pub const CONCURRENT_MANAGED_ACCESS: u32 = 89;
    pub const HOST_REGISTER_SUPPORTED: u32 = 99;
    pub const MEMORY_POOLS_SUPPORTED: u32 = 115;
    pub const MEMPOOL_SUPPORTED_HANDLE_TYPES: u32 = 119;
    pub const IPC_EVENT_SUPPORTED: u32 = 125;
}

/// Attributes of memory pools (`CUmemPool_attribute`).
#[derive(Debug)]
pub struct PoolAttribute;

impl PoolAttribute {
    pub const REUSE_FOLLOW_EVENT_DEPENDENCIES: u32 = 1;
    pub const REUSE_ALLOW_OPPORTUNISTIC: u32 = 2;
    pub const REUSE_ALLOW_INTERNAL_DEPENDENCIES: u32 = 3;
    pub const RELEASE_THRESHOLD: u32 = 4;
    pub const RESERVED_MEM_CURRENT: u32 = 5;
    pub const RESERVED_MEM_HIGH: u32 = 6;
    pub const USED_MEM_CURRENT: u32 = 7;
    pub const USED_MEM_HIGH: u32 = 8;
}

/// Attributes of pointers (`CUpointer_attribute`).
#[derive(Debug)]
pub struct PointerAttribute;

impl PointerAttribute {
    pub const MEMORY_TYPE: u32 = 2;
    pub const DEVICE_POINTER: u32 = 3;
    pub const HOST_POINTER: u32 = 4;
    pub const IS_MANAGED: u32 = 8;
    pub const DEVICE_ORDINAL: u32 = 9;
}

/// Flags and kinds.
#[derive(Debug)]
pub struct Flag;

impl Flag {
    pub const STREAM_DEFAULT: u32 = 0;
    pub const STREAM_NON_BLOCKING: u32 = 1;
    /// The handle of the calling thread's default stream.
    pub const STREAM_PER_THREAD: usize = 2;
    pub const EVENT_BLOCKING_SYNC: u32 = 1;
    pub const EVENT_DISABLE_TIMING: u32 = 2;
    pub const EVENT_INTERPROCESS: u32 = 4;
    pub const HOST_PORTABLE: u32 = 1;
    pub const HOST_DEVICEMAP: u32 = 2;
    pub const MEM_ATTACH_GLOBAL: u32 = 1;
    pub const MEM_LOCATION_DEVICE: u32 = 1;
    pub const MEM_ALLOCATION_PINNED: u32 = 1;
    pub const MEM_HANDLE_POSIX_FILE_DESCRIPTOR: u32 = 1;
    pub const MEM_ACCESS_READWRITE: u32 = 3;
    pub const MEMORYTYPE_HOST: u32 = 1;
    pub const IPC_MEM_LAZY_ENABLE_PEER_ACCESS: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::driver::sys;

    #[test]
    fn types_are_laid_out_as_the_headers_have_them() {
        assert_eq!(size_of::<CUuuid>(), size_of::<sys::CUuuid>());
        assert_eq!(
            size_of::<CUipcMemHandle>(),
            size_of::<sys::CUipcMemHandle>()
        );
        assert_eq!(
            size_of::<CUipcEventHandle>(),
            size_of::<sys::CUipcEventHandle>()
        );
        assert_eq!(
            size_of::<CUmemPoolProps>(),
            size_of::<sys::CUmemPoolProps>()
        );
        assert_eq!(
            std::mem::offset_of!(CUmemPoolProps, max_size),
            std::mem::offset_of!(sys::CUmemPoolProps, maxSize)
        );
        assert_eq!(
            size_of::<CUmemAccessDesc>(),
            size_of::<sys::CUmemAccessDesc>()
        );
        assert_eq!(
            size_of::<CUmemPoolPtrExportData>(),
            size_of::<sys::CUmemPoolPtrExportData>()
        );
    }

    #[test]
    fn numbers_are_those_of_the_headers() {
        use sys::CUdevice_attribute_enum as A;
        let attributes = [
            (
                Attribute::MULTIPROCESSOR_COUNT,
                A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            ),
            (Attribute::INTEGRATED, A::CU_DEVICE_ATTRIBUTE_INTEGRATED),
            (
                Attribute::CAN_MAP_HOST_MEMORY,
                A::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY,
            ),
            (
                Attribute::MEMORY_CLOCK_RATE,
                A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE,
            ),
            (
                Attribute::GLOBAL_MEMORY_BUS_WIDTH,
                A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH,
            ),
            (
                Attribute::L2_CACHE_SIZE,
                A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE,
            ),
            (
                Attribute::ASYNC_ENGINE_COUNT,
                A::CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT,
            ),
            (
                Attribute::UNIFIED_ADDRESSING,
                A::CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING,
            ),
            (
                Attribute::COMPUTE_CAPABILITY_MAJOR,
                A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            ),
            (
                Attribute::COMPUTE_CAPABILITY_MINOR,
                A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            ),
            (
                Attribute::MANAGED_MEMORY,
                A::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY,
            ),
            (
                Attribute::PAGEABLE_MEMORY_ACCESS,
                A::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
            ),
            (
                Attribute::CONCURRENT_MANAGED_ACCESS,
                A::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
            ),
            (
                Attribute::HOST_REGISTER_SUPPORTED,
                A::CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED,
            ),
            (
                Attribute::MEMORY_POOLS_SUPPORTED,
                A::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED,
            ),
            (
                Attribute::MEMPOOL_SUPPORTED_HANDLE_TYPES,
                A::CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES,
            ),
            (
                Attribute::IPC_EVENT_SUPPORTED,
                A::CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED,
            ),
        ];
        for (ours, theirs) in attributes {
            assert_eq!(ours, theirs as u32, "{theirs:?}");
        }
        use sys::CUpointer_attribute_enum as P;
        assert_eq!(
            PointerAttribute::MEMORY_TYPE,
            P::CU_POINTER_ATTRIBUTE_MEMORY_TYPE as u32
        );
        assert_eq!(
            PointerAttribute::DEVICE_POINTER,
            P::CU_POINTER_ATTRIBUTE_DEVICE_POINTER as u32
        );
        assert_eq!(
            PointerAttribute::HOST_POINTER,
            P::CU_POINTER_ATTRIBUTE_HOST_POINTER as u32
        );
        assert_eq!(
            PointerAttribute::IS_MANAGED,
            P::CU_POINTER_ATTRIBUTE_IS_MANAGED as u32
        );
        assert_eq!(
            PointerAttribute::DEVICE_ORDINAL,
            P::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL as u32
        );
        use sys::cudaError_enum as E;
        assert_eq!(Code::STUB_LIBRARY, E::CUDA_ERROR_STUB_LIBRARY as u32);
        assert_eq!(
            Code::DEVICE_UNAVAILABLE,
            E::CUDA_ERROR_DEVICE_UNAVAILABLE as u32
        );
        assert_eq!(Code::NOT_READY, E::CUDA_ERROR_NOT_READY as u32);
        assert_eq!(
            Code::PEER_ACCESS_ALREADY_ENABLED,
            E::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED as u32
        );
        assert_eq!(Code::NOT_SUPPORTED, E::CUDA_ERROR_NOT_SUPPORTED as u32);
    }
}

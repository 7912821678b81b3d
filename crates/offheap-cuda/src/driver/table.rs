//! The functions of the driver that are called, and where they are.

use super::abi::{
    Context, Device, DevicePtr, Event, IpcHandle, MemPool, MemPoolProps, MemPoolPtrExportData,
    Result, Stream, StreamCallback, Uuid,
};
use super::library::Library;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// A name with a zero byte at its end, and nowhere else.
fn c_name(name: &str) -> &CStr {
    CStr::from_bytes_with_nul(name.as_bytes()).unwrap_or_default()
}

macro_rules! table {
    ($($(#[$attribute:meta])* $name:ident = $symbol:literal ($($argument:ty),*);)*) => {
        /// Every function, by NVIDIA's name without `cu`. All are of CUDA 12.2 or older.
        pub(crate) struct Table {
            $($(#[$attribute])* pub(crate) $name: unsafe extern "C" fn($($argument),*) -> Result,)*
        }

        impl Table {
            /// Looks all symbols up.
            ///
            /// # Errors
            /// The first that the library lacks.
            pub(super) fn load(library: &Library) -> std::result::Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        let symbol = library.lookup(c_name(concat!($symbol, "\0"))).ok_or($symbol)?;
                        // SAFETY: the function of this name in the driver has this signature (cuda.h).
                        unsafe {
                            std::mem::transmute::<*const c_void, unsafe extern "C" fn($($argument),*) -> Result>(symbol)
                        }
                    },)*
                })
            }
        }
    };
}

table! {
    init = "cuInit" (c_uint);
    driver_get_version = "cuDriverGetVersion" (*mut c_int);
    get_error_name = "cuGetErrorName" (Result, *mut *const c_char);
    device_get_count = "cuDeviceGetCount" (*mut c_int);
    device_get = "cuDeviceGet" (*mut Device, c_int);
    device_get_name = "cuDeviceGetName" (*mut c_char, c_int, Device);
    device_get_uuid = "cuDeviceGetUuid" (*mut Uuid, Device);
    device_total_mem = "cuDeviceTotalMem_v2" (*mut usize, Device);
    device_get_attribute = "cuDeviceGetAttribute" (*mut c_int, c_uint, Device);
    device_get_pci_bus_id = "cuDeviceGetPCIBusId" (*mut c_char, c_int, Device);
    device_can_access_peer = "cuDeviceCanAccessPeer" (*mut c_int, Device, Device);
    device_primary_ctx_retain = "cuDevicePrimaryCtxRetain" (*mut Context, Device);
    ctx_get_current = "cuCtxGetCurrent" (*mut Context);
    ctx_set_current = "cuCtxSetCurrent" (Context);
    ctx_synchronize = "cuCtxSynchronize" ();
    ctx_enable_peer_access = "cuCtxEnablePeerAccess" (Context, c_uint);
    mem_get_info = "cuMemGetInfo_v2" (*mut usize, *mut usize);
    mem_alloc = "cuMemAlloc_v2" (*mut DevicePtr, usize);
    mem_free = "cuMemFree_v2" (DevicePtr);
    #[expect(dead_code, reason = "pools are our own; a driver without it has none")]
    mem_alloc_async = "cuMemAllocAsync" (*mut DevicePtr, usize, Stream);
    mem_alloc_from_pool_async = "cuMemAllocFromPoolAsync" (*mut DevicePtr, usize, MemPool, Stream);
    mem_free_async = "cuMemFreeAsync" (DevicePtr, Stream);
    mem_alloc_managed = "cuMemAllocManaged" (*mut DevicePtr, usize, c_uint);
    mem_pool_create = "cuMemPoolCreate" (*mut MemPool, *const MemPoolProps);
    mem_pool_destroy = "cuMemPoolDestroy" (MemPool);
    mem_pool_trim_to = "cuMemPoolTrimTo" (MemPool, usize);
    mem_pool_set_attribute = "cuMemPoolSetAttribute" (MemPool, c_uint, *mut c_void);
    mem_pool_get_attribute = "cuMemPoolGetAttribute" (MemPool, c_uint, *mut c_void);
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are no descriptors of pools"))]
    mem_pool_export_to_shareable_handle = "cuMemPoolExportToShareableHandle" (*mut c_void, MemPool, c_uint, u64);
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are no descriptors of pools"))]
    mem_pool_import_from_shareable_handle = "cuMemPoolImportFromShareableHandle" (*mut MemPool, *mut c_void, c_uint, u64);
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are no descriptors of pools"))]
    mem_pool_export_pointer = "cuMemPoolExportPointer" (*mut MemPoolPtrExportData, DevicePtr);
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are no descriptors of pools"))]
    mem_pool_import_pointer = "cuMemPoolImportPointer" (*mut DevicePtr, MemPool, *mut MemPoolPtrExportData);
    mem_host_alloc = "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint);
    mem_free_host = "cuMemFreeHost" (*mut c_void);
    mem_host_register = "cuMemHostRegister_v2" (*mut c_void, usize, c_uint);
    mem_host_unregister = "cuMemHostUnregister" (*mut c_void);
    mem_host_get_device_pointer = "cuMemHostGetDevicePointer_v2" (*mut DevicePtr, *mut c_void, c_uint);
    mem_get_address_range = "cuMemGetAddressRange_v2" (*mut DevicePtr, *mut usize, DevicePtr);
    pointer_get_attribute = "cuPointerGetAttribute" (*mut c_void, c_uint, DevicePtr);
    memcpy_async = "cuMemcpyAsync" (DevicePtr, DevicePtr, usize, Stream);
    memcpy_htod_async = "cuMemcpyHtoDAsync_v2" (DevicePtr, *const c_void, usize, Stream);
    memcpy_dtoh_async = "cuMemcpyDtoHAsync_v2" (*mut c_void, DevicePtr, usize, Stream);
    memcpy_dtod_async = "cuMemcpyDtoDAsync_v2" (DevicePtr, DevicePtr, usize, Stream);
    memcpy_peer_async = "cuMemcpyPeerAsync" (DevicePtr, Context, DevicePtr, Context, usize, Stream);
    memset_d8_async = "cuMemsetD8Async" (DevicePtr, u8, usize, Stream);
    stream_create = "cuStreamCreateWithPriority" (*mut Stream, c_uint, c_int);
    stream_get_flags = "cuStreamGetFlags" (Stream, *mut c_uint);
    stream_get_priority = "cuStreamGetPriority" (Stream, *mut c_int);
    stream_destroy = "cuStreamDestroy_v2" (Stream);
    stream_synchronize = "cuStreamSynchronize" (Stream);
    stream_query = "cuStreamQuery" (Stream);
    stream_wait_event = "cuStreamWaitEvent" (Stream, Event, c_uint);
    stream_add_callback = "cuStreamAddCallback" (Stream, StreamCallback, *mut c_void, c_uint);
    event_create = "cuEventCreate" (*mut Event, c_uint);
    event_destroy = "cuEventDestroy_v2" (Event);
    event_record = "cuEventRecord" (Event, Stream);
    event_query = "cuEventQuery" (Event);
    event_synchronize = "cuEventSynchronize" (Event);
    event_elapsed_time = "cuEventElapsedTime" (*mut f32, Event, Event);
    ipc_get_mem_handle = "cuIpcGetMemHandle" (*mut IpcHandle, DevicePtr);
    ipc_open_mem_handle = "cuIpcOpenMemHandle_v2" (*mut DevicePtr, IpcHandle, c_uint);
    ipc_close_mem_handle = "cuIpcCloseMemHandle" (DevicePtr);
    ipc_get_event_handle = "cuIpcGetEventHandle" (*mut IpcHandle, Event);
    ipc_open_event_handle = "cuIpcOpenEventHandle" (*mut Event, IpcHandle);
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

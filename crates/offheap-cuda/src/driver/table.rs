//! The functions of the driver that this crate calls.

use super::abi::{
    CUcontext, CUdevice, CUdeviceptr, CUevent, CUhostFn, CUipcEventHandle, CUipcMemHandle,
    CUmemAccessDesc, CUmemPoolProps, CUmemPoolPtrExportData, CUmemoryPool, CUstream, CUuuid, Code,
};
use super::error::CudaError;
use super::exiting::process_is_exiting;
use super::library::Library;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;

/// A symbol's name as text.
const fn text(symbol: &'static CStr) -> &'static str {
    match symbol.to_str() {
        Ok(text) => text,
        Err(_) => "?",
    }
}

macro_rules! functions {
    (
        required { $( $name:ident = $symbol:literal ( $($argument:ident : $type:ty),* $(,)? ); )* }
        optional { $( $may:ident = $may_symbol:literal ( $($may_argument:ident : $may_type:ty),* $(,)? ); )* }
    ) => {
        /// The driver's functions, by the names of the CUDA driver API. Each returns the driver's code as a
        /// [`CudaError`], and calls nothing once [the process exits](super::process_is_exiting).
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        pub struct Driver {
            start: Start,
            $( $name: unsafe extern "C" fn($($type),*) -> u32, )*
            $( $may: Option<unsafe extern "C" fn($($may_type),*) -> u32>, )*
        }

        #[allow(
            non_snake_case,
            clippy::missing_errors_doc,
            clippy::too_many_arguments,
            reason = "NVIDIA's names; every function fails as the CUDA driver API reference says"
        )]
        impl Driver {
            /// All functions, or the name of one that is required and missing.
            pub(super) fn load(library: &Library) -> Result<Self, &'static str> {
                Ok(Self {
                    start: Start::load(library)?,
                    $( $name: {
                        let address = library.lookup($symbol).ok_or(const { text($symbol) })?;
                        // SAFETY: the driver's function of this name has these arguments, and returns an enum that is
                        // 32 bits wide.
                        unsafe {
                            std::mem::transmute::<
                                *const c_void,
                                unsafe extern "C" fn($($type),*) -> u32,
                            >(address)
                        }
                    }, )*
                    $( $may: library.lookup($may_symbol).map(|address| {
                        // SAFETY: as above.
                        unsafe {
                            std::mem::transmute::<
                                *const c_void,
                                unsafe extern "C" fn($($may_type),*) -> u32,
                            >(address)
                        }
                    }), )*
                })
            }

            $(
                /// The driver's function of this name.
                ///
                /// # Safety
                /// As the CUDA driver API reference says: pointers are valid, handles live, ranges inside of their
                /// allocations, and the context is bound where one is needed.
                #[inline]
                pub unsafe fn $name(&self, $($argument: $type),*) -> Result<(), CudaError> {
                    if process_is_exiting() {
                        return Err(CudaError::exiting(const { text($symbol) }));
                    }
                    // SAFETY: the caller's promise.
                    let code = unsafe { (self.$name)($($argument),*) };
                    self.start.check(code, const { text($symbol) })
                }
            )*
            $(
                /// The driver's function of this name, where the driver has it; 801 (not supported) elsewhere.
                ///
                /// # Safety
                /// As the CUDA driver API reference says: pointers are valid, handles live, ranges inside of their
                /// allocations, and the context is bound where one is needed.
                pub unsafe fn $may(&self, $($may_argument: $may_type),*) -> Result<(), CudaError> {
                    if process_is_exiting() {
                        return Err(CudaError::exiting(const { text($may_symbol) }));
                    }
                    let code = match self.$may {
                        // SAFETY: the caller's promise.
                        Some(function) => unsafe { function($($may_argument),*) },
                        None => Code::NOT_SUPPORTED,
                    };
                    self.start.check(code, const { text($may_symbol) })
                }
            )*
        }
    };
}

functions! {
    required {
        cuInit = c"cuInit"(flags: c_uint);
        cuDeviceGet = c"cuDeviceGet"(device: *mut CUdevice, ordinal: c_int);
        cuDeviceGetCount = c"cuDeviceGetCount"(count: *mut c_int);
        cuDeviceGetName = c"cuDeviceGetName"(name: *mut c_char, length: c_int, device: CUdevice);
        cuDeviceGetUuid = c"cuDeviceGetUuid_v2"(uuid: *mut CUuuid, device: CUdevice);
        cuDeviceTotalMem = c"cuDeviceTotalMem_v2"(bytes: *mut usize, device: CUdevice);
        cuDeviceGetAttribute = c"cuDeviceGetAttribute"(value: *mut c_int, attribute: c_uint, device: CUdevice);
        cuDeviceGetPCIBusId = c"cuDeviceGetPCIBusId"(id: *mut c_char, length: c_int, device: CUdevice);
        cuDeviceCanAccessPeer = c"cuDeviceCanAccessPeer"(can: *mut c_int, device: CUdevice, peer: CUdevice);
        cuDevicePrimaryCtxRetain = c"cuDevicePrimaryCtxRetain"(context: *mut CUcontext, device: CUdevice);
        cuCtxGetCurrent = c"cuCtxGetCurrent"(context: *mut CUcontext);
        cuCtxSetCurrent = c"cuCtxSetCurrent"(context: CUcontext);
        cuCtxSynchronize = c"cuCtxSynchronize"();
        cuCtxGetStreamPriorityRange = c"cuCtxGetStreamPriorityRange"(least: *mut c_int, greatest: *mut c_int);
        cuCtxEnablePeerAccess = c"cuCtxEnablePeerAccess"(peer: CUcontext, flags: c_uint);
        cuCtxDisablePeerAccess = c"cuCtxDisablePeerAccess"(peer: CUcontext);
        cuMemGetInfo = c"cuMemGetInfo_v2"(free: *mut usize, total: *mut usize);

        cuStreamCreateWithPriority = c"cuStreamCreateWithPriority"(stream: *mut CUstream, flags: c_uint, priority: c_int);
        cuStreamDestroy = c"cuStreamDestroy_v2"(stream: CUstream);
        cuStreamSynchronize = c"cuStreamSynchronize"(stream: CUstream);
        cuStreamQuery = c"cuStreamQuery"(stream: CUstream);
        cuStreamWaitEvent = c"cuStreamWaitEvent"(stream: CUstream, event: CUevent, flags: c_uint);
        cuLaunchHostFunc = c"cuLaunchHostFunc"(stream: CUstream, function: CUhostFn, data: *mut c_void);
        cuEventCreate = c"cuEventCreate"(event: *mut CUevent, flags: c_uint);
        cuEventDestroy = c"cuEventDestroy_v2"(event: CUevent);
        cuEventRecord = c"cuEventRecord"(event: CUevent, stream: CUstream);
        cuEventQuery = c"cuEventQuery"(event: CUevent);
        cuEventSynchronize = c"cuEventSynchronize"(event: CUevent);
        cuEventElapsedTime = c"cuEventElapsedTime"(milliseconds: *mut f32, start: CUevent, end: CUevent);

        cuMemAlloc = c"cuMemAlloc_v2"(address: *mut CUdeviceptr, size: usize);
        cuMemFree = c"cuMemFree_v2"(address: CUdeviceptr);
        cuMemAllocAsync = c"cuMemAllocAsync"(address: *mut CUdeviceptr, size: usize, stream: CUstream);
        cuMemFreeAsync = c"cuMemFreeAsync"(address: CUdeviceptr, stream: CUstream);
        cuMemAllocFromPoolAsync = c"cuMemAllocFromPoolAsync"(address: *mut CUdeviceptr, size: usize, pool: CUmemoryPool, stream: CUstream);
        cuMemPoolCreate = c"cuMemPoolCreate"(pool: *mut CUmemoryPool, properties: *const CUmemPoolProps);
        cuMemPoolDestroy = c"cuMemPoolDestroy"(pool: CUmemoryPool);
        cuMemPoolTrimTo = c"cuMemPoolTrimTo"(pool: CUmemoryPool, keep: usize);
        cuMemPoolSetAttribute = c"cuMemPoolSetAttribute"(pool: CUmemoryPool, attribute: c_uint, value: *mut c_void);
        cuMemPoolGetAttribute = c"cuMemPoolGetAttribute"(pool: CUmemoryPool, attribute: c_uint, value: *mut c_void);
        cuMemPoolSetAccess = c"cuMemPoolSetAccess"(pool: CUmemoryPool, access: *const CUmemAccessDesc, count: usize);
        cuMemHostAlloc = c"cuMemHostAlloc"(address: *mut *mut c_void, size: usize, flags: c_uint);
        cuMemFreeHost = c"cuMemFreeHost"(address: *mut c_void);
        cuMemHostRegister = c"cuMemHostRegister_v2"(address: *mut c_void, size: usize, flags: c_uint);
        cuMemHostUnregister = c"cuMemHostUnregister"(address: *mut c_void);
        cuMemHostGetDevicePointer = c"cuMemHostGetDevicePointer_v2"(device: *mut CUdeviceptr, host: *mut c_void, flags: c_uint);
        cuMemAllocManaged = c"cuMemAllocManaged"(address: *mut CUdeviceptr, size: usize, flags: c_uint);

        cuMemcpyHtoDAsync = c"cuMemcpyHtoDAsync_v2"(target: CUdeviceptr, source: *const c_void, size: usize, stream: CUstream);
        cuMemcpyDtoHAsync = c"cuMemcpyDtoHAsync_v2"(target: *mut c_void, source: CUdeviceptr, size: usize, stream: CUstream);
        cuMemcpyDtoDAsync = c"cuMemcpyDtoDAsync_v2"(target: CUdeviceptr, source: CUdeviceptr, size: usize, stream: CUstream);
        cuMemcpyAsync = c"cuMemcpyAsync"(target: CUdeviceptr, source: CUdeviceptr, size: usize, stream: CUstream);
        cuMemcpyPeerAsync = c"cuMemcpyPeerAsync"(target: CUdeviceptr, target_context: CUcontext, source: CUdeviceptr, source_context: CUcontext, size: usize, stream: CUstream);
        cuMemsetD8Async = c"cuMemsetD8Async"(target: CUdeviceptr, value: u8, size: usize, stream: CUstream);
        cuPointerGetAttribute = c"cuPointerGetAttribute"(data: *mut c_void, attribute: c_uint, address: CUdeviceptr);
        cuMemGetAddressRange = c"cuMemGetAddressRange_v2"(base: *mut CUdeviceptr, size: *mut usize, address: CUdeviceptr);
    }
    optional {
        cuIpcGetMemHandle = c"cuIpcGetMemHandle"(handle: *mut CUipcMemHandle, address: CUdeviceptr);
        cuIpcOpenMemHandle = c"cuIpcOpenMemHandle_v2"(address: *mut CUdeviceptr, handle: CUipcMemHandle, flags: c_uint);
        cuIpcCloseMemHandle = c"cuIpcCloseMemHandle"(address: CUdeviceptr);
        cuIpcGetEventHandle = c"cuIpcGetEventHandle"(handle: *mut CUipcEventHandle, event: CUevent);
        cuIpcOpenEventHandle = c"cuIpcOpenEventHandle"(event: *mut CUevent, handle: CUipcEventHandle);
        cuMemPoolExportToShareableHandle = c"cuMemPoolExportToShareableHandle"(handle: *mut c_void, pool: CUmemoryPool, handle_type: c_uint, flags: u64);
        cuMemPoolImportFromShareableHandle = c"cuMemPoolImportFromShareableHandle"(pool: *mut CUmemoryPool, handle: *mut c_void, handle_type: c_uint, flags: u64);
        cuMemPoolExportPointer = c"cuMemPoolExportPointer"(data: *mut CUmemPoolPtrExportData, address: CUdeviceptr);
        cuMemPoolImportPointer = c"cuMemPoolImportPointer"(address: *mut CUdeviceptr, pool: CUmemoryPool, data: *mut CUmemPoolPtrExportData);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// What is needed to judge a driver before it is started, and to name its errors.
pub(super) struct Start {
    version: unsafe extern "C" fn(*mut c_int) -> u32,
    error_name: unsafe extern "C" fn(u32, *mut *const c_char) -> u32,
}

impl Start {
    pub(super) fn load(library: &Library) -> Result<Self, &'static str> {
        let version = library
            .lookup(c"cuDriverGetVersion")
            .ok_or("cuDriverGetVersion")?;
        let error_name = library.lookup(c"cuGetErrorName").ok_or("cuGetErrorName")?;
        // SAFETY: the driver's functions of these names have these arguments, and return an enum that is 32 bits wide.
        unsafe {
            Ok(Self {
                version: std::mem::transmute::<
                    *const c_void,
                    unsafe extern "C" fn(*mut c_int) -> u32,
                >(version),
                error_name: std::mem::transmute::<
                    *const c_void,
                    unsafe extern "C" fn(u32, *mut *const c_char) -> u32,
                >(error_name),
            })
        }
    }

    /// The newest CUDA that the driver knows. Works before it is started.
    pub(super) fn version(&self) -> Result<i32, CudaError> {
        let mut version = 0;
        // SAFETY: a place for the result.
        let code = unsafe { (self.version)(&raw mut version) };
        self.check(code, "cuDriverGetVersion").map(|()| version)
    }

    #[inline]
    fn check(&self, code: u32, symbol: &'static str) -> Result<(), CudaError> {
        if code == Code::SUCCESS {
            Ok(())
        } else {
            Err(self.error(code, symbol))
        }
    }

    #[cold]
    fn error(&self, code: u32, symbol: &'static str) -> CudaError {
        let mut name = std::ptr::null();
        // SAFETY: a place for the result; codes that the driver does not know leave null there.
        let known = unsafe { (self.error_name)(code, &raw mut name) };
        let name = if known == Code::SUCCESS && !name.is_null() {
            // SAFETY: the driver's constant text.
            unsafe { CStr::from_ptr(name) }
                .to_string_lossy()
                .into_owned()
        } else {
            String::new()
        };
        CudaError { code, name, symbol }
    }
}

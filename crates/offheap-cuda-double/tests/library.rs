//! The shared object as a program finds it: by its path, symbol by symbol.

#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "libc calls with literals"
)]

use std::ffi::{CString, c_int, c_void};
use std::path::PathBuf;

/// What `offheap-cuda` may look for.
const SYMBOLS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetUuid",
    "cuDeviceGetUuid_v2",
    "cuDeviceTotalMem_v2",
    "cuDeviceGetAttribute",
    "cuDeviceGetPCIBusId",
    "cuDeviceCanAccessPeer",
    "cuDeviceGetP2PAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxReset_v2",
    "cuDevicePrimaryCtxGetState",
    "cuDevicePrimaryCtxSetFlags_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
    "cuCtxGetDevice",
    "cuCtxSynchronize",
    "cuCtxGetStreamPriorityRange",
    "cuCtxEnablePeerAccess",
    "cuCtxDisablePeerAccess",
    "cuMemGetInfo_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemAllocFromPoolAsync",
    "cuMemFreeAsync",
    "cuMemAllocManaged",
    "cuMemGetAddressRange_v2",
    "cuMemHostAlloc",
    "cuMemAllocHost_v2",
    "cuMemFreeHost",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
    "cuMemHostGetDevicePointer_v2",
    "cuMemHostGetFlags",
    "cuMemcpy",
    "cuMemcpyAsync",
    "cuMemcpyHtoD_v2",
    "cuMemcpyDtoH_v2",
    "cuMemcpyDtoD_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyPeer",
    "cuMemcpyPeerAsync",
    "cuMemsetD8_v2",
    "cuMemsetD16_v2",
    "cuMemsetD32_v2",
    "cuMemsetD8Async",
    "cuMemsetD16Async",
    "cuMemsetD32Async",
    "cuMemPrefetchAsync",
    "cuMemPrefetchAsync_v2",
    "cuMemAdvise",
    "cuMemAdvise_v2",
    "cuPointerGetAttribute",
    "cuPointerGetAttributes",
    "cuPointerSetAttribute",
    "cuStreamCreate",
    "cuStreamCreateWithPriority",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamQuery",
    "cuStreamWaitEvent",
    "cuStreamAttachMemAsync",
    "cuStreamGetCtx",
    "cuStreamGetFlags",
    "cuStreamGetId",
    "cuStreamGetPriority",
    "cuLaunchHostFunc",
    "cuStreamAddCallback",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventRecordWithFlags",
    "cuEventQuery",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuEventElapsedTime_v2",
    "cuDeviceGetDefaultMemPool",
    "cuDeviceGetMemPool",
    "cuDeviceSetMemPool",
    "cuMemPoolCreate",
    "cuMemPoolDestroy",
    "cuMemPoolTrimTo",
    "cuMemPoolSetAttribute",
    "cuMemPoolGetAttribute",
    "cuMemPoolSetAccess",
    "cuMemPoolGetAccess",
    "cuMemPoolExportToShareableHandle",
    "cuMemPoolImportFromShareableHandle",
    "cuMemPoolExportPointer",
    "cuMemPoolImportPointer",
    "cuIpcGetMemHandle",
    "cuIpcOpenMemHandle_v2",
    "cuIpcCloseMemHandle",
    "cuIpcGetEventHandle",
    "cuIpcOpenEventHandle",
    "offheap_cuda_double_reset",
    "offheap_cuda_double_live_blocks",
    "offheap_cuda_double_live_bytes",
    "offheap_cuda_double_live_registrations",
    "offheap_cuda_double_live_events",
    "offheap_cuda_double_live_streams",
    "offheap_cuda_double_pending_work",
    "offheap_cuda_double_violations",
    "offheap_cuda_double_virtual_time",
    "offheap_cuda_double_fail",
    "offheap_cuda_double_clear_failures",
    "offheap_cuda_double_calls",
    "offheap_cuda_double_clear_calls",
    "offheap_cuda_double_mark",
    "offheap_cuda_double_complete",
    "offheap_cuda_double_set_stream_speed",
    "offheap_cuda_double_set_queries",
    "offheap_cuda_double_peek",
];

/// Cargo leaves the shared object beside the directory of the tests.
fn library() -> PathBuf {
    let directory = std::env::current_exe().unwrap();
    let directory = directory.parent().unwrap();
    let name = "liboffheap_cuda_double.so";
    let candidates = [directory.join(name), directory.parent().unwrap().join(name)];
    candidates
        .iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("none of {candidates:?}"))
        .clone()
}

fn load() -> *mut c_void {
    let path = CString::new(library().to_str().unwrap()).unwrap();
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!library.is_null());
    library
}

fn symbol(library: *mut c_void, name: &str) -> *mut c_void {
    let name = CString::new(name).unwrap();
    unsafe { libc::dlsym(library, name.as_ptr()) }
}

#[test]
fn all_symbols_are_there() {
    let library = load();
    let missing: Vec<&&str> = SYMBOLS
        .iter()
        .filter(|name| symbol(library, name).is_null())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let has_async = !symbol(library, "cuMemAllocAsync").is_null();
    assert_eq!(has_async, !cfg!(feature = "without-async-alloc"));
}

#[test]
fn once_loaded_it_is_libcuda() {
    let library = load();
    // The name alone finds what is loaded: no directory on any path has such a file.
    let by_name =
        unsafe { libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    assert_eq!(by_name, library);
}

#[test]
fn it_works_through_pointers() {
    let library = load();
    // SAFETY: the symbols have these C types.
    unsafe {
        let init: unsafe extern "C" fn(u32) -> u32 = std::mem::transmute(symbol(library, "cuInit"));
        let count: unsafe extern "C" fn(*mut c_int) -> u32 =
            std::mem::transmute(symbol(library, "cuDeviceGetCount"));
        assert_eq!(init(0), 0);
        let mut devices = 0;
        assert_eq!((count(&mut devices), devices), (0, 2));
    }
}

//! Calls of the double without `unsafe` at every line, and one test at a time.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "calls of the double: wrong arguments are errors, not crashes"
)]

use std::ffi::{CString, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use offheap_cuda_double::api::{context, copy, event, host, init, memory, stream};
use offheap_cuda_double::control;

pub use offheap_cuda_double::abi::*;

pub const NULL: *mut c_void = std::ptr::null_mut();

/// The driver, fresh from `cuInit`, for one test.
pub struct Double(MutexGuard<'static, ()>);

impl Double {
    /// Resets the driver, with these variables in the environment (names without their prefix).
    pub fn configured(variables: &[(&str, &str)]) -> Self {
        static SERIAL: Mutex<()> = Mutex::new(());
        let guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
        let old: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
        for name in old {
            if name.to_string_lossy().starts_with("OFFHEAP_CUDA_DOUBLE_") {
                // SAFETY: tests run one at a time under the lock, and no other thread reads the environment.
                unsafe { std::env::remove_var(name) };
            }
        }
        for (name, value) in variables {
            // SAFETY: as above.
            unsafe { std::env::set_var(format!("OFFHEAP_CUDA_DOUBLE_{name}"), value) };
        }
        control::offheap_cuda_double_reset();
        Self(guard)
    }

    /// Configured, initialised, with the first device's context bound to this thread.
    pub fn new(variables: &[(&str, &str)]) -> Self {
        let double = Self::configured(variables);
        assert_eq!(unsafe { init::cuInit(0) }, 0);
        bind(retain(0));
        double
    }
}

pub fn retain(device: i32) -> CUcontext {
    let mut context = NULL;
    assert_eq!(
        unsafe { context::cuDevicePrimaryCtxRetain(&mut context, device) },
        0
    );
    context
}

pub fn bind(context: CUcontext) {
    assert_eq!(unsafe { context::cuCtxSetCurrent(context) }, 0);
}

pub fn try_allocate(size: usize) -> Result<u64, u32> {
    let mut address = 0;
    match unsafe { memory::cuMemAlloc_v2(&mut address, size) } {
        0 => Ok(address),
        code => Err(code),
    }
}

pub fn allocate(size: usize) -> u64 {
    try_allocate(size).unwrap()
}

pub fn free(address: u64) -> u32 {
    unsafe { memory::cuMemFree_v2(address) }
}

pub fn try_allocate_async(size: usize, stream: CUstream) -> Result<u64, u32> {
    let mut address = 0;
    match unsafe { memory::cuMemAllocAsync(&mut address, size, stream) } {
        0 => Ok(address),
        code => Err(code),
    }
}

pub fn allocate_async(size: usize, stream: CUstream) -> u64 {
    try_allocate_async(size, stream).unwrap()
}

pub fn free_async(address: u64, stream: CUstream) -> u32 {
    unsafe { memory::cuMemFreeAsync(address, stream) }
}

pub fn new_stream() -> CUstream {
    stream_with(CU_STREAM_NON_BLOCKING)
}

pub fn stream_with(flags: u32) -> CUstream {
    let mut result = NULL;
    assert_eq!(unsafe { stream::cuStreamCreate(&mut result, flags) }, 0);
    result
}

pub fn sync(stream: CUstream) -> u32 {
    unsafe { stream::cuStreamSynchronize(stream) }
}

pub fn query(stream: CUstream) -> u32 {
    unsafe { stream::cuStreamQuery(stream) }
}

pub fn new_event(flags: u32) -> CUevent {
    let mut result = NULL;
    assert_eq!(unsafe { event::cuEventCreate(&mut result, flags) }, 0);
    result
}

pub fn record(event: CUevent, stream: CUstream) -> u32 {
    unsafe { event::cuEventRecord(event, stream) }
}

pub fn wait_event(stream: CUstream, event: CUevent) -> u32 {
    unsafe { stream::cuStreamWaitEvent(stream, event, 0) }
}

pub fn fill_async(address: u64, byte: u8, size: usize, stream: CUstream) -> u32 {
    unsafe { copy::cuMemsetD8Async(address, byte, size, stream) }
}

pub fn upload(address: u64, bytes: &[u8]) -> u32 {
    unsafe { copy::cuMemcpyHtoD_v2(address, bytes.as_ptr().cast(), bytes.len()) }
}

/// The bytes must live until the stream has run.
pub fn upload_async(address: u64, bytes: &[u8], stream: CUstream) -> u32 {
    unsafe { copy::cuMemcpyHtoDAsync_v2(address, bytes.as_ptr().cast(), bytes.len(), stream) }
}

/// The bytes must live until the stream has run.
pub fn download_async(bytes: &mut [u8], address: u64, stream: CUstream) -> u32 {
    unsafe { copy::cuMemcpyDtoHAsync_v2(bytes.as_mut_ptr().cast(), address, bytes.len(), stream) }
}

pub fn download(address: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    assert_eq!(
        unsafe { copy::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), address, size) },
        0
    );
    bytes
}

/// The bytes as they are now, past all streams.
pub fn peek(address: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let code =
        unsafe { control::offheap_cuda_double_peek(bytes.as_mut_ptr().cast(), address, size) };
    assert_eq!(code, 0);
    bytes
}

pub fn host_allocate(size: usize, flags: u32) -> &'static mut [u8] {
    let mut pointer = NULL;
    assert_eq!(
        unsafe { host::cuMemHostAlloc(&mut pointer, size, flags) },
        0
    );
    // SAFETY: fresh memory of this size, until the test frees it.
    unsafe { std::slice::from_raw_parts_mut(pointer.cast(), size) }
}

pub fn calls(symbol: &str) -> u64 {
    let symbol = CString::new(symbol).unwrap();
    unsafe { control::offheap_cuda_double_calls(symbol.as_ptr()) }
}

pub fn fail(symbol: &str, code: u32, after: u64, times: u64) {
    let symbol = CString::new(symbol).unwrap();
    assert_eq!(
        unsafe { control::offheap_cuda_double_fail(symbol.as_ptr(), code, after, times) },
        0
    );
}

pub fn violations() -> u64 {
    control::offheap_cuda_double_violations()
}

pub fn live_blocks() -> u64 {
    control::offheap_cuda_double_live_blocks()
}

/// Runs a test of this binary, by its name, in another process.
pub fn child(test: &str, variables: &[(&str, &str)]) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        test,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.envs(variables.iter().copied());
    command
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..][..2], 16).unwrap();
    }
    bytes
}

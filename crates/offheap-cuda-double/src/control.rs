//! The double's own exported functions, for tests: `offheap_cuda_double_*`. They are neither counted nor logged.

use core::ffi::{CStr, c_char, c_void};

use crate::driver::{self, State, as_number, lock, settings};
use crate::engine::{advance, everything};
use crate::left::Left;
use crate::result::{CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_SUCCESS, CUresult};

/// Stops a panic from leaving the library.
fn guarded<T>(otherwise: T, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or(otherwise)
}

/// # Safety
/// `symbol` is null or a C string.
unsafe fn symbol_name(symbol: *const c_char) -> Option<String> {
    if symbol.is_null() {
        return None;
    }
    // SAFETY: not null, so a C string by the caller's promise.
    unsafe { CStr::from_ptr(symbol) }
        .to_str()
        .ok()
        .map(str::to_owned)
}

fn left() -> Left {
    Left::of(lock().state())
}

/// Allocations whose free has not been submitted: device, pool, host, managed and imported memory. Registrations of
/// the program's own memory are not counted.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_live_blocks() -> u64 {
    guarded(u64::MAX, || left().blocks)
}

/// The bytes of the same, as they were asked for.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_live_bytes() -> u64 {
    guarded(u64::MAX, || left().bytes)
}

/// Registrations of the program's own memory that have not ended.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_live_registrations() -> u64 {
    guarded(u64::MAX, || left().registrations)
}

/// Streams that are not destroyed, without default streams.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_live_streams() -> u64 {
    guarded(u64::MAX, || left().streams)
}

/// Events that are not destroyed.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_live_events() -> u64 {
    guarded(u64::MAX, || left().events)
}

/// Work that is submitted and has not run, in all streams.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_pending_work() -> u64 {
    guarded(u64::MAX, || left().pending)
}

/// How often work has touched memory before its allocation or after its free, in stream order.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_violations() -> u64 {
    guarded(u64::MAX, || left().violations)
}

/// Virtual nanoseconds since `cuInit`: the furthest of all streams.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_virtual_time() -> u64 {
    guarded(0, || {
        let mut guard = lock();
        let state = guard.state();
        state
            .streams
            .values()
            .map(|stream| stream.time)
            .max()
            .unwrap_or(0)
            .max(state.time)
    })
}

/// Makes calls of a symbol fail: `after` calls succeed first, then `times` fail (`u64::MAX` for all). Returns 0, or
/// `CUDA_ERROR_INVALID_VALUE` for a null or unreadable name.
///
/// # Safety
/// `symbol` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offheap_cuda_double_fail(
    symbol: *const c_char,
    code: CUresult,
    after: u64,
    times: u64,
) -> CUresult {
    guarded(CUDA_ERROR_INVALID_VALUE, || {
        // SAFETY: the caller's promise.
        let Some(symbol) = (unsafe { symbol_name(symbol) }) else {
            return CUDA_ERROR_INVALID_VALUE;
        };
        settings().failures().add(&symbol, code, after, times);
        CUDA_SUCCESS
    })
}

/// Ends all injected failures.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_clear_failures() {
    guarded((), || settings().failures().clear());
}

/// Calls of a symbol since the start or the last [`offheap_cuda_double_clear_calls`]; of all symbols for null.
///
/// # Safety
/// `symbol` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offheap_cuda_double_calls(symbol: *const c_char) -> u64 {
    guarded(u64::MAX, || {
        // SAFETY: the caller's promise.
        match unsafe { symbol_name(symbol) } {
            Some(symbol) => settings().log().calls(&symbol),
            None => settings().log().total(),
        }
    })
}

/// Sets all counts of calls to 0.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_clear_calls() {
    guarded((), || settings().log().clear());
}

/// Writes a line into the call log, to tell what comes before from what comes after.
///
/// # Safety
/// `text` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offheap_cuda_double_mark(text: *const c_char) {
    guarded((), || {
        // SAFETY: the caller's promise.
        if let Some(text) = unsafe { symbol_name(text) } {
            settings().log().line(&format!("mark: {text}"));
        }
    });
}

/// Runs all work of one stream, or of all streams for null. Returns 0, or `CUDA_ERROR_INVALID_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_complete(stream: *mut c_void) -> CUresult {
    guarded(CUDA_ERROR_INVALID_HANDLE, || {
        let mut guard = lock();
        let state = guard.state();
        let id = as_number(stream);
        let targets = if id == 0 {
            everything(state, None)
        } else {
            match state.streams.get(&id) {
                Some(stream) => vec![(id, stream.submitted)],
                None => return CUDA_ERROR_INVALID_HANDLE,
            }
        };
        drop(advance(guard, targets));
        CUDA_SUCCESS
    })
}

/// Bytes per second of real time that streams move from now on; 0 for virtual time.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_set_stream_speed(bytes_per_second: u64) -> CUresult {
    guarded(CUDA_ERROR_INVALID_VALUE, || {
        lock().state().speed = bytes_per_second;
        driver::PROGRESS.notify_all();
        if bytes_per_second == 0 {
            CUDA_SUCCESS
        } else {
            crate::engine::wake().err().unwrap_or(CUDA_SUCCESS)
        }
    })
}

/// Queries that answer "not ready" before one that runs the work; 0 for never.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_set_queries(queries: u32) {
    guarded((), || lock().state().queries = queries);
}

/// Copies the bytes that memory holds at this moment, device memory too, past all streams. Returns 0, or
/// `CUDA_ERROR_INVALID_VALUE` when the range is not in one allocation.
///
/// # Safety
/// `target` is valid for writing `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offheap_cuda_double_peek(
    target: *mut c_void,
    address: u64,
    length: usize,
) -> CUresult {
    guarded(CUDA_ERROR_INVALID_VALUE, || {
        let mut guard = lock();
        match guard.state().place(address, length as u64) {
            Ok(place) => {
                // SAFETY: the range is mapped while the lock is held; the target by the caller's promise.
                unsafe { std::ptr::copy(place.data as *const u8, target.cast(), length) };
                CUDA_SUCCESS
            }
            Err(code) => code,
        }
    })
}

/// Forgets everything: contexts, memory, handles, counts. The environment is read again at the next call. For tests
/// that run in one process; no other thread may be in the driver.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_cuda_double_reset() {
    guarded((), driver::reset);
}

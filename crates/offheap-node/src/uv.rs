//! The few functions of libuv that are not part of Node-API, found at run time.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

#[cfg(unix)]
use libloading::os::unix::Library as Process;
#[cfg(windows)]
use libloading::os::windows::Library as Process;

/// The start of `uv_loop_t`, the same on every platform since libuv 1.20 (2018) and in 1.52: it comes
/// before `UV_LOOP_PRIVATE_FIELDS`.
#[repr(C)]
struct LoopPrefix {
    data: *mut c_void,
    active_handles: c_uint,
    handle_queue: [*mut c_void; 2],
    /// A union of a pointer and the count that is in use.
    active_reqs: c_uint,
}

/// A `uv_loop_t`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loop(*mut c_void);

impl Loop {
    pub(crate) fn new(raw: *mut c_void) -> Option<Self> {
        (!raw.is_null()).then_some(Self(raw))
    }

    /// How many requests are in flight: what libuv's thread pool and sockets work on.
    ///
    /// Whether the word is what it should be on this runtime is proved at load (see `gate`).
    #[inline]
    pub(crate) fn active_requests(self) -> u32 {
        // SAFETY: the pointer is the environment's loop, which lives as long as the environment,
        // and is only written by this thread.
        unsafe { (*self.0.cast::<LoopPrefix>()).active_reqs }
    }
}

type Callback = unsafe extern "C" fn(*mut c_void);

/// Functions from the running program, or `None` where it is no libuv program.
#[derive(Debug, Clone, Copy)]
struct Functions {
    init: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
    start: unsafe extern "C" fn(*mut c_void, Callback) -> c_int,
    stop: unsafe extern "C" fn(*mut c_void) -> c_int,
    unref: unsafe extern "C" fn(*mut c_void),
    close: unsafe extern "C" fn(*mut c_void, Option<Callback>),
    handle_size: usize,
}

/// `UV_CHECK` of `uv_handle_type`.
const UV_CHECK: c_int = 2;

fn this_process() -> Option<Process> {
    #[cfg(unix)]
    {
        Some(Process::this())
    }
    #[cfg(windows)]
    {
        Process::this().ok()
    }
}

fn functions() -> Option<Functions> {
    let process = this_process()?;
    // SAFETY: the types are libuv's own declarations; the program stays loaded, so the pointers
    // stay good after the library handle is gone.
    unsafe {
        let handle_size: unsafe extern "C" fn(c_int) -> usize =
            *process.get(b"uv_handle_size\0").ok()?;
        Some(Functions {
            init: *process.get(b"uv_check_init\0").ok()?,
            start: *process.get(b"uv_check_start\0").ok()?,
            stop: *process.get(b"uv_check_stop\0").ok()?,
            unref: *process.get(b"uv_unref\0").ok()?,
            close: *process.get(b"uv_close\0").ok()?,
            handle_size: handle_size(UV_CHECK),
        })
    }
}

/// `node_api_create_external_sharedarraybuffer`, where the runtime has it (Node 22.23, 24.21, 26.9,
/// Bun).
pub(crate) type CreateSharedArrayBuffer = unsafe extern "C" fn(
    napi::sys::napi_env,
    *mut c_void,
    usize,
    unsafe extern "C" fn(*mut c_void, *mut c_void),
    *mut c_void,
    *mut napi::sys::napi_value,
) -> napi::sys::napi_status;

/// See [`CreateSharedArrayBuffer`].
pub(crate) fn create_shared_array_buffer() -> Option<CreateSharedArrayBuffer> {
    let process = this_process()?;
    // SAFETY: the type is Node's declaration; the program stays loaded.
    unsafe {
        process
            .get(b"node_api_create_external_sharedarraybuffer\0")
            .ok()
            .map(|f| *f)
    }
}

/// A check handle: its callback runs after each poll phase of the loop while it is started. It never
/// keeps the process alive.
#[derive(Debug)]
pub(crate) struct Check {
    functions: Functions,
    /// A `uv_check_t`; its first word is the `data` pointer.
    handle: *mut c_void,
    callback: Callback,
    started: bool,
}

impl Check {
    /// A stopped handle on `event_loop` whose `callback` gets the handle; [`Check::data`] reads
    /// `data` from it.
    pub(crate) fn new(event_loop: Loop, callback: Callback, data: *mut c_void) -> Option<Self> {
        let functions = functions()?;
        let words = functions.handle_size.div_ceil(size_of::<u64>()).max(1);
        let handle = Box::into_raw(vec![0_u64; words].into_boxed_slice()).cast::<c_void>();
        // SAFETY: the loop is live, the memory is as large as a check handle and aligned; `data` is
        // its first word by libuv's public declaration.
        unsafe {
            if (functions.init)(event_loop.0, handle) != 0 {
                drop(Box::from_raw(ptr::slice_from_raw_parts_mut(
                    handle.cast::<u64>(),
                    words,
                )));
                return None;
            }
            handle.cast::<*mut c_void>().write(data);
            (functions.unref)(handle);
        }
        Some(Self {
            functions,
            handle,
            callback,
            started: false,
        })
    }

    /// The `data` of the handle that a callback got.
    ///
    /// # Safety
    /// - `handle` is the callback's argument.
    pub(crate) unsafe fn data(handle: *mut c_void) -> *mut c_void {
        // SAFETY: the first word of a handle, written in `new`.
        unsafe { handle.cast::<*mut c_void>().read() }
    }

    pub(crate) fn start(&mut self) {
        if !self.started {
            // SAFETY: the handle is initialised and not closing.
            self.started = unsafe { (self.functions.start)(self.handle, self.callback) } == 0;
        }
    }

    pub(crate) fn stop(&mut self) {
        if self.started {
            // SAFETY: as above.
            unsafe { (self.functions.stop)(self.handle) };
            self.started = false;
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        unsafe extern "C" fn free(handle: *mut c_void) {
            // The size is only needed to free: the allocator gets it from the same question.
            if let Some(functions) = functions() {
                let words = functions.handle_size.div_ceil(size_of::<u64>()).max(1);
                // SAFETY: made in `new` from a boxed slice of as many words; libuv is done with it.
                unsafe {
                    drop(Box::from_raw(ptr::slice_from_raw_parts_mut(
                        handle.cast::<u64>(),
                        words,
                    )));
                }
            }
        }
        self.stop();
        // SAFETY: the handle is initialised and closed only here; libuv calls `free` when it is
        // done.
        unsafe { (self.functions.close)(self.handle, Some(free)) };
    }
}

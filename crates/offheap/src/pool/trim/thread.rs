//! A thread that is made without Rust's allocations.
//!
//! Whoever starts the timer may be in the middle of an allocation and hold locks: of a table of
//! tracked blocks that grows, of debug hooks. `std::thread` allocates through the program's global
//! allocator, which may be a pool that wants the same lock.

use crate::panic::caught;

/// Starts a thread that nobody waits for, and that ends with `body`'s return or panic.
/// `false` when the system has none. `stack` is in bytes, whole pages.
#[cfg(unix)]
pub(super) fn spawn(body: fn(), stack: usize) -> bool {
    use std::ffi::c_void;
    use std::mem::MaybeUninit;

    extern "C" fn start(body: *mut c_void) -> *mut c_void {
        // SAFETY: `spawn` gave this function's address.
        let body = unsafe { std::mem::transmute::<*mut c_void, fn()>(body) };
        caught(body);
        std::ptr::null_mut()
    }

    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: `init` makes the attributes what the others want them to be, `destroy` ends them; the
    // thread gets a function of the type that it calls.
    unsafe {
        if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
            return false;
        }
        let attributes = attributes.assume_init_mut();
        let made = libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED)
            == 0
            && libc::pthread_attr_setstacksize(attributes, stack) == 0
            && libc::pthread_create(thread.as_mut_ptr(), attributes, start, body as *mut c_void)
                == 0;
        libc::pthread_attr_destroy(attributes);
        made
    }
}

/// As on Unix.
#[cfg(windows)]
pub(super) fn spawn(body: fn(), stack: usize) -> bool {
    use std::ffi::c_void;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn CreateThread(
            security: *const c_void,
            stack: usize,
            start: extern "system" fn(*mut c_void) -> u32,
            parameter: *mut c_void,
            flags: u32,
            id: *mut u32,
        ) -> *mut c_void;
        fn CloseHandle(handle: *mut c_void) -> i32;
    }

    extern "system" fn start(body: *mut c_void) -> u32 {
        // SAFETY: `spawn` gave this function's address.
        let body = unsafe { std::mem::transmute::<*mut c_void, fn()>(body) };
        caught(body);
        0
    }

    // SAFETY: null stands for what is usual; the thread gets a function of the type that it calls.
    let thread = unsafe {
        CreateThread(
            std::ptr::null(),
            stack,
            start,
            body as *mut c_void,
            0,
            std::ptr::null_mut(),
        )
    };
    if thread.is_null() {
        return false;
    }
    // SAFETY: the handle of the call above; the thread goes on without it.
    unsafe { CloseHandle(thread) };
    true
}

/// Elsewhere there are no such threads.
#[cfg(not(any(unix, windows)))]
pub(super) fn spawn(_body: fn(), _stack: usize) -> bool {
    false
}

/// Names the calling thread, for debuggers, where that is a call without allocation.
pub(super) fn name(name: &std::ffi::CStr) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: the calling thread and a C string of less than 16 bytes.
    unsafe {
        libc::pthread_setname_np(libc::pthread_self(), name.as_ptr());
    }
    #[cfg(target_vendor = "apple")]
    // SAFETY: a C string.
    unsafe {
        libc::pthread_setname_np(name.as_ptr());
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    let _ = name;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    #[test]
    fn the_body_runs_on_a_thread_of_its_own_and_may_panic() {
        static FOUND: Mutex<Vec<std::thread::ThreadId>> = Mutex::new(Vec::new());
        fn body() {
            name(c"offheap-test");
            FOUND.lock().unwrap().push(std::thread::current().id());
            panic!("a thread's own");
        }
        assert!(spawn(body, 256 << 10) && spawn(body, 256 << 10));
        let give_up_at = Instant::now() + Duration::from_secs(60);
        while FOUND.lock().map_or(0, |found| found.len()) < 2 {
            assert!(Instant::now() < give_up_at, "no thread came");
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut found = FOUND.lock().unwrap().clone();
        found.push(std::thread::current().id());
        assert!(found[0] != found[1] && found[0] != found[2] && found[1] != found[2]);
    }
}

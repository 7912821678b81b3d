//! The end of the process, after which the driver must not be called.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

static EXITING: AtomicBool = AtomicBool::new(false);

/// Tells that the process ends: no function of the driver is called from now on, because one that runs while the
/// driver is torn down may crash instead of failing (RMM's `process_is_exiting`). Whatever is freed later leaks by
/// design; the driver frees it all with the process. Other calls fail with `ERR_OFFHEAP_DEVICE_UNAVAILABLE`.
///
/// `exit` does this by itself. Programs that end in other ways, or earlier, may do it.
pub fn set_process_is_exiting() {
    EXITING.store(true, Ordering::Relaxed);
}

/// Whether [`set_process_is_exiting`] was called, or `exit` was.
#[inline]
pub(crate) fn is_exiting() -> bool {
    EXITING.load(Ordering::Relaxed)
}

extern "C" fn at_exit() {
    set_process_is_exiting();
}

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Has `exit` set the flag. To be called after each step at which the driver may have `exit` call functions of its own
/// (its start, a first context): they run in the reverse order, so this one before those.
pub(crate) fn watch_exit() {
    // SAFETY: a function without arguments that only stores to a static. If it cannot be registered, nothing is lost but
    // the flag.
    let _ = unsafe { atexit(at_exit) };
}

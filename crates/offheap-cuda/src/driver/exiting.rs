//! Whether the process is ending, when the driver may be gone already.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_EXITING: AtomicBool = AtomicBool::new(false);

/// Whether the driver must not be called any more: it may be unloading, and crash instead of returning an
/// error (RMM's `process_is_exiting`). What is freed then goes with the process.
#[inline]
pub(crate) fn is_exiting() -> bool {
    IS_EXITING.load(Ordering::Relaxed)
}

/// Has the end of the process noticed. Handlers run last come first, so after the library was opened.
pub(super) fn watch() {
    extern "C" fn at_exit() {
        IS_EXITING.store(true, Ordering::SeqCst);
    }
    unsafe extern "C" {
        fn atexit(handler: extern "C" fn()) -> std::ffi::c_int;
    }
    static ONCE: Once = Once::new();
    // SAFETY: C's function; the handler only stores a word, and this library is never unloaded while a
    // program has it: Node keeps addons to the end.
    ONCE.call_once(|| unsafe {
        atexit(at_exit);
    });
}

//! How an environment's thread gives back what it has freed: mimalloc's heaps can be swept by their own
//! threads only, so the core wakes the event loop, without keeping it alive.

use crate::environment::Environment;
use crate::wake::Wake;
use napi::bindgen_prelude::{Env, Result};
use napi::sys;
use offheap::ThreadCollector;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Registers the calling environment's thread.
///
/// # Errors
/// The runtime's, when it makes no threadsafe function.
pub(crate) fn register(env: Env) -> Result<ThreadCollector> {
    let wake = Wake::default();
    wake.start_native(env, "offheap.collect", on_wake)?;
    Ok(ThreadCollector::register(move || {
        wake.call();
    }))
}

unsafe extern "C" fn on_wake(
    env: sys::napi_env,
    _callback: sys::napi_value,
    _context: *mut c_void,
    _data: *mut c_void,
) {
    if env.is_null() {
        return; // the environment ends
    }
    if let Ok(state) = Environment::of(Env::from_raw(env)) {
        // Nothing there panics; if it did, C could not go on with it.
        drop(catch_unwind(AssertUnwindSafe(|| state.collect())));
    }
}

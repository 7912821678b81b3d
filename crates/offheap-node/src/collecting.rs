//! How an environment's thread gives back what it has freed: mimalloc's heaps can be swept by their own
//! threads only, so the core wakes the event loop, without keeping it alive.

use crate::wake::{Wake, in_turn};
use napi::bindgen_prelude::{Env, Result};
use napi::sys;
use offheap::ThreadCollector;
use std::ffi::c_void;

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
    in_turn(env, |_, state| state.collect());
}

//! How other threads have an environment's event loop call a function.

use crate::environment::Environment;
use napi::bindgen_prelude::{Env, Unknown};
use napi::{JsValue, sys};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a threadsafe function calls on its environment's thread.
pub(crate) type OnCall = unsafe extern "C" fn(
    env: sys::napi_env,
    callback: sys::napi_value,
    context: *mut c_void,
    data: *mut c_void,
);

#[derive(Debug, Clone, Copy)]
struct Function(NonNull<sys::napi_threadsafe_function__>);

// SAFETY: made to be called from any thread.
unsafe impl Send for Function {}

/// A threadsafe function that keeps no process alive, as long as its environment lives.
#[derive(Debug, Default)]
pub(crate) struct Wake(Arc<Mutex<Option<Function>>>);

fn lock(function: &Mutex<Option<Function>>) -> MutexGuard<'_, Option<Function>> {
    function.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn on_end(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the count that `start` gave away, taken back once.
    let function = unsafe { Arc::from_raw(data.cast::<Mutex<Option<Function>>>()) };
    // The runtime frees the function after this: nobody may call it any more.
    *lock(&function) = None;
}

unsafe extern "C" fn on_call(
    env: sys::napi_env,
    callback: sys::napi_value,
    _context: *mut c_void,
    _data: *mut c_void,
) {
    if env.is_null() || callback.is_null() {
        return; // the environment ends
    }
    let mut receiver = ptr::null_mut();
    let mut ignored = ptr::null_mut();
    // SAFETY: a live environment on its own thread; what the function throws is left pending for the
    // runtime, which reports it as uncaught.
    unsafe {
        if sys::napi_get_undefined(env, &raw mut receiver) == sys::Status::napi_ok {
            sys::napi_call_function(env, receiver, callback, 0, ptr::null(), &raw mut ignored);
        }
    }
}

/// What a function of [`Wake::start_native`] does in its turn of the event loop; nothing where the environment ends.
pub(crate) fn in_turn(env: sys::napi_env, act: impl FnOnce(Env, &Environment)) {
    if env.is_null() {
        return;
    }
    let env = Env::from_raw(env);
    if let Ok(state) = Environment::of(env) {
        // Nothing there panics; if it did, C could not go on with it.
        drop(catch_unwind(AssertUnwindSafe(|| act(env, state))));
    }
}

impl Wake {
    /// Has [`call`](Self::call) call `callback` from now on. The second time it does nothing.
    pub(crate) fn start(&self, env: Env, callback: Unknown<'_>) -> napi::Result<()> {
        self.start_with(env, "offheap.events", callback.raw(), on_call)
    }

    /// As [`start`](Self::start), without JavaScript: `call` is called with the environment, or with
    /// null when that ends.
    pub(crate) fn start_native(&self, env: Env, name: &str, call: OnCall) -> napi::Result<()> {
        self.start_with(env, name, ptr::null_mut(), call)
    }

    fn start_with(
        &self,
        env: Env,
        name: &str,
        callback: sys::napi_value,
        call: OnCall,
    ) -> napi::Result<()> {
        if lock(&self.0).is_some() {
            return Ok(());
        }
        let name = env.create_string(name)?;
        let data = Arc::into_raw(Arc::clone(&self.0)).cast_mut();
        let mut made = ptr::null_mut();
        // SAFETY: a live environment, a function (anything else is refused by status) or null, for
        // which `call` is enough, a finalizer that gets the count back, and an out parameter. One thread is registered for all callers,
        // who take turns by the lock and stop when the finalizer has run.
        let status = unsafe {
            sys::napi_create_threadsafe_function(
                env.raw(),
                callback,
                ptr::null_mut(),
                name.raw(),
                0,
                1,
                data.cast(),
                Some(on_end),
                ptr::null_mut(),
                Some(call),
                &raw mut made,
            )
        };
        let Some(function) = NonNull::new(made).filter(|_| status == sys::Status::napi_ok) else {
            // SAFETY: the runtime did not take the count.
            drop(unsafe { Arc::from_raw(data) });
            return napi::check_status!(status, "offheap: no threadsafe function");
        };
        // SAFETY: just made, on its environment's thread.
        unsafe { sys::napi_unref_threadsafe_function(env.raw(), made) };
        *lock(&self.0) = Some(Function(function));
        Ok(())
    }

    /// Has the callback called in a turn of the event loop; false when there is none any more.
    pub(crate) fn call(&self) -> bool {
        let mut function = lock(&self.0);
        let Some(Function(raw)) = *function else {
            return false;
        };
        // SAFETY: not finalized: the finalizer takes it away under this lock first.
        let status = unsafe {
            sys::napi_call_threadsafe_function(
                raw.as_ptr(),
                ptr::null_mut(),
                sys::ThreadsafeFunctionCallMode::nonblocking,
            )
        };
        if status == sys::Status::napi_closing {
            // The runtime took our registration back.
            *function = None;
        }
        status == sys::Status::napi_ok
    }

    /// Whether what is to come keeps the process alive. On the environment's thread.
    pub(crate) fn keep_alive(&self, env: Env, yes: bool) {
        let function = lock(&self.0);
        let Some(Function(raw)) = *function else {
            return;
        };
        // SAFETY: not finalized, and this is its environment's thread.
        unsafe {
            if yes {
                sys::napi_ref_threadsafe_function(env.raw(), raw.as_ptr());
            } else {
                sys::napi_unref_threadsafe_function(env.raw(), raw.as_ptr());
            }
        }
    }
}

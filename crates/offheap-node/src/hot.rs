//! The calls that are made for every buffer, as plain Node-API callbacks.
//!
//! napi-derive's wrapper opens a scope for its borrow checker on every call (two heap allocations
//! and a global lock: 100 ns and more), which these calls, a few dozen nanoseconds of work each,
//! have no use for. They are added to the exports by hand; the TypeScript layer has their types.

use crate::buffers::{allocate, slice};
use crate::environment::Environment;
use crate::errors::throw;
use crate::instrument;
use crate::views::{Shown, dispose, release, show};
use napi::bindgen_prelude::{Env, Object};
use napi::{JsValue, sys};
use offheap::{Error, Result};
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// The arguments of one call; absent ones are `undefined`.
struct Arguments<const N: usize> {
    env: Env,
    values: [sys::napi_value; N],
}

impl<const N: usize> Arguments<N> {
    /// The number at `index`; anything else is NaN, which every check refuses.
    #[inline]
    fn number(&self, index: usize) -> f64 {
        let mut number = f64::NAN;
        // SAFETY: a live value of this environment; another type is refused by status and leaves
        // the NaN.
        unsafe {
            sys::napi_get_value_double(self.env.raw(), self.values[index], &raw mut number);
        }
        number
    }

    /// The bits at `index`; anything but a number is 0.
    #[inline]
    fn bits(&self, index: usize) -> u32 {
        let mut bits = 0;
        // SAFETY: as above, leaving the 0.
        unsafe { sys::napi_get_value_uint32(self.env.raw(), self.values[index], &raw mut bits) };
        bits
    }

    #[inline]
    fn boolean(&self, index: usize) -> bool {
        let mut value = false;
        // SAFETY: as above, leaving `false`.
        unsafe { sys::napi_get_value_bool(self.env.raw(), self.values[index], &raw mut value) };
        value
    }
}

/// What a call returns.
enum Returned {
    Nothing,
    Number(f64),
    Boolean(bool),
    Value(sys::napi_value),
}

/// Runs one call: arguments in, result or exception out. A panic becomes an exception.
#[inline]
fn call<const N: usize>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    body: impl FnOnce(&Environment, &Arguments<N>) -> Result<Returned>,
) -> sys::napi_value {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut count = N;
        let mut arguments = Arguments {
            env: Env::from_raw(env),
            values: [ptr::null_mut(); N],
        };
        // SAFETY: the runtime's own arguments; room for `count` values, of which absent ones are
        // filled with undefined.
        unsafe {
            sys::napi_get_cb_info(
                env,
                info,
                &raw mut count,
                arguments.values.as_mut_ptr(),
                ptr::null_mut(),
                ptr::null_mut(),
            );
        }
        let state = Environment::of(arguments.env)
            .map_err(|_| Error::not_supported("offheap: this environment was not configured"))?;
        body(state, &arguments)
    }));
    let mut result = ptr::null_mut();
    match outcome {
        // SAFETY: a live environment and an out parameter.
        Ok(Ok(Returned::Number(number))) => unsafe {
            sys::napi_create_double(env, number, &raw mut result);
        },
        // SAFETY: as above.
        Ok(Ok(Returned::Boolean(value))) => unsafe {
            sys::napi_get_boolean(env, value, &raw mut result);
        },
        Ok(Ok(Returned::Value(value))) => result = value,
        Ok(Ok(Returned::Nothing)) => {}
        Ok(Err(error)) => raise(env, &error),
        Err(_) => raise_internal(env, "offheap: internal error: a panic was caught"),
    }
    result
}

#[cold]
fn raise(env: sys::napi_env, error: &Error) {
    let thrown = throw(Env::from_raw(env), error);
    if thrown.status != napi::Status::PendingException {
        raise_internal(env, &thrown.reason);
    }
}

#[cold]
fn raise_internal(env: sys::napi_env, text: &str) {
    if let Ok(text) = std::ffi::CString::new(text.replace('\0', " ")) {
        // SAFETY: a live environment and C strings.
        unsafe {
            sys::napi_throw_error(env, c"ERR_OFFHEAP_INTERNAL".as_ptr(), text.as_ptr());
        }
    }
}

unsafe extern "C" fn buffer_allocate(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    call::<4>(env, info, |state, a| {
        let id = allocate(
            a.env,
            state,
            a.number(0),
            a.number(1),
            a.number(2),
            a.bits(3),
        )?;
        Ok(Returned::Number(id))
    })
}

unsafe extern "C" fn buffer_slice(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    call::<4>(env, info, |state, a| {
        let id = slice(state, a.number(0), a.number(1), a.number(2), a.boolean(3))?;
        Ok(Returned::Number(id))
    })
}

unsafe extern "C" fn buffer_view(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    call::<3>(env, info, |state, a| {
        show(a.env, state, a.number(0), a.number(1), a.number(2)).map(Returned::Value)
    })
}

unsafe extern "C" fn buffer_dispose(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    call::<3>(env, info, |state, a| {
        let shown = Shown::One(a.values[1]);
        dispose(a.env, state, a.number(0), &shown, a.bits(2)).map(Returned::Boolean)
    })
}

unsafe extern "C" fn buffer_release(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    call::<1>(env, info, |state, a| {
        release(a.env, state, a.number(0));
        Ok(Returned::Nothing)
    })
}

unsafe extern "C" fn after_call(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    call::<0>(env, info, |state, _| {
        Ok(Returned::Number(f64::from(instrument::after_call(state))))
    })
}

/// Adds the calls to the module's exports.
pub(crate) fn export(exports: &Object<'_>, env: Env) -> napi::Result<()> {
    type Callback = unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> sys::napi_value;
    let calls: [(&CStr, Callback); 6] = [
        (c"bufferAllocate", buffer_allocate),
        (c"bufferSlice", buffer_slice),
        (c"bufferView", buffer_view),
        (c"bufferDispose", buffer_dispose),
        (c"bufferRelease", buffer_release),
        (c"afterCall", after_call),
    ];
    for (name, callback) in calls {
        let mut function = ptr::null_mut();
        // SAFETY: a live environment, C strings, callbacks that never end, out parameters.
        let status = unsafe {
            match sys::napi_create_function(
                env.raw(),
                name.as_ptr(),
                name.count_bytes().cast_signed(),
                Some(callback),
                ptr::null_mut(),
                &raw mut function,
            ) {
                sys::Status::napi_ok => {
                    sys::napi_set_named_property(env.raw(), exports.raw(), name.as_ptr(), function)
                }
                refused => refused,
            }
        };
        napi::check_status!(
            status,
            "offheap: {} cannot be exported",
            name.to_string_lossy()
        )?;
    }
    Ok(())
}

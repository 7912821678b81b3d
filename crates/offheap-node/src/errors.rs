//! Errors on their way to JavaScript.

use crate::environment::Environment;
use napi::bindgen_prelude::{Env, Error, Status};
use napi::{JsValue, sys};
use offheap::ErrorKind;
use std::ptr;

/// Throws `error` as the class that the TypeScript layer has for its code, and returns what a napi
/// function must then return.
#[cold]
pub(crate) fn throw(env: Env, error: &offheap::Error) -> Error {
    match try_throw(env, error) {
        Some(()) => Error::new(Status::PendingException, String::new()),
        // Not configured, or no memory for the error object itself.
        None => Error::new(Status::GenericFailure, format!("{error:?}")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for a message")]
fn try_throw(env: Env, error: &offheap::Error) -> Option<()> {
    let (detail, requested, limit, allocated, pool) = match error.kind() {
        ErrorKind::OutOfMemory {
            requested,
            limit,
            allocated,
            pool,
        } => (
            "",
            *requested as f64,
            limit.map_or(-1.0, |limit| limit as f64),
            *allocated as f64,
            pool.as_str(),
        ),
        ErrorKind::InvalidArgument { argument, .. } => (*argument, -1.0, -1.0, -1.0, ""),
        ErrorKind::DeviceUnavailable { reason, .. } => (*reason, -1.0, -1.0, -1.0, ""),
        _ => ("", -1.0, -1.0, -1.0, ""),
    };
    let make_error = Environment::of(env).ok()?.make_error(env)?;
    let arguments = [
        env.create_string(error.code()).ok()?.raw(),
        env.create_string(error.to_string()).ok()?.raw(),
        env.create_string(detail).ok()?.raw(),
        env.create_double(requested).ok()?.raw(),
        env.create_double(limit).ok()?.raw(),
        env.create_double(allocated).ok()?.raw(),
        env.create_string(pool).ok()?.raw(),
    ];
    let mut receiver = ptr::null_mut();
    let mut made = ptr::null_mut();
    // SAFETY: the environment is live and on this thread, every value was just made in it, and the
    // results are out parameters.
    let status = unsafe {
        sys::napi_get_undefined(env.raw(), &raw mut receiver);
        match sys::napi_call_function(
            env.raw(),
            receiver,
            make_error,
            arguments.len(),
            arguments.as_ptr(),
            &raw mut made,
        ) {
            sys::Status::napi_ok => sys::napi_throw(env.raw(), made),
            // The factory itself threw: that error is pending and will do.
            sys::Status::napi_pending_exception => sys::Status::napi_ok,
            other => other,
        }
    };
    (status == sys::Status::napi_ok).then_some(())
}

/// Turns a core result into a napi result, throwing the error.
pub(crate) trait OrThrow<T> {
    /// The value, or the error thrown.
    fn or_throw(self, env: Env) -> napi::Result<T>;
}

impl<T> OrThrow<T> for offheap::Result<T> {
    #[inline]
    fn or_throw(self, env: Env) -> napi::Result<T> {
        self.map_err(|error| throw(env, &error))
    }
}

/// The error for an id that names nothing.
#[cold]
pub(crate) fn disposed(what: &'static str) -> offheap::Error {
    offheap::Error::new(ErrorKind::Disposed { what })
}

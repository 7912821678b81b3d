//! Arguments from JavaScript, checked.

use crate::environment::Environment;
use crate::errors::disposed;
use napi::bindgen_prelude::{Env, Unknown};
use napi::{JsValue, sys};
use offheap::{Alignment, Error, Result};
use std::ptr;

/// The largest safe integer.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// A number of bytes, a position or a count: an integer from 0 to 2^53 - 1.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be an integer of 53 bits"
)]
pub(crate) fn size(name: &'static str, value: f64) -> Result<usize> {
    if (0.0..=MAX_SAFE_INTEGER).contains(&value) && value.fract() == 0.0 {
        usize::try_from(value as u64).map_err(|_| too_large(name, value))
    } else {
        Err(Error::invalid_argument(
            name,
            value,
            "an integer from 0 to 2^53 - 1",
        ))
    }
}

#[cold]
fn too_large(name: &'static str, value: f64) -> Error {
    Error::invalid_argument(name, value, "a size that this machine can address")
}

/// A position: as [`size`], but what is negative is out of range.
pub(crate) fn position(name: &'static str, value: f64, bytes: usize) -> Result<usize> {
    if value < 0.0 && value.fract() == 0.0 {
        return Err(Error::position(name, value, bytes));
    }
    size(name, value)
}

/// An alignment.
#[inline]
pub(crate) fn alignment(value: f64) -> Result<Alignment> {
    size("alignment", value)
        .ok()
        .and_then(|bytes| Alignment::new(bytes).ok())
        .ok_or_else(|| {
            Error::invalid_argument("alignment", value, "a power of two of at most 2^32")
        })
}

/// Bytes that a call reads: of a buffer, or of any `Uint8Array`.
///
/// Resolved anew on every call, on the JavaScript thread, and used before any JavaScript can run
/// again: a detached or shrunk array gives what is left of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) ptr: *const u8,
    pub(crate) len: usize,
}

impl Bytes {
    /// # Errors
    /// For an id that names nothing, memory that the CPU cannot read, and any other value.
    pub(crate) fn of(env: Env, state: &Environment, value: Unknown<'_>) -> Result<Self> {
        Self::of_raw(env, state, value.raw())
    }

    /// The id, where the bytes are a buffer's, wherever that lies.
    pub(crate) fn id(env: Env, value: &Unknown<'_>) -> Option<f64> {
        let mut id = 0.0;
        // SAFETY: a live value of this environment; any other type is refused by status.
        let status = unsafe { sys::napi_get_value_double(env.raw(), value.raw(), &raw mut id) };
        (status == sys::Status::napi_ok).then_some(id)
    }

    pub(crate) fn of_raw(env: Env, state: &Environment, value: sys::napi_value) -> Result<Self> {
        let mut id = 0.0;
        // SAFETY: a live value of this environment; any other type is refused by status.
        if unsafe { sys::napi_get_value_double(env.raw(), value, &raw mut id) }
            == sys::Status::napi_ok
        {
            let handles = state.handles();
            let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
            return Ok(Self {
                ptr: handle.cpu_ptr()?.as_ptr(),
                len: handle.len,
            });
        }
        typed_array(env, value)
            .map(|(ptr, len)| Self { ptr, len })
            .ok_or_else(|| {
                Error::invalid_argument("bytes", "another value", "a buffer or a Uint8Array")
            })
    }

    /// The bytes as a slice.
    ///
    /// # Safety
    /// - No JavaScript runs while the slice is used, and no other thread writes a shared array
    ///   meanwhile (a race there is the user's, as with every `SharedArrayBuffer`).
    pub(crate) unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the range was live when resolved and nothing ran since; the rest is the caller's
        // promise.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

/// [`typed_array`] of what bytes are copied to.
///
/// # Errors
/// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for other values.
pub(crate) fn target_array(env: Env, target: &Unknown<'_>) -> Result<(*mut u8, usize)> {
    typed_array(env, target.raw())
        .ok_or_else(|| Error::invalid_argument("target", "another value", "a Uint8Array"))
}

/// Where a `Uint8Array`'s or `Uint8ClampedArray`'s bytes are.
pub(crate) fn typed_array(env: Env, value: sys::napi_value) -> Option<(*mut u8, usize)> {
    let mut is_typed_array = false;
    // SAFETY: a live value of this environment.
    let status = unsafe { sys::napi_is_typedarray(env.raw(), value, &raw mut is_typed_array) };
    if status != sys::Status::napi_ok || !is_typed_array {
        return None;
    }
    let mut kind = 0;
    let mut len = 0;
    let mut data = ptr::null_mut();
    // SAFETY: the value is a typed array; null out parameters are allowed.
    let status = unsafe {
        sys::napi_get_typedarray_info(
            env.raw(),
            value,
            &raw mut kind,
            &raw mut len,
            &raw mut data,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    let bytes = kind == sys::TypedarrayType::uint8_array
        || kind == sys::TypedarrayType::uint8_clamped_array;
    if status != sys::Status::napi_ok || !bytes {
        return None;
    }
    Some((data.cast(), if data.is_null() { 0 } else { len }))
}

/// Where an `ArrayBuffer`'s bytes are; a detached one has none.
pub(crate) fn array_buffer(env: Env, value: sys::napi_value) -> Option<(*mut u8, usize)> {
    let mut data = ptr::null_mut();
    let mut len = 0;
    let mut is_array_buffer = false;
    // SAFETY: a live value of this environment, asked for its type first.
    let status = unsafe {
        sys::napi_is_arraybuffer(env.raw(), value, &raw mut is_array_buffer);
        if is_array_buffer {
            sys::napi_get_arraybuffer_info(env.raw(), value, &raw mut data, &raw mut len)
        } else {
            sys::Status::napi_arraybuffer_expected
        }
    };
    (status == sys::Status::napi_ok).then_some((data.cast(), if data.is_null() { 0 } else { len }))
}

/// The elements of a JavaScript array.
pub(crate) fn elements(env: Env, array: Unknown<'_>) -> Option<Vec<sys::napi_value>> {
    let mut length = 0;
    // SAFETY: a live value of this environment; a value that is no array is refused by status.
    let status = unsafe { sys::napi_get_array_length(env.raw(), array.raw(), &raw mut length) };
    if status != sys::Status::napi_ok {
        return None;
    }
    (0..length)
        .map(|index| {
            let mut element = ptr::null_mut();
            // SAFETY: as above; a getter that throws is refused by status.
            let status =
                unsafe { sys::napi_get_element(env.raw(), array.raw(), index, &raw mut element) };
            (status == sys::Status::napi_ok).then_some(element)
        })
        .collect()
}

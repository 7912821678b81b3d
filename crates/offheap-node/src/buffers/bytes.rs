//! What reads and writes the bytes of buffers.

use crate::arguments::{Bytes, position, size, target_array};
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use offheap::{Error, Result};
use std::ptr;

/// Whether two ranges hold the same bytes.
#[napi(
    catch_unwind,
    ts_args_type = "a: number | Uint8Array, b: number | Uint8Array"
)]
pub fn bytes_equal(env: Env, a: Unknown<'_>, b: Unknown<'_>) -> napi::Result<bool> {
    let state = Environment::of(env)?;
    let (a, b) = pair(env, state, a, b).or_throw(env)?;
    // SAFETY: no JavaScript runs until the comparison is done.
    Ok(a.len == b.len && (a.ptr == b.ptr || unsafe { a.as_slice() == b.as_slice() }))
}

fn pair(env: Env, state: &Environment, a: Unknown<'_>, b: Unknown<'_>) -> Result<(Bytes, Bytes)> {
    Ok((Bytes::of(env, state, a)?, Bytes::of(env, state, b)?))
}

/// -1, 0 or 1: the order of two byte strings.
#[napi(
    catch_unwind,
    ts_args_type = "a: number | Uint8Array, b: number | Uint8Array"
)]
pub fn bytes_compare(env: Env, a: Unknown<'_>, b: Unknown<'_>) -> napi::Result<i32> {
    let state = Environment::of(env)?;
    let (a, b) = pair(env, state, a, b).or_throw(env)?;
    // SAFETY: no JavaScript runs until the comparison is done.
    Ok(unsafe { a.as_slice().cmp(b.as_slice()) } as i32)
}

/// Upper-case hexadecimal digits.
#[napi(catch_unwind, ts_args_type = "a: number | Uint8Array")]
pub fn bytes_to_hex(env: Env, a: Unknown<'_>) -> napi::Result<String> {
    let state = Environment::of(env)?;
    let made = || {
        let bytes = Bytes::of(env, state, a)?;
        // V8's longest string has 2^29 - 24 characters.
        if bytes.len > (1 << 28) - 12 {
            return Err(Error::not_supported(format!(
                "{} bytes make a longer string than JavaScript has",
                bytes.len
            )));
        }
        // SAFETY: no JavaScript runs until the string is made.
        offheap::buffer::try_to_hex(unsafe { bytes.as_slice() })
    };
    made().or_throw(env)
}

/// One byte; -1 is the last.
#[napi(catch_unwind, ts_args_type = "a: number | Uint8Array, index: number")]
pub fn bytes_at(env: Env, a: Unknown<'_>, index: f64) -> napi::Result<u32> {
    let state = Environment::of(env)?;
    let found = || {
        let bytes = Bytes::of(env, state, a)?;
        if index.fract() != 0.0 || !index.is_finite() {
            return Err(Error::invalid_argument("index", index, "an integer"));
        }
        #[expect(clippy::cast_precision_loss, reason = "sizes are below 2^53")]
        let at = if index < 0.0 {
            index + bytes.len as f64
        } else {
            index
        };
        match size("index", at) {
            // SAFETY: inside of a live range.
            Ok(at) if at < bytes.len => Ok(u32::from(unsafe { bytes.ptr.add(at).read() })),
            _ => Err(Error::position("index", index, bytes.len)),
        }
    };
    found().or_throw(env)
}

/// Sets the bytes of `[start, end)`.
#[napi(catch_unwind)]
pub fn buffer_fill(env: Env, buffer: f64, byte: f64, start: f64, end: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let filled = || {
        let handles = state.handles();
        let handle = handles.get(buffer).ok_or_else(|| disposed("buffer"))?;
        handle.must_be_mutable("fill")?;
        let value = size("byte", byte)
            .ok()
            .and_then(|value| u8::try_from(value).ok())
            .ok_or_else(|| Error::invalid_argument("byte", byte, "an integer from 0 to 255"))?;
        let (start, end) = (
            position("start", start, handle.len)?,
            position("end", end, handle.len)?,
        );
        let length = end
            .checked_sub(start)
            .ok_or_else(|| Error::range(start, "a negative number", handle.len))?;
        // SAFETY: the range was checked; JavaScript shares the bytes only with itself.
        unsafe { handle.range(start, length)?.write_bytes(value, length) };
        Ok(())
    };
    filled().or_throw(env)
}

/// Zeroes the bytes between the size and the capacity.
#[napi(catch_unwind)]
pub fn buffer_zero_padding(env: Env, buffer: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let zeroed = || {
        let handles = state.handles();
        let handle = handles.get(buffer).ok_or_else(|| disposed("buffer"))?;
        handle.must_be_mutable("zero the padding")?;
        handle.zero_padding()
    };
    zeroed().or_throw(env)
}

/// Copies bytes into a buffer; past the end nothing is written.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, position: number, bytes: number | Uint8Array"
)]
pub fn buffer_write(env: Env, buffer: f64, position: f64, bytes: Unknown<'_>) -> napi::Result<()> {
    let state = Environment::of(env)?;
    write(env, state, buffer, position, bytes).or_throw(env)
}

fn write(env: Env, state: &Environment, id: f64, at: f64, bytes: Unknown<'_>) -> Result<()> {
    let bytes = Bytes::of(env, state, bytes)?;
    let handles = state.handles();
    let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
    handle.must_be_mutable("write")?;
    let target = handle.range(position("position", at, handle.len)?, bytes.len)?;
    // SAFETY: both ranges are live and as long; they may overlap.
    unsafe { ptr::copy(bytes.ptr, target.as_ptr(), bytes.len) };
    Ok(())
}

/// Copies bytes out of a buffer until `target` is full.
#[napi(
    catch_unwind,
    ts_args_type = "source: number | Uint8Array, position: number, target: Uint8Array"
)]
pub fn buffer_read(
    env: Env,
    source: Unknown<'_>,
    position: f64,
    target: Unknown<'_>,
) -> napi::Result<()> {
    let state = Environment::of(env)?;
    read(env, state, source, position, target).or_throw(env)
}

fn read(
    env: Env,
    state: &Environment,
    source: Unknown<'_>,
    at: f64,
    target: Unknown<'_>,
) -> Result<()> {
    let source = Bytes::of(env, state, source)?;
    let (target, length) = target_array(env, &target)?;
    let at = position("position", at, source.len)?;
    if at.checked_add(length).is_none_or(|end| end > source.len) {
        return Err(Error::range(at, length, source.len));
    }
    if length > 0 {
        // SAFETY: both ranges are live and as long; they may overlap.
        unsafe { ptr::copy(source.ptr.add(at), target, length) };
    }
    Ok(())
}

//! What readers and writers of a GPU's memory do at once, without a promise.

use crate::arguments::{Bytes, position, size, target_array};
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::managers::device_buffer;
use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use offheap::{Error, MutableDeviceBuffer, Result};
use std::sync::Arc;

/// Copies bytes out of a buffer, wherever it lies, until `target` is full. Waits for the copy.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, position: number, target: Uint8Array"
)]
pub fn cuda_read(env: Env, buffer: f64, position: f64, target: Unknown<'_>) -> napi::Result<()> {
    let state = Environment::of(env)?;
    read(env, state, buffer, position, target).or_throw(env)
}

fn read(env: Env, state: &Environment, id: f64, at: f64, target: Unknown<'_>) -> Result<()> {
    let source = device_buffer(state, id)?;
    let (target, length) = target_array(env, &target)?;
    let at = position("position", at, source.len())?;
    if length == 0 {
        return source.read(at, &mut []);
    }
    // SAFETY: the array's bytes, which stay while no JavaScript runs: not before this returns, as managers run none.
    let target = unsafe { std::slice::from_raw_parts_mut(target, length) };
    source.read(at, target)
}

/// Copies the first `length` bytes of `source` into a buffer, wherever it lies. Waits for the copy.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, position: number, source: number | Uint8Array, length: number"
)]
pub fn cuda_write(
    env: Env,
    buffer: f64,
    position: f64,
    source: Unknown<'_>,
    length: f64,
) -> napi::Result<()> {
    let state = Environment::of(env)?;
    write(env, state, buffer, position, source, length).or_throw(env)
}

fn write(
    env: Env,
    state: &Environment,
    id: f64,
    at: f64,
    source: Unknown<'_>,
    length: f64,
) -> Result<()> {
    let length = size("length", length)?;
    let source = Bytes::of(env, state, source)?;
    let mut target = {
        let handles = state.handles();
        let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
        handle.must_be_mutable("write")?;
        let buffer = handle.to_device_buffer()?;
        let manager = Arc::clone(buffer.memory_manager());
        let (block, offset) = (buffer.block().clone(), buffer.offset());
        // SAFETY: the handle's range, of the manager's memory. JavaScript may have other handles of the same bytes, but
        // this thread does nothing else until the copy is done, and bytes are never taken for anything but bytes.
        unsafe { MutableDeviceBuffer::from_block(block, offset, buffer.len(), manager) }
    };
    let at = position("position", at, target.len())?;
    // SAFETY: no JavaScript runs before this returns, as managers run none.
    let bytes = unsafe { source.as_slice() };
    let bytes = bytes
        .get(..length)
        .ok_or_else(|| Error::range(0, length, bytes.len()))?;
    target.write(at, bytes)
}

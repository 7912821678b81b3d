//! Windows of builders: an ArrayBuffer over the whole capacity of a resizable block.
//!
//! A window is private to its builder: nobody can work on it in the background, so growing moves the
//! block first and detaches the old window afterwards, before any JavaScript runs again. A failure
//! leaves block and window as they were.

use crate::arguments::{array_buffer, size};
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::handle::{Handle, View};
use crate::parking::detach;
use crate::views::{copied, external, unknown};
use napi::bindgen_prelude::{Env, Unknown};
use napi::{JsValue, sys};
use napi_derive::napi;
use offheap::{Error, Result};
use std::ptr;

/// Gives the handle the block to itself, runs `change`, and takes the window's claim back if that
/// fails.
fn with_block(handle: &mut Handle, change: impl FnOnce(&mut Handle) -> Result<()>) -> Result<()> {
    let lent = handle.view.as_ref().and_then(|view| view.slot.lend());
    drop(lent);
    let result = change(handle);
    if result.is_err()
        && let Some(view) = &handle.view
    {
        view.slot.put(handle.block.clone());
    }
    result
}

/// Refuses a value that is not the builder's current window: it is about to be detached because the
/// block may move.
fn check_window(env: Env, handle: &Handle, view: sys::napi_value) -> Result<()> {
    let Some(window) = &handle.view else {
        return Ok(());
    };
    match array_buffer(env, view) {
        Some((data, length)) if window.slot.shows(data, length) => Ok(()),
        _ => Err(Error::invalid_argument(
            "view",
            "another value",
            "the builder's window",
        )),
    }
}

/// Detaches a builder's window: private to it, so nobody works on it.
///
/// Should the runtime refuse, the slot keeps whatever the window showed until it is collected.
fn end_window(env: Env, state: &Environment, window: Option<View>, view: sys::napi_value) {
    if window.is_none() && state.external_buffers {
        return;
    }
    let detached = detach(env, view);
    if let Some(window) = &window
        && detached
    {
        window.slot.take();
    }
}

/// Copies a window that is a copy into the block.
fn flush(env: Env, handle: &Handle, view: sys::napi_value) -> Result<()> {
    if let Some((data, length)) = array_buffer(env, view) {
        let length = length.min(handle.block.capacity());
        if length > 0 {
            // SAFETY: both ranges are live and as long.
            unsafe { ptr::copy(data, handle.cpu_ptr()?.as_ptr(), length) };
        }
    }
    Ok(())
}

/// Grows a builder's block and gives the new window over all of it.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, capacity: number, view: ArrayBuffer | undefined, zero: boolean",
    ts_return_type = "ArrayBuffer"
)]
pub fn builder_window<'a>(
    env: Env,
    buffer: f64,
    capacity: f64,
    view: Unknown<'_>,
    zero: bool,
) -> napi::Result<Unknown<'a>> {
    let state = Environment::of(env)?;
    let value = window(env, state, buffer, capacity, view.raw(), zero).or_throw(env)?;
    Ok(unknown(env, value))
}

fn window(
    env: Env,
    state: &Environment,
    id: f64,
    capacity: f64,
    view: sys::napi_value,
    zero: bool,
) -> Result<sys::napi_value> {
    let capacity = size("capacity", capacity)?;
    if capacity
        .checked_next_multiple_of(64)
        .is_none_or(|bytes| bytes > state.max_view)
    {
        return Err(Error::not_supported(format!(
            "a builder's memory is one ArrayBuffer: at most {} bytes on this runtime",
            state.max_view
        )));
    }
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("builder"))?;
    check_window(env, handle, view)?;
    handle.cpu_ptr()?;
    let old = handle.block.capacity();
    if capacity > handle.block.size() {
        if handle.others() > 0 {
            return Err(Error::busy("the builder's memory is held elsewhere"));
        }
        if !state.external_buffers {
            flush(env, handle, view)?;
        }
        with_block(handle, |handle| handle.block.reallocate(capacity))?;
        let new = handle.block.capacity();
        if zero {
            // SAFETY: the block has `new` bytes, and only the builder knows it.
            unsafe { handle.cpu_ptr()?.add(old).write_bytes(0, new - old) };
        }
    }
    let ptr = handle.cpu_ptr()?;
    handle.len = handle.block.capacity();
    let untold = handle.told.set(0);
    let (block, last) = (handle.block.clone(), handle.view.take());
    drop(handles);
    state.adjust_external(env, untold);
    end_window(env, state, last, view);
    let length = block.capacity();
    if !state.external_buffers {
        return copied(env, ptr, length);
    }
    let (value, new_view) = external(env, state, &block, ptr, length)?;
    drop(block);
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("builder"))?;
    handle.view = Some(new_view);
    Ok(value)
}

/// Makes a builder's block an ordinary mutable buffer of `size` bytes.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, size: number, shrinkToFit: boolean, view: ArrayBuffer | undefined"
)]
pub fn builder_finish(
    env: Env,
    buffer: f64,
    size: f64,
    shrink_to_fit: bool,
    view: Unknown<'_>,
) -> napi::Result<()> {
    let state = Environment::of(env)?;
    finish(env, state, buffer, size, shrink_to_fit, view.raw()).or_throw(env)
}

fn finish(
    env: Env,
    state: &Environment,
    id: f64,
    bytes: f64,
    shrink_to_fit: bool,
    view: sys::napi_value,
) -> Result<()> {
    let len = size("size", bytes)?;
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("builder"))?;
    check_window(env, handle, view)?;
    handle.cpu_ptr()?;
    let capacity = handle.block.capacity();
    if len > capacity {
        return Err(Error::range(0, len, capacity));
    }
    if !state.external_buffers {
        flush(env, handle, view)?;
    }
    let shrinks = shrink_to_fit && len != handle.block.size();
    if shrinks {
        if handle.others() > 0 {
            return Err(Error::busy("the builder's memory is held elsewhere"));
        }
        with_block(handle, |handle| handle.block.reallocate(len))?;
    }
    handle.len = len;
    handle.zero_padding()?;
    let last = handle.view.take();
    let size = handle.block.size();
    let told = handle.told.set(size);
    drop(handles);
    state.adjust_external(env, told);
    end_window(env, state, last, view);
    crate::buffers::buffer_describe(env, id).map_err(|_| disposed("builder"))
}

//! What changes a buffer's size, and what ends its changing.

use super::describe;
use crate::arguments::size;
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::gate::Gate;
use crate::handle::Handle;
use crate::views::{Shown, end_all, end_copies, end_now, is_idle};
use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use offheap::{Block, Error, ErrorKind, Notice, Pool, Result};
use std::ptr;

/// How a handle's memory changes.
enum Change {
    /// Only the size.
    InPlace,
    /// The block is reallocated: nobody else holds it and no view shows it.
    Reallocate(usize),
    /// A new block takes the bytes over, because views, or work on old views, hold the old one.
    Move(usize),
}

/// Decides how the block gets `size` bytes.
fn change_to(handle: &Handle, size: usize) -> Result<Change> {
    let others = handle.others();
    if others > 0 {
        return Err(Error::busy(format!(
            "the memory cannot move: {others} other handles (slices, shared tickets) hold it"
        )));
    }
    Ok(if handle.block.is_unique() {
        Change::Reallocate(size)
    } else {
        Change::Move(size)
    })
}

/// A new block of `size` bytes with the handle's bytes, as many as fit.
fn moved(handle: &Handle, size: usize) -> Result<Block> {
    let pool = handle
        .block
        .pool()
        .ok_or_else(|| Error::not_supported("foreign memory cannot be resized"))?;
    let source = handle.cpu_ptr()?;
    let block = Block::allocate(size, handle.block.alignment(), pool, false)?;
    let new = Handle::whole(block, size);
    let bytes = handle.len.min(size);
    // SAFETY: both blocks have as many bytes and more; a new block overlaps nothing.
    unsafe { ptr::copy_nonoverlapping(source.as_ptr(), new.cpu_ptr()?.as_ptr(), bytes) };
    Ok(new.block)
}

/// Reallocates a block that is shown where there is no room for a second one: its views end first,
/// so that nothing can show the old memory. `refused` is the error where that is no way either.
fn squeeze(
    env: Env,
    state: &Environment,
    id: f64,
    size: usize,
    shown: &Shown,
    gate_state: u32,
    refused: Error,
) -> Result<()> {
    {
        // Only where a limit has no room for two blocks, but for one.
        if !matches!(
            refused.kind(),
            ErrorKind::OutOfMemory { limit: Some(_), .. }
        ) {
            return Err(refused);
        }
        let handles = state.handles();
        let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
        let more = size.saturating_sub(handle.block.size()) as u64;
        let fits = handle
            .block
            .pool()
            .and_then(Pool::available)
            .is_none_or(|available| more <= available);
        if !fits
            || !matches!(state.gate, Gate::Idle(_))
            || !is_idle(state, handle, gate_state)
            || !shown.are_attached(env, handle)
        {
            return Err(refused);
        }
    }
    if !end_now(env, state, id, shown, gate_state)?.is_empty() {
        return Err(refused);
    }
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
    if !handle.block.is_unique() {
        return Err(refused);
    }
    handle.block.reallocate(size)
}

/// Carries a change out, ends the views, and sets the size. An error leaves everything as it was
/// (except that views may have ended where memory was too short even to try).
fn apply(
    env: Env,
    state: &Environment,
    id: f64,
    change: &Change,
    len: usize,
    shown: &Shown,
    gate_state: u32,
) -> Result<()> {
    let mut old = None;
    {
        let mut handles = state.handles_mut();
        let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
        match *change {
            Change::InPlace => {}
            Change::Reallocate(size) => handle.block.reallocate(size)?,
            Change::Move(size) => match moved(handle, size) {
                Ok(block) => old = Some(std::mem::replace(&mut handle.block, block)),
                Err(error) if handle.view.is_some() => {
                    drop(handles);
                    squeeze(env, state, id, size, shown, gate_state, error)?;
                }
                Err(error) => return Err(error),
            },
        }
    }
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
    handle.len = len;
    let windows = std::mem::take(&mut handle.windows);
    let views = handle.view.take().into_iter().chain(windows);
    let told = if handle.is_whole && handle.block.pool().is_some() {
        let size = handle.block.size();
        handle.told.set(size)
    } else {
        0
    };
    describe(state, handle);
    let copied_at = handle.copied_at.take();
    let block = handle.block.clone();
    drop(handles);
    end_copies(env, state, copied_at, shown, gate_state);
    state.adjust_external(env, told);
    end_all(env, state, &block, old, views, shown, gate_state);
    Ok(())
}

/// Changes a buffer's size; true when its views ended.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, size: number, shrinkToFit: boolean, views: Array<ArrayBuffer>, state: number"
)]
pub fn buffer_resize(
    env: Env,
    buffer: f64,
    size: f64,
    shrink_to_fit: bool,
    views: Unknown<'_>,
    state: u32,
) -> napi::Result<bool> {
    let environment = Environment::of(env)?;
    let shown = Shown::list(env, views);
    resize(env, environment, buffer, size, shrink_to_fit, &shown, state).or_throw(env)
}

fn resize(
    env: Env,
    state: &Environment,
    id: f64,
    bytes: f64,
    shrink_to_fit: bool,
    shown: &Shown,
    gate_state: u32,
) -> Result<bool> {
    let len = size("size", bytes)?;
    let change = {
        let handles = state.handles();
        let handle = resizable(handles.get(id))?;
        // As in the core: growth into the padding moves nothing, but what is used is counted.
        let counted = handle.block.size();
        if len > counted || (shrink_to_fit && len <= handle.len && len != counted) {
            change_to(handle, len)?
        } else if len == handle.len {
            describe(state, handle);
            return Ok(false);
        } else {
            Change::InPlace
        }
    };
    apply(env, state, id, &change, len, shown, gate_state)?;
    Ok(true)
}

fn resizable(handle: Option<&Handle>) -> Result<&Handle> {
    let handle = handle.ok_or_else(|| disposed("buffer"))?;
    handle.must_be_mutable("resize")?;
    if handle.is_resizable {
        Ok(handle)
    } else {
        Err(Error::not_supported(
            "the buffer has a fixed size: make resizable ones by allocateResizableBuffer",
        ))
    }
}

/// Makes room for `capacity` bytes; true when the views ended.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, capacity: number, views: Array<ArrayBuffer>, state: number"
)]
pub fn buffer_reserve(
    env: Env,
    buffer: f64,
    capacity: f64,
    views: Unknown<'_>,
    state: u32,
) -> napi::Result<bool> {
    let environment = Environment::of(env)?;
    let shown = Shown::list(env, views);
    reserve(env, environment, buffer, capacity, &shown, state).or_throw(env)
}

fn reserve(
    env: Env,
    state: &Environment,
    id: f64,
    capacity: f64,
    shown: &Shown,
    gate_state: u32,
) -> Result<bool> {
    let capacity = size("capacity", capacity)?;
    let (change, len) = {
        let handles = state.handles();
        let handle = resizable(handles.get(id))?;
        if capacity <= handle.block.size() {
            describe(state, handle);
            return Ok(false);
        }
        (change_to(handle, capacity)?, handle.len)
    };
    apply(env, state, id, &change, len, shown, gate_state)?;
    Ok(true)
}

/// Ends a buffer's views and makes it immutable; true when views ended.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, views: Array<ArrayBuffer>, state: number"
)]
pub fn buffer_freeze(env: Env, buffer: f64, views: Unknown<'_>, state: u32) -> napi::Result<bool> {
    let environment = Environment::of(env)?;
    let shown = Shown::list(env, views);
    freeze(env, environment, buffer, &shown, state).or_throw(env)
}

fn freeze(env: Env, state: &Environment, id: f64, shown: &Shown, gate_state: u32) -> Result<bool> {
    let has_views = state
        .handles()
        .get(id)
        .ok_or_else(|| disposed("buffer"))?
        .view
        .is_some();
    if has_views || !state.external_buffers {
        let rest = if state.external_buffers {
            &end_now(env, state, id, shown, gate_state)?
        } else {
            shown
        };
        let (change, len) = {
            let handles = state.handles();
            let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
            // A view that cannot end now would go on writing: the immutable bytes move away.
            let change = match handle.block.pool() {
                Some(_) if handle.view.is_some() && handle.is_whole => {
                    Change::Move(handle.block.size())
                }
                _ => Change::InPlace,
            };
            (change, handle.len)
        };
        apply(env, state, id, &change, len, rest, gate_state)?;
    }
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
    handle.is_mutable = false;
    // Mutable slices, and tickets of this buffer, may still write.
    if handle.others() == 0 {
        handle.block.notice(Notice::Sealed);
    }
    describe(state, handle);
    Ok(has_views)
}

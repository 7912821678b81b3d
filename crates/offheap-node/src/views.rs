//! ArrayBuffers over native memory, and their end.

use crate::arguments::{array_buffer, elements, size};
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::gate::Gate;
use crate::handle::{Handle, View};
use crate::parking;
use crate::slot::{Slot, finalize_array_buffer, finalize_shared};
use napi::bindgen_prelude::{Env, Unknown};
use napi::{JsValue, sys};
use napi_derive::napi;
use offheap::{Block, Error, Notice, Result};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// A JavaScript value that a napi function returns as it is.
pub(crate) fn unknown<'a>(env: Env, value: sys::napi_value) -> Unknown<'a> {
    // SAFETY: a live value of this environment.
    unsafe { Unknown::from_raw_unchecked(env.raw(), value) }
}

/// An ArrayBuffer over `[ptr, ptr + length)` of `block`, and the view to remember it by.
pub(crate) fn external(
    env: Env,
    state: &Environment,
    block: &Block,
    ptr: NonNull<u8>,
    length: usize,
) -> Result<(sys::napi_value, View)> {
    let slot = Arc::new(Slot::new(
        block.clone(),
        ptr.addr().get(),
        length,
        &state.waiting,
    ));
    let hint = Arc::into_raw(Arc::clone(&slot)).cast_mut();
    let mut value = ptr::null_mut();
    // SAFETY: the bytes stay in place until the slot gives its claim up: by the finalizer, or after
    // the ArrayBuffer was detached.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env.raw(),
            ptr.as_ptr().cast(),
            length,
            Some(finalize_array_buffer),
            hint.cast(),
            &raw mut value,
        )
    };
    if status != sys::Status::napi_ok {
        // SAFETY: the runtime did not take the count, so it is ours again.
        drop(unsafe { Arc::from_raw(hint) });
        slot.take();
        return Err(Error::not_supported(format!(
            "the runtime refused an ArrayBuffer of {length} bytes"
        )));
    }
    Ok((
        value,
        View {
            slot,
            requests: state.gate.requests(),
        },
    ))
}

/// An ArrayBuffer of JavaScript's own with a copy of `length` bytes.
pub(crate) fn copied(env: Env, ptr: NonNull<u8>, length: usize) -> Result<sys::napi_value> {
    let mut data = ptr::null_mut();
    let mut value = ptr::null_mut();
    // SAFETY: a live environment and out parameters.
    let status =
        unsafe { sys::napi_create_arraybuffer(env.raw(), length, &raw mut data, &raw mut value) };
    if status != sys::Status::napi_ok {
        return Err(Error::not_supported(format!(
            "the runtime refused an ArrayBuffer of {length} bytes"
        )));
    }
    // SAFETY: both have `length` bytes, and the new ones overlap nothing.
    unsafe { ptr.as_ptr().copy_to_nonoverlapping(data.cast(), length) };
    Ok(value)
}

/// A new ArrayBuffer over `[offset, offset + length)` of a buffer.
pub(crate) fn show(
    env: Env,
    state: &Environment,
    id: f64,
    offset: f64,
    length: f64,
) -> Result<sys::napi_value> {
    let (offset, length) = (size("offset", offset)?, size("length", length)?);
    let (block, ptr) = {
        let handles = state.handles();
        let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
        (handle.block.clone(), handle.range(offset, length)?)
    };
    if length > state.max_view {
        return Err(Error::not_supported(format!(
            "this runtime's ArrayBuffers have at most {} bytes: ask for windows by asUint8Array(offset, length)",
            state.max_view
        )));
    }
    if !state.external_buffers {
        let value = copied(env, ptr, length)?;
        if let Some(handle) = state.handles_mut().get_mut(id) {
            handle.copied_at.get_or_insert(state.gate.requests());
        }
        return Ok(value);
    }
    let (value, view) = external(env, state, &block, ptr, length)?;
    drop(block);
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
    let untold = if handle.is_whole {
        handle.told.set(0)
    } else {
        0
    };
    if handle.view.is_none() {
        handle.view = Some(view);
    } else {
        handle.windows.push(view);
    }
    drop(handles);
    state.adjust_external(env, untold);
    Ok(value)
}

/// A SharedArrayBuffer over a buffer's bytes, which it keeps until it is collected.
#[napi(catch_unwind, ts_return_type = "SharedArrayBuffer")]
pub fn buffer_shared_view<'a>(env: Env, buffer: f64) -> napi::Result<Unknown<'a>> {
    let state = Environment::of(env)?;
    let value = shared(env, state, buffer).or_throw(env)?;
    Ok(unknown(env, value))
}

fn shared(env: Env, state: &Environment, id: f64) -> Result<sys::napi_value> {
    let create = state.create_shared.filter(|_| state.external_buffers).ok_or_else(|| {
        Error::not_supported(
            "this runtime has no SharedArrayBuffers over native memory (Node 22.23, 24.21, 26.9 and Bun have)",
        )
    })?;
    let handles = state.handles();
    let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
    handle.must_not_be_lent()?;
    let (ptr, len) = (handle.cpu_ptr()?, handle.len);
    let slot = Arc::new(Slot::new(
        handle.block.clone(),
        ptr.addr().get(),
        len,
        &state.waiting,
    ));
    let hint = Arc::into_raw(Arc::clone(&slot)).cast_mut();
    drop(handles);
    let mut value = ptr::null_mut();
    // SAFETY: the bytes stay until the finalizer, which may run on any thread, takes the slot.
    let status = unsafe {
        create(
            env.raw(),
            ptr.as_ptr().cast(),
            len,
            finalize_shared,
            hint.cast(),
            &raw mut value,
        )
    };
    if status != sys::Status::napi_ok {
        // SAFETY: the runtime did not take the count.
        drop(unsafe { Arc::from_raw(hint) });
        slot.take();
        return Err(Error::not_supported(
            "the runtime refused the SharedArrayBuffer",
        ));
    }
    Ok(value)
}

/// The ArrayBuffers that the TypeScript layer keeps for a handle.
#[derive(Debug)]
pub(crate) enum Shown {
    None,
    One(sys::napi_value),
    Many(Vec<sys::napi_value>),
}

impl Shown {
    pub(crate) fn list(env: Env, views: Unknown<'_>) -> Self {
        elements(env, views).map_or(Self::None, Self::Many)
    }

    /// Whether each of the handle's views is here and shows its memory still.
    pub(crate) fn are_attached(&self, env: Env, handle: &Handle) -> bool {
        let shown = self.as_slice();
        handle.views().count() == shown.len()
            && handle.views().zip(shown).all(|(view, value)| {
                array_buffer(env, *value).is_some_and(|(data, len)| view.slot.shows(data, len))
            })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    fn as_slice(&self) -> &[sys::napi_value] {
        match self {
            Self::None => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// Views that stay attached beyond their handle.
#[derive(Default)]
struct Left {
    /// Of work that may be in flight.
    waiting: Vec<Arc<Slot>>,
    /// To see who writes them.
    stale: Vec<Arc<Slot>>,
}

/// Ends `views` of `block`; returns the slots of those that stay attached. With `keeps_stale`, those
/// are views that could end, too.
///
/// Nothing of the environment is borrowed meanwhile: a detach may run finalizers.
fn end(
    env: Env,
    state: &Environment,
    block: &Block,
    views: impl Iterator<Item = View>,
    shown: &Shown,
    gate_state: u32,
    keeps_stale: bool,
) -> Left {
    let mut left = Left::default();
    for (view, value) in views.zip(shown.as_slice()) {
        let idle = state.gate.is_idle(gate_state, view.requests);
        let attached =
            array_buffer(env, *value).is_some_and(|(data, length)| view.slot.shows(data, length));
        if !attached {
            // Moved or detached by somebody else: the memory is the finalizer's to give up. Whoever
            // works on the old address keeps the handle's own claim in place.
            if !idle {
                let own = block.clone().park();
                state.parking.borrow_mut().add_block(env, own, Some(*value));
            }
        } else if idle && keeps_stale && view.slot.park() {
            // No entry of the parking: the ArrayBuffer's collection ends it.
            left.stale.push(view.slot);
        } else if idle && parking::detach(env, *value) {
            view.slot.take();
        } else if view.slot.park() {
            // Where only the collection tells, the finalizer is all that is needed, unless the
            // bytes can be moved out of an ArrayBuffer in use.
            if !matches!(state.gate, Gate::Collect) || state.watches_moves {
                state.parking.borrow_mut().add_view(
                    env,
                    Arc::clone(&view.slot),
                    *value,
                    state.watches_moves,
                );
            }
            left.waiting.push(view.slot);
        }
    }
    left
}

/// Whether the views of a handle that ends stay, over memory that nobody may use, to find who uses
/// them all the same: under debug hooks, where that is safe and cheap enough.
fn keeps_stale(state: &Environment, handle: &Handle) -> bool {
    handle.view.is_some()
        && matches!(state.gate, Gate::Idle(_))
        && handle.others() == 0
        && !state.is_over_budget()
        // Damage is to be reported in this call: then the block is freed as usual.
        && handle.block.pool().is_some_and(|pool| pool.debug_options().is_some())
        && !handle.is_damaged()
}

/// Ends the views of a handle that can end now, and gives back what is still shown, in the order of
/// the views that the handle keeps: those in use, those that were moved, those that cannot be
/// detached at all (an ArrayBuffer that asm.js has seen).
pub(crate) fn end_now(
    env: Env,
    state: &Environment,
    id: f64,
    shown: &Shown,
    gate_state: u32,
) -> Result<Shown> {
    let views: Vec<View> = {
        let mut handles = state.handles_mut();
        let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
        let windows = std::mem::take(&mut handle.windows);
        handle.view.take().into_iter().chain(windows).collect()
    };
    let mut kept = Vec::new();
    let mut rest = Vec::new();
    for (view, value) in views.into_iter().zip(shown.as_slice()) {
        let attached =
            array_buffer(env, *value).is_some_and(|(data, length)| view.slot.shows(data, length));
        if attached && state.gate.is_idle(gate_state, view.requests) && parking::detach(env, *value)
        {
            view.slot.take();
        } else {
            kept.push(view);
            rest.push(*value);
        }
    }
    let mut kept = kept.into_iter();
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
    handle.view = kept.next();
    handle.windows = kept.collect();
    Ok(Shown::Many(rest))
}

/// Gives pages back while the environment's parked bytes are over their budget. To be called when
/// the handle's own reference is gone: pages of a block in use stay.
fn keep_budget(state: &Environment, waiting: &[Arc<Slot>]) {
    for slot in waiting {
        if state.is_over_budget() {
            slot.discard_pages();
        }
    }
}

/// Ends all views of a handle that stays, and gives up `old`, the block that they showed, if the
/// handle has another one now.
pub(crate) fn end_all(
    env: Env,
    state: &Environment,
    block: &Block,
    old: Option<Block>,
    views: impl Iterator<Item = View>,
    shown: &Shown,
    gate_state: u32,
) {
    let waiting = end(
        env,
        state,
        old.as_ref().unwrap_or(block),
        views,
        shown,
        gate_state,
        false,
    )
    .waiting;
    drop(old);
    keep_budget(state, &waiting);
}

/// Detaches views that are copies, in JavaScript's own memory; while something is in flight they
/// stay, since a detach alone can abort the process (zlib on Node 20).
pub(crate) fn end_copies(
    env: Env,
    state: &Environment,
    copied_at: Option<u32>,
    shown: &Shown,
    gate_state: u32,
) {
    if !copied_at.is_some_and(|requests| state.gate.is_idle(gate_state, requests)) {
        return;
    }
    for value in shown.as_slice() {
        if array_buffer(env, *value).is_some() {
            parking::detach(env, *value);
        }
    }
}

/// Whether every view of a handle can be detached now.
pub(crate) fn is_idle(state: &Environment, handle: &Handle, gate_state: u32) -> bool {
    handle
        .views()
        .all(|view| state.gate.is_idle(gate_state, view.requests))
}

/// Ends a handle and its views; true when the memory has to wait for work in flight.
pub(crate) fn dispose(
    env: Env,
    state: &Environment,
    id: f64,
    shown: &Shown,
    gate_state: u32,
) -> Result<bool> {
    let handle = state
        .handles_mut()
        .remove(id)
        .ok_or_else(|| disposed("buffer"))?;
    let keeps_stale = keeps_stale(state, &handle);
    let Handle {
        block,
        is_whole,
        copied_at,
        told,
        view,
        windows,
        ..
    } = handle;
    let change = told.end(&block, is_whole && view.is_some());
    if change != 0 {
        state.adjust_external(env, change);
    }
    if view.is_none() {
        end_copies(env, state, copied_at, shown, gate_state);
        return Ok(false);
    }
    let views = view.into_iter().chain(windows);
    let Left { waiting, stale } = end(env, state, &block, views, shown, gate_state, keeps_stale);
    drop(block);
    keep_budget(state, &waiting);
    for slot in &stale {
        slot.notice_end();
    }
    // Without a check phase, look at what waits now and then.
    match state.gate {
        Gate::Idle(_) => {}
        Gate::Detach => {
            if state.parking.borrow_mut().is_retry_due() {
                parking::drain(env, &state.parking);
            }
        }
        Gate::Collect => {
            let mut parking = state.parking.borrow_mut();
            if state.waiting.has_orphans() {
                parking.start_check();
            }
            if parking.check.is_none() && parking.is_retry_due() {
                parking.sweep(env);
            }
        }
    }
    Ok(!waiting.is_empty())
}

/// Ends a handle and its views; true when the memory has to wait for work in flight.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, views: Array<ArrayBuffer>, state: number"
)]
pub fn buffer_dispose_windows(
    env: Env,
    buffer: f64,
    views: Unknown<'_>,
    state: u32,
) -> napi::Result<bool> {
    let environment = Environment::of(env)?;
    let shown = Shown::list(env, views);
    dispose(env, environment, buffer, &shown, state).or_throw(env)
}

/// Lets a handle go that nobody disposed and nobody can reach any more. Its views stay. Called for
/// disposed handles too, when they are collected: their ids name nothing.
pub(crate) fn release(env: Env, state: &Environment, id: f64) {
    let Some(handle) = state.handles_mut().remove(id) else {
        return;
    };
    // A view that was moved to another length freed its slot while the old address may be in use.
    let may_be_used = matches!(state.gate, Gate::Idle(_))
        && handle
            .views()
            .any(|view| view.slot.is_empty() && !state.gate.is_idle(0, view.requests));
    if handle.others() == 0 {
        handle.block.notice(Notice::Forgotten);
    }
    let shows = handle.is_whole && handle.view.is_some();
    let change = handle.told.end(&handle.block, shows);
    state.adjust_external(env, change);
    if may_be_used {
        let own = handle.block.park();
        state.parking.borrow_mut().add_block(env, own, None);
    }
}

fn transfer(
    env: Env,
    state: &Environment,
    id: f64,
    view: Unknown<'_>,
    offset: f64,
    writes: bool,
) -> Result<(NonNull<u8>, *mut u8, usize)> {
    let offset = size("offset", offset)?;
    let (data, length) = array_buffer(env, view.raw())
        .ok_or_else(|| Error::invalid_argument("view", "another value", "an ArrayBuffer"))?;
    let handles = state.handles();
    let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
    if writes {
        handle.must_be_mutable("flush a view")?;
    }
    Ok((handle.range(offset, length)?, data, length))
}

/// Copies a view that is a copy into its buffer.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, view: ArrayBuffer, offset: number"
)]
pub fn buffer_flush(env: Env, buffer: f64, view: Unknown<'_>, offset: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let (native, data, length) = transfer(env, state, buffer, view, offset, true).or_throw(env)?;
    // SAFETY: both ranges are live and `length` bytes long; they may be the same memory.
    unsafe { ptr::copy(data, native.as_ptr(), length) };
    Ok(())
}

/// Copies a buffer into a view that is a copy.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, view: ArrayBuffer, offset: number"
)]
pub fn buffer_refresh(env: Env, buffer: f64, view: Unknown<'_>, offset: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let (native, data, length) = transfer(env, state, buffer, view, offset, false).or_throw(env)?;
    // SAFETY: as above.
    unsafe { ptr::copy(native.as_ptr(), data, length) };
    Ok(())
}

//! What the TypeScript layer asks after every native call, while some feature of the environment needs
//! it: no JavaScript runs inside of an allocator, so it runs after the call that made the request.

use crate::arguments::array_buffer;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::events::STRIDE;
use napi::JsValue;
use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use offheap::Error;
use offheap::origin::{self, Foreign};
use std::cell::RefCell;
use std::sync::Arc;

/// Bits of the answer of [`after_call`].
mod after {
    /// What the call allocated waits for its JavaScript stack.
    pub(super) const WANTS_ORIGIN: u32 = 1;
    /// Events wait.
    pub(super) const HAS_EVENTS: u32 = 2;
    /// Reports of debug hooks wait.
    pub(super) const HAS_REPORTS: u32 = 4;
}

/// What waits for JavaScript's side of the story in one environment.
#[derive(Debug, Default)]
pub(crate) struct Instrument {
    /// What the last call allocated.
    waiting: RefCell<Option<Arc<Foreign>>>,
    /// Stacks that the TypeScript layer has put into words, by number - 1.
    stacks: RefCell<Vec<Arc<str>>>,
}

/// What there is to do after a call.
#[inline]
pub(crate) fn after_call(state: &Environment) -> u32 {
    let mut mask = 0;
    if let Some(foreign) = origin::take_pending() {
        let old = state.instrument.waiting.replace(Some(foreign));
        drop(old);
        mask |= after::WANTS_ORIGIN;
    }
    if !state.events.is_empty() {
        mask |= after::HAS_EVENTS;
    }
    if state.events.has_reports() {
        mask |= after::HAS_REPORTS;
    }
    mask
}

/// Says whether [`after_call`] is called after each call, and stacks are wanted.
#[napi(catch_unwind)]
pub fn origins_wanted(env: Env, wanted: bool) -> napi::Result<()> {
    let state = Environment::of(env)?;
    origin::this_thread_has_foreign_frames(wanted);
    drop(state.instrument.waiting.take());
    Ok(())
}

/// Keeps the text of a stack, one frame a line, the innermost first; returns its number.
#[napi(catch_unwind)]
pub fn origins_stack(env: Env, text: String) -> napi::Result<u32> {
    let state = Environment::of(env)?;
    let mut stacks = state.instrument.stacks.borrow_mut();
    stacks.push(text.into());
    u32::try_from(stacks.len())
        .map_err(|_| Error::not_supported("more than 4 billion stacks"))
        .or_throw(env)
}

/// Forgets the numbers of all stacks; texts live on where they are used.
#[napi(catch_unwind)]
pub fn origins_forget_stacks(env: Env) -> napi::Result<()> {
    let old = Environment::of(env)?.instrument.stacks.take();
    drop(old);
    Ok(())
}

/// Says where the last call came from: a stack's number (0: none) and tags (empty: none).
#[napi(catch_unwind)]
pub fn origins_tell(env: Env, stack: u32, tags: String) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let Some(foreign) = state.instrument.waiting.take() else {
        return Ok(());
    };
    let index = (stack as usize).wrapping_sub(1);
    if let Some(text) = state.instrument.stacks.borrow().get(index) {
        foreign.set_stack(Arc::clone(text));
    }
    if !tags.is_empty() {
        foreign.set_tags(tags.into());
    }
    Ok(())
}

/// Takes events out of the queue: eight numbers each, as many as fit into an ArrayBuffer of doubles.
#[napi(catch_unwind, ts_args_type = "target: ArrayBuffer")]
pub fn take_events(env: Env, target: Unknown<'_>) -> napi::Result<u32> {
    let state = Environment::of(env)?;
    let (data, length) = array_buffer(env, target.raw())
        .filter(|(data, length)| {
            data.cast::<f64>().is_aligned() && *length >= STRIDE * size_of::<f64>()
        })
        .ok_or_else(|| {
            Error::invalid_argument("target", "another value", "an ArrayBuffer of doubles")
        })
        .or_throw(env)?;
    // SAFETY: a live, aligned range; no JavaScript runs until it was filled.
    let target =
        unsafe { std::slice::from_raw_parts_mut(data.cast::<f64>(), length / size_of::<f64>()) };
    Ok(u32::try_from(state.events.take(target)).unwrap_or(u32::MAX))
}

/// Says before a call where it comes from, for hooks that decide by it; 0: nowhere any more.
#[napi(catch_unwind)]
pub fn origins_before(env: Env, stack: u32) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let index = (stack as usize).wrapping_sub(1);
    let text = state.instrument.stacks.borrow().get(index).cloned();
    origin::set_current_foreign(text);
    Ok(())
}

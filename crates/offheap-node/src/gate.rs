//! Whether somebody may still have the address of bytes that JavaScript has seen.
//!
//! libuv's thread pool, sockets and zlib keep raw pointers to ArrayBuffers; freeing under a pending
//! `fs.read` crashes Node 20 and corrupts Node 26. The rule that survived 60 kinds of attack is in
//! `docs/lifetime.md`.

use crate::uv::Loop;
use napi::bindgen_prelude::Env;
use napi::sys;
use std::ffi::c_void;
use std::ptr;

/// How this environment learns that nothing is in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gate {
    /// The event loop's count of requests, proved at load.
    Idle(Loop),
    /// The runtime refuses to detach what is in use (Bun).
    Detach,
    /// Nothing tells: only the ArrayBuffer's collection does.
    Collect,
}

/// Bits of `options` of `configure`.
pub(crate) mod options {
    /// `OFFHEAP_SAFE_DISPOSE=1`.
    pub(crate) const SAFE_DISPOSE: u32 = 1;
    /// The runtime is Bun.
    pub(crate) const BUN: u32 = 2;
    /// The runtime is neither Node nor Bun.
    pub(crate) const OTHER: u32 = 4;
    /// Behave as where external ArrayBuffers are forbidden.
    pub(crate) const NO_EXTERNAL: u32 = 8;
    /// ArrayBuffers of at most 4 GiB.
    pub(crate) const SMALL_VIEWS: u32 = 16;
}

/// Bits of `state` of `bufferDispose` and its kin.
const SAME_STRETCH: u32 = 1;
const HOLD: u32 = 2;

impl Gate {
    /// Chooses, and proves the choice.
    pub(crate) fn choose(env: Env, options: u32) -> Self {
        if options & options::SAFE_DISPOSE != 0 || options & options::OTHER != 0 {
            return Self::Collect;
        }
        if options & options::BUN != 0 {
            return Self::Detach;
        }
        match proved_loop(env) {
            Some(event_loop) => Self::Idle(event_loop),
            None => Self::Collect,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Detach => "detach",
            Self::Collect => "collect",
        }
    }

    /// Requests in flight now, to be remembered with a new view.
    #[inline]
    pub(crate) fn requests(self) -> u32 {
        match self {
            Self::Idle(event_loop) => event_loop.active_requests(),
            Self::Detach | Self::Collect => 0,
        }
    }

    /// Whether a view that was made when `requests_then` were in flight may be detached and its
    /// memory freed now.
    ///
    /// In one synchronous stretch nothing completes, so the count only grows: unchanged means that
    /// no request was started, so nobody has the pointer.
    #[inline]
    pub(crate) fn is_idle(self, state: u32, requests_then: u32) -> bool {
        if state & HOLD != 0 {
            return false;
        }
        match self {
            Self::Idle(event_loop) => {
                let now = event_loop.active_requests();
                now == 0 || (state & SAME_STRETCH != 0 && now == requests_then)
            }
            // The detach itself is the question.
            Self::Detach => true,
            Self::Collect => false,
        }
    }
}

/// The environment's loop, as the runtime says.
pub(crate) fn event_loop(env: Env) -> Option<Loop> {
    let mut raw = ptr::null_mut();
    // SAFETY: a live environment and an out parameter.
    let status = unsafe { sys::napi_get_uv_event_loop(env.raw(), &raw mut raw) };
    if status != sys::Status::napi_ok {
        return None;
    }
    Loop::new(raw.cast())
}

/// The environment's loop, if its word really counts requests: one queued piece of work must raise
/// it by exactly one. (On Bun it is always 0, on Deno garbage.)
fn proved_loop(env: Env) -> Option<Loop> {
    let event_loop = event_loop(env)?;
    let before = event_loop.active_requests();
    queue_nothing(env)?;
    (event_loop.active_requests() == before.checked_add(1)?).then_some(event_loop)
}

fn queue_nothing(env: Env) -> Option<()> {
    unsafe extern "C" fn execute(_env: sys::napi_env, _data: *mut c_void) {}
    unsafe extern "C" fn complete(env: sys::napi_env, _status: i32, data: *mut c_void) {
        // SAFETY: the box made below, used once.
        let work = unsafe { Box::from_raw(data.cast::<sys::napi_async_work>()) };
        // SAFETY: the work is done.
        unsafe { sys::napi_delete_async_work(env, *work) };
    }
    let name = env.create_string("offheap").ok()?;
    let work = Box::into_raw(Box::new(ptr::null_mut::<sys::napi_async_work__>()));
    // SAFETY: a live environment; `work` outlives the callbacks, which free it.
    unsafe {
        let created = sys::napi_create_async_work(
            env.raw(),
            ptr::null_mut(),
            napi::JsValue::raw(&name),
            Some(execute),
            Some(complete),
            work.cast(),
            work,
        );
        if created != sys::Status::napi_ok {
            drop(Box::from_raw(work));
            return None;
        }
        if sys::napi_queue_async_work(env.raw(), *work) != sys::Status::napi_ok {
            sys::napi_delete_async_work(env.raw(), *work);
            drop(Box::from_raw(work));
            return None;
        }
    }
    Some(())
}

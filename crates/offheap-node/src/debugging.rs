//! Debug hooks, and their reports on the way to JavaScript.

use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::events::{Event, Events, Kind};
use crate::pools::adopt;
use crate::tracking::native_text;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::origin::{self, Origin};
use offheap::{Corruption, DebugOptions, Error, OnError, Result};
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// The queue of this thread's environment.
    static EVENTS: RefCell<Option<Arc<Events>>> = const { RefCell::new(None) };
}

/// Where reports that this thread finds go to be thrown, from now on.
pub(crate) fn set_thread_events(events: Option<Arc<Events>>) {
    let old = EVENTS.try_with(|own| own.replace(events));
    drop(old);
}

/// Has the core give its reports to the environments.
pub(crate) fn install() {
    offheap::set_throw_handler(Some(take_report));
    offheap::set_foreign_stack_provider(Some(|| {
        origin::current_foreign().map(|stack| stack.as_ref().to_owned())
    }));
}

/// Reports to be thrown: after the call that runs, else in a turn of the event loop of its own.
/// Where nobody can throw (a thread without an environment, or whose environment ends) they are
/// printed: a panic would end the process.
fn take_report(corruption: &Corruption) -> bool {
    let events = EVENTS
        .try_with(|events| events.try_borrow().ok()?.clone())
        .ok()
        .flatten();
    match events {
        Some(events) => events.push_report(0, corruption),
        None => eprint!("{corruption}"),
    }
    true
}

/// A callback of JavaScript, which is told of reports on its environment's thread.
struct Callback {
    events: Arc<Events>,
    number: u32,
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.events.push(Event::new(self.number, Kind::Gone));
    }
}

/// Where a block was allocated or freed, or damage found. Absent texts are empty.
#[derive(Debug)]
#[napi(object)]
pub struct NativeOrigin {
    /// The thread.
    pub thread: f64,
    /// JavaScript frames, one a line.
    pub stack: String,
    /// Native frames, one a line.
    pub native_stack: String,
    /// Tags.
    pub tags: String,
}

impl NativeOrigin {
    #[expect(clippy::cast_precision_loss, reason = "a counter below 2^53")]
    fn of(origin: &Origin) -> Self {
        let text = |text: Option<Arc<str>>| text.map_or_else(String::new, |text| text.to_string());
        Self {
            thread: origin.thread as f64,
            stack: text(origin.foreign_stack()),
            native_stack: native_text(origin.native),
            tags: text(origin.all_tags()),
        }
    }
}

/// What debug hooks found.
#[derive(Debug)]
#[napi(object)]
pub struct NativeCorruption {
    /// The callback's number; 0 to be thrown.
    pub callback: u32,
    /// What is wrong.
    pub kind: String,
    /// When it was found.
    pub detected_on: String,
    /// The block's address.
    pub address: f64,
    /// Its size.
    pub size: f64,
    /// Its alignment.
    pub alignment: f64,
    /// Its pool's name.
    pub pool: String,
    /// Its domain's letter.
    pub domain: String,
    /// Whom it was given to.
    pub given_to: String,
    /// Its number.
    pub serial: f64,
    /// The first damaged byte.
    pub offset: Option<f64>,
    /// Where it was allocated.
    pub allocated_at: Option<NativeOrigin>,
    /// Where it was freed.
    pub freed_at: Option<NativeOrigin>,
    /// Where the damage was found.
    pub detected_at: NativeOrigin,
    /// The bytes around the damage.
    pub dump: String,
    /// One line.
    pub message: String,
    /// All of it.
    pub text: String,
}

#[expect(clippy::cast_precision_loss, reason = "figures below 2^53")]
fn described(callback: u32, found: &Corruption) -> NativeCorruption {
    NativeCorruption {
        callback,
        kind: found.kind.name().to_owned(),
        detected_on: found.detected_on.name().to_owned(),
        address: found.address as f64,
        size: found.size as f64,
        alignment: found.alignment as f64,
        pool: found.pool.to_string(),
        domain: found.domain.to_string(),
        given_to: found.given_to.to_string(),
        serial: found.serial as f64,
        offset: found.offset.map(|offset| offset as f64),
        allocated_at: found.allocated_at.as_ref().map(NativeOrigin::of),
        freed_at: found.freed_at.as_ref().map(NativeOrigin::of),
        detected_at: NativeOrigin::of(&found.detected_at),
        dump: found.dump(),
        message: found.headline().to_string(),
        text: found.to_string(),
    }
}

/// Options of debug hooks, and a callback's number or 0.
fn options(
    state: &Environment,
    on_error: &str,
    quarantine: f64,
    depth: u32,
) -> Result<(DebugOptions, u32)> {
    let (on_error, number) = if on_error == "call" {
        let number = state.events.next_observer();
        let callback = Callback {
            events: Arc::clone(&state.events),
            number,
        };
        let call = move |found: &Corruption| callback.events.push_report(callback.number, found);
        (OnError::Call(Arc::new(call)), number)
    } else {
        let mode = OnError::named(on_error).ok_or_else(|| {
            Error::invalid_argument(
                "onError",
                format_args!("'{on_error}'"),
                "'abort', 'trap', 'warn', 'throw' or a function",
            )
        })?;
        (mode, 0)
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an integer from 0 to 2^53 - 1"
    )]
    let mut options = DebugOptions {
        on_error,
        stack_depth: depth as usize,
        ..DebugOptions::default()
    };
    if quarantine >= 0.0 {
        options.quarantine_bytes = quarantine as usize;
    }
    Ok((options, number))
}

/// A pool over `pool` with debug hooks; word 1 is the callback's number. A negative quarantine is the
/// usual one.
#[napi(catch_unwind)]
pub fn pool_debug(
    env: Env,
    pool: f64,
    on_error: String,
    quarantine: f64,
    depth: u32,
) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || {
        let pool = state.pool(pool)?;
        let (options, number) = options(state, &on_error, quarantine, depth)?;
        let id = adopt(state, pool.debug(options))?;
        state.set_number(1, f64::from(number));
        Ok(id)
    };
    made().or_throw(env)
}

/// Puts debug hooks over all domains; returns the callback's number.
#[napi(catch_unwind)]
pub fn debug_setup(env: Env, on_error: String, quarantine: f64, depth: u32) -> napi::Result<u32> {
    let state = Environment::of(env)?;
    let set = || {
        let (options, number) = options(state, &on_error, quarantine, depth)?;
        offheap::setup_debug_hooks(&options)?;
        Ok(number)
    };
    set().or_throw(env)
}

/// What is damaged in the nearest debug pool.
#[napi(catch_unwind)]
pub fn pool_check(env: Env, pool: f64) -> napi::Result<Vec<NativeCorruption>> {
    let state = Environment::of(env)?;
    let found = state
        .pool(pool)
        .and_then(|pool| pool.check_integrity())
        .or_throw(env)?;
    Ok(found.iter().map(|found| described(0, found)).collect())
}

/// Takes the reports that wait.
#[napi(catch_unwind)]
pub fn take_reports(env: Env) -> napi::Result<Vec<NativeCorruption>> {
    let reports = Environment::of(env)?.events.take_reports();
    Ok(reports
        .iter()
        .map(|(callback, found)| described(*callback, found))
        .collect())
}

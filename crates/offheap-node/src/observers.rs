//! Observers: hooks that tell JavaScript.

use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::events::{Dropped, Event, Events, Kind};
use crate::pools::adopt;
use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use offheap::{Error, Hook, Pool, Request, Result, origin};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells one JavaScript observer, on the thread of its environment, what its pool does. It lives as
/// long as the pool, which may be longer than its environment: then it tells nobody.
#[derive(Debug)]
pub(crate) struct JsObserver {
    events: Arc<Events>,
    number: u32,
    /// The kinds that it has functions for.
    kinds: u32,
    is_attached: AtomicBool,
    dropped: Dropped,
}

impl JsObserver {
    pub(crate) fn new(state: &Environment, number: u32, kinds: u32) -> Self {
        Self {
            events: Arc::clone(&state.events),
            number,
            kinds,
            is_attached: AtomicBool::new(true),
            dropped: Dropped::default(),
        }
    }

    /// A block was asked for, and made or not.
    pub(crate) fn made(
        &self,
        block: Option<NonNull<u8>>,
        size: usize,
        alignment: usize,
        zeroed: bool,
    ) {
        if self.wants(Kind::Malloc) {
            self.tell(Event {
                zeroed,
                failed: block.is_none(),
                address: block.map_or(0, |block| block.addr().get()),
                size,
                alignment,
                ..Event::new(self.number, Kind::Malloc)
            });
        }
    }

    /// A block is about to be freed. Told before it happens: after it, another thread may be given
    /// the same address.
    pub(crate) fn ends(&self, block: NonNull<u8>, size: usize, alignment: usize) {
        if self.wants(Kind::Free) {
            self.tell(Event {
                address: block.addr().get(),
                size,
                alignment,
                ..Event::new(self.number, Kind::Free)
            });
        }
    }

    fn wants(&self, kind: Kind) -> bool {
        self.kinds & kind as u32 != 0 && self.is_attached.load(Ordering::Acquire)
    }

    fn tell(&self, event: Event) {
        let thread = origin::thread_number();
        if !self.events.push(Event { thread, ..event }) {
            self.dropped.add();
        }
    }

    fn is_of(&self, state: &Environment) -> bool {
        Arc::ptr_eq(&self.events, &state.events)
    }
}

impl Hook for JsObserver {
    fn before(&self, request: &Request, _pool: &Pool) -> Result<()> {
        if let Request::Free {
            ptr,
            size,
            alignment,
            ..
        } = *request
        {
            self.ends(ptr, size, alignment.get());
        }
        Ok(())
    }

    fn after(&self, request: &Request, answer: Result<Option<NonNull<u8>>, &Error>) {
        let block = answer.ok().flatten();
        match *request {
            Request::Allocate {
                size,
                alignment,
                zeroed,
                ..
            } => self.made(block, size, alignment.get(), zeroed),
            Request::Reallocate {
                ptr,
                old_size,
                new_size,
                alignment,
                ..
            } if self.wants(Kind::Realloc) => self.tell(Event {
                failed: block.is_none(),
                address: block.map_or(0, |block| block.addr().get()),
                size: new_size,
                old_address: ptr.addr().get(),
                old_size,
                alignment: alignment.get(),
                ..Event::new(self.number, Kind::Realloc)
            }),
            _ => {}
        }
    }
}

impl Drop for JsObserver {
    fn drop(&mut self) {
        if self.is_attached.load(Ordering::Acquire) {
            self.events.push(Event::new(self.number, Kind::Gone));
        }
    }
}

/// Has `wake` called in a turn of the event loop when events wait that no call looks after.
#[napi(catch_unwind, ts_args_type = "wake: () => void")]
pub fn events_start(env: Env, wake: Unknown<'_>) -> napi::Result<()> {
    Environment::of(env)?.events.wake.start(env, wake)
}

/// A pool over `pool` that tells the observer with this number.
pub(crate) fn observed(state: &Environment, pool: &Pool, number: u32, kinds: u32) -> Pool {
    pool.hook(Arc::new(JsObserver::new(state, number, kinds)))
}

/// A pool over `pool` that tells an observer of the kinds of events in `kinds` (1 malloc, 2 realloc,
/// 4 free); word 0 is its key, word 1 the observer's number.
#[napi(catch_unwind)]
pub fn pool_observe(env: Env, pool: f64, kinds: u32) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || {
        let number = state.events.next_observer();
        let id = adopt(state, observed(state, &state.pool(pool)?, number, kinds))?;
        state.set_number(1, f64::from(number));
        Ok(id)
    };
    made().or_throw(env)
}

fn observer_of(state: &Environment, pool: f64) -> Result<Option<Arc<JsObserver>>> {
    let found = state.pool(pool)?.find_hook::<JsObserver>();
    Ok(found
        .filter(|observer| observer.is_of(state) && observer.is_attached.load(Ordering::Acquire)))
}

/// Ends the observer over a pool that is nearest to it, if it is this environment's; returns its
/// number, or 0.
#[napi(catch_unwind)]
pub fn pool_unobserve(env: Env, pool: f64) -> napi::Result<u32> {
    let state = Environment::of(env)?;
    let observer = observer_of(state, pool).or_throw(env)?;
    Ok(observer
        .filter(|observer| observer.is_attached.swap(false, Ordering::AcqRel))
        .map_or(0, |observer| observer.number))
}

/// How many events of that observer were dropped; -1 for none.
#[napi(catch_unwind)]
pub fn pool_dropped_events(env: Env, pool: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let observer = observer_of(state, pool).or_throw(env)?;
    #[expect(clippy::cast_precision_loss, reason = "a counter below 2^53")]
    Ok(observer.map_or(-1.0, |observer| observer.dropped.get() as f64))
}

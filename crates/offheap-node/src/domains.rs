//! Allocator domains.

use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::observers::{JsObserver, observed};
use crate::pools::adopt;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::domain::{ArenaAllocator, ArenaSource, get_arena_allocator, set_arena_allocator};
use offheap::{Domain, Error};
use std::ptr::NonNull;

/// A domain's allocator.
#[napi(catch_unwind)]
pub fn domain_allocator(env: Env, domain: String) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    Domain::named(&domain)
        .and_then(|domain| adopt(state, domain.allocator()))
        .or_throw(env)
}

/// Replaces a domain's allocator; returns what was installed, which debug hooks may have wrapped.
#[napi(catch_unwind)]
pub fn domain_set_allocator(env: Env, domain: String, pool: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let set = || {
        let (domain, pool) = (Domain::named(&domain)?, state.pool(pool)?);
        domain.set_allocator(&pool)?;
        adopt(state, domain.allocator())
    };
    set().or_throw(env)
}

/// Puts an observer over a domain's allocator, as `poolObserve` does over a pool.
#[napi(catch_unwind)]
pub fn domain_observe(env: Env, domain: String, kinds: u32) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || {
        let domain = Domain::named(&domain)?;
        let number = state.events.next_observer();
        let pool = domain.wrap(|before| observed(state, before, number, kinds))?;
        let id = adopt(state, pool)?;
        state.set_number(1, f64::from(number));
        Ok(id)
    };
    made().or_throw(env)
}

/// The pool that allocates from a domain.
#[napi(catch_unwind)]
pub fn domain_pool(env: Env, domain: String) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    Domain::named(&domain)
        .and_then(|domain| adopt(state, domain.pool()))
        .or_throw(env)
}

/// The pool of small objects.
#[napi(catch_unwind)]
pub fn pool_object(env: Env) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    adopt(state, offheap::object_memory_pool()).or_throw(env)
}

/// Arenas of another allocator that an observer is told of.
struct ObservedArenas {
    inner: ArenaAllocator,
    observer: JsObserver,
}

// SAFETY: every arena is the inner allocator's, which keeps the promise.
unsafe impl ArenaSource for ObservedArenas {
    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        let arena = self.inner.allocate(size);
        self.observer.made(arena, size, 1, false);
        arena
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize) {
        self.observer.ends(ptr, size, 1);
        // SAFETY: the caller's promise; the arena is the inner allocator's.
        unsafe { self.inner.free(ptr, size) };
    }
}

/// Makes a pool serve the arenas of the `object` domain; 0 stands for the system.
#[napi(catch_unwind)]
pub fn arenas_from(env: Env, pool: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let allocator = if pool == 0.0 {
        ArenaAllocator::MAPPED
    } else {
        let pool = state.pool(pool).or_throw(env)?;
        if !pool.is_cpu() {
            let (name, location) = (pool.name(), pool.location());
            return Err(Error::not_supported(format!(
                "pool '{name}' has memory of {location}, which the CPU cannot read or write"
            )))
            .or_throw(env);
        }
        ArenaAllocator::from_pool(&pool)
    };
    set_arena_allocator(allocator);
    Ok(())
}

/// Tells an observer of the arenas of the allocator that there is; returns its number.
#[napi(catch_unwind)]
pub fn arenas_observe(env: Env, kinds: u32) -> napi::Result<u32> {
    let state = Environment::of(env)?;
    let number = state.events.next_observer();
    set_arena_allocator(ArenaAllocator::from_source(ObservedArenas {
        inner: get_arena_allocator(),
        observer: JsObserver::new(state, number, kinds),
    }));
    Ok(number)
}

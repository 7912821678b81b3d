//! Allocator domains.

use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::observers::observed;
use crate::pools::adopt;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::Domain;

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

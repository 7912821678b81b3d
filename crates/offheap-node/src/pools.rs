//! Pools by id.

use crate::arguments::size;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::tracking::NativeSites;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::{Error, Failing, Pool, Result, TrimPolicy};
use std::time::Duration;

/// Takes a pool in; word 0 is its key, and words 2 and 3 are the depths of the JavaScript stacks that it
/// wants after and before each call.
pub(crate) fn adopt(state: &Environment, pool: Pool) -> Result<f64> {
    state.set_word(0, pool.key() as u64);
    state.set_word(2, origins_wanted_by(&pool) as u64);
    state.set_word(3, stack_asked_before(&pool) as u64);
    state.pools_mut().insert(pool).map_err(|_| {
        Error::not_supported("more than 67 million pools are alive in this environment")
    })
}

/// Frames that hooks of the pool keep of each call.
fn origins_wanted_by(pool: &Pool) -> usize {
    let tracked = pool
        .tracker()
        .map_or(0, |tracker| tracker.options().foreign_stack_depth);
    tracked.max(debug_depth(pool))
}

/// Frames that hooks of the pool must know while a call runs: those that fail by the stack.
fn stack_asked_before(pool: &Pool) -> usize {
    let by_stack = pool
        .find_hook::<Failing>()
        .is_some_and(|failing| failing.asks_for_stacks());
    if by_stack { DEEPEST } else { debug_depth(pool) }
}

/// Debug hooks print the frames of the call that runs, and cannot wait for its end when they abort.
fn debug_depth(pool: &Pool) -> usize {
    pool.debug_options().map_or(0, |_| DEBUG_DEPTH)
}

/// JavaScript frames that debug hooks keep.
const DEBUG_DEPTH: usize = 16;

/// The most frames of a stack.
const DEEPEST: usize = 64;

/// Names go into errors and reports: longer ones are refused.
const LONGEST_NAME: usize = 256;

fn named(name: &str) -> Result<Option<&str>> {
    if name.len() > LONGEST_NAME {
        return Err(Error::invalid_argument(
            "name",
            format_args!("{} bytes", name.len()),
            "text of at most 256 bytes",
        ));
    }
    Ok((!name.is_empty()).then_some(name))
}

/// The names of this build's backends, the preferred one first.
#[napi(catch_unwind)]
pub fn supported_backends() -> Vec<String> {
    offheap::supported_memory_backends()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// The default pool.
#[napi(catch_unwind)]
pub fn pool_default(env: Env) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    adopt(state, offheap::default_memory_pool()).or_throw(env)
}

/// Replaces the default pool of the process.
#[napi(catch_unwind)]
pub fn pool_set_default(env: Env, pool: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    state
        .pool(pool)
        .and_then(|pool| offheap::set_default_memory_pool(&pool))
        .or_throw(env)
}

/// A backend's own pool, with our large blocks or with the allocator's.
#[napi(catch_unwind)]
pub fn pool_backend(env: Env, name: String, large_blocks: bool) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let usual = offheap::PoolOptions::DEFAULT;
    let options = if large_blocks {
        usual
    } else {
        usual.without_large_blocks()
    };
    offheap::pool::memory_pool_named_with(&name, &options)
        .and_then(|pool| adopt(state, pool))
        .or_throw(env)
}

/// A pool over `pool` with a limit.
#[napi(catch_unwind)]
pub fn pool_limit(env: Env, pool: f64, max_bytes: f64, name: String) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || {
        let limit = size("maxBytes", max_bytes)? as u64;
        adopt(state, state.pool(pool)?.limit_named(limit, named(&name)?))
    };
    made().or_throw(env)
}

/// A pool over `pool` with statistics of its own.
#[napi(catch_unwind)]
pub fn pool_proxy(env: Env, pool: f64, name: String) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || adopt(state, state.pool(pool)?.proxy_named(named(&name)?));
    made().or_throw(env)
}

/// A pool's name.
#[napi(catch_unwind)]
pub fn pool_name(env: Env, pool: f64) -> napi::Result<String> {
    let state = Environment::of(env)?;
    state
        .pool(pool)
        .map(|pool| pool.name().to_owned())
        .or_throw(env)
}

/// The name of the allocator under a pool.
#[napi(catch_unwind)]
pub fn pool_backend_name(env: Env, pool: f64) -> napi::Result<String> {
    let state = Environment::of(env)?;
    state
        .pool(pool)
        .map(|pool| pool.backend_name().to_owned())
        .or_throw(env)
}

/// Sets the words that hold a pool's figures; -1 stands for none or unknown.
#[napi(catch_unwind)]
pub fn pool_stats(env: Env, pool: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let pool = state.pool(pool).or_throw(env)?;
    let now = pool.statistics();
    let known = |value: Option<u64>| value.map_or(-1.0, |value| value as f64);
    let figures = [
        now.bytes_allocated as f64,
        now.peak_bytes as f64,
        now.total_bytes_allocated as f64,
        now.num_allocations as f64,
        now.live_allocations as f64,
        now.parked_bytes as f64,
        known(now.limit_bytes),
        known(now.available),
        f64::from(u8::from(pool.is_closed())),
        known(now.backend.usable),
        known(now.backend.resident),
        known(now.backend.retained),
        known(now.backend.fragmented),
        known(now.backend.cached),
    ];
    for (index, figure) in figures.into_iter().enumerate() {
        state.set_number(index, figure);
    }
    Ok(())
}

/// Starts a pool's peak anew.
#[napi(catch_unwind)]
pub fn pool_reset_peak(env: Env, pool: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    state.pool(pool).map(|pool| pool.reset_peak()).or_throw(env)
}

/// Gives the allocator's unused memory back to the system.
#[napi(catch_unwind)]
pub fn pool_release_unused(env: Env, pool: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    state
        .pool(pool)
        .map(|pool| pool.release_unused())
        .or_throw(env)
}

/// Says when the allocator under a pool gives unused memory back by itself; -1 milliseconds: never.
#[napi(catch_unwind)]
pub fn pool_trim(env: Env, pool: f64, idle_ms: f64, min_bytes: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let set = || {
        let policy = if idle_ms == -1.0 {
            None
        } else {
            Some(TrimPolicy {
                idle: Duration::from_millis(size("idleMs", idle_ms)? as u64),
                min_bytes: size("minBytes", min_bytes)? as u64,
            })
        };
        state.pool(pool)?.trim(policy)
    };
    set().or_throw(env)
}

/// Sets words 0 and 1 to the milliseconds and bytes of `pool_trim`; -1 milliseconds: never.
#[napi(catch_unwind)]
pub fn pool_trim_policy(env: Env, pool: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let policy = state.pool(pool).or_throw(env)?.trim_policy();
    state.set_number(0, policy.map_or(-1.0, |p| p.idle.as_millis() as f64));
    state.set_word(1, policy.map_or(0, |p| p.min_bytes));
    Ok(())
}

/// Prints the allocator's statistics to stderr.
#[napi(catch_unwind)]
pub fn pool_print_stats(env: Env, pool: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    state
        .pool(pool)
        .map(|pool| pool.print_stats())
        .or_throw(env)
}

/// Closes a pool; words 0 and 1 are the bytes and allocations alive. Returns where they came from, if
/// they are tracked.
#[napi(catch_unwind)]
pub fn pool_close(env: Env, pool: f64) -> napi::Result<Option<NativeSites>> {
    let state = Environment::of(env)?;
    let report = state
        .pool(pool)
        .and_then(|pool| {
            let report = pool.close()?;
            state.failures.end_of(pool.key());
            Ok(report)
        })
        .or_throw(env)?;
    state.set_word(0, report.bytes);
    state.set_word(1, report.allocations);
    let tracker = state.pool(pool).or_throw(env)?.tracker();
    Ok(tracker.map(|_| NativeSites::of(&report)))
}

/// Lets a pool's handle go that nobody can reach any more.
#[napi(catch_unwind)]
pub fn pool_drop(env: Env, pool: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let gone = state.pools_mut().remove(pool);
    if let Some(gone) = gone {
        state.failures.end_of(gone.key());
    }
    Ok(())
}

/// Bytes in live allocations from every backend.
#[napi(catch_unwind)]
pub fn total_allocated_bytes() -> f64 {
    offheap::total_allocated_bytes() as f64
}

/// Bytes of this environment that were disposed but wait for work in flight.
#[napi(catch_unwind)]
pub fn parked_bytes(env: Env) -> napi::Result<f64> {
    Ok(Environment::of(env)?.waiting.bytes() as f64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_empty_name_is_none_and_a_long_one_is_refused() {
        assert_eq!(super::named("").unwrap(), None);
        assert_eq!(super::named("a").unwrap(), Some("a"));
        assert!(super::named(&"a".repeat(257)).is_err());
    }
}

//! Figures for the memory overview.

use crate::environment::Environment;
use crate::errors::OrThrow;
use napi::bindgen_prelude::Env;
use napi_derive::napi;

/// Words for each backend.
const STRIDE: usize = 8;

/// Sets eight words for each backend, in the order of `supportedBackends`: bytes allocated, usable,
/// resident, retained, parked, live allocations, and what waits in the cache of large blocks, the
/// same for each; -1 stands for unknown. Brings V8's figure of external memory up to date first.
#[napi(catch_unwind)]
pub fn overview(env: Env) -> napi::Result<()> {
    let state = Environment::of(env)?;
    state.flush_external(env);
    let known = |value: Option<u64>| value.map_or(-1.0, |value| value as f64);
    for (backend, name) in offheap::supported_memory_backends().into_iter().enumerate() {
        let pool = offheap::pool::memory_pool_named(name).or_throw(env)?;
        let plain = offheap::PoolOptions::DEFAULT.without_large_blocks();
        let plain = offheap::pool::memory_pool_named_with(name, &plain).or_throw(env)?;
        let mut now = pool.statistics();
        if plain != pool {
            // Another pool over the same allocator, whose own figures are of both.
            let plain = plain.statistics();
            now.bytes_allocated += plain.bytes_allocated;
            now.parked_bytes += plain.parked_bytes;
            now.live_allocations += plain.live_allocations;
        }
        let figures = [
            now.bytes_allocated as f64,
            known(now.backend.usable),
            known(now.backend.resident),
            known(now.backend.retained),
            now.parked_bytes as f64,
            now.live_allocations as f64,
            known(now.backend.cached),
        ];
        for (index, figure) in figures.into_iter().enumerate() {
            state.set_number(backend * STRIDE + index, figure);
        }
    }
    Ok(())
}

//! jemalloc's own controls; `ERR_OFFHEAP_NOT_SUPPORTED` in a build without it.

use crate::errors::OrThrow;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::{Error, Result};

#[cfg(feature = "jemalloc")]
use offheap::pool::jemalloc as controls;

#[cfg(not(feature = "jemalloc"))]
mod controls {
    use offheap::{Error, Result};

    fn absent<T>() -> Result<T> {
        Err(Error::not_supported("this build has no jemalloc backend"))
    }
    pub(super) fn set_decay_ms(_ms: i64) -> Result<()> {
        absent()
    }
    pub(super) fn stat(_name: &str) -> Result<u64> {
        absent()
    }
    pub(super) fn peak_reset() -> Result<()> {
        absent()
    }
    pub(super) fn stats_string(_options: &str) -> Result<String> {
        absent()
    }
}

fn milliseconds(ms: f64) -> Result<i64> {
    if ms.fract() == 0.0 && (-1.0..=9_007_199_254_740_991.0).contains(&ms) {
        #[expect(clippy::cast_possible_truncation, reason = "an integer of 53 bits")]
        Ok(ms as i64)
    } else {
        Err(Error::invalid_argument(
            "ms",
            ms,
            "-1 (never), 0 (at once) or milliseconds",
        ))
    }
}

/// After how many milliseconds jemalloc gives unused pages back.
#[napi(catch_unwind)]
pub fn jemalloc_set_decay_ms(env: Env, ms: f64) -> napi::Result<()> {
    milliseconds(ms)
        .and_then(controls::set_decay_ms)
        .or_throw(env)
}

/// One of jemalloc's figures.
#[napi(catch_unwind)]
pub fn jemalloc_stat(env: Env, name: String) -> napi::Result<f64> {
    controls::stat(&name)
        .map(|value| value as f64)
        .or_throw(env)
}

/// Starts the calling thread's peak anew.
#[napi(catch_unwind)]
pub fn jemalloc_peak_reset(env: Env) -> napi::Result<()> {
    controls::peak_reset().or_throw(env)
}

/// jemalloc's statistics as text.
#[napi(catch_unwind)]
pub fn jemalloc_stats_string(env: Env, options: String) -> napi::Result<String> {
    controls::stats_string(&options).or_throw(env)
}

//! What trackers know, for JavaScript.

use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::pools::adopt;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::origin::StackId;
use offheap::{
    Allocation, Error, LeakReport, LogFormat, LogSink, Result, ScopeCounters, Site, TrackOptions,
    Tracker,
};
use std::sync::Arc;
use std::time::Instant;

/// A live block and where it came from. Absent texts are empty.
#[derive(Debug)]
#[napi(object)]
pub struct NativeAllocation {
    /// Its address.
    pub address: f64,
    /// Its size.
    pub size: f64,
    /// Its alignment.
    pub alignment: f64,
    /// Its number.
    pub serial: f64,
    /// Who allocated it.
    pub thread: f64,
    /// How long ago, in milliseconds.
    pub age_ms: f64,
    /// JavaScript frames, one a line.
    pub stack: String,
    /// Native frames, one a line.
    pub native_stack: String,
    /// Tags.
    pub tags: String,
    /// Whether only the memory waits.
    pub parked: bool,
}

/// Blocks of one place.
#[derive(Debug)]
#[napi(object)]
pub struct NativeSite {
    /// Their bytes.
    pub bytes: f64,
    /// Their number.
    pub count: f64,
    /// JavaScript frames, one a line.
    pub stack: String,
    /// Native frames, one a line.
    pub native_stack: String,
    /// Tags.
    pub tags: String,
    /// How long ago the first was allocated, in milliseconds.
    pub oldest_ms: f64,
    /// How long ago the last was.
    pub newest_ms: f64,
}

/// What is alive and what was forgotten, by place.
#[derive(Debug)]
#[napi(object)]
pub struct NativeSites {
    /// Where what is alive came from.
    pub sites: Vec<NativeSite>,
    /// Where what the collector freed came from.
    pub forgotten: Vec<NativeSite>,
}

fn ms_since(time: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(time).as_secs_f64() * 1000.0
}

fn text(text: Option<&Arc<str>>) -> String {
    text.map_or_else(String::new, |text| text.as_ref().to_owned())
}

/// The native frames, one a line, by name.
pub(crate) fn native_text(stack: StackId) -> String {
    let frames: Vec<String> = stack.frames().iter().map(ToString::to_string).collect();
    frames.join("\n")
}

#[expect(clippy::cast_precision_loss, reason = "figures below 2^53")]
fn allocation(found: &Allocation, now: Instant) -> NativeAllocation {
    NativeAllocation {
        address: found.address as f64,
        size: found.size as f64,
        alignment: found.alignment.get() as f64,
        serial: found.serial as f64,
        thread: found.thread as f64,
        age_ms: ms_since(found.time, now),
        stack: text(found.foreign.as_ref()),
        native_stack: native_text(found.native),
        tags: text(found.tags.as_ref()),
        parked: found.parked,
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures below 2^53")]
fn sites(found: &[Site]) -> Vec<NativeSite> {
    let now = Instant::now();
    let site = |site: &Site| NativeSite {
        bytes: site.bytes as f64,
        count: site.count as f64,
        stack: text(site.foreign.as_ref()),
        native_stack: native_text(site.native),
        tags: text(site.tags.as_ref()),
        oldest_ms: ms_since(site.first, now),
        newest_ms: ms_since(site.last, now),
    };
    found.iter().map(site).collect()
}

impl NativeSites {
    pub(crate) fn of(report: &LeakReport) -> Self {
        Self {
            sites: sites(&report.sites),
            forgotten: sites(&report.forgotten),
        }
    }
}

/// A pool over `pool` that knows its live blocks, with as many native and JavaScript frames.
#[napi(catch_unwind)]
pub fn pool_track(
    env: Env,
    pool: f64,
    native_depth: u32,
    javascript_depth: u32,
) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || {
        let options = TrackOptions::default()
            .stack_depth(native_depth as usize)
            .foreign_stack_depth(javascript_depth as usize);
        adopt(state, state.pool(pool)?.track(options))
    };
    made().or_throw(env)
}

fn tracker(state: &Environment, pool: f64) -> Result<Option<Arc<Tracker>>> {
    Ok(state.pool(pool)?.tracker())
}

/// The live blocks of the nearest tracker; null without one.
#[napi(catch_unwind)]
pub fn pool_allocations(env: Env, pool: f64) -> napi::Result<Option<Vec<NativeAllocation>>> {
    let state = Environment::of(env)?;
    let tracker = tracker(state, pool).or_throw(env)?;
    let now = Instant::now();
    Ok(tracker.map(|tracker| {
        let live = tracker.live();
        live.iter().map(|found| allocation(found, now)).collect()
    }))
}

/// Where what is alive, and what was forgotten, came from; null without a tracker.
#[napi(catch_unwind)]
pub fn pool_sites(env: Env, pool: f64) -> napi::Result<Option<NativeSites>> {
    let state = Environment::of(env)?;
    let tracker = tracker(state, pool).or_throw(env)?;
    Ok(tracker.map(|tracker| NativeSites::of(&tracker.report())))
}

/// Where a buffer's block came from; null when nobody knows.
#[napi(catch_unwind)]
pub fn buffer_allocation(env: Env, buffer: f64) -> napi::Result<Option<NativeAllocation>> {
    let state = Environment::of(env)?;
    let found = || {
        let handles = state.handles();
        let handle = handles.get(buffer).ok_or_else(|| disposed("buffer"))?;
        // Of the block, which a slice may begin behind.
        let address = handle.address() - handle.offset;
        let tracker = handle.block.pool().and_then(|pool| pool.tracker());
        Ok(tracker.and_then(|tracker| tracker.find(address)))
    };
    let found = found().or_throw(env)?;
    Ok(found.map(|found| allocation(&found, Instant::now())))
}

fn log_format(name: &str) -> Result<LogFormat> {
    match name {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        "rmm-csv" => Ok(LogFormat::RmmCsv),
        _ => Err(Error::invalid_argument(
            "format",
            format_args!("'{name}'"),
            "one of 'text', 'json', 'rmm-csv'",
        )),
    }
}

/// A pool over `pool` that logs to a file, or to stderr when `path` is empty.
#[napi(catch_unwind)]
pub fn pool_log(env: Env, pool: f64, path: String, format: String) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || {
        let sink = if path.is_empty() {
            LogSink::Stderr
        } else {
            LogSink::File(path.into())
        };
        adopt(state, state.pool(pool)?.log(log_format(&format)?, sink)?)
    };
    made().or_throw(env)
}

/// A pool over `pool` with counters for scopes.
#[napi(catch_unwind)]
pub fn pool_scoped(env: Env, pool: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || adopt(state, state.pool(pool)?.scoped_statistics());
    made().or_throw(env)
}

/// Sets words 0 to 5 to bytes and allocations: value, peak and total of each.
#[expect(clippy::cast_precision_loss, reason = "figures below 2^53")]
fn set_counters(state: &Environment, counters: &ScopeCounters) {
    let figures = [counters.bytes, counters.allocations];
    for (index, counter) in figures.iter().enumerate() {
        for (word, figure) in [counter.value, counter.peak, counter.total]
            .iter()
            .enumerate()
        {
            state.set_number(index * 3 + word, *figure as f64);
        }
    }
}

/// Begins (`what` 0) or ends (1) a scope of this thread, or looks at it (2): words 0 to 5 are the
/// counters.
#[napi(catch_unwind)]
pub fn pool_scope(env: Env, pool: f64, what: u32) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let counted = || {
        let scopes = state.pool(pool)?.scopes().ok_or_else(|| {
            Error::not_supported("this pool counts no scopes: make one by scopedStatistics()")
        })?;
        let counters = match what {
            0 => scopes.push()?,
            1 => scopes.pop()?,
            _ => scopes.counters(),
        };
        set_counters(state, &counters);
        Ok(())
    };
    counted().or_throw(env)
}

//! Events by id.

use super::devices::gpu;
use super::state::{Cuda, Event};
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::views::unknown;
use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use offheap::{Error, Result};
use offheap_cuda::create_shared_event;
use std::cell::Cell;

/// A new event, never recorded.
#[napi(catch_unwind)]
pub fn cuda_event_create(env: Env, device: f64, timing: bool, shared: bool) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let create = || {
        let gpu = gpu(state, device)?;
        let event = if shared {
            create_shared_event(&gpu)?
        } else {
            gpu.create_event(timing)?
        };
        Cuda::of(state).adopt_event(Event {
            event,
            has_time: timing && !shared,
            is_recorded: Cell::new(false),
            is_shared: shared,
        })
    };
    create().or_throw(env)
}

/// Lets an event's handle go; streams that wait for it still do.
#[napi(catch_unwind)]
pub fn cuda_event_drop(env: Env, event: f64) -> napi::Result<()> {
    Cuda::of(Environment::of(env)?).drop_event(event);
    Ok(())
}

/// The event becomes the end of what the stream has now.
#[napi(catch_unwind)]
pub fn cuda_event_record(env: Env, event: f64, stream: f64) -> napi::Result<()> {
    let cuda = Cuda::of(Environment::of(env)?);
    let record = || {
        let event = cuda.event(event)?;
        event.event.record_on(&cuda.stream(stream)?)?;
        event.is_recorded.set(true);
        Ok(())
    };
    record().or_throw(env)
}

/// Whether the moment has come.
#[napi(catch_unwind)]
pub fn cuda_event_is_complete(env: Env, event: f64) -> napi::Result<bool> {
    let cuda = Cuda::of(Environment::of(env)?);
    cuda.event(event)
        .and_then(|event| event.event.is_complete())
        .or_throw(env)
}

/// Settled when the moment has come that is recorded now: at the end of a stream that waits for nothing else.
#[napi(catch_unwind, ts_return_type = "Promise<void>")]
pub fn cuda_event_completed<'a>(env: Env, event: f64) -> napi::Result<Unknown<'a>> {
    let cuda = Cuda::of(Environment::of(env)?);
    let event = cuda.event(event).or_throw(env)?;
    let stream = event.event.cuda_device().create_stream(None);
    let stream = stream.or_throw(env)?;
    let streams = vec![stream.clone()];
    let promise = cuda.promises.start(env, streams, Vec::new(), |settler| {
        stream.wait(&event.event)?;
        stream.on_complete(move || settler.settle(Ok(())))
    })?;
    Ok(unknown(env, promise))
}

/// Milliseconds from one event to the other.
#[napi(catch_unwind)]
pub fn cuda_event_elapsed_ms(env: Env, event: f64, since: f64) -> napi::Result<f64> {
    let cuda = Cuda::of(Environment::of(env)?);
    elapsed(cuda, event, since).or_throw(env)
}

fn elapsed(cuda: &Cuda, event: f64, since: f64) -> Result<f64> {
    let (event, since) = (cuda.event(event)?, cuda.event(since)?);
    for each in [&event, &since] {
        if !each.has_time {
            return Err(Error::not_supported("the event was made without timing"));
        }
        if !each.is_recorded.get() {
            return Err(Error::invalid_argument(
                "event",
                "an event that was never recorded",
                "one that a stream has recorded",
            ));
        }
        if !each.event.is_complete()? {
            return Err(Error::busy("the event has not come yet"));
        }
    }
    event.event.elapsed_ms(&since.event).map(f64::from)
}

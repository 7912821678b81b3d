//! Streams by id.

use super::devices::gpu;
use super::state::Cuda;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::views::unknown;
use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;

/// A new stream.
#[napi(catch_unwind)]
pub fn cuda_stream_create(
    env: Env,
    device: f64,
    priority: i32,
    blocking: bool,
) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let create = || {
        let gpu = gpu(state, device)?;
        let stream = if blocking {
            gpu.create_blocking_stream(Some(priority))?
        } else {
            gpu.create_stream(Some(priority))?
        };
        Cuda::of(state).adopt_stream(stream)
    };
    create().or_throw(env)
}

/// The stream of the GPU's default manager.
#[napi(catch_unwind)]
pub fn cuda_stream_default(env: Env, device: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let find = || {
        let manager = gpu(state, device)?.manager()?;
        Cuda::of(state).adopt_stream(manager.stream().clone())
    };
    find().or_throw(env)
}

/// CUDA's legacy default stream.
#[napi(catch_unwind)]
pub fn cuda_stream_legacy(env: Env, device: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    gpu(state, device)
        .and_then(|gpu| Cuda::of(state).adopt_stream(gpu.default_stream()))
        .or_throw(env)
}

/// How urgent a stream's work is.
#[napi(catch_unwind)]
pub fn cuda_stream_priority(env: Env, stream: f64) -> napi::Result<i32> {
    let cuda = Cuda::of(Environment::of(env)?);
    cuda.stream(stream)
        .and_then(|stream| stream.priority())
        .or_throw(env)
}

/// Whether a stream and CUDA's legacy default stream wait for each other.
#[napi(catch_unwind)]
pub fn cuda_stream_is_blocking(env: Env, stream: f64) -> napi::Result<bool> {
    let cuda = Cuda::of(Environment::of(env)?);
    cuda.stream(stream)
        .and_then(|stream| stream.is_blocking())
        .or_throw(env)
}

/// Lets a stream's handle go; work that was given to it is done.
#[napi(catch_unwind)]
pub fn cuda_stream_drop(env: Env, stream: f64) -> napi::Result<()> {
    Cuda::of(Environment::of(env)?).drop_stream(stream);
    Ok(())
}

/// Whether all work of the stream is done.
#[napi(catch_unwind)]
pub fn cuda_stream_is_complete(env: Env, stream: f64) -> napi::Result<bool> {
    let state = Environment::of(env)?;
    Cuda::of(state)
        .stream(stream)
        .and_then(|stream| stream.is_complete())
        .or_throw(env)
}

/// Settled when what the stream has now is done.
#[napi(catch_unwind, ts_return_type = "Promise<void>")]
pub fn cuda_stream_synchronize<'a>(env: Env, stream: f64) -> napi::Result<Unknown<'a>> {
    let cuda = Cuda::of(Environment::of(env)?);
    let stream = cuda.stream(stream).or_throw(env)?;
    let streams = vec![stream.clone()];
    let promise = cuda.promises.start(env, streams, Vec::new(), |settler| {
        stream.on_complete(move || settler.settle(Ok(())))
    })?;
    Ok(unknown(env, promise))
}

/// Later work of the stream begins after an event.
#[napi(catch_unwind)]
pub fn cuda_stream_wait_event(env: Env, stream: f64, event: f64) -> napi::Result<()> {
    let cuda = Cuda::of(Environment::of(env)?);
    cuda.stream(stream)
        .and_then(|stream| stream.wait(&cuda.event(event)?.event))
        .or_throw(env)
}

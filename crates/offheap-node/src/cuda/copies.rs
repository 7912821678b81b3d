//! Copies and fills that nobody waits for.

use super::memory::{gpu_of, own_stream};
use super::registrations;
use super::state::Cuda;
use crate::arguments::size;
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::views::unknown;
use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use offheap::{Block, DeviceType, Error, Location, Result};
use offheap_cuda::{
    CopyRange, CudaDevice, CudaStream, RegisteredMemory, copy_async, copy_staged, fill_async,
};
use std::sync::Arc;

/// One side: a range that was checked.
struct Side {
    block: Block,
    offset: usize,
    address: usize,
    location: Location,
    /// In whose order the memory is used.
    stream: Option<CudaStream>,
    gpu: Option<i64>,
    registration: Option<Arc<RegisteredMemory>>,
}

impl Side {
    fn of(
        state: &Environment,
        id: f64,
        offset: usize,
        length: usize,
        writes: bool,
    ) -> Result<Self> {
        let handles = state.handles();
        let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
        if writes {
            handle.must_be_mutable("buffer")?;
        }
        handle.check_range(offset, length)?;
        let location = handle.block.location();
        let buffer = handle.to_device_buffer()?;
        let gpu = gpu_of(location);
        if gpu.is_none() && location.device_type != DeviceType::CPU && !handle.is_cpu() {
            return Err(Error::not_supported(format!(
                "no GPU reaches memory of {location}"
            )));
        }
        let registration = gpu
            .is_none()
            .then(|| registrations::find(handle.address() + offset, length))
            .flatten();
        Ok(Self {
            block: handle.block.clone(),
            offset: handle.offset + offset,
            address: handle.address() + offset,
            location,
            stream: own_stream(&buffer),
            gpu,
            registration,
        })
    }

    /// Whether the driver would make the caller wait.
    fn is_pageable(&self) -> bool {
        self.gpu.is_none() && self.registration.is_none()
    }

    /// Whether `length` bytes of both are the same somewhere.
    fn overlaps(&self, other: &Self, length: usize) -> bool {
        let distance = self.address.abs_diff(other.address);
        length > 0 && distance < length && self.location == other.location
    }

    fn range(&self) -> CopyRange {
        CopyRange {
            block: self.block.clone(),
            offset: self.offset,
        }
    }
}

/// The stream that was given, else that of the first side that has one; it begins after what the sides' own streams
/// have now.
fn stream_for(cuda: &Cuda, given: f64, sides: &[&Side]) -> Result<CudaStream> {
    let own = || sides.iter().find_map(|side| side.stream.clone());
    let stream = if given == 0.0 {
        match own() {
            Some(stream) => stream,
            None => {
                let gpu = sides.iter().find_map(|side| side.gpu).unwrap_or(0);
                CudaDevice::new(gpu.max(0))?.manager()?.stream().clone()
            }
        }
    } else {
        cuda.stream(given)?
    };
    for side in sides {
        if let Some(own) = &side.stream {
            stream.wait_stream(own)?;
        }
    }
    Ok(stream)
}

/// The streams that work depends on.
fn watched(stream: &CudaStream, sides: &[&Side]) -> Vec<CudaStream> {
    let mut all = vec![stream.clone()];
    for own in sides.iter().filter_map(|side| side.stream.as_ref()) {
        if !all.contains(own) {
            all.push(own.clone());
        }
    }
    all
}

/// Copies between buffers in the order of a stream, 0 for the memory's own; settled when it is done.
#[napi(catch_unwind, ts_return_type = "Promise<void>")]
pub fn cuda_copy<'a>(
    env: Env,
    target: f64,
    target_offset: f64,
    source: f64,
    source_offset: f64,
    length: f64,
    stream: f64,
) -> napi::Result<Unknown<'a>> {
    let state = Environment::of(env)?;
    let cuda = Cuda::of(state);
    let prepare = || {
        let length = size("length", length)?;
        let to = Side::of(
            state,
            target,
            size("targetOffset", target_offset)?,
            length,
            true,
        )?;
        let from = Side::of(
            state,
            source,
            size("sourceOffset", source_offset)?,
            length,
            false,
        )?;
        // The driver says nothing of what it does then. What goes by way of the CPU may overlap.
        if !to.is_pageable() && !from.is_pageable() && to.overlaps(&from, length) {
            return Err(Error::invalid_argument(
                "source",
                "one that overlaps the target",
                "apart from the target",
            ));
        }
        let stream = stream_for(cuda, stream, &[&to, &from])?;
        Ok((length, to, from, stream))
    };
    let (length, to, from, stream) = prepare().or_throw(env)?;
    let registered = [&to, &from]
        .into_iter()
        .filter_map(|side| side.registration.clone())
        .collect();
    let promise = cuda.promises.start(
        env,
        watched(&stream, &[&to, &from]),
        registered,
        |settler| {
            let done = move || settler.settle(Ok(()));
            // SAFETY: the ranges were checked, and the stream waits for those in whose order both are used; who writes the
            // source, or uses the target before the promise is settled, gets what he wrote: bytes that JavaScript has are
            // never taken for anything but bytes.
            unsafe {
                if to.is_pageable() || from.is_pageable() {
                    let host = stream.cuda_device().host_manager()?;
                    copy_staged(&stream, to.range(), from.range(), length, &host, done)
                } else {
                    copy_async(&stream, to.range(), from.range(), length, done)
                }
            }
        },
    )?;
    Ok(unknown(env, promise))
}

/// Fills a buffer in the order of a stream, 0 for the memory's own; settled when it is done.
#[napi(catch_unwind, ts_return_type = "Promise<void>")]
pub fn cuda_fill<'a>(
    env: Env,
    target: f64,
    offset: f64,
    length: f64,
    byte: u32,
    stream: f64,
) -> napi::Result<Unknown<'a>> {
    let state = Environment::of(env)?;
    let cuda = Cuda::of(state);
    let prepare = || {
        let byte = u8::try_from(byte)
            .map_err(|_| Error::invalid_argument("byte", byte, "an integer from 0 to 255"))?;
        let length = size("length", length)?;
        let to = Side::of(state, target, size("offset", offset)?, length, true)?;
        let stream = stream_for(cuda, stream, &[&to])?;
        if to.is_pageable() {
            return Err(Error::not_supported(format!(
                "no GPU fills memory of {}: it is not page-locked",
                Location::CPU
            )));
        }
        Ok((length, byte, to, stream))
    };
    let (length, byte, to, stream) = prepare().or_throw(env)?;
    let registered = to.registration.clone().into_iter().collect();
    let promise = cuda
        .promises
        .start(env, watched(&stream, &[&to]), registered, |settler| {
            // SAFETY: as in `cuda_copy`.
            unsafe {
                fill_async(&stream, to.range(), byte, length, move || {
                    settler.settle(Ok(()));
                })
            }
        })?;
    Ok(unknown(env, promise))
}

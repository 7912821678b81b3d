//! When bytes are there, and who waits for it: events and streams of `offheap/cuda`.

use crate::cuda::{Cuda, gpu_of, own_stream};
use crate::environment::Environment;
use napi::bindgen_prelude::BigInt;
use offheap::{DeviceBuffer, DeviceType, Error, Location, Result};
use offheap_cuda::{CudaDevice, CudaEvent, CudaStream};

/// The address of a struct, which the caller is trusted for.
pub(super) fn address(value: &BigInt) -> Result<usize> {
    let (negative, word, lossless) = value.get_u64();
    usize::try_from(word)
        .ok()
        .filter(|word| *word != 0 && !negative && lossless)
        .ok_or_else(|| Error::invalid_argument("address", word, "the address of a struct"))
}

/// The number of the GPU that uses memory.
///
/// # Errors
/// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for memory without events.
fn must_have_gpu(what: &'static str, location: Location) -> Result<i64> {
    gpu_of(location).ok_or_else(|| {
        Error::invalid_argument(
            what,
            format_args!("one, of memory of {location}"),
            "none: only memory of a GPU has events and streams",
        )
    })
}

/// # Errors
/// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for other than the memory's GPU.
fn must_be_of(what: &'static str, gpu: CudaDevice, location: Location) -> Result<()> {
    if must_have_gpu(what, location)? == i64::from(gpu.ordinal()) {
        return Ok(());
    }
    Err(Error::invalid_argument(
        what,
        format_args!("one of cuda:{}, of memory of {location}", gpu.ordinal()),
        "one of the GPU whose memory it is",
    ))
}

/// The stream with an id; `None` for 0.
pub(super) fn stream(state: &Environment, id: f64) -> Result<Option<CudaStream>> {
    (id != 0.0).then(|| Cuda::of(state).stream(id)).transpose()
}

/// As [`stream`], for memory that is known.
pub(super) fn stream_for(
    state: &Environment,
    id: f64,
    location: Location,
) -> Result<Option<CudaStream>> {
    let stream = stream(state, id)?;
    if let Some(stream) = &stream {
        must_be_of("stream", stream.cuda_device(), location)?;
    }
    Ok(stream)
}

/// When a buffer's bytes are there: at an event, or at the end of what a stream has now, else of what the buffer's own
/// stream has. `None` of memory that has none.
///
/// # Errors
/// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for an event or a stream of another GPU, or of memory
///   without;
/// - what the driver says.
pub(super) fn moment(
    state: &Environment,
    buffer: &DeviceBuffer,
    event: f64,
    stream: f64,
) -> Result<Option<CudaEvent>> {
    let location = buffer.location();
    if event != 0.0 {
        let event = Cuda::of(state).event_itself(event)?;
        must_be_of("event", event.cuda_device(), location)?;
        return Ok(Some(event));
    }
    let own = own_stream(buffer);
    let stream = match (stream_for(state, stream, location)?, own) {
        // The memory is there after its allocation in its own stream.
        (Some(stream), Some(own)) => {
            stream.wait_stream(&own)?;
            stream
        }
        (Some(stream), None) | (None, Some(stream)) => stream,
        (None, None) => return Ok(None),
    };
    stream.record().map(Some)
}

/// Makes a consumer's stream wait for a moment, or without one the caller.
pub(super) fn wait(moment: Option<&CudaEvent>, stream: Option<&CudaStream>) -> Result<()> {
    match (moment, stream) {
        (None, _) => Ok(()),
        (Some(moment), Some(stream)) => stream.wait(moment),
        (Some(moment), None) => moment.synchronize(),
    }
}

/// Makes a stream wait that another library named by DLPack's number: -1 for nobody, 1 for the legacy default stream, 2
/// for the calling thread's, anything else is its address.
///
/// # Errors
/// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for 0, which DLPack does not define, and for memory
///   without streams;
/// - what the driver says.
///
/// # Safety
/// - Other numbers are the addresses of streams of the GPU.
pub(super) unsafe fn wait_by_number(
    moment: Option<&CudaEvent>,
    number: &BigInt,
    location: Location,
) -> Result<()> {
    let ordinal = must_have_gpu("stream", location)?;
    let unknown = || {
        Error::invalid_argument(
            "stream",
            format_args!("{number:?}"),
            "-1, 1, 2, or the address of a stream",
        )
    };
    let stream = match (number.sign_bit, &number.words[..]) {
        (true, [1]) => return Ok(()),
        (false, [1]) => CudaDevice::new(ordinal)?.default_stream(),
        (false, [2]) => CudaDevice::new(ordinal)?.per_thread_stream(),
        (false, [raw]) if *raw > 2 => {
            let raw = usize::try_from(*raw).map_err(|_| unknown())?;
            // SAFETY: the caller's promise.
            unsafe { CudaStream::wrap(ordinal, raw)? }
        }
        _ => return Err(unknown()),
    };
    wait(moment, Some(&stream))
}

/// Orders what is done with an imported tensor after its producer's work, of whom nobody said which stream it made
/// wait: by DLPack's rule the legacy default one.
///
/// # Errors
/// What the driver says.
pub(super) fn after_default_stream(buffer: &DeviceBuffer) -> Result<()> {
    let location = buffer.location();
    match location.device_type {
        DeviceType::CUDA | DeviceType::CUDA_MANAGED => {
            let default = CudaDevice::new(location.device_id)?.default_stream();
            match own_stream(buffer) {
                Some(own) if !buffer.is_cpu() => own.wait_stream(&default),
                _ => default.synchronize(),
            }
        }
        _ => Ok(()),
    }
}

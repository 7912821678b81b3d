//! Sequences of buffers as streams of Arrow's C Device interface.

use super::arrays::{NativeImportedArray, described};
use super::moments;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::managers::device_buffer;
use napi::bindgen_prelude::{BigInt, Env, External};
use napi_derive::napi;
use offheap::{DeviceType, Error, Result, Stream, SyncEvent};
use offheap_arrow::{
    ExportedArray, ExportedArrayStream, Format, ImportedArrayStream,
    import_device_array_stream_from_address,
};
use std::sync::Arc;

/// Buffers as a stream, until it is taken or released.
#[derive(Debug)]
pub struct ArrowStreamExport(Option<ExportedArrayStream>);

/// A stream of another library, until it is released.
#[derive(Debug)]
pub struct ArrowStreamImport(Option<ImportedArrayStream>);

fn gone() -> Error {
    Error::new(offheap::ErrorKind::Disposed { what: "stream" })
}

/// All elements of each buffer, one array after the other. Each waits for an event, else for what a stream has now, else
/// for what the buffer's own has; 0 for none.
#[napi(catch_unwind)]
pub fn arrow_stream_export(
    env: Env,
    buffers: Vec<f64>,
    format: String,
    event: f64,
    stream: f64,
) -> napi::Result<External<ArrowStreamExport>> {
    let state = Environment::of(env)?;
    let exported = export(state, &buffers, &format, event, stream).or_throw(env)?;
    Ok(External::new(ArrowStreamExport(Some(exported))))
}

fn export(
    state: &Environment,
    buffers: &[f64],
    format: &str,
    event: f64,
    stream: f64,
) -> Result<ExportedArrayStream> {
    let bits = Format::parse(format)?.element_bits();
    let mut device_type = None;
    let mut arrays = Vec::with_capacity(buffers.len());
    for id in buffers {
        let buffer = device_buffer(state, *id)?;
        device_type.get_or_insert(buffer.location().device_type);
        let moment = moments::moment(state, &buffer, event, stream)?
            .map(|event| -> Arc<dyn SyncEvent> { Arc::new(event) });
        // Elements of no bytes could be as many as one likes.
        let length = (buffer.len() * 8).checked_div(bits).unwrap_or(0);
        arrays.push(ExportedArray::new(&buffer, format, 0, length, moment)?);
    }
    ExportedArrayStream::new(format, device_type.unwrap_or(DeviceType::CPU), arrays)
}

/// Sets word 0 to the address of the stream.
#[napi(catch_unwind)]
pub fn arrow_stream_address(env: Env, stream: &External<ArrowStreamExport>) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let found = stream.0.as_ref().ok_or_else(gone).or_throw(env)?;
    state.set_word(0, found.stream_address() as u64);
    Ok(())
}

/// Whether another library has taken the stream, or it was released.
#[napi(catch_unwind)]
pub fn arrow_stream_is_consumed(stream: &External<ArrowStreamExport>) -> bool {
    stream
        .0
        .as_ref()
        .is_none_or(ExportedArrayStream::is_consumed)
}

/// Releases the stream, unless it was taken.
#[napi(catch_unwind)]
pub fn arrow_stream_release(stream: &mut External<ArrowStreamExport>) {
    stream.0.take();
}

/// Takes a stream of another library, by its address.
#[napi(catch_unwind)]
pub fn arrow_stream_import(env: Env, stream: BigInt) -> napi::Result<External<ArrowStreamImport>> {
    // The memory may be a GPU's that nobody here has asked for yet.
    offheap_cuda::register_devices();
    let taken = moments::address(&stream).and_then(|address| {
        // SAFETY: `unsafeFromArrowDeviceStream` trusts its caller, and handles of ours are such structs.
        unsafe { import_device_array_stream_from_address(address) }
    });
    let imported = taken.or_throw(env)?;
    Ok(External::new(ArrowStreamImport(Some(imported))))
}

/// Arrow's format string of the stream's arrays.
#[napi(catch_unwind)]
pub fn arrow_stream_format(env: Env, stream: &External<ArrowStreamImport>) -> napi::Result<String> {
    let found = stream.0.as_ref().ok_or_else(gone).or_throw(env)?;
    Ok(found.format().as_str().to_owned())
}

/// The next array, for whose event `order` waits, or for 0 the caller; nothing at the end.
#[napi(catch_unwind)]
pub fn arrow_stream_next(
    env: Env,
    stream: &mut External<ArrowStreamImport>,
    order: f64,
) -> napi::Result<Option<NativeImportedArray>> {
    let state = Environment::of(env)?;
    let mut next = || {
        let order = moments::stream(state, order)?;
        let order = order.as_ref().map(|order| -> &dyn Stream { order });
        let found = stream.0.as_mut().ok_or_else(gone)?.next_array(order)?;
        found.map(|found| described(env, state, found)).transpose()
    };
    next().or_throw(env)
}

/// Releases the stream.
#[napi(catch_unwind)]
pub fn arrow_stream_drop(stream: &mut External<ArrowStreamImport>) {
    stream.0.take();
}

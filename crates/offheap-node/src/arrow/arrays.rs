//! Buffers as arrays of Arrow's C Device interface.

use super::moments;
use crate::arguments::size;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::managers::{adopt_device_buffer, device_buffer};
use napi::bindgen_prelude::{BigInt, Env, External};
use napi_derive::napi;
use offheap::{Error, Location, Result, Stream, SyncEvent};
use offheap_arrow::{ExportedArray, ImportedArray, import_device_array_from_address};
use offheap_cuda::CudaStream;
use std::sync::Arc;

/// A buffer as an array, until it is taken or released.
#[derive(Debug)]
pub struct ArrowExport {
    array: Option<ExportedArray>,
    location: Location,
}

/// What an array of another library is, beside the buffer's id.
#[derive(Debug)]
#[napi(object)]
pub struct NativeImportedArray {
    /// The buffer, as the words describe it.
    pub buffer: f64,
    /// Arrow's format string.
    pub format: String,
    /// Elements.
    pub length: f64,
    /// The first element's bit in the first byte.
    pub bit_offset: u32,
}

fn live(array: &ArrowExport) -> Result<&ExportedArray> {
    let gone = || Error::new(offheap::ErrorKind::Disposed { what: "array" });
    array.array.as_ref().ok_or_else(gone)
}

/// Which of a buffer's bytes go, and as what.
#[derive(Debug)]
#[napi(object)]
pub struct NativeArrayLayout {
    /// Arrow's format string.
    pub format: String,
    /// The first element.
    pub offset: f64,
    /// How many.
    pub length: f64,
}

/// Elements of a buffer as an array for another library, which waits for an event, else for what a stream has now, else
/// for what the buffer's own has; 0 for none.
#[napi(catch_unwind)]
pub fn arrow_export(
    env: Env,
    buffer: f64,
    layout: NativeArrayLayout,
    event: f64,
    stream: f64,
) -> napi::Result<External<ArrowExport>> {
    let state = Environment::of(env)?;
    let array = export(state, buffer, &layout, event, stream).or_throw(env)?;
    Ok(External::new(array))
}

fn export(
    state: &Environment,
    buffer: f64,
    layout: &NativeArrayLayout,
    event: f64,
    stream: f64,
) -> Result<ArrowExport> {
    let offset = size("offset", layout.offset)?;
    let length = size("length", layout.length)?;
    let buffer = device_buffer(state, buffer)?;
    let location = buffer.location();
    let moment = moments::moment(state, &buffer, event, stream)?
        .map(|event| -> Arc<dyn SyncEvent> { Arc::new(event) });
    let array = ExportedArray::new(&buffer, &layout.format, offset, length, moment)?;
    Ok(ArrowExport {
        array: Some(array),
        location,
    })
}

/// Sets words 0 and 1 to the addresses of the array and of its schema.
#[napi(catch_unwind)]
pub fn arrow_addresses(env: Env, array: &External<ArrowExport>) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let found = live(array).or_throw(env)?;
    state.set_word(0, found.array_address() as u64);
    state.set_word(1, found.schema_address() as u64);
    Ok(())
}

/// Whether another library has taken the array, or it was released.
#[napi(catch_unwind)]
pub fn arrow_is_consumed(array: &External<ArrowExport>) -> bool {
    array.array.as_ref().is_none_or(ExportedArray::is_consumed)
}

/// Releases the array, unless it was taken.
#[napi(catch_unwind)]
pub fn arrow_release(array: &mut External<ArrowExport>) {
    array.array.take();
}

/// Takes an array of ours, as another library would; `stream` waits for its event, or for 0 the caller.
#[napi(catch_unwind)]
pub fn arrow_receive(
    env: Env,
    array: &External<ArrowExport>,
    stream: f64,
) -> napi::Result<NativeImportedArray> {
    let state = Environment::of(env)?;
    let receive = || {
        let found = live(array)?;
        let stream = moments::stream_for(state, stream, array.location)?;
        take(
            found.array_address(),
            found.schema_address(),
            stream.as_ref(),
        )
    };
    receive()
        .and_then(|found| described(env, state, found))
        .or_throw(env)
}

/// Takes an array of another library, by the addresses of its structs; `stream` waits for its event, or for 0 the caller.
#[napi(catch_unwind)]
pub fn arrow_import(
    env: Env,
    array: BigInt,
    schema: BigInt,
    stream: f64,
) -> napi::Result<NativeImportedArray> {
    let state = Environment::of(env)?;
    let import = || {
        let (array, schema) = (moments::address(&array)?, moments::address(&schema)?);
        let stream = moments::stream(state, stream)?;
        take(array, schema, stream.as_ref())
    };
    import()
        .and_then(|found| described(env, state, found))
        .or_throw(env)
}

fn take(array: usize, schema: usize, stream: Option<&CudaStream>) -> Result<ImportedArray> {
    // The memory may be a GPU's that nobody here has asked for yet.
    offheap_cuda::register_devices();
    let stream = stream.map(|stream| -> &dyn Stream { stream });
    // SAFETY: `unsafeFromArrowDevice` trusts its caller, and handles of ours are such structs.
    unsafe { import_device_array_from_address(array, schema, stream) }
}

pub(super) fn described(
    env: Env,
    state: &Environment,
    found: ImportedArray,
) -> Result<NativeImportedArray> {
    let (format, length, bit_offset) = (found.format, found.length, found.bit_offset);
    Ok(NativeImportedArray {
        buffer: adopt_device_buffer(env, state, found.buffer, false)?,
        format: format.as_str().to_owned(),
        length: length as f64,
        bit_offset: u32::from(bit_offset),
    })
}

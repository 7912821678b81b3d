//! Buffers as structs that other native libraries take: Arrow's C Device interface, and DLPack.
//!
//! A struct is an External of JavaScript, so it is released by the collector when nobody took it.

use crate::arguments::size;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::managers::{adopt_device_buffer, device_buffer};
use napi::bindgen_prelude::{BigInt, Env, External};
use napi_derive::napi;
use offheap::{DeviceBuffer, Error, Result};
use offheap_arrow::{
    DLDataType, DLManagedTensorVersioned, ExportedArray, ExportedTensor, Format, ImportedArray,
    ImportedTensor, TensorExport, TensorLayout, import_device_array_from_address,
    import_tensor_from_address,
};

/// A buffer as an array, until it is taken or released.
#[derive(Debug)]
pub struct ArrowExport(Option<ExportedArray>);

/// A buffer as a tensor, until it is taken or released.
#[derive(Debug)]
pub struct TensorHandle(Option<ExportedTensor>);

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

/// What a tensor of another library is, beside the buffer's id.
#[derive(Debug)]
#[napi(object)]
pub struct NativeImportedTensor {
    /// The buffer, as the words describe it.
    pub buffer: f64,
    /// DLPack's code of the elements' type.
    pub code: u32,
    /// Bits of an element.
    pub bits: u32,
    /// Elements in each dimension.
    pub shape: Vec<f64>,
    /// Whether the other library forbids writing.
    pub read_only: bool,
    /// Whether nobody else has the memory.
    pub is_copied: bool,
}

fn address(value: &BigInt) -> Result<usize> {
    let (negative, word, lossless) = value.get_u64();
    usize::try_from(word)
        .ok()
        .filter(|word| *word != 0 && !negative && lossless)
        .ok_or_else(|| Error::invalid_argument("address", word, "the address of a struct"))
}

fn gone(what: &'static str) -> Error {
    Error::new(offheap::ErrorKind::Disposed { what })
}

/// Bytes of a buffer as an array for another library.
#[napi(catch_unwind)]
pub fn arrow_export(
    env: Env,
    buffer: f64,
    format: String,
    offset: f64,
    length: f64,
) -> napi::Result<External<ArrowExport>> {
    let state = Environment::of(env)?;
    let made = || {
        let (offset, length) = (size("offset", offset)?, size("length", length)?);
        let buffer = device_buffer(state, buffer)?;
        ExportedArray::new(&buffer, &format, offset, length, None)
    };
    let array = made().or_throw(env)?;
    Ok(External::new(ArrowExport(Some(array))))
}

/// Sets words 0 and 1 to the addresses of the array and of its schema.
#[napi(catch_unwind)]
pub fn arrow_addresses(env: Env, array: &External<ArrowExport>) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let found = array
        .0
        .as_ref()
        .ok_or_else(|| gone("array"))
        .or_throw(env)?;
    state.set_word(0, found.array_address() as u64);
    state.set_word(1, found.schema_address() as u64);
    Ok(())
}

/// Whether another library has taken the array, or it was released.
#[napi(catch_unwind)]
pub fn arrow_is_consumed(array: &External<ArrowExport>) -> bool {
    array.0.as_ref().is_none_or(ExportedArray::is_consumed)
}

/// Releases the array, unless it was taken.
#[napi(catch_unwind)]
pub fn arrow_release(array: &mut External<ArrowExport>) {
    array.0.take();
}

/// Takes an array of another library, by the addresses of its structs.
#[napi(catch_unwind)]
pub fn arrow_import(env: Env, array: BigInt, schema: BigInt) -> napi::Result<NativeImportedArray> {
    let state = Environment::of(env)?;
    let taken = || {
        let (array, schema) = (address(&array)?, address(&schema)?);
        // SAFETY: `unsafeFromArrowDevice` trusts its caller, and handles of ours are such structs.
        unsafe { import_device_array_from_address(array, schema, None) }
    };
    taken()
        .and_then(|found| described(env, state, found))
        .or_throw(env)
}

fn described(env: Env, state: &Environment, found: ImportedArray) -> Result<NativeImportedArray> {
    let (format, length, bit_offset) = (found.format, found.length, found.bit_offset);
    Ok(NativeImportedArray {
        buffer: adopt_device_buffer(env, state, found.buffer, false)?,
        format: format.as_str().to_owned(),
        length: length as f64,
        bit_offset: u32::from(bit_offset),
    })
}

fn shaped(
    buffer: &DeviceBuffer,
    format: &str,
    shape: &[f64],
    strides: Option<&[f64]>,
    byte_offset: f64,
) -> Result<ExportedTensor> {
    let whole = |numbers: &[f64]| -> Result<Vec<i64>> {
        numbers
            .iter()
            .map(|number| match size("shape", number.abs()) {
                #[expect(clippy::cast_possible_truncation, reason = "an integer of 53 bits")]
                Ok(_) => Ok(*number as i64),
                Err(error) => Err(error),
            })
            .collect()
    };
    let layout = TensorLayout {
        data_type: DLDataType::from_format(&Format::parse(format)?)?,
        shape: whole(shape)?,
        strides: strides.map(whole).transpose()?,
        byte_offset: size("offset", byte_offset)?,
    };
    ExportedTensor::new(buffer.clone(), &layout, &TensorExport::default())
}

/// Bytes of a buffer as a tensor for another library.
#[napi(catch_unwind)]
pub fn dlpack_export(
    env: Env,
    buffer: f64,
    format: String,
    shape: Vec<f64>,
    strides: Option<Vec<f64>>,
    offset: f64,
) -> napi::Result<External<TensorHandle>> {
    let state = Environment::of(env)?;
    let tensor = device_buffer(state, buffer)
        .and_then(|buffer| shaped(&buffer, &format, &shape, strides.as_deref(), offset))
        .or_throw(env)?;
    Ok(External::new(TensorHandle(Some(tensor))))
}

/// Gives the tensor's address away, once: whoever has it calls its deleter.
#[napi(catch_unwind)]
pub fn dlpack_take(env: Env, tensor: &mut External<TensorHandle>) -> napi::Result<BigInt> {
    let taken = tensor.0.take().ok_or_else(|| gone("tensor"));
    let address = taken
        .and_then(|tensor| tensor.consume_address())
        .or_throw(env)?;
    Ok(BigInt::from(address as u64))
}

/// Whether the tensor was taken or released.
#[napi(catch_unwind)]
pub fn dlpack_is_consumed(tensor: &External<TensorHandle>) -> bool {
    tensor.0.as_ref().is_none_or(ExportedTensor::is_consumed)
}

/// Ends the tensor, unless it was taken.
#[napi(catch_unwind)]
pub fn dlpack_release(tensor: &mut External<TensorHandle>) {
    tensor.0.take();
}

/// Takes a tensor of another library, by its address.
#[napi(catch_unwind)]
pub fn dlpack_import(env: Env, tensor: BigInt) -> napi::Result<NativeImportedTensor> {
    let state = Environment::of(env)?;
    let taken = || {
        let tensor = address(&tensor)?;
        // SAFETY: `unsafeFromDlpack` trusts its caller, and handles of ours are such structs.
        unsafe { import_tensor_from_address::<DLManagedTensorVersioned>(tensor) }
    };
    taken()
        .and_then(|found| tensor_described(env, state, found))
        .or_throw(env)
}

fn tensor_described(
    env: Env,
    state: &Environment,
    found: ImportedTensor,
) -> Result<NativeImportedTensor> {
    let data_type = found.data_type;
    Ok(NativeImportedTensor {
        code: u32::from(data_type.code),
        bits: u32::from(data_type.bits),
        shape: found.shape.iter().map(|n| *n as f64).collect(),
        read_only: found.read_only,
        is_copied: found.is_copied,
        buffer: adopt_device_buffer(env, state, found.buffer, !found.read_only)?,
    })
}

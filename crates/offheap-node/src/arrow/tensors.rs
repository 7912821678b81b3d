//! Buffers as tensors of DLPack.

use super::moments;
use crate::arguments::size;
use crate::cuda::own_stream;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::managers::{adopt_device_buffer, device_buffer};
use napi::bindgen_prelude::{BigInt, Env, External};
use napi_derive::napi;
use offheap::{DeviceBuffer, Error, Location, MutableDeviceBuffer, Result, Stream};
use offheap_arrow::{
    DLDataType, DLManagedTensor, DLManagedTensorVersioned, ExportedTensor, Format, ImportedTensor,
    TensorExport, TensorLayout, import_tensor_from_address,
};
use offheap_cuda::{CudaEvent, CudaStream};

/// A buffer as a tensor, until it is taken or released.
#[derive(Debug)]
pub struct TensorHandle {
    tensor: Option<Tensor>,
    /// When its bytes are there.
    moment: Option<CudaEvent>,
    location: Location,
}

/// One of DLPack's two structs.
#[derive(Debug)]
enum Tensor {
    Versioned(ExportedTensor),
    Legacy(ExportedTensor<DLManagedTensor>),
}

/// How a buffer is a tensor.
#[derive(Debug)]
#[napi(object)]
pub struct NativeTensorLayout {
    /// Arrow's format string of the elements.
    pub format: String,
    /// Elements in each dimension.
    pub shape: Vec<f64>,
    /// Elements from one to the next in each dimension; absent: row after row.
    pub strides: Option<Vec<f64>>,
    /// Where the first element lies, in bytes.
    pub offset: f64,
    /// Whether it is a copy that the consumer alone has.
    pub copied: bool,
    /// Whether it is the struct before DLPack 1.0.
    pub legacy: bool,
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

fn layout_of(native: &NativeTensorLayout) -> Result<TensorLayout> {
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
    Ok(TensorLayout {
        data_type: DLDataType::from_format(&Format::parse(&native.format)?)?,
        shape: whole(&native.shape)?,
        strides: native.strides.as_deref().map(whole).transpose()?,
        byte_offset: size("offset", native.offset)?,
    })
}

/// A copy in memory of the same manager; it is done when this returns.
fn copy_of(buffer: &DeviceBuffer, moment: Option<&CudaEvent>) -> Result<MutableDeviceBuffer> {
    // The copy begins after what the buffer's own stream has.
    let own = own_stream(buffer).filter(|_| !buffer.is_cpu());
    moments::wait(moment, own.as_ref())?;
    let copy = buffer.copy_to(buffer.memory_manager())?;
    copy.try_into_mutable()
        .map_err(|_| Error::not_supported("a copy that somebody else has already"))
}

/// Bytes of a buffer as a tensor for another library; whoever takes it waits for an event, else for what a stream has
/// now, else for what the buffer's own has; 0 for none.
#[napi(catch_unwind)]
pub fn dlpack_export(
    env: Env,
    buffer: f64,
    layout: NativeTensorLayout,
    event: f64,
    stream: f64,
) -> napi::Result<External<TensorHandle>> {
    let state = Environment::of(env)?;
    let tensor = export(state, buffer, &layout, event, stream).or_throw(env)?;
    Ok(External::new(tensor))
}

fn export(
    state: &Environment,
    buffer: f64,
    native: &NativeTensorLayout,
    event: f64,
    stream: f64,
) -> Result<TensorHandle> {
    let layout = layout_of(native)?;
    let buffer = device_buffer(state, buffer)?;
    let location = buffer.location();
    let moment = moments::moment(state, &buffer, event, stream)?;
    let plain = TensorExport::default();
    let (tensor, moment) = if native.copied {
        let copied = TensorExport {
            is_copied: true,
            ..plain
        };
        let copy = copy_of(&buffer, moment.as_ref())?;
        let tensor = if native.legacy {
            Tensor::Legacy(ExportedTensor::new(copy, &layout, &copied)?)
        } else {
            Tensor::Versioned(ExportedTensor::new(copy, &layout, &copied)?)
        };
        (tensor, None)
    } else if native.legacy {
        let tensor = ExportedTensor::new(buffer, &layout, &plain)?;
        (Tensor::Legacy(tensor), moment)
    } else {
        let tensor = ExportedTensor::new(buffer, &layout, &plain)?;
        (Tensor::Versioned(tensor), moment)
    };
    Ok(TensorHandle {
        tensor: Some(tensor),
        moment,
        location,
    })
}

fn must_be_there(handle: &TensorHandle) -> Result<()> {
    if handle.tensor.is_none() {
        return Err(Error::new(offheap::ErrorKind::Disposed { what: "tensor" }));
    }
    Ok(())
}

/// The struct's address, for whoever calls its deleter.
fn consume(handle: &mut TensorHandle) -> Result<usize> {
    must_be_there(handle)?;
    handle.moment = None;
    match handle.tensor.take() {
        Some(Tensor::Versioned(tensor)) => tensor.consume_address(),
        Some(Tensor::Legacy(tensor)) => tensor.consume_address(),
        None => Ok(0),
    }
}

/// Gives the tensor's address away, once: whoever has it calls its deleter. The bytes are there for later work of
/// `stream`, or for 0 when this returns.
#[napi(catch_unwind)]
pub fn dlpack_take(
    env: Env,
    tensor: &mut External<TensorHandle>,
    stream: f64,
) -> napi::Result<BigInt> {
    let state = Environment::of(env)?;
    let mut take = || {
        must_be_there(tensor)?;
        let stream = moments::stream_for(state, stream, tensor.location)?;
        moments::wait(tensor.moment.as_ref(), stream.as_ref())?;
        consume(tensor)
    };
    take()
        .map(|address| BigInt::from(address as u64))
        .or_throw(env)
}

/// As `dlpackTake`, for a stream of another library by DLPack's number.
#[napi(catch_unwind)]
pub fn dlpack_take_for(
    env: Env,
    tensor: &mut External<TensorHandle>,
    stream: BigInt,
) -> napi::Result<BigInt> {
    let mut take = || {
        must_be_there(tensor)?;
        // SAFETY: `unsafeTake` trusts its caller.
        unsafe { moments::wait_by_number(tensor.moment.as_ref(), &stream, tensor.location)? };
        consume(tensor)
    };
    take()
        .map(|address| BigInt::from(address as u64))
        .or_throw(env)
}

/// Whether the tensor was taken or released.
#[napi(catch_unwind)]
pub fn dlpack_is_consumed(tensor: &External<TensorHandle>) -> bool {
    tensor.tensor.is_none()
}

/// Ends the tensor, unless it was taken.
#[napi(catch_unwind)]
pub fn dlpack_release(tensor: &mut External<TensorHandle>) {
    tensor.moment = None;
    tensor.tensor.take();
}

/// Takes a tensor of ours, as another library would, for later work of `stream`; for 0 the caller waits.
#[napi(catch_unwind)]
pub fn dlpack_receive(
    env: Env,
    tensor: &mut External<TensorHandle>,
    stream: f64,
) -> napi::Result<NativeImportedTensor> {
    let state = Environment::of(env)?;
    let mut receive = || {
        must_be_there(tensor)?;
        let stream = moments::stream_for(state, stream, tensor.location)?;
        moments::wait(tensor.moment.as_ref(), stream.as_ref())?;
        let legacy = matches!(tensor.tensor, Some(Tensor::Legacy(_)));
        import(consume(tensor)?, legacy, stream.as_ref())
    };
    receive()
        .and_then(|found| described(env, state, found))
        .or_throw(env)
}

/// Takes a tensor of another library, by its address, for later work of `stream`, which its producer made wait; for 0 that
/// was the legacy default stream.
#[napi(catch_unwind)]
pub fn dlpack_import(
    env: Env,
    tensor: BigInt,
    legacy: bool,
    stream: f64,
) -> napi::Result<NativeImportedTensor> {
    let state = Environment::of(env)?;
    let take = || {
        let address = moments::address(&tensor)?;
        let stream = moments::stream(state, stream)?;
        let found = import(address, legacy, stream.as_ref())?;
        if stream.is_none() {
            moments::after_default_stream(&found.buffer)?;
        }
        Ok(found)
    };
    take()
        .and_then(|found| described(env, state, found))
        .or_throw(env)
}

fn import(address: usize, legacy: bool, stream: Option<&CudaStream>) -> Result<ImportedTensor> {
    // The memory may be a GPU's that nobody here has asked for yet.
    offheap_cuda::register_devices();
    let stream = stream.map(|stream| -> &dyn Stream { stream });
    // SAFETY: `unsafeFromDlpack` trusts its caller, and handles of ours are such structs.
    unsafe {
        if legacy {
            import_tensor_from_address::<DLManagedTensor>(address, stream)
        } else {
            import_tensor_from_address::<DLManagedTensorVersioned>(address, stream)
        }
    }
}

fn described(env: Env, state: &Environment, found: ImportedTensor) -> Result<NativeImportedTensor> {
    let data_type = found.data_type;
    if data_type.lanes != 1 {
        return Err(Error::not_supported(format!(
            "importing vectors ({data_type}): JavaScript has no array of them"
        )));
    }
    Ok(NativeImportedTensor {
        code: u32::from(data_type.code),
        bits: u32::from(data_type.bits),
        shape: found.shape.iter().map(|n| *n as f64).collect(),
        read_only: found.read_only,
        is_copied: found.is_copied,
        buffer: adopt_device_buffer(env, state, found.buffer, !found.read_only)?,
    })
}

//! Tensors of others as buffers.

use super::abi::{DLDataType, FLAG_IS_COPIED, FLAG_READ_ONLY, VERSION};
use super::layout::{MAX_DIMENSIONS, check_shape, compact_strides, too_large};
use super::managed::ManagedTensor;
use crate::placing;
use offheap::{DeviceBuffer, DeviceType, Error, Result, Stream};
use std::ptr::{self, NonNull};
use std::slice;

/// A tensor that another library made: its elements row after row, without gaps, and what they are.
#[derive(Debug)]
#[non_exhaustive]
pub struct ImportedTensor {
    /// The elements; the other library's deleter is called with the last reference.
    pub buffer: DeviceBuffer,
    /// What they are.
    pub data_type: DLDataType,
    /// Elements in each dimension.
    pub shape: Vec<usize>,
    /// Whether the other library forbids writing: also when it cannot say (without flags).
    pub read_only: bool,
    /// Whether nobody else has the memory.
    pub is_copied: bool,
}

/// Takes a managed tensor of DLPack, without a copy; also on errors, which call its deleter.
///
/// The struct has no event: its producer has waited for whatever wrote it, or made the consumer's stream
/// wait, before it handed the struct out. `stream` is that stream: the buffer is used in its order (its manager
/// is the device's [on that stream](offheap::MemoryManager::on_stream)), and where the CPU reaches the memory
/// the caller waits for what the stream has.
///
/// # Errors
/// - [`NotSupported`](offheap::ErrorKind::NotSupported) for another major version, of which only the deleter
///   is touched; for tensors with gaps or in another order, and elements of fewer than 8 bits;
/// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for tensors that contradict themselves, a
///   kind of device that nobody registered, and a stream of another device;
/// - what the device says.
///
/// # Safety
/// - `tensor` is NULL, misaligned, or the address of a struct as DLPack specifies it, which is the caller's
///   to give away; shape and strides have as many numbers as it says, and the memory as many bytes, until
///   its deleter is called;
/// - nobody writes the memory until then, and the deleter may be called from any thread.
pub unsafe fn import_tensor<M: ManagedTensor>(
    tensor: *mut M,
    stream: Option<&dyn Stream>,
) -> Result<ImportedTensor> {
    let owner = OwnedTensor(placing::checked_struct("tensor", tensor)?);
    // SAFETY: the caller's promise.
    let version = unsafe { M::version(tensor) };
    if version.major != VERSION.major {
        return Err(Error::not_supported(format!(
            "importing a tensor of DLPack {}.{}: only {}.x",
            version.major, version.minor, VERSION.major
        )));
    }
    // SAFETY: the caller's promise, and the layout is the one we know; nobody writes the struct.
    let managed = unsafe { &*tensor };
    let tensor = managed.tensor();
    let (element, alignment) = tensor.dtype.element()?;
    // SAFETY: the caller's promise.
    let shape = unsafe { numbers("shape", tensor.shape, tensor.ndim)? }.unwrap_or(&[]);
    if shape.len() != tensor.ndim as usize {
        return Err(Error::invalid_argument("shape", "NULL", "the dimensions"));
    }
    check_shape(shape)?;
    let compact = compact_strides(shape).ok_or_else(|| too_large(shape))?;
    // SAFETY: as above.
    let strides = unsafe { numbers("strides", tensor.strides, tensor.ndim)? };
    let any = !shape.contains(&0);
    if let Some(strides) = strides
        && any
        // Where there is one element, there is no next.
        && !shape.iter().zip(strides).zip(&compact).all(|((n, stride), expected)| *n == 1 || stride == expected)
    {
        return Err(Error::not_supported(format!(
            "importing a tensor of {shape:?} with strides {strides:?}: only ones without gaps, row after row"
        )));
    }
    let size = shape
        .iter()
        .try_fold(element, |size, n| {
            size.checked_mul(usize::try_from(*n).ok()?)
        })
        .filter(|size| isize::try_from(*size).is_ok())
        .ok_or_else(|| too_large(shape))?;
    let offset = usize::try_from(tensor.byte_offset).map_err(|_| {
        Error::invalid_argument(
            "byte_offset",
            tensor.byte_offset,
            "an offset that memory can have",
        )
    })?;
    let data = placing::checked_data(tensor.data, offset, size, alignment)?;
    let device = tensor.device;
    let manager = placing::manager_of(device.device_type, i64::from(device.device_id))?;
    let manager = placing::on_stream(manager, stream)?;
    if let Some(stream) = stream
        && manager.is_cpu()
        && manager.device().device_type() != DeviceType::CPU
    {
        stream.synchronize()?;
    }
    let data_type = tensor.dtype;
    let shape = shape.iter().map(|n| *n as usize).collect();
    let flags = managed.flags();
    // SAFETY: the tensor has these bytes, which nobody writes, until its deleter is called (the caller's
    // promise): when the last reference goes.
    let buffer = unsafe { placing::adopt(data, size, manager, owner)? };
    Ok(ImportedTensor {
        buffer,
        data_type,
        shape,
        read_only: !M::HAS_FLAGS || flags & FLAG_READ_ONLY != 0,
        is_copied: flags & FLAG_IS_COPIED != 0,
    })
}

/// As [`import_tensor`], by address, for those who have numbers.
///
/// # Errors
/// As [`import_tensor`].
///
/// # Safety
/// - As [`import_tensor`].
pub unsafe fn import_tensor_from_address<M: ManagedTensor>(
    address: usize,
    stream: Option<&dyn Stream>,
) -> Result<ImportedTensor> {
    // SAFETY: the caller's promise.
    unsafe { import_tensor(ptr::with_exposed_provenance_mut::<M>(address), stream) }
}

/// One number for each dimension; `None` for NULL.
///
/// # Safety
/// - There are as many, unless it is NULL.
unsafe fn numbers<'a>(
    what: &'static str,
    first: *const i64,
    ndim: i32,
) -> Result<Option<&'a [i64]>> {
    let ndim = usize::try_from(ndim)
        .ok()
        .filter(|n| *n <= MAX_DIMENSIONS)
        .ok_or_else(|| Error::invalid_argument("ndim", ndim, "0 to 64 dimensions"))?;
    if ndim == 0 {
        return Ok(Some(&[]));
    }
    if first.is_null() {
        return Ok(None);
    }
    placing::checked_struct(what, first.cast_mut())?;
    // SAFETY: the caller's promise; not null, and aligned.
    Ok(Some(unsafe { slice::from_raw_parts(first, ndim) }))
}

/// A foreign tensor whose deleter is ours to call.
struct OwnedTensor<M: ManagedTensor>(NonNull<M>);

// SAFETY: whoever gave the tensor promised that its deleter may be called from any thread; nothing else of it
// is used once it keeps a buffer.
unsafe impl<M: ManagedTensor> Send for OwnedTensor<M> {}
// SAFETY: as above; a shared reference does nothing.
unsafe impl<M: ManagedTensor> Sync for OwnedTensor<M> {}

impl<M: ManagedTensor> Drop for OwnedTensor<M> {
    fn drop(&mut self) {
        let tensor = self.0.as_ptr();
        // SAFETY: a live tensor, whatever its version; nobody else calls its deleter.
        unsafe {
            if let Some(deleter) = M::deleter(tensor) {
                deleter(tensor);
            }
        }
    }
}

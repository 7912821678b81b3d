//! Buffers as tensors for others.

use super::abi::{DLDevice, DLManagedTensorVersioned, DLTensor, FLAG_IS_COPIED, FLAG_READ_ONLY};
use super::layout::TensorLayout;
use super::managed::ManagedTensor;
use crate::caught;
use crate::placing::{misaligned, order};
use offheap::{
    DeviceBuffer, DeviceType, Error, ErrorKind, Location, MutableDeviceBuffer, Result, Stream,
    SyncEvent,
};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

/// The memory of a tensor, and so whether its consumer may write it.
#[derive(Debug)]
pub enum TensorMemory {
    /// Others may read it, too: the consumer may not write it.
    Shared(DeviceBuffer),
    /// Nobody else has it: the consumer may write it.
    Owned(MutableDeviceBuffer),
}

impl From<DeviceBuffer> for TensorMemory {
    fn from(buffer: DeviceBuffer) -> Self {
        Self::Shared(buffer)
    }
}

impl From<MutableDeviceBuffer> for TensorMemory {
    fn from(buffer: MutableDeviceBuffer) -> Self {
        Self::Owned(buffer)
    }
}

impl TensorMemory {
    fn address(&self) -> usize {
        match self {
            Self::Shared(buffer) => buffer.address(),
            Self::Owned(buffer) => buffer.address(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Shared(buffer) => buffer.len(),
            Self::Owned(buffer) => buffer.len(),
        }
    }

    fn location(&self) -> Location {
        match self {
            Self::Shared(buffer) => buffer.location(),
            Self::Owned(buffer) => buffer.location(),
        }
    }
}

/// What else there is to say of an export.
#[derive(Debug, Clone, Copy, Default)]
pub struct TensorExport<'a> {
    /// When the memory's bytes are there. A tensor has no event of its own, so the export waits for this one;
    /// without one, whatever wrote the bytes has to be done.
    pub event: Option<&'a dyn SyncEvent>,
    /// The consumer's stream: instead of the caller, its later work waits for the event.
    pub stream: Option<&'a dyn Stream>,
    /// Says that the memory is a copy made for the consumer. Only of [`TensorMemory::Owned`].
    pub is_copied: bool,
}

/// A buffer as a managed tensor of DLPack, to be consumed once.
///
/// Whoever [consumes](Self::consume) it calls its deleter once, from whichever thread, which gives the
/// memory back; what nobody consumed ends with this value.
pub struct ExportedTensor<M: ManagedTensor = DLManagedTensorVersioned> {
    /// NULL when it was consumed.
    tensor: AtomicPtr<M>,
}

/// What a tensor keeps until its deleter is called, and the struct itself.
struct TensorKeeper<M> {
    managed: M,
    /// What the tensor's `shape` and `strides` are the addresses of.
    _numbers: [Vec<i64>; 2],
    _memory: TensorMemory,
}

impl<M: ManagedTensor> ExportedTensor<M> {
    /// `memory` as a tensor.
    ///
    /// The struct's `data` is the first element's address, with a `byte_offset` of 0, as everywhere; consumers
    /// that insist on multiples of 256 can rely on a device's allocations, not on slices of them.
    ///
    /// # Errors
    /// - [`OutOfRange`](ErrorKind::OutOfRange) when an element would lie outside of the memory;
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument) for shapes and types that cannot be, addresses that
    ///   are not multiples of the elements' alignment, and shared memory that is said to be a copy;
    /// - [`NotSupported`](ErrorKind::NotSupported) for elements of fewer than 8 bits, and shared memory as a
    ///   [`DLManagedTensor`](super::DLManagedTensor), which cannot say that it is not to be written;
    /// - what the device says of the event.
    pub fn new(
        memory: impl Into<TensorMemory>,
        layout: &TensorLayout,
        export: &TensorExport<'_>,
    ) -> Result<Self> {
        let memory = memory.into();
        let flags = match (&memory, export.is_copied) {
            (TensorMemory::Shared(_), true) => {
                return Err(Error::invalid_argument(
                    "is_copied",
                    true,
                    "memory that nobody else has",
                ));
            }
            (TensorMemory::Shared(_), false) if !M::HAS_FLAGS => {
                return Err(Error::not_supported(
                    "exporting shared memory as a DLManagedTensor, which cannot say that it is read-only",
                ));
            }
            (TensorMemory::Shared(_), false) => FLAG_READ_ONLY,
            (TensorMemory::Owned(_), true) => FLAG_IS_COPIED,
            (TensorMemory::Owned(_), false) => 0,
        };
        let (_, alignment) = layout.data_type.element()?;
        let (strides, any) = layout.resolve(memory.len())?;
        let address = memory.address() + layout.byte_offset;
        if any && !address.is_multiple_of(alignment) {
            return Err(misaligned(address, alignment));
        }
        let device = device_of(memory.location())?;
        if let Some(event) = export.event {
            order(event, export.stream)?;
        }

        // From here on nothing fails. A place first: the struct has its own address.
        let place = Box::into_raw(Box::<TensorKeeper<M>>::new_uninit()).cast::<TensorKeeper<M>>();
        let mut shape = layout.shape.clone();
        let mut strides = strides;
        let pointer_of = |numbers: &mut Vec<i64>| match numbers.as_mut_slice() {
            [] => ptr::null_mut(),
            numbers => numbers.as_mut_ptr(),
        };
        let tensor = DLTensor {
            data: if any {
                ptr::with_exposed_provenance_mut(address)
            } else {
                ptr::null_mut()
            },
            device,
            // At most 64.
            ndim: shape.len() as i32,
            dtype: layout.data_type,
            shape: pointer_of(&mut shape),
            strides: pointer_of(&mut strides),
            byte_offset: 0,
        };
        // SAFETY: a new place of the right size and alignment. The vectors' elements do not move with them.
        unsafe {
            place.write(TensorKeeper {
                managed: M::assemble(tensor, flags, place.cast(), delete::<M>),
                _numbers: [shape, strides],
                _memory: memory,
            });
            Ok(Self {
                tensor: AtomicPtr::new(&raw mut (*place).managed),
            })
        }
    }

    /// The tensor, for whoever calls its deleter.
    ///
    /// # Errors
    /// [`Disposed`](ErrorKind::Disposed) when it was consumed before.
    pub fn consume(&self) -> Result<NonNull<M>> {
        let tensor = self.tensor.swap(ptr::null_mut(), Ordering::AcqRel);
        NonNull::new(tensor).ok_or_else(|| {
            Error::new(ErrorKind::Disposed {
                what: "DLPack tensor, which was consumed",
            })
        })
    }

    /// As [`consume`](Self::consume): the address, for those who take numbers.
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
    pub fn consume_address(&self) -> Result<usize> {
        Ok(self.consume()?.as_ptr().expose_provenance())
    }

    /// Whether someone has consumed it.
    pub fn is_consumed(&self) -> bool {
        self.tensor.load(Ordering::Acquire).is_null()
    }
}

impl<M: ManagedTensor> Drop for ExportedTensor<M> {
    fn drop(&mut self) {
        if let Some(tensor) = NonNull::new(*self.tensor.get_mut()) {
            // SAFETY: made by `new`, and nobody consumed it.
            unsafe { delete(tensor.as_ptr()) };
        }
    }
}

impl<M: ManagedTensor> fmt::Debug for ExportedTensor<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportedTensor")
            .field("tensor", &self.tensor.load(Ordering::Relaxed))
            .finish()
    }
}

/// # Safety
/// - `tensor` is one of ours, and nobody uses it any more.
unsafe extern "C" fn delete<M: ManagedTensor>(tensor: *mut M) {
    // SAFETY: the caller's promise; the context is the place that `new` made.
    unsafe {
        let keeper = (*tensor).context();
        caught::end(Box::from_raw(keeper.cast::<TensorKeeper<M>>()));
    }
}

/// Where memory lies, in DLPack's way.
fn device_of(location: Location) -> Result<DLDevice> {
    let device_id = match location.device_type {
        // Of these there is one, whichever device they belong to.
        DeviceType::CPU
        | DeviceType::CUDA_HOST
        | DeviceType::CUDA_MANAGED
        | DeviceType::ROCM_HOST => 0,
        // -1: there is only one.
        _ => i32::try_from(location.device_id.max(0)).map_err(|_| {
            Error::not_supported(format!(
                "exporting memory of {location}: DLPack has 32 bits for the device"
            ))
        })?,
    };
    Ok(DLDevice {
        device_type: location.device_type.code(),
        device_id,
    })
}

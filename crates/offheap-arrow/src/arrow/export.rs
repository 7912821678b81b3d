//! Buffers as arrays for others.

use super::abi::{ArrowArray, ArrowDeviceArray, ArrowSchema};
use super::format::Format;
use crate::caught;
use crate::placing::misaligned;
use offheap::{DeviceBuffer, DeviceType, Error, Result, SyncEvent};
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// A buffer as an array of Arrow's C Device interface: an `ArrowDeviceArray` and its `ArrowSchema` at
/// addresses that do not change, to be consumed once.
///
/// A consumer moves a struct from its address and sets `release` there to NULL, as every importer of Arrow
/// does; the memory then lives until it releases what it moved, from whichever thread. What nobody consumed is
/// released with this value. As with every Arrow struct, one thread at a time may use one.
pub struct ExportedArray {
    structs: NonNull<Structs>,
}

#[repr(C)]
struct Structs {
    array: ArrowDeviceArray,
    schema: ArrowSchema,
}

/// What an array keeps until it is released.
struct ArrayKeeper {
    /// What `ArrowArray.buffers` is the address of: no validity bits, and the elements.
    buffers: [*const c_void; 2],
    _buffer: DeviceBuffer,
    /// Whoever waits for it needs it as long as the array.
    _event: Option<Arc<dyn SyncEvent>>,
}

// SAFETY: only this value and, one at a time, whoever it gives the address to use the structs; what they keep
// is Send.
unsafe impl Send for ExportedArray {}

impl ExportedArray {
    /// `length` elements of a buffer, from element `offset` on.
    ///
    /// `event` is what a consumer waits for before it reads: without one, whatever wrote the buffer has to be
    /// done. It is one of the buffer's device; memory of the CPU has none.
    ///
    /// # Errors
    /// - [`OutOfRange`](offheap::ErrorKind::OutOfRange) when the buffer has fewer elements;
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for elements at addresses that are not
    ///   multiples of their alignment, for an event of the CPU, and as [`Format::parse`].
    pub fn new(
        buffer: &DeviceBuffer,
        format: &str,
        offset: usize,
        length: usize,
        event: Option<Arc<dyn SyncEvent>>,
    ) -> Result<Self> {
        let format = Format::parse(format)?;
        let extent = format.extent(offset, length);
        if extent.is_none_or(|(first, size, _)| first + size > buffer.len()) {
            return Err(Error::new(offheap::ErrorKind::OutOfRange {
                what: format!(
                    "{length} elements of {} bits from element {offset} are outside of {} bytes",
                    format.element_bits(),
                    buffer.len()
                ),
            }));
        }
        if length > 0 && !buffer.address().is_multiple_of(format.alignment()) {
            return Err(misaligned(buffer.address(), format.alignment()));
        }
        let location = buffer.location();
        let sync_event = match &event {
            None => ptr::null_mut(),
            Some(_) if location.device_type == DeviceType::CPU => {
                return Err(Error::invalid_argument(
                    "event",
                    "one",
                    "none: memory of the CPU has no events",
                ));
            }
            Some(event) => event.as_raw(),
        };
        if event.is_some() && sync_event.is_null() {
            // NULL would tell consumers that there is nothing to wait for.
            return Err(Error::not_supported(
                "the event has no handle that others can wait for",
            ));
        }
        let text = CString::new(format.as_str()).map_err(|_| {
            Error::invalid_argument("format", format!("{format:?}"), "a text without NUL")
        })?;
        let (Ok(length), Ok(offset)) = (i64::try_from(length), i64::try_from(offset)) else {
            return Err(Error::range(offset, length, buffer.len()));
        };

        // From here on nothing fails.
        let keeper = Box::into_raw(Box::new(ArrayKeeper {
            buffers: [ptr::null(), ptr::with_exposed_provenance(buffer.address())],
            _buffer: buffer.clone(),
            _event: event,
        }));
        let schema = ArrowSchema {
            format: text.into_raw(),
            release: Some(release_schema),
            ..ArrowSchema::released()
        };
        let array = ArrowDeviceArray {
            array: ArrowArray {
                length,
                offset,
                n_buffers: 2,
                // SAFETY: a live keeper; only the place's address is taken.
                buffers: unsafe { (&raw mut (*keeper).buffers).cast() },
                release: Some(release_array),
                private_data: keeper.cast(),
                ..ArrowArray::released()
            },
            device_id: location.device_id,
            device_type: location.device_type.code(),
            sync_event,
            reserved: [0; 3],
        };
        let structs = NonNull::from(Box::leak(Box::new(Structs { array, schema })));
        Ok(Self { structs })
    }

    /// The `ArrowDeviceArray`; of memory of the CPU its address is also that of a plain `ArrowArray`. It is
    /// there as long as this value.
    pub fn array(&self) -> *mut ArrowDeviceArray {
        // SAFETY: the structs live; only the place's address is taken.
        unsafe { &raw mut (*self.structs.as_ptr()).array }
    }

    /// The `ArrowSchema`; it is there as long as this value.
    pub fn schema(&self) -> *mut ArrowSchema {
        // SAFETY: as above.
        unsafe { &raw mut (*self.structs.as_ptr()).schema }
    }

    /// The address of the `ArrowDeviceArray`, for those who take numbers.
    pub fn array_address(&self) -> usize {
        self.array().expose_provenance()
    }

    /// The address of the `ArrowSchema`, for those who take numbers.
    pub fn schema_address(&self) -> usize {
        self.schema().expose_provenance()
    }

    /// Whether someone has taken or released the array.
    pub fn is_consumed(&self) -> bool {
        // SAFETY: the structs live, and nobody else uses them now.
        unsafe { (*self.array()).array.release.is_none() }
    }

    /// The format of a live type.
    pub(super) fn format(&self) -> &CStr {
        // SAFETY: the structs live, and nobody else uses them now; the format is there until the type is released.
        unsafe {
            match (*self.schema()).release {
                Some(_) => CStr::from_ptr((*self.schema()).format),
                None => c"",
            }
        }
    }

    /// The kind of device.
    pub(super) fn device_type(&self) -> i32 {
        // SAFETY: the structs live, and nobody else uses them now.
        unsafe { (*self.array()).device_type }
    }

    /// Moves the array alone; its type is released.
    pub(super) fn take_array(self) -> ArrowDeviceArray {
        // SAFETY: the structs live, and nobody else uses them now; what is left behind is released.
        unsafe { self.array().replace(ArrowDeviceArray::released()) }
    }

    /// Moves what is left into structs of the consumer's: the one whose `release` is `None` was consumed
    /// before.
    pub fn take(self) -> (ArrowDeviceArray, ArrowSchema) {
        // SAFETY: the structs live, and nobody else uses them now; what is left behind is released, so that
        // there is one of each.
        unsafe {
            (
                self.array().replace(ArrowDeviceArray::released()),
                self.schema().replace(ArrowSchema::released()),
            )
        }
    }
}

impl Drop for ExportedArray {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nobody uses it any more; whatever is not consumed is released as any
        // consumer would.
        unsafe {
            let mut structs = Box::from_raw(self.structs.as_ptr());
            if let Some(release) = structs.array.array.release {
                release(&raw mut structs.array.array);
            }
            if let Some(release) = structs.schema.release {
                release(&raw mut structs.schema);
            }
        }
    }
}

impl fmt::Debug for ExportedArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportedArray")
            .field("array", &self.array())
            .field("schema", &self.schema())
            .field("consumed", &self.is_consumed())
            .finish()
    }
}

/// # Safety
/// - `array` is one of ours, or moved from one, and nobody else uses it.
unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: the caller's promise. Only the two members are touched.
    unsafe {
        if (*array).release.take().is_none() {
            return;
        }
        let keeper = std::mem::replace(&mut (*array).private_data, ptr::null_mut());
        caught::end(Box::from_raw(keeper.cast::<ArrayKeeper>()));
    }
}

/// # Safety
/// - `schema` is one of ours, or moved from one, and nobody else uses it.
pub(super) unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: the caller's promise; the format is ours.
    unsafe {
        if (*schema).release.take().is_none() {
            return;
        }
        let format = std::mem::replace(&mut (*schema).format, ptr::null());
        drop(CString::from_raw(format.cast_mut()));
    }
}

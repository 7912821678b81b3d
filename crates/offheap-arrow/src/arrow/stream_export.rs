//! Sequences of buffers as streams for others.

use super::abi::{ArrowDeviceArray, ArrowDeviceArrayStream, ArrowSchema};
use super::export::{ExportedArray, release_schema};
use super::format::Format;
use crate::caught;
use offheap::{DeviceType, Error, Result};
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::ptr::{self, NonNull};

const EINVAL: c_int = 22;

/// Arrays of one type on one kind of device, one after the other, as an `ArrowDeviceArrayStream` at an address
/// that does not change, to be consumed once.
///
/// A consumer moves the struct as it would an array's; it asks for one array after the other, each with its own
/// event, and releases the stream, from whichever thread. What it did not ask for is released with the stream,
/// and what nobody consumed with this value. One thread at a time may use it.
pub struct ExportedArrayStream {
    stream: NonNull<ArrowDeviceArrayStream>,
}

/// What a stream keeps until it is released.
struct StreamKeeper {
    format: CString,
    arrays: VecDeque<ExportedArray>,
    error: Option<&'static CStr>,
}

// SAFETY: only this value and, one at a time, whoever it gives the address to use the struct; what it keeps is
// Send.
unsafe impl Send for ExportedArrayStream {}

impl ExportedArrayStream {
    /// A stream of these arrays, in their order. Cost: a few allocations, whatever their number.
    ///
    /// # Errors
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for arrays of another format or kind of
    ///   device, and ones that were consumed; the arrays are then released;
    /// - as [`Format::parse`].
    pub fn new(
        format: &str,
        device_type: DeviceType,
        arrays: impl IntoIterator<Item = ExportedArray>,
    ) -> Result<Self> {
        let text = CString::new(Format::parse(format)?.as_str()).map_err(|_| {
            Error::invalid_argument("format", format!("{format:?}"), "a text without NUL")
        })?;
        let arrays: VecDeque<ExportedArray> = arrays.into_iter().collect();
        for (index, array) in arrays.iter().enumerate() {
            let wrong = |what: &str, expected: &'static str| {
                Err(Error::invalid_argument(
                    "arrays",
                    format_args!("array {index}: {what}"),
                    expected,
                ))
            };
            if array.is_consumed() {
                return wrong("consumed", "arrays that nobody has consumed");
            }
            if array.format() != text.as_c_str() {
                return wrong("of another format", "arrays of the stream's format");
            }
            if array.device_type() != device_type.code() {
                return wrong("of another device", "arrays of one kind of device");
            }
        }
        let keeper = Box::into_raw(Box::new(StreamKeeper {
            format: text,
            arrays,
            error: None,
        }));
        let stream = NonNull::from(Box::leak(Box::new(ArrowDeviceArrayStream {
            device_type: device_type.code(),
            get_schema: Some(get_schema),
            get_next: Some(get_next),
            get_last_error: Some(get_last_error),
            release: Some(release_stream),
            private_data: keeper.cast(),
        })));
        Ok(Self { stream })
    }

    /// The `ArrowDeviceArrayStream`; it is there as long as this value.
    pub fn stream(&self) -> *mut ArrowDeviceArrayStream {
        self.stream.as_ptr()
    }

    /// The address of the `ArrowDeviceArrayStream`, for those who take numbers.
    pub fn stream_address(&self) -> usize {
        self.stream().expose_provenance()
    }

    /// Whether someone has taken or released the stream.
    pub fn is_consumed(&self) -> bool {
        // SAFETY: the struct lives, and nobody else uses it now.
        unsafe { (*self.stream()).release.is_none() }
    }
}

impl Drop for ExportedArrayStream {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nobody uses it any more; what is not consumed is released as any consumer
        // would.
        unsafe {
            let mut stream = Box::from_raw(self.stream.as_ptr());
            if let Some(release) = stream.release {
                release(&raw mut *stream);
            }
        }
    }
}

impl fmt::Debug for ExportedArrayStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportedArrayStream")
            .field("stream", &self.stream())
            .field("consumed", &self.is_consumed())
            .finish()
    }
}

/// What a live stream of ours keeps; `None` of a released one.
///
/// # Safety
/// - `stream` is one of ours, or moved from one, and nobody else uses it.
unsafe fn keeper<'a>(stream: *mut ArrowDeviceArrayStream) -> Option<&'a mut StreamKeeper> {
    // SAFETY: the caller's promise: while it is not released, the keeper lives.
    unsafe {
        (*stream)
            .release
            .and((*stream).private_data.cast::<StreamKeeper>().as_mut())
    }
}

/// # Safety
/// - As [`keeper`]; `out` is a place for a struct.
unsafe extern "C" fn get_schema(
    stream: *mut ArrowDeviceArrayStream,
    out: *mut ArrowSchema,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(keeper) = keeper(stream) else {
            return EINVAL;
        };
        out.write(ArrowSchema {
            format: keeper.format.clone().into_raw(),
            release: Some(release_schema),
            ..ArrowSchema::released()
        });
    }
    0
}

/// # Safety
/// - As [`get_schema`].
unsafe extern "C" fn get_next(
    stream: *mut ArrowDeviceArrayStream,
    out: *mut ArrowDeviceArray,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(keeper) = keeper(stream) else {
            return EINVAL;
        };
        let Some(next) = keeper.arrays.pop_front() else {
            out.write(ArrowDeviceArray::released());
            return 0;
        };
        if next.is_consumed() {
            // By its own address; a released array would say that this is the end.
            keeper.error = Some(c"an array of the stream was consumed by itself");
            return EINVAL;
        }
        out.write(next.take_array());
    }
    0
}

/// # Safety
/// - As [`keeper`].
unsafe extern "C" fn get_last_error(stream: *mut ArrowDeviceArrayStream) -> *const c_char {
    // SAFETY: the caller's promise.
    match unsafe { keeper(stream) } {
        Some(StreamKeeper {
            error: Some(error), ..
        }) => error.as_ptr(),
        _ => ptr::null(),
    }
}

/// # Safety
/// - As [`keeper`].
unsafe extern "C" fn release_stream(stream: *mut ArrowDeviceArrayStream) {
    // SAFETY: the caller's promise. Only the two members are touched.
    unsafe {
        if (*stream).release.take().is_none() {
            return;
        }
        let keeper = std::mem::replace(&mut (*stream).private_data, ptr::null_mut());
        caught::end(Box::from_raw(keeper.cast::<StreamKeeper>()));
    }
}

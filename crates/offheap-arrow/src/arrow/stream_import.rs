//! Streams of others as buffers, one after the other.

use super::abi::{ArrowDeviceArray, ArrowDeviceArrayStream, ArrowSchema};
use super::format::Format;
use super::import::{ImportedArray, OwnedArray, OwnedSchema, import};
use crate::placing;
use offheap::{Error, Result, Stream};
use std::ffi::{CStr, c_int};
use std::ptr;

/// Arrays of one type that another library makes, one after the other; the other library's stream is released
/// with this value, or at its end.
#[derive(Debug)]
pub struct ImportedArrayStream {
    stream: Option<OwnedStream>,
    format: Format,
    device_type: i32,
}

/// Takes a stream of arrays of Arrow's C Device interface: the struct is moved from, also on errors, which
/// release it. Its type is asked for at once, its arrays by
/// [`next_array`](ImportedArrayStream::next_array).
///
/// # Errors
/// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for a released stream, one without its functions,
///   and a type that contradicts itself;
/// - [`NotSupported`](offheap::ErrorKind::NotSupported) for types with other than one buffer of fixed-width
///   elements, and what the producer says.
///
/// # Safety
/// - `stream` is NULL, misaligned, or the address of a struct as the interface specifies it, which nobody else
///   uses; its functions may be called from the threads that use this value;
/// - of each array as [`import_device_array`](super::import_device_array).
pub unsafe fn import_device_array_stream(
    stream: *mut ArrowDeviceArrayStream,
) -> Result<ImportedArrayStream> {
    // SAFETY: the caller's promise.
    let mut stream = unsafe { OwnedStream::take(stream)? };
    let mut schema = ArrowSchema::released();
    let get_schema = stream
        .0
        .get_schema
        .ok_or_else(|| incomplete("get_schema"))?;
    // SAFETY: a live stream that is ours, and a place for the type.
    let code = unsafe { get_schema(&raw mut stream.0, &raw mut schema) };
    if code != 0 {
        return Err(stream.failed("get_schema", code));
    }
    // SAFETY: what the producer filled, which is ours.
    let format = unsafe { OwnedSchema::take(&raw mut schema)?.format()? };
    Ok(ImportedArrayStream {
        device_type: stream.0.device_type,
        stream: Some(stream),
        format,
    })
}

/// As [`import_device_array_stream`], by address, for those who have numbers.
///
/// # Errors
/// As [`import_device_array_stream`].
///
/// # Safety
/// - As [`import_device_array_stream`].
pub unsafe fn import_device_array_stream_from_address(
    address: usize,
) -> Result<ImportedArrayStream> {
    // SAFETY: the caller's promise.
    unsafe { import_device_array_stream(ptr::with_exposed_provenance_mut(address)) }
}

impl ImportedArrayStream {
    /// What the elements are.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// The next array, without a copy, after its event as
    /// [`import_device_array`](super::import_device_array) waits for it; `None` at the end, and from then on.
    ///
    /// # Errors
    /// - What the producer says; the stream is as it left it;
    /// - as [`import_device_array`](super::import_device_array), and
    ///   [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for an array of another kind of device than
    ///   the stream's; that array is released, and the next call asks for the one after it.
    pub fn next_array(&mut self, stream: Option<&dyn Stream>) -> Result<Option<ImportedArray>> {
        let Some(owned) = &mut self.stream else {
            return Ok(None);
        };
        let get_next = owned.0.get_next.ok_or_else(|| incomplete("get_next"))?;
        let mut array = ArrowDeviceArray::released();
        // SAFETY: a live stream that is ours, and a place for the array.
        let code = unsafe { get_next(&raw mut owned.0, &raw mut array) };
        if code != 0 {
            return Err(owned.failed("get_next", code));
        }
        if array.array.release.is_none() {
            self.stream = None;
            return Ok(None);
        }
        let device_type = array.device_type;
        // SAFETY: what the producer filled, which is ours.
        let array = unsafe { OwnedArray::take(&raw mut array)? };
        if device_type != self.device_type {
            return Err(Error::invalid_argument(
                "device_type",
                format_args!("{device_type} in a stream of {}", self.device_type),
                "arrays of the stream's kind of device",
            ));
        }
        // SAFETY: the promise of whoever imported the stream.
        unsafe { import(array, self.format.clone(), stream) }.map(Some)
    }
}

#[cold]
fn incomplete(what: &'static str) -> Error {
    Error::invalid_argument(what, "NULL", "a function of the stream")
}

/// A foreign stream that is ours to release.
#[derive(Debug)]
struct OwnedStream(ArrowDeviceArrayStream);

// SAFETY: whoever gave the stream promised that its functions may be called from the threads that use it.
unsafe impl Send for OwnedStream {}

impl OwnedStream {
    /// # Safety
    /// - As [`import_device_array_stream`].
    unsafe fn take(source: *mut ArrowDeviceArrayStream) -> Result<Self> {
        let source = placing::checked_struct("stream", source)?;
        // SAFETY: the caller's promise: a struct that only we use. It is moved as the interface says.
        let moved = unsafe {
            let moved = Self(source.read());
            (*source.as_ptr()).release = None;
            moved
        };
        if moved.0.release.is_none() {
            return Err(Error::invalid_argument(
                "stream",
                "Cannot import released ArrowDeviceArrayStream",
                "one that was neither released nor imported",
            ));
        }
        Ok(moved)
    }

    /// What the producer says of a function that failed.
    #[cold]
    fn failed(&mut self, what: &'static str, code: c_int) -> Error {
        let text = self.0.get_last_error.and_then(|get_last_error| {
            // SAFETY: a live stream that is ours; a text is there until the next call.
            unsafe {
                let text = get_last_error(&raw mut self.0);
                (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
            }
        });
        let text = text.unwrap_or_else(|| "no reason given".to_owned());
        Error::not_supported(format!("{what} of the stream failed: errno {code}: {text}"))
    }
}

impl Drop for OwnedStream {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            // SAFETY: a live stream that was moved here, so that nobody else releases it.
            unsafe { release(&raw mut self.0) };
        }
    }
}

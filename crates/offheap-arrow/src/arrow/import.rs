//! Arrays of others as buffers.

use super::abi::{ArrowArray, ArrowDeviceArray, ArrowSchema};
use super::format::Format;
use crate::placing;
use offheap::{DeviceBuffer, DeviceType, Error, Result, Stream};
use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};

/// An array that another library made: its elements, and what they are.
#[derive(Debug)]
#[non_exhaustive]
pub struct ImportedArray {
    /// The elements, from the first on; the other library's array is released with the last reference.
    pub buffer: DeviceBuffer,
    /// What they are.
    pub format: Format,
    /// How many there are.
    pub length: usize,
    /// Which bit of the first byte is the first element: 0 to 7 for `b`, 0 for all others.
    pub bit_offset: u8,
}

/// Takes an array of Arrow's C Device interface and its type, without a copy: both structs are moved from
/// (their `release` is then NULL), also on errors, which release them.
///
/// An event is waited for: by `stream`, whose later work then begins after it, or without one by the caller;
/// also by the caller where the CPU reaches the memory. With a stream the buffer is used in its order: its
/// manager is the device's [on that stream](offheap::MemoryManager::on_stream).
///
/// # Errors
/// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for a released array ("Cannot import released
///   `ArrowArray`"), one that contradicts itself, a kind of device that nobody registered, and a stream of
///   another device;
/// - [`NotSupported`](offheap::ErrorKind::NotSupported) for types with other than one buffer of fixed-width
///   elements, nulls, and events of devices that have none;
/// - what the device says.
///
/// # Safety
/// - `array` and `schema` are NULL, misaligned, or the addresses of structs as the interface specifies them,
///   which nobody else uses meanwhile; what they point to is there and NUL-terminated as specified, and their
///   buffers have as many bytes as they say, until released;
/// - nobody writes the buffers until they are released, and both `release` may be called from any thread.
pub unsafe fn import_device_array(
    array: *mut ArrowDeviceArray,
    schema: *mut ArrowSchema,
    stream: Option<&dyn Stream>,
) -> Result<ImportedArray> {
    // SAFETY: the caller's promise. Both are taken before the first error.
    let (array, schema) = unsafe { (OwnedArray::take(array), OwnedSchema::take(schema)) };
    // SAFETY: as above.
    unsafe { import_both(array?, schema?, stream) }
}

/// As [`import_device_array`], for a plain array of memory of the CPU (Arrow's C Data interface).
///
/// # Errors
/// As [`import_device_array`].
///
/// # Safety
/// - As [`import_device_array`].
pub unsafe fn import_array(
    array: *mut ArrowArray,
    schema: *mut ArrowSchema,
) -> Result<ImportedArray> {
    // SAFETY: the caller's promise.
    let (array, schema) = unsafe { (OwnedArray::take_plain(array), OwnedSchema::take(schema)) };
    // SAFETY: as above.
    unsafe { import_both(array?, schema?, None) }
}

/// As [`import_device_array`], by addresses, for those who have numbers.
///
/// # Errors
/// As [`import_device_array`].
///
/// # Safety
/// - As [`import_device_array`].
pub unsafe fn import_device_array_from_address(
    array: usize,
    schema: usize,
    stream: Option<&dyn Stream>,
) -> Result<ImportedArray> {
    let array = ptr::with_exposed_provenance_mut(array);
    let schema = ptr::with_exposed_provenance_mut(schema);
    // SAFETY: the caller's promise.
    unsafe { import_device_array(array, schema, stream) }
}

/// As [`import_array`], by addresses, for those who have numbers.
///
/// # Errors
/// As [`import_array`].
///
/// # Safety
/// - As [`import_array`].
pub unsafe fn import_array_from_address(array: usize, schema: usize) -> Result<ImportedArray> {
    let array = ptr::with_exposed_provenance_mut(array);
    let schema = ptr::with_exposed_provenance_mut(schema);
    // SAFETY: the caller's promise.
    unsafe { import_array(array, schema) }
}

/// A foreign array that is ours to release.
pub(super) struct OwnedArray(ArrowDeviceArray);

// SAFETY: whoever gave the array promised that `release` may be called from any thread; nothing else of it is
// used once it keeps a buffer.
unsafe impl Send for OwnedArray {}
// SAFETY: as above; a shared reference does nothing.
unsafe impl Sync for OwnedArray {}

impl OwnedArray {
    /// # Safety
    /// - As [`import_device_array`].
    pub(super) unsafe fn take(source: *mut ArrowDeviceArray) -> Result<Self> {
        let source = placing::checked_struct("array", source)?;
        // SAFETY: the caller's promise: a struct that only we use. It is moved as the interface says.
        unsafe {
            let moved = Self(source.read());
            (*source.as_ptr()).array.release = None;
            moved.live()
        }
    }

    /// # Safety
    /// - As [`import_array`].
    unsafe fn take_plain(source: *mut ArrowArray) -> Result<Self> {
        let source = placing::checked_struct("array", source)?;
        // SAFETY: as in `take`.
        unsafe {
            let moved = Self(ArrowDeviceArray {
                array: source.read(),
                ..ArrowDeviceArray::released()
            });
            (*source.as_ptr()).release = None;
            moved.live()
        }
    }

    fn live(self) -> Result<Self> {
        if self.0.array.release.is_none() {
            return Err(released("array", "Cannot import released ArrowArray"));
        }
        Ok(self)
    }

    /// Refuses what is not one buffer without nulls, or contradicts itself; gives offset and length.
    fn check(&self) -> Result<(usize, usize)> {
        let array = &self.0.array;
        let count = |what: &'static str, value: i64| {
            usize::try_from(value)
                .map_err(|_| Error::invalid_argument(what, value, "a count that memory can have"))
        };
        let length = count("length", array.length)?;
        let offset = count("offset", array.offset)?;
        if array.n_buffers != 2 {
            return Err(Error::invalid_argument(
                "n_buffers",
                array.n_buffers,
                "2: validity bits and elements",
            ));
        }
        if array.n_children != 0 || !array.dictionary.is_null() {
            return Err(Error::invalid_argument(
                "array",
                format_args!(
                    "{} children, dictionary {:p}",
                    array.n_children, array.dictionary
                ),
                "none of both, as its type says",
            ));
        }
        if array.null_count < -1 || array.null_count > array.length {
            return Err(Error::invalid_argument(
                "null_count",
                array.null_count,
                "-1, or up to the length",
            ));
        }
        placing::checked_struct("buffers", array.buffers)?;
        if self.0.reserved != [0; 3] {
            return Err(Error::invalid_argument(
                "reserved",
                format!("{:?}", self.0.reserved),
                "zeros: what else it may mean is not specified yet",
            ));
        }
        Ok((offset, length))
    }

    /// The address of the elements, of any device.
    ///
    /// # Safety
    /// - [`check`](Self::check) accepted the array.
    unsafe fn elements(&self) -> Result<*mut c_void> {
        // SAFETY: `buffers` has an entry for each buffer, in memory of the CPU, as the interface says.
        let [validity, elements] =
            unsafe { self.0.array.buffers.cast::<[*const c_void; 2]>().read() };
        match self.0.array.null_count {
            0 => {}
            // Nobody counted: without bits there are none.
            -1 if validity.is_null() => {}
            nulls => {
                return Err(Error::not_supported(format!(
                    "importing an array with nulls (null_count is {nulls}): only ones without"
                )));
            }
        }
        Ok(elements.cast_mut())
    }
}

impl Drop for OwnedArray {
    fn drop(&mut self) {
        if let Some(release) = self.0.array.release {
            // SAFETY: a live array that was moved here, so that nobody else releases it.
            unsafe { release(&raw mut self.0.array) };
        }
    }
}

/// A foreign type that is ours to release.
pub(super) struct OwnedSchema(ArrowSchema);

impl OwnedSchema {
    /// # Safety
    /// - As [`import_device_array`].
    pub(super) unsafe fn take(source: *mut ArrowSchema) -> Result<Self> {
        let source = placing::checked_struct("schema", source)?;
        // SAFETY: as in `OwnedArray::take`.
        let moved = unsafe {
            let moved = Self(source.read());
            (*source.as_ptr()).release = None;
            moved
        };
        if moved.0.release.is_none() {
            return Err(released("schema", "Cannot import released ArrowSchema"));
        }
        Ok(moved)
    }

    /// # Safety
    /// - `format` is NULL, or NUL-terminated.
    pub(super) unsafe fn format(&self) -> Result<Format> {
        if self.0.format.is_null() {
            return Err(Error::invalid_argument(
                "format",
                "NULL",
                "an Arrow format string",
            ));
        }
        // SAFETY: the caller's promise; it is there until the type is released.
        let text = unsafe { CStr::from_ptr(self.0.format) };
        let text = text.to_str().map_err(|_| {
            Error::invalid_argument("format", format!("{text:?}"), "an Arrow format string")
        })?;
        if !self.0.dictionary.is_null() {
            return Err(Error::not_supported(
                "importing a dictionary: only fixed-width types with one buffer are",
            ));
        }
        let format = Format::parse(text)?;
        if self.0.n_children != 0 {
            return Err(Error::invalid_argument(
                "schema",
                format_args!("{} children", self.0.n_children),
                "none, as its format says",
            ));
        }
        Ok(format)
    }
}

impl Drop for OwnedSchema {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            // SAFETY: a live type that was moved here, so that nobody else releases it.
            unsafe { release(&raw mut self.0) };
        }
    }
}

#[cold]
fn released(what: &'static str, message: &'static str) -> Error {
    Error::invalid_argument(what, message, "one that was neither released nor imported")
}

/// # Safety
/// - As [`import_device_array`].
unsafe fn import_both(
    array: OwnedArray,
    schema: OwnedSchema,
    stream: Option<&dyn Stream>,
) -> Result<ImportedArray> {
    // SAFETY: the caller's promise.
    let format = unsafe { schema.format()? };
    drop(schema);
    // SAFETY: as above.
    unsafe { import(array, format, stream) }
}

/// # Safety
/// - As [`import_device_array`].
pub(super) unsafe fn import(
    array: OwnedArray,
    format: Format,
    stream: Option<&dyn Stream>,
) -> Result<ImportedArray> {
    let (offset, length) = array.check()?;
    let Some((first, size, bit_offset)) = format.extent(offset, length) else {
        return Err(Error::invalid_argument(
            "length",
            format_args!(
                "{offset} + {length} elements of {} bits",
                format.element_bits()
            ),
            "as many as memory can have",
        ));
    };
    // SAFETY: `check` accepted it.
    let elements = unsafe { array.elements()? };
    let data = placing::checked_data(elements, first, size, format.alignment())?;
    let manager = placing::manager_of(array.0.device_type, array.0.device_id)?;
    let manager = placing::on_stream(manager, stream)?;
    if let Some(event) = NonNull::new(array.0.sync_event) {
        if array.0.device_type == DeviceType::CPU.code() {
            return Err(Error::invalid_argument(
                "sync_event",
                format_args!("{event:p}"),
                "NULL: memory of the CPU has no events",
            ));
        }
        // SAFETY: the interface says what it is the address of, and that the event is there as long as the
        // array, which outlives this block.
        let event = unsafe { manager.wrap_sync_event(event)? };
        // What the CPU reads it reads without asking a stream.
        placing::order(&*event, stream.filter(|_| !manager.is_cpu()))?;
        // The manager may have no way to be on the caller's stream.
        if stream.is_some()
            && let Some(own) = manager.own_stream()
        {
            own.wait_event(&*event)?;
        }
    }
    // SAFETY: the array has these bytes, which nobody writes, until it is released (the caller's promise):
    // when the last reference goes.
    let buffer = unsafe { placing::adopt(data, size, manager, array)? };
    Ok(ImportedArray {
        buffer,
        format,
        length,
        bit_offset,
    })
}

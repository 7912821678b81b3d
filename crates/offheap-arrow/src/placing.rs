//! Where foreign memory lies, and what is known of its address.

use offheap::{
    Block, Device, DeviceBuffer, DeviceType, Error, Location, MemoryManager, Result, Stream,
    SyncEvent, device_for,
};
use std::any::Any;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

/// The manager for foreign memory of a device, which whoever made the device known names.
pub(crate) fn manager_of(device_type: i32, device_id: i64) -> Result<Arc<dyn MemoryManager>> {
    let location = Location::device(DeviceType::from_code(device_type), device_id);
    let device: Arc<dyn Device> = device_for(location)?;
    device.default_memory_manager()
}

/// A struct that another library gave us an address of.
///
/// # Errors
/// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for an address where none can be.
pub(crate) fn checked_struct<T>(what: &'static str, pointer: *mut T) -> Result<NonNull<T>> {
    match NonNull::new(pointer) {
        Some(place) if place.is_aligned() => Ok(place),
        Some(_) => Err(Error::invalid_argument(
            what,
            format_args!("{pointer:p}"),
            "an address aligned for the struct",
        )),
        None => Err(Error::invalid_argument(
            what,
            "NULL",
            "the address of a struct",
        )),
    }
}

/// The first byte of `size` bytes at `data + offset`, which nobody has read.
///
/// # Errors
/// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for NULL with bytes, addresses that wrap, and
/// ones that are not multiples of `alignment`.
pub(crate) fn checked_data(
    data: *mut c_void,
    offset: usize,
    size: usize,
    alignment: usize,
) -> Result<NonNull<u8>> {
    if size == 0 {
        // Nobody reads it; NULL is usual.
        return Ok(NonNull::new(data.cast()).unwrap_or(NonNull::<Line>::dangling().cast()));
    }
    if data.is_null() {
        return Err(Error::invalid_argument(
            "data",
            format_args!("NULL, with {size} bytes"),
            "the address of the bytes",
        ));
    }
    let address = data.addr().checked_add(offset);
    let end = address.and_then(|address| address.checked_add(size));
    let (Some(address), Some(_)) = (address, end) else {
        return Err(Error::invalid_argument(
            "data",
            format_args!("{size} bytes at {:#x} + {offset}", data.addr()),
            "bytes that lie in the address space",
        ));
    };
    if !address.is_multiple_of(alignment) {
        return Err(misaligned(address, alignment));
    }
    // Not null: `data` is not, and the sum did not wrap.
    Ok(NonNull::new(data.cast::<u8>().wrapping_add(offset)).unwrap_or(NonNull::dangling()))
}

#[cold]
pub(crate) fn misaligned(address: usize, alignment: usize) -> Error {
    Error::invalid_argument(
        "data",
        format_args!("{address:#x}, where elements need multiples of {alignment}"),
        "an address aligned for the elements",
    )
}

/// What an address is when there is nothing at it.
#[repr(align(64))]
struct Line;

/// A buffer over foreign memory; `owner` is dropped on errors, too.
///
/// # Safety
/// - The `size` bytes at `data` are valid, as far as `manager`'s device can reach memory, and not written
///   by anybody, until `owner` is dropped.
pub(crate) unsafe fn adopt(
    data: NonNull<u8>,
    size: usize,
    manager: Arc<dyn MemoryManager>,
    owner: impl Any + Send + Sync,
) -> Result<DeviceBuffer> {
    let location = manager.device().location();
    // SAFETY: the caller's promise.
    let block = unsafe { Block::foreign_at(data, size, location, owner)? };
    // SAFETY: all of the block, which nobody writes (the caller's promise), and whose bytes their producer
    // gave values; the manager is its device's.
    Ok(unsafe { DeviceBuffer::from_block(block, 0, size, manager) })
}

/// What is used in the order of `stream` from now on; what the CPU reaches is in no such order.
pub(crate) fn on_stream(
    manager: Arc<dyn MemoryManager>,
    stream: Option<&dyn Stream>,
) -> Result<Arc<dyn MemoryManager>> {
    match stream {
        Some(stream) if !manager.is_cpu() => Ok(manager.on_stream(stream)?.unwrap_or(manager)),
        _ => Ok(manager),
    }
}

/// Later work of `stream` begins after `event`; without a stream, the caller waits.
pub(crate) fn order(event: &dyn SyncEvent, stream: Option<&dyn Stream>) -> Result<()> {
    match stream {
        Some(stream) => stream.wait_event(event),
        None => event.wait(),
    }
}

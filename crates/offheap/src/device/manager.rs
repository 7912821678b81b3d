//! Memory managers.

use super::buffer::DeviceBuffer;
use super::device::Device;
use super::files::{DeviceReader, DeviceWriter};
use super::mutable::MutableDeviceBuffer;
use super::stream::{Stream, SyncEvent};
use crate::alignment::Alignment;
use crate::buffer::Block;
use crate::error::{Error, Result};
use crate::pool::Pool;
use std::any::Any;
use std::ffi::c_void;
use std::fmt::Debug;
use std::ptr::NonNull;
use std::sync::Arc;

/// Allocates, copies and views memory of one device (Arrow's `MemoryManager`).
///
/// A device has a default one and may have more: on the CPU one for each pool. Users call
/// [`MutableDeviceBuffer::allocate`], [`DeviceBuffer::copy_to`], [`view_on`](DeviceBuffer::view_on) and
/// [`view_or_copy_to`](DeviceBuffer::view_or_copy_to); the methods here are what a device implements.
///
/// `copy_from`, `copy_to`, `view_from` and `view_to` answer `None` for a pair of devices that they do not
/// know; the other side is then asked. An error is final: running out of memory is never taken for
/// "not supported".
pub trait MemoryManager: Any + Debug + Send + Sync {
    /// The device.
    fn device(&self) -> Arc<dyn Device>;

    /// The pool that allocations come from; `None` when it allocates none.
    fn pool(&self) -> Option<Pool>;

    /// Whether the CPU may read and write its memory.
    fn is_cpu(&self) -> bool {
        self.device().is_cpu()
    }

    /// Whether both manage the same device's memory from the same pool.
    fn equals(&self, other: &dyn MemoryManager) -> bool {
        self.device().equals(&*other.device()) && self.pool() == other.pool()
    }

    /// The stream in whose order this manager reads, writes and copies; `None` of one that does so at once.
    /// Whoever reads its memory in another order waits for it first.
    fn own_stream(&self) -> Option<Arc<dyn Stream>> {
        None
    }

    /// A new block of `size` bytes, uninitialised, or all zero when `zeroed`.
    ///
    /// # Errors
    /// - [`NotSupported`](crate::ErrorKind::NotSupported) without a pool;
    /// - as [`Pool::allocate_on_device`].
    fn allocate(&self, size: usize, alignment: Alignment, zeroed: bool) -> Result<Block> {
        match self.pool() {
            Some(pool) => Block::allocate_on_device(size, alignment, &pool, zeroed),
            None => Err(Error::not_supported(format!(
                "the memory manager of {} allocates nothing",
                self.device().location()
            ))),
        }
    }

    /// A copy of another manager's `source` in new memory of this one; done when this returns.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate), and what the device says.
    fn copy_from(&self, source: &DeviceBuffer) -> Result<Option<Block>> {
        let _ = source;
        Ok(None)
    }

    /// A copy of this manager's `source` in new memory of `to`; done when this returns.
    ///
    /// # Errors
    /// As [`copy_from`](Self::copy_from).
    fn copy_to(&self, source: &DeviceBuffer, to: &Arc<dyn MemoryManager>) -> Result<Option<Block>> {
        let _ = (source, to);
        Ok(None)
    }

    /// Another manager's `source` as memory of this one: a block, and where in it the first byte is. It
    /// keeps the source's memory, and no byte moves now. (Managed and mapped memory may move bytes when it is
    /// read.)
    ///
    /// # Errors
    /// What the device says.
    fn view_from(&self, source: &DeviceBuffer) -> Result<Option<(Block, usize)>> {
        let _ = source;
        Ok(None)
    }

    /// This manager's `source` as memory of `to`: see [`view_from`](Self::view_from).
    ///
    /// # Errors
    /// As [`view_from`](Self::view_from).
    fn view_to(
        &self,
        source: &DeviceBuffer,
        to: &Arc<dyn MemoryManager>,
    ) -> Result<Option<(Block, usize)>> {
        let _ = (source, to);
        Ok(None)
    }

    /// Copies bytes of this manager's `source`, from `offset`, to all of `target`; done when this returns.
    /// The range was checked.
    ///
    /// # Errors
    /// What the device says.
    fn read(&self, source: &DeviceBuffer, offset: usize, target: &mut [u8]) -> Result<()>;

    /// Copies `bytes` to this manager's `target`, from `offset` on; done when this returns. The range was
    /// checked.
    ///
    /// # Errors
    /// What the device says.
    fn write(&self, target: &mut MutableDeviceBuffer, offset: usize, bytes: &[u8]) -> Result<()>;

    /// A reader at the start of this manager's `buffer`.
    ///
    /// # Errors
    /// What the device says.
    fn reader(&self, buffer: DeviceBuffer) -> Result<Box<dyn DeviceReader>>;

    /// A writer at the start of this manager's `buffer`.
    ///
    /// # Errors
    /// What the device says.
    fn writer(&self, buffer: MutableDeviceBuffer) -> Result<Box<dyn DeviceWriter>>;

    /// A new event, which a stream records and others wait for (Arrow's `MakeDeviceSyncEvent`).
    ///
    /// # Errors
    /// [`NotSupported`](crate::ErrorKind::NotSupported) for a device without streams.
    fn make_sync_event(&self) -> Result<Arc<dyn SyncEvent>> {
        Err(Error::not_supported(format!(
            "device {} has no events",
            self.device().location()
        )))
    }

    /// An event that someone else made, by the address of its handle (as [`SyncEvent::as_raw`] gives it, and
    /// `ArrowDeviceArray.sync_event` has it): to be waited for; whoever made it ends it (Arrow's
    /// `WrapDeviceSyncEvent`).
    ///
    /// # Errors
    /// [`NotSupported`](crate::ErrorKind::NotSupported) for a device without such events.
    ///
    /// # Safety
    /// - `event` is the address of a handle of an event of this kind of device, and both are there as long
    ///   as what this returns.
    unsafe fn wrap_sync_event(&self, event: NonNull<c_void>) -> Result<Arc<dyn SyncEvent>> {
        let _ = event;
        Err(Error::not_supported(format!(
            "device {} cannot wait for events of others",
            self.device().location()
        )))
    }

    /// The same device's memory in the order of another stream: what is made of it is used there. `None`
    /// where memory belongs to no stream.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a stream of another device.
    fn on_stream(&self, stream: &dyn Stream) -> Result<Option<Arc<dyn MemoryManager>>> {
        let _ = stream;
        Ok(None)
    }
}

impl PartialEq for dyn MemoryManager {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

impl Eq for dyn MemoryManager {}

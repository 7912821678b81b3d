//! Work that a device does in order, and its moments.

use super::device::Device;
use crate::error::Result;
use std::any::Any;
use std::ffi::c_void;
use std::fmt::Debug;
use std::sync::Arc;

/// A queue of work of one device, done in order (Arrow's `Device::Stream`).
pub trait Stream: Any + Debug + Send + Sync {
    /// The device.
    fn device(&self) -> Arc<dyn Device>;

    /// Later work of this stream begins after `event`; the caller does not wait.
    ///
    /// # Errors
    /// - [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an event of another kind of device;
    /// - what the device says.
    fn wait_event(&self, event: &dyn SyncEvent) -> Result<()>;

    /// Waits until all its work is done.
    ///
    /// # Errors
    /// What the device says, of earlier work, too.
    fn synchronize(&self) -> Result<()>;

    /// Whether all its work is done.
    ///
    /// # Errors
    /// As [`synchronize`](Self::synchronize).
    fn is_complete(&self) -> Result<bool>;

    /// The device's own handle.
    fn as_raw(&self) -> *mut c_void;
}

/// A moment in a stream that others can wait for (Arrow's `Device::SyncEvent`).
pub trait SyncEvent: Any + Debug + Send + Sync {
    /// The event is the moment at which all work that `stream` has now is done.
    ///
    /// # Errors
    /// As [`Stream::wait_event`].
    fn record(&self, stream: &dyn Stream) -> Result<()>;

    /// Waits for the moment; at once for an event that was never recorded.
    ///
    /// # Errors
    /// What the device says.
    fn wait(&self) -> Result<()>;

    /// Whether the moment has come.
    ///
    /// # Errors
    /// What the device says.
    fn is_complete(&self) -> Result<bool>;

    /// The address of the device's own handle, as `ArrowDeviceArray.sync_event` has it (for CUDA a
    /// `CUevent *`); it is there as long as the event is.
    fn as_raw(&self) -> *mut c_void;
}

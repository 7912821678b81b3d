//! Devices.

use super::manager::MemoryManager;
use super::stream::Stream;
use crate::error::{Error, Result};
use crate::location::{DeviceType, Location};
use crate::pool::Pool;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// Something with memory of its own: the CPU, a GPU, what processes share (Arrow's `Device`).
pub trait Device: Any + Debug + Send + Sync {
    /// The kind of device, as a word: `cpu`, `cuda`, `shm`.
    fn type_name(&self) -> &str;

    /// Where its memory lies.
    fn location(&self) -> Location;

    /// The kind of its memory.
    fn device_type(&self) -> DeviceType {
        self.location().device_type
    }

    /// Which device of its kind; -1 where there is only one.
    fn device_id(&self) -> i64 {
        self.location().device_id
    }

    /// Whether the CPU may read and write its memory.
    fn is_cpu(&self) -> bool {
        self.location().is_cpu
    }

    /// Whether both are the same device.
    fn equals(&self, other: &dyn Device) -> bool {
        self.type_name() == other.type_name() && self.location() == other.location()
    }

    /// The manager for whoever names no other.
    ///
    /// # Errors
    /// [`DeviceUnavailable`](crate::ErrorKind::DeviceUnavailable) when the device went away.
    fn default_memory_manager(&self) -> Result<Arc<dyn MemoryManager>>;

    /// The manager whose memory comes from `pool`.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a pool of another device.
    fn memory_manager(&self, pool: &Pool) -> Result<Arc<dyn MemoryManager>>;

    /// A new queue of work (Arrow's `Device::MakeStream`).
    ///
    /// # Errors
    /// [`NotSupported`](crate::ErrorKind::NotSupported) for a device that works at once, as the CPU does.
    fn make_stream(&self) -> Result<Arc<dyn Stream>> {
        Err(Error::not_supported(format!(
            "device {} has no streams",
            self.location()
        )))
    }
}

impl PartialEq for dyn Device {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

impl Eq for dyn Device {}

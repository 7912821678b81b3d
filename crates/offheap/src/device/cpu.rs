//! The CPU as a device.

use super::buffer::{ALIGNMENT, DeviceBuffer};
use super::device::Device;
use super::files::{CpuReader, CpuWriter, DeviceReader, DeviceWriter};
use super::manager::MemoryManager;
use super::mutable::MutableDeviceBuffer;
use crate::buffer::Block;
use crate::error::{Error, Result};
use crate::location::Location;
use crate::pool::{Pool, default_memory_pool};
use std::sync::{Arc, LazyLock};

/// The CPU (Arrow's `CPUDevice`).
#[derive(Debug)]
pub struct CpuDevice(());

static DEVICE: LazyLock<Arc<CpuDevice>> = LazyLock::new(|| Arc::new(CpuDevice(())));
static DEFAULT: LazyLock<Arc<dyn MemoryManager>> =
    LazyLock::new(|| Arc::new(CpuMemoryManager { pool: None }));

/// The CPU's device.
pub fn cpu_device() -> Arc<dyn Device> {
    let device: Arc<CpuDevice> = Arc::clone(&DEVICE);
    device
}

/// The CPU's manager over what is the default pool at each call (Arrow's
/// `default_cpu_memory_manager`).
pub fn default_cpu_memory_manager() -> Arc<dyn MemoryManager> {
    Arc::clone(&DEFAULT)
}

/// The CPU's manager over `pool` (Arrow's `CPUDevice::memory_manager(pool)`).
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a pool of a device's memory.
pub fn cpu_memory_manager(pool: &Pool) -> Result<Arc<dyn MemoryManager>> {
    if pool.location() != Location::CPU {
        return Err(Error::invalid_argument(
            "pool",
            format_args!("'{}' of {}", pool.name(), pool.location()),
            "a pool of the CPU's memory",
        ));
    }
    Ok(Arc::new(CpuMemoryManager {
        pool: Some(pool.clone()),
    }))
}

impl Device for CpuDevice {
    fn type_name(&self) -> &'static str {
        "cpu"
    }

    fn location(&self) -> Location {
        Location::CPU
    }

    fn default_memory_manager(&self) -> Result<Arc<dyn MemoryManager>> {
        Ok(default_cpu_memory_manager())
    }

    fn memory_manager(&self, pool: &Pool) -> Result<Arc<dyn MemoryManager>> {
        cpu_memory_manager(pool)
    }
}

/// Memory of the CPU from one pool (Arrow's `CPUMemoryManager`).
#[derive(Debug)]
pub struct CpuMemoryManager {
    /// `None`: the default pool of the moment.
    pool: Option<Pool>,
}

impl CpuMemoryManager {
    /// A block with a copy of `bytes`.
    fn copy_of(to: &dyn MemoryManager, bytes: &[u8]) -> Result<Block> {
        let block = to.allocate(bytes.len(), ALIGNMENT, false)?;
        // SAFETY: a new block of memory that the CPU may write, which has room for the bytes and overlaps
        // nothing; its padding lies within the capacity.
        unsafe {
            let start = block.as_ptr().as_ptr();
            start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            start
                .add(bytes.len())
                .write_bytes(0, block.capacity() - bytes.len());
        }
        Ok(block)
    }
}

impl MemoryManager for CpuMemoryManager {
    fn device(&self) -> Arc<dyn Device> {
        cpu_device()
    }

    fn pool(&self) -> Option<Pool> {
        Some(self.pool.clone().unwrap_or_else(default_memory_pool))
    }

    fn copy_from(&self, source: &DeviceBuffer) -> Result<Option<Block>> {
        // Whatever the CPU can read needs no help of the other side, once it is there.
        let Ok(bytes) = source.as_cpu() else {
            return Ok(None);
        };
        if let Some(stream) = source.memory_manager().own_stream() {
            stream.synchronize()?;
        }
        Self::copy_of(self, &bytes).map(Some)
    }

    fn copy_to(&self, source: &DeviceBuffer, to: &Arc<dyn MemoryManager>) -> Result<Option<Block>> {
        if to.is_cpu() {
            Self::copy_of(&**to, &source.as_cpu()?).map(Some)
        } else {
            Ok(None)
        }
    }

    fn view_from(&self, source: &DeviceBuffer) -> Result<Option<(Block, usize)>> {
        Ok(source
            .is_cpu()
            .then(|| (source.block().clone(), source.offset())))
    }

    fn read(&self, source: &DeviceBuffer, offset: usize, target: &mut [u8]) -> Result<()> {
        target.copy_from_slice(&source.as_cpu()?[offset..][..target.len()]);
        Ok(())
    }

    fn write(&self, target: &mut MutableDeviceBuffer, offset: usize, bytes: &[u8]) -> Result<()> {
        target.as_mut_slice()?[offset..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn reader(&self, buffer: DeviceBuffer) -> Result<Box<dyn DeviceReader>> {
        Ok(Box::new(CpuReader::new(buffer)?))
    }

    fn writer(&self, buffer: MutableDeviceBuffer) -> Result<Box<dyn DeviceWriter>> {
        Ok(Box::new(CpuWriter::new(buffer)?))
    }
}

//! Which device a location is of.

use super::cpu::{cpu_device, cpu_memory_manager, default_cpu_memory_manager};
use super::device::Device;
use super::manager::MemoryManager;
use crate::buffer::Block;
use crate::error::{Error, Result};
use crate::location::{DeviceType, Location};
use crate::pool::Pool;
use std::sync::{Arc, PoisonError, RwLock};

/// Gives the device of one type with an id.
pub type DeviceMapper = fn(i64) -> Result<Arc<dyn Device>>;

/// Few, and looked up seldom.
static MAPPERS: RwLock<Vec<(DeviceType, DeviceMapper)>> = RwLock::new(Vec::new());

/// Makes devices of one type known by their ids (Arrow's `RegisterDeviceMapper`): for crates of devices,
/// once. The CPU is known from the start.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a type that is registered already.
pub fn register_device_mapper(device_type: DeviceType, mapper: DeviceMapper) -> Result<()> {
    let mut mappers = MAPPERS.write().unwrap_or_else(PoisonError::into_inner);
    let known = device_type == DeviceType::CPU || mappers.iter().any(|(t, _)| *t == device_type);
    if known {
        return Err(Error::invalid_argument(
            "device_type",
            device_type,
            "a type of device that is not registered yet",
        ));
    }
    mappers.push((device_type, mapper));
    Ok(())
}

/// The device where memory lies (Arrow's `GetDeviceMapper`).
///
/// # Errors
/// - [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a type that nobody registered;
/// - what its mapper says: [`DeviceUnavailable`](crate::ErrorKind::DeviceUnavailable), say.
pub fn device_for(location: Location) -> Result<Arc<dyn Device>> {
    if location.device_type == DeviceType::CPU {
        return Ok(cpu_device());
    }
    let mapper = MAPPERS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .find(|(t, _)| *t == location.device_type)
        .map(|(_, mapper)| *mapper);
    // Not under the lock: a mapper may look for devices itself.
    match mapper {
        Some(mapper) => mapper(location.device_id),
        None => Err(Error::invalid_argument(
            "device_type",
            location.device_type,
            "a type of device that is registered",
        )),
    }
}

/// The manager of the memory that `pool` gives: on the CPU one for each pool, elsewhere its device's.
///
/// # Errors
/// As [`device_for`] and [`Device::memory_manager`].
pub fn memory_manager_of(pool: &Pool) -> Result<Arc<dyn MemoryManager>> {
    if pool.location() == Location::CPU {
        return cpu_memory_manager(pool);
    }
    device_for(pool.location())?.memory_manager(pool)
}

/// The manager of a block's memory.
pub(super) fn manager_of_block(block: &Block) -> Result<Arc<dyn MemoryManager>> {
    match block.pool() {
        Some(pool) => memory_manager_of(pool),
        None if block.location() == Location::CPU => Ok(default_cpu_memory_manager()),
        None => device_for(block.location())?.default_memory_manager(),
    }
}

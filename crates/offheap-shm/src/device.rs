//! The device.

use crate::failure::NAME;
use crate::manager::SharedMemoryManager;
use crate::source::{SHARED_MEMORY, SharedMemorySource};
use offheap::{
    Device, DeviceType, Error, Location, MemoryManager, Pool, Result, register_device_mapper,
};
use std::sync::{Arc, LazyLock};

/// The memory that processes of one user share on this machine, as a device.
#[derive(Debug)]
pub struct SharedMemoryDevice {
    pool: Pool,
    manager: Arc<dyn MemoryManager>,
}

static DEVICE: LazyLock<Arc<SharedMemoryDevice>> = LazyLock::new(|| {
    // `device_for` finds it, too, unless another extension was first to take the code.
    drop(register_device_mapper(DeviceType::EXT_DEV, find));
    let pool = Pool::custom(SharedMemorySource::default());
    let manager = Arc::new(SharedMemoryManager::new(pool.clone()));
    Arc::new(SharedMemoryDevice { pool, manager })
});

fn find(id: i64) -> Result<Arc<dyn Device>> {
    // DLPack, which has no negative numbers in use, says 0 where there is one.
    if id != SHARED_MEMORY.device_id && id != 0 {
        return Err(Error::device_unavailable(
            "no-device",
            format!("there is one device of shared memory, -1, and not {id}"),
        ));
    }
    Ok(shared_memory_device())
}

/// The device of shared memory. From the first call on, [`device_for`](offheap::device_for) and
/// [`memory_manager_of`](offheap::memory_manager_of) know it.
pub fn shared_memory_device() -> Arc<dyn Device> {
    let device: Arc<SharedMemoryDevice> = Arc::clone(&DEVICE);
    device
}

/// The pool that the device's default manager has its memory from.
pub fn shared_memory_pool() -> Pool {
    DEVICE.pool.clone()
}

/// The device's default manager.
pub fn default_shared_memory_manager() -> Arc<dyn MemoryManager> {
    Arc::clone(&DEVICE.manager)
}

/// The device's manager over `pool`: one with limits, say.
///
/// # Errors
/// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for a pool of other memory.
pub fn shared_memory_manager(pool: &Pool) -> Result<Arc<dyn MemoryManager>> {
    if pool.location() != SHARED_MEMORY {
        return Err(Error::invalid_argument(
            "pool",
            format_args!("'{}' of {}", pool.name(), pool.location()),
            "a pool of shared memory",
        ));
    }
    Ok(Arc::new(SharedMemoryManager::new(pool.clone())))
}

impl Device for SharedMemoryDevice {
    fn type_name(&self) -> &'static str {
        NAME
    }

    fn location(&self) -> Location {
        SHARED_MEMORY
    }

    fn default_memory_manager(&self) -> Result<Arc<dyn MemoryManager>> {
        Ok(default_shared_memory_manager())
    }

    fn memory_manager(&self, pool: &Pool) -> Result<Arc<dyn MemoryManager>> {
        shared_memory_manager(pool)
    }
}

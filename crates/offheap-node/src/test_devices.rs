//! Devices of the tests, whose addresses the CPU cannot use: reading one ends the process.
//!
//! They are what Arrow's tests call `MyDevice`: of one, managers can copy its memory, of the next view it, of
//! the last neither.

use crate::devices::adopt_device;
use crate::environment::Environment;
use crate::errors::OrThrow;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::{
    Alignment, Block, Device, DeviceBuffer, DeviceReader, DeviceType, DeviceWriter, Error,
    Location, MemoryManager, MemoryPool, MutableDeviceBuffer, Pool, Result, device_for,
    register_device_mapper, system_memory_pool,
};
use std::ptr::NonNull;
use std::sync::{Arc, LazyLock};

/// In no address that a program has on a 64-bit system, and small enough for JavaScript's numbers.
const MARK: usize = 1 << 48;

/// Where a device's byte really is.
fn real(address: NonNull<u8>) -> NonNull<u8> {
    let real = address.as_ptr().map_addr(|address| address & !MARK);
    // SAFETY: only addresses with the mark are ever given out, and those without it are not null.
    unsafe { NonNull::new_unchecked(real) }
}

fn marked(address: NonNull<u8>) -> NonNull<u8> {
    address.map_addr(|address| address | MARK)
}

/// Memory of the system's under marked addresses.
#[derive(Debug)]
struct TestMemory {
    location: Location,
    system: Pool,
}

// SAFETY: blocks are the system's, by marked addresses.
unsafe impl MemoryPool for TestMemory {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.system.allocate(size, alignment).map(marked)
    }

    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.system.allocate_zeroed(size, alignment).map(marked)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        // SAFETY: the caller's promises, of the block under the marked address.
        unsafe {
            self.system
                .reallocate(real(ptr), old_size, new_size, alignment)
        }
        .map(marked)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: as above.
        unsafe { self.system.free(real(ptr), size, alignment) };
    }

    fn location(&self) -> Location {
        self.location
    }

    fn backend_name(&self) -> &'static str {
        "test"
    }
}

/// What managers of a device can do with the CPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ability {
    Copy,
    View,
    Nothing,
}

#[derive(Debug)]
struct TestDevice {
    location: Location,
    ability: Ability,
    pool: Pool,
}

/// The device with a number: 0 copies, 1 views, 2 does neither, 3 copies, too.
fn device(id: i64) -> Result<Arc<dyn Device>> {
    static DEVICES: LazyLock<Vec<Arc<TestDevice>>> = LazyLock::new(|| {
        [
            Ability::Copy,
            Ability::View,
            Ability::Nothing,
            Ability::Copy,
        ]
        .into_iter()
        .zip(0..)
        .map(|(ability, id)| {
            let location = Location::device(DeviceType::EXT_DEV, id);
            let system = system_memory_pool().proxy();
            Arc::new(TestDevice {
                location,
                ability,
                pool: Pool::custom(TestMemory { location, system }),
            })
        })
        .collect()
    });
    match usize::try_from(id).ok().and_then(|id| DEVICES.get(id)) {
        Some(device) => {
            let device: Arc<TestDevice> = Arc::clone(device);
            Ok(device)
        }
        None => Err(Error::device_unavailable(
            "no-device",
            format!("there is no test device {id}"),
        )),
    }
}

/// A device of the tests.
#[napi(catch_unwind)]
pub fn test_device(env: Env, number: i64) -> napi::Result<f64> {
    // The second time it is registered already.
    let _ = register_device_mapper(DeviceType::EXT_DEV, device);
    let state = Environment::of(env)?;
    device_for(Location::device(DeviceType::EXT_DEV, number))
        .and_then(|device| adopt_device(state, device))
        .or_throw(env)
}

impl Device for TestDevice {
    fn type_name(&self) -> &'static str {
        "test"
    }

    fn location(&self) -> Location {
        self.location
    }

    fn default_memory_manager(&self) -> Result<Arc<dyn MemoryManager>> {
        self.memory_manager(&self.pool)
    }

    fn memory_manager(&self, pool: &Pool) -> Result<Arc<dyn MemoryManager>> {
        if pool.location() != self.location {
            return Err(Error::invalid_argument(
                "pool",
                format_args!("'{}' of {}", pool.name(), pool.location()),
                "a pool of this device's memory",
            ));
        }
        Ok(Arc::new(TestManager {
            device: device(self.location.device_id)?,
            ability: self.ability,
            pool: pool.clone(),
        }))
    }
}

#[derive(Debug)]
struct TestManager {
    device: Arc<dyn Device>,
    ability: Ability,
    pool: Pool,
}

/// Where the first byte of a buffer really is.
fn start(block: &Block, offset: usize) -> *mut u8 {
    #[expect(clippy::disallowed_methods, reason = "a marked address")]
    let start = block.as_ptr();
    real(start).as_ptr().wrapping_add(offset)
}

fn bytes(source: &DeviceBuffer) -> &[u8] {
    // SAFETY: the block has the bytes at its real address, and they do not change while the buffer lives.
    unsafe { std::slice::from_raw_parts(start(source.block(), source.offset()), source.len()) }
}

impl MemoryManager for TestManager {
    fn device(&self) -> Arc<dyn Device> {
        Arc::clone(&self.device)
    }

    fn pool(&self) -> Option<Pool> {
        Some(self.pool.clone())
    }

    fn copy_from(&self, source: &DeviceBuffer) -> Result<Option<Block>> {
        if self.ability != Ability::Copy || !source.is_cpu() {
            return Ok(None);
        }
        let block = self.allocate(source.len(), Alignment::DEFAULT, false)?;
        if !source.is_empty() {
            let source = source.as_cpu()?;
            // SAFETY: a new block with as many bytes at its real address.
            unsafe { start(&block, 0).copy_from_nonoverlapping(source.as_ptr(), source.len()) };
        }
        Ok(Some(block))
    }

    fn copy_to(&self, source: &DeviceBuffer, to: &Arc<dyn MemoryManager>) -> Result<Option<Block>> {
        if self.ability != Ability::Copy || !to.is_cpu() {
            return Ok(None);
        }
        let copy = if source.is_empty() {
            DeviceBuffer::copy_from(&[], to)?
        } else {
            DeviceBuffer::copy_from(bytes(source), to)?
        };
        Ok(Some(copy.block().clone()))
    }

    fn view_from(&self, source: &DeviceBuffer) -> Result<Option<(Block, usize)>> {
        if self.ability != Ability::View || !source.is_cpu() {
            return Ok(None);
        }
        let address = NonNull::from(source.as_cpu()?.as_slice()).cast::<u8>();
        // SAFETY: the source keeps the bytes.
        let view = unsafe {
            Block::foreign_at(
                marked(address),
                source.len(),
                self.device.location(),
                source.clone(),
            )?
        };
        Ok(Some((view, 0)))
    }

    fn view_to(
        &self,
        source: &DeviceBuffer,
        to: &Arc<dyn MemoryManager>,
    ) -> Result<Option<(Block, usize)>> {
        if self.ability != Ability::View || !to.is_cpu() {
            return Ok(None);
        }
        let Some(address) = NonNull::new(start(source.block(), source.offset())) else {
            return Ok(None);
        };
        // SAFETY: the source keeps the bytes, which are at the real address.
        let view = unsafe { Block::foreign(address, source.len(), source.clone())? };
        Ok(Some((view, 0)))
    }

    fn read(&self, source: &DeviceBuffer, offset: usize, target: &mut [u8]) -> Result<()> {
        target.copy_from_slice(&bytes(source)[offset..][..target.len()]);
        Ok(())
    }

    fn write(&self, target: &mut MutableDeviceBuffer, offset: usize, bytes: &[u8]) -> Result<()> {
        // SAFETY: the range was checked, and is the target's alone.
        unsafe {
            start(target.block(), target.offset() + offset)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(())
    }

    fn reader(&self, _buffer: DeviceBuffer) -> Result<Box<dyn DeviceReader>> {
        Err(Error::not_supported("test devices have no readers"))
    }

    fn writer(&self, _buffer: MutableDeviceBuffer) -> Result<Box<dyn DeviceWriter>> {
        Err(Error::not_supported("test devices have no writers"))
    }
}

//! A device whose addresses the CPU cannot use: reading one by mistake ends the test.

use offheap::{
    Alignment, Block, Device, DeviceBuffer, DeviceReader, DeviceWriter, Error, Location,
    MemoryManager, MemoryPool, MutableDeviceBuffer, Pool, Result,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::Arc;

/// In no address that a program may use on a 64-bit system.
const MARK: usize = 1 << 62;

/// Where a device's byte really is.
fn real(address: NonNull<u8>) -> *mut u8 {
    assert!(address.addr().get() & MARK != 0, "not a device address");
    address.as_ptr().map_addr(|a| a & !MARK)
}

/// The device's memory, as a pool's source.
#[derive(Debug)]
pub(super) struct FakeMemory(pub(super) Location);

impl FakeMemory {
    fn make(size: usize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>> {
        let layout = Layout::from_size_align(size, alignment.get()).unwrap();
        // SAFETY: no size is zero, by the trait's contract.
        let ptr = unsafe {
            if zeroed {
                System.alloc_zeroed(layout)
            } else {
                System.alloc(layout)
            }
        };
        NonNull::new(ptr)
            .map(|ptr| NonNull::new(ptr.as_ptr().map_addr(|a| a | MARK)).unwrap())
            .ok_or_else(|| Error::not_supported("the system refused the fake device"))
    }
}

// SAFETY: blocks are the system's, by marked addresses.
unsafe impl MemoryPool for FakeMemory {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        Self::make(size, alignment, false)
    }

    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        Self::make(size, alignment, true)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        let new = Self::make(new_size, alignment, false)?;
        // SAFETY: both are live blocks with as many bytes.
        unsafe {
            real(new).copy_from_nonoverlapping(real(ptr), old_size.min(new_size));
            self.free(ptr, old_size, alignment);
        }
        Ok(new)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        let layout = Layout::from_size_align(size, alignment.get()).unwrap();
        // SAFETY: the block came from `make` with these figures.
        unsafe { System.dealloc(real(ptr), layout) };
    }

    fn location(&self) -> Location {
        self.0
    }

    fn backend_name(&self) -> &'static str {
        "fake"
    }
}

/// What a fake manager can do with the CPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ability {
    Copy,
    View,
    Nothing,
}

/// A device of a test.
#[derive(Debug)]
pub(super) struct FakeDevice {
    pub(super) location: Location,
    pub(super) ability: Ability,
}

impl Device for FakeDevice {
    fn type_name(&self) -> &'static str {
        "fake"
    }

    fn location(&self) -> Location {
        self.location
    }

    fn default_memory_manager(&self) -> Result<Arc<dyn MemoryManager>> {
        self.memory_manager(&Pool::custom(FakeMemory(self.location)))
    }

    fn memory_manager(&self, pool: &Pool) -> Result<Arc<dyn MemoryManager>> {
        if pool.location() != self.location {
            return Err(Error::invalid_argument(
                "pool",
                pool.location(),
                "a pool of this device",
            ));
        }
        Ok(Arc::new(FakeManager {
            location: self.location,
            ability: self.ability,
            pool: pool.clone(),
        }))
    }
}

/// Its manager.
#[derive(Debug)]
pub(super) struct FakeManager {
    location: Location,
    ability: Ability,
    pool: Pool,
}

impl FakeManager {
    /// The real bytes.
    fn bytes(source: &DeviceBuffer) -> Vec<u8> {
        let mut bytes = vec![0; source.len()];
        let from = real(source.block().as_ptr());
        // SAFETY: the block is live and has the bytes at its real address.
        unsafe {
            std::ptr::copy_nonoverlapping(
                from.add(source.offset()),
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
        bytes
    }
}

impl MemoryManager for FakeManager {
    fn device(&self) -> Arc<dyn Device> {
        Arc::new(FakeDevice {
            location: self.location,
            ability: self.ability,
        })
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
            // SAFETY: a new block with as many bytes at its real address.
            unsafe {
                real(block.as_ptr())
                    .copy_from_nonoverlapping(source.as_cpu()?.as_ptr(), source.len());
            }
        }
        Ok(Some(block))
    }

    fn copy_to(&self, source: &DeviceBuffer, to: &Arc<dyn MemoryManager>) -> Result<Option<Block>> {
        if self.ability != Ability::Copy || !to.is_cpu() {
            return Ok(None);
        }
        let copy = DeviceBuffer::copy_from(&Self::bytes(source), to)?;
        Ok(Some(copy.block().clone()))
    }

    fn view_from(&self, source: &DeviceBuffer) -> Result<Option<(Block, usize)>> {
        if self.ability != Ability::View || !source.is_cpu() {
            return Ok(None);
        }
        let address = source.as_cpu()?.as_ptr().cast_mut().map_addr(|a| a | MARK);
        // SAFETY: the source keeps the bytes.
        let view = unsafe {
            Block::foreign_at(
                NonNull::new(address).unwrap(),
                source.len(),
                self.location,
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
        let start = NonNull::new(real(source.block().as_ptr())).unwrap();
        // SAFETY: the source keeps the bytes, which are at the real address.
        let view =
            unsafe { Block::foreign(start.add(source.offset()), source.len(), source.clone())? };
        Ok(Some((view, 0)))
    }

    fn read(&self, source: &DeviceBuffer, offset: usize, target: &mut [u8]) -> Result<()> {
        target.copy_from_slice(&Self::bytes(source)[offset..][..target.len()]);
        Ok(())
    }

    fn write(&self, target: &mut MutableDeviceBuffer, offset: usize, bytes: &[u8]) -> Result<()> {
        let start = real(target.block().as_ptr());
        // SAFETY: the range was checked, and is the target's alone.
        unsafe {
            start
                .add(target.offset() + offset)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(())
    }

    fn reader(&self, _buffer: DeviceBuffer) -> Result<Box<dyn DeviceReader>> {
        Err(Error::not_supported("the fake device has no readers"))
    }

    fn writer(&self, _buffer: MutableDeviceBuffer) -> Result<Box<dyn DeviceWriter>> {
        Err(Error::not_supported("the fake device has no writers"))
    }
}

//! Immutable buffers on any device.

use super::cpu::{cpu_memory_manager, default_cpu_memory_manager};
use super::device::Device;
use super::files::DeviceReader;
use super::manager::MemoryManager;
use super::mutable::MutableDeviceBuffer;
use super::registry::manager_of_block;
use super::transfer;
use crate::alignment::Alignment;
use crate::buffer::{Block, Buffer};
use crate::error::{Error, Result};
use crate::location::Location;
use crate::pool::{Notice, Pool};
use std::fmt;
use std::sync::Arc;

/// Bytes on some device that do not change, shared by all clones and slices (Arrow's `Buffer` with its
/// `memory_manager()`).
///
/// Nothing here reads memory that the CPU cannot reach: [`as_cpu`](Self::as_cpu) gives a
/// [`Buffer`] where it can, and [`read`](Self::read) and [`copy_to`](Self::copy_to) work everywhere.
#[derive(Clone)]
pub struct DeviceBuffer {
    block: Block,
    offset: usize,
    len: usize,
    manager: Arc<dyn MemoryManager>,
}

impl DeviceBuffer {
    /// `len` bytes of a block from `offset`, which `manager` can work with.
    ///
    /// # Safety
    /// - `offset + len` is at most the block's capacity, and these bytes are initialised;
    /// - nobody writes them while this buffer or a clone of it lives;
    /// - `manager` is one of the device where the block lies, or views it there.
    pub unsafe fn from_block(
        block: Block,
        offset: usize,
        len: usize,
        manager: Arc<dyn MemoryManager>,
    ) -> Self {
        Self {
            block,
            offset,
            len,
            manager,
        }
    }

    /// A copy of `bytes` in new memory of `manager` (Arrow's `CopyNonOwned`).
    ///
    /// # Errors
    /// As [`MutableDeviceBuffer::allocate`], and what the device says.
    pub fn copy_from(bytes: &[u8], manager: &Arc<dyn MemoryManager>) -> Result<Self> {
        let mut copy = MutableDeviceBuffer::allocate(bytes.len(), manager)?;
        copy.write(0, bytes)?;
        Ok(copy.freeze())
    }

    /// The address of the first byte: the device's, which the CPU may only use where
    /// [`is_cpu`](Self::is_cpu).
    pub fn address(&self) -> usize {
        self.block.as_ptr().addr().get() + self.offset
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The block underneath.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Where the first byte lies in the block.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Where the memory lies: of a view, where it is viewed.
    pub fn location(&self) -> Location {
        self.manager.device().location()
    }

    /// Whether the CPU may read the memory.
    pub fn is_cpu(&self) -> bool {
        self.manager.is_cpu() && self.block.is_cpu()
    }

    /// The device.
    pub fn device(&self) -> Arc<dyn Device> {
        self.manager.device()
    }

    /// Its manager.
    pub fn memory_manager(&self) -> &Arc<dyn MemoryManager> {
        &self.manager
    }

    /// The pool that counts the memory; `None` for foreign memory.
    pub fn pool(&self) -> Option<&Pool> {
        self.block.pool()
    }

    /// `length` bytes from `offset`, without a copy: of the same device and manager.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) when the range is not inside of the buffer; it is
    /// never clamped.
    pub fn slice(&self, offset: usize, length: usize) -> Result<Self> {
        match offset.checked_add(length) {
            Some(end) if end <= self.len => Ok(Self {
                block: self.block.clone(),
                offset: self.offset + offset,
                len: length,
                manager: Arc::clone(&self.manager),
            }),
            _ => Err(Error::range(offset, length, self.len)),
        }
    }

    /// The same bytes as a [`Buffer`], without a copy, where the CPU may read them.
    ///
    /// # Errors
    /// [`NotSupported`](crate::ErrorKind::NotSupported) elsewhere.
    pub fn as_cpu(&self) -> Result<Buffer> {
        if !self.is_cpu() {
            return Err(not_of_the_cpu(self.location(), "read"));
        }
        // SAFETY: the bytes are initialised, and not written while this buffer, and so the new one's block,
        // lives: the caller of `from_block` promised it for clones, of which this is one.
        Ok(unsafe { Buffer::from_block(self.block.clone(), self.offset, self.len) })
    }

    /// Copies bytes from `offset` to all of `target`, from wherever they are.
    ///
    /// # Errors
    /// - [`OutOfRange`](crate::ErrorKind::OutOfRange) when there are not as many; nothing is copied;
    /// - what the device says.
    pub fn read(&self, offset: usize, target: &mut [u8]) -> Result<()> {
        match offset.checked_add(target.len()) {
            Some(end) if end <= self.len => {}
            _ => return Err(Error::range(offset, target.len(), self.len)),
        }
        if target.is_empty() {
            return Ok(());
        }
        self.manager.read(self, offset, target)
    }

    /// All bytes in memory of the CPU that comes from `pool`.
    ///
    /// # Errors
    /// As [`copy_to`](Self::copy_to).
    pub fn to_cpu(&self, pool: &Pool) -> Result<Buffer> {
        self.copy_to(&cpu_memory_manager(pool)?)?.as_cpu()
    }

    /// A copy in new memory of `manager`: by the target's manager, else by this one, else over the CPU.
    ///
    /// # Errors
    /// - [`NotSupported`](crate::ErrorKind::NotSupported) when none of these ways exists;
    /// - [`OutOfMemory`](crate::ErrorKind::OutOfMemory), and what the devices say.
    pub fn copy_to(&self, manager: &Arc<dyn MemoryManager>) -> Result<Self> {
        transfer::copy(self, manager)
    }

    /// The same bytes as memory of `manager`, without a copy. Always a new handle, also where nothing
    /// changes. A view of managed or mapped memory may move bytes when it is read.
    ///
    /// # Errors
    /// - [`NotSupported`](crate::ErrorKind::NotSupported) when neither device can view the other's memory;
    /// - what the devices say.
    pub fn view_on(&self, manager: &Arc<dyn MemoryManager>) -> Result<Self> {
        transfer::view(self, manager)?
            .ok_or_else(|| transfer::unsupported("viewing", self.location(), manager))
    }

    /// A view where that is possible, else a copy. Out of memory is an error, never a reason to copy.
    ///
    /// # Errors
    /// As [`copy_to`](Self::copy_to).
    pub fn view_or_copy_to(&self, manager: &Arc<dyn MemoryManager>) -> Result<Self> {
        match transfer::view(self, manager)? {
            Some(view) => Ok(view),
            None => transfer::copy(self, manager),
        }
    }

    /// A reader at the start.
    ///
    /// # Errors
    /// What the device says.
    pub fn reader(&self) -> Result<Box<dyn DeviceReader>> {
        self.manager.reader(self.clone())
    }

    /// The buffer as a mutable one, without a copy, when nobody else holds it and it is a whole block
    /// from a pool.
    ///
    /// # Errors
    /// The buffer itself, unchanged, otherwise.
    pub fn try_into_mutable(self) -> Result<MutableDeviceBuffer, Self> {
        if self.offset == 0 && self.block.pool().is_some() && self.block.is_unique() {
            self.block.notice(Notice::Unsealed);
            // SAFETY: nobody else holds the block, whose bytes are initialised.
            Ok(unsafe {
                MutableDeviceBuffer::from_block(self.block, self.offset, self.len, self.manager)
            })
        } else {
            Err(self)
        }
    }
}

/// Why bytes cannot be used in place.
#[cold]
pub(super) fn not_of_the_cpu(location: Location, what: &str) -> Error {
    Error::not_supported(format!(
        "memory of {location} cannot be {what} by the CPU: copy it (copy_to), or read() it"
    ))
}

/// In place; the manager is the pool's.
impl From<Buffer> for DeviceBuffer {
    fn from(buffer: Buffer) -> Self {
        let block = buffer.block().clone();
        // What is shown of the block lies in it.
        let offset = buffer.address() - block.as_ptr().addr().get();
        let manager = manager_of_block(&block).unwrap_or_else(|_| default_cpu_memory_manager());
        Self {
            offset,
            len: buffer.len(),
            block,
            manager,
        }
    }
}

impl fmt::Debug for DeviceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceBuffer")
            .field("len", &self.len)
            .field("address", &format_args!("{:#x}", self.address()))
            .field("location", &format_args!("{}", self.location()))
            .field("pool", &self.pool().map(Pool::name))
            .finish()
    }
}

/// The alignment of what managers make by themselves.
pub(super) const ALIGNMENT: Alignment = Alignment::DEFAULT;

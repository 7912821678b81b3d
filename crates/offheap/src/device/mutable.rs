//! Mutable buffers on any device.

use super::buffer::{ALIGNMENT, DeviceBuffer, not_of_the_cpu};
use super::cpu::default_cpu_memory_manager;
use super::device::Device;
use super::files::DeviceWriter;
use super::manager::MemoryManager;
use super::registry::manager_of_block;
use crate::alignment::Alignment;
use crate::buffer::{Block, MutableBuffer};
use crate::error::{Error, Result};
use crate::location::Location;
use crate::pool::{Notice, Pool};
use std::fmt;
use std::sync::Arc;

/// Bytes on some device that one owner writes: cut it into independent parts by
/// [`split_at`](Self::split_at), share it by [`freeze`](Self::freeze).
pub struct MutableDeviceBuffer {
    block: Block,
    offset: usize,
    len: usize,
    manager: Arc<dyn MemoryManager>,
}

impl MutableDeviceBuffer {
    /// `size` bytes of `manager`. Memory of the CPU is zero, so that it may be read; a device's is
    /// uninitialised, which is harmless there (its bytes are whatever was written last), and whoever reads
    /// it gets those.
    ///
    /// # Errors
    /// As [`Pool::allocate_on_device`].
    pub fn allocate(size: usize, manager: &Arc<dyn MemoryManager>) -> Result<Self> {
        Self::allocate_aligned(size, ALIGNMENT, manager)
    }

    /// As [`allocate`](Self::allocate), at a multiple of `alignment`.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn allocate_aligned(
        size: usize,
        alignment: Alignment,
        manager: &Arc<dyn MemoryManager>,
    ) -> Result<Self> {
        let block = manager.allocate(size, alignment, manager.is_cpu())?;
        // SAFETY: a new block of the manager's that nobody else holds; where the CPU can read it, it is
        // zero, and elsewhere bytes are always some value.
        Ok(unsafe { Self::from_block(block, 0, size, Arc::clone(manager)) })
    }

    /// `size` zero bytes of `manager`.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn zeroed(size: usize, manager: &Arc<dyn MemoryManager>) -> Result<Self> {
        let block = manager.allocate(size, ALIGNMENT, true)?;
        // SAFETY: as in `allocate_aligned`.
        Ok(unsafe { Self::from_block(block, 0, size, Arc::clone(manager)) })
    }

    /// `len` bytes of a block from `offset`, which `manager` can work with.
    ///
    /// # Safety
    /// - `offset + len` is at most the block's capacity, and these bytes are initialised, as far as the CPU
    ///   can read them;
    /// - nobody else reads or writes them while this buffer lives;
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

    /// The address of the first byte: see [`DeviceBuffer::address`].
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

    /// Where the memory lies.
    pub fn location(&self) -> Location {
        self.manager.device().location()
    }

    /// Whether the CPU may read and write the memory.
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

    /// The bytes, where the CPU may write them.
    ///
    /// # Errors
    /// [`NotSupported`](crate::ErrorKind::NotSupported) elsewhere.
    pub fn as_mut_slice(&mut self) -> Result<&mut [u8]> {
        if !self.is_cpu() {
            return Err(not_of_the_cpu(self.location(), "written"));
        }
        // SAFETY: the range lies in the block, is initialised, and this value's alone; the CPU may write it.
        Ok(unsafe {
            std::slice::from_raw_parts_mut(self.block.as_ptr().as_ptr().add(self.offset), self.len)
        })
    }

    /// Copies `bytes` to `offset` and behind, wherever the buffer is.
    ///
    /// # Errors
    /// - [`OutOfRange`](crate::ErrorKind::OutOfRange) when they do not fit; nothing is written;
    /// - what the device says.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        match offset.checked_add(bytes.len()) {
            Some(end) if end <= self.len => {}
            _ => return Err(Error::range(offset, bytes.len(), self.len)),
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let manager = Arc::clone(&self.manager);
        manager.write(self, offset, bytes)
    }

    /// Two independent buffers: the first `at` bytes, and the rest; of the same device and manager.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) past the end; the buffer is then dropped.
    pub fn split_at(self, at: usize) -> Result<(Self, Self)> {
        let Some(rest) = self.len.checked_sub(at) else {
            return Err(Error::position("at", at, self.len));
        };
        let tail = Self {
            block: self.block.clone(),
            offset: self.offset + at,
            len: rest,
            manager: Arc::clone(&self.manager),
        };
        Ok((Self { len: at, ..self }, tail))
    }

    /// A writer at the start.
    ///
    /// # Errors
    /// What the device says.
    pub fn writer(self) -> Result<Box<dyn DeviceWriter>> {
        let manager = Arc::clone(&self.manager);
        manager.writer(self)
    }

    /// Ends writing: the bytes can be shared from now on.
    pub fn freeze(self) -> DeviceBuffer {
        if cfg!(feature = "hooks") && self.offset == 0 && self.block.is_unique() {
            self.block.notice(Notice::Sealed);
        }
        // SAFETY: nobody else writes the bytes, and this value ends.
        unsafe { DeviceBuffer::from_block(self.block, self.offset, self.len, self.manager) }
    }

    /// As a [`MutableBuffer`], where the CPU may write it.
    ///
    /// # Errors
    /// The buffer itself, unchanged, elsewhere.
    pub fn into_cpu(self) -> Result<MutableBuffer, Self> {
        if self.is_cpu() {
            // SAFETY: the range lies in the block, is initialised, and this value's alone.
            Ok(unsafe { MutableBuffer::from_block(self.block, self.offset, self.len) })
        } else {
            Err(self)
        }
    }
}

/// In place; the manager is the pool's.
impl From<MutableBuffer> for MutableDeviceBuffer {
    fn from(buffer: MutableBuffer) -> Self {
        let (block, offset, len) = buffer.into_block();
        let manager = manager_of_block(&block).unwrap_or_else(|_| default_cpu_memory_manager());
        Self {
            block,
            offset,
            len,
            manager,
        }
    }
}

impl fmt::Debug for MutableDeviceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutableDeviceBuffer")
            .field("len", &self.len)
            .field("address", &format_args!("{:#x}", self.address()))
            .field("location", &format_args!("{}", self.location()))
            .field("pool", &self.block.pool().map(Pool::name))
            .finish()
    }
}

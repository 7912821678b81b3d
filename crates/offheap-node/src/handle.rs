//! What a buffer's id stands for.

use crate::slot::Slot;
use crate::told::Told;
use offheap::{
    Block, DeviceBuffer, Error, ErrorKind, Location, MemoryManager, Result, device_for,
    memory_manager_of,
};
use std::ptr::NonNull;
use std::sync::Arc;

/// One external ArrayBuffer that a handle gave out.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) slot: Arc<Slot>,
    /// Requests in flight when the view was made.
    pub(crate) requests: u32,
}

/// A range of a block, and the views of it.
///
/// The block may lie where the CPU cannot reach it. [`cpu_ptr`](Self::cpu_ptr) is the only way to the bytes
/// (`clippy.toml` forbids `Block::as_ptr` elsewhere), and refuses such a block.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) block: Block,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) is_mutable: bool,
    pub(crate) is_resizable: bool,
    /// Whether the handle is of the whole block: its capacity is then the block's.
    pub(crate) is_whole: bool,
    /// Requests in flight when the first view that is a copy was made.
    pub(crate) copied_at: Option<u32>,
    /// Who copies and views the memory; `None`: the manager of the block's pool.
    manager: Option<Arc<dyn MemoryManager>>,
    /// Whether the CPU may read and write the bytes.
    is_cpu: bool,
    /// Whether JavaScript keeps the owner of the memory: no other environment may have it then.
    pub(crate) is_lent: bool,
    /// What V8 was told of the block.
    pub(crate) told: Told,
    /// The usual single view; windows beyond it are in `windows`.
    pub(crate) view: Option<View>,
    pub(crate) windows: Vec<View>,
}

impl Handle {
    /// A mutable one of all of `block`, the first `len` bytes of which are used.
    #[inline]
    pub(crate) fn whole(block: Block, len: usize) -> Self {
        let is_cpu = block.is_cpu();
        Self::new(block, len, is_cpu)
    }

    #[inline]
    fn new(block: Block, len: usize, is_cpu: bool) -> Self {
        Self {
            block,
            offset: 0,
            len,
            is_mutable: true,
            is_resizable: false,
            is_whole: true,
            copied_at: None,
            manager: None,
            is_cpu,
            is_lent: false,
            told: Told::default(),
            view: None,
            windows: Vec::new(),
        }
    }

    /// An immutable one of a range of `block`, which was checked, with a manager that is not that of the
    /// block's pool.
    pub(crate) fn placed(
        block: Block,
        offset: usize,
        len: usize,
        manager: Option<Arc<dyn MemoryManager>>,
    ) -> Self {
        let whole = Self::whole(block, len);
        Self {
            offset,
            is_mutable: false,
            is_whole: false,
            is_cpu: whole.is_cpu && manager.as_ref().is_none_or(|manager| manager.is_cpu()),
            manager,
            ..whole
        }
    }

    /// An immutable one of what a manager works with. The manager of a pool of the CPU's is not kept: the
    /// pool says which it is.
    pub(crate) fn of_device_buffer(buffer: &DeviceBuffer) -> Self {
        let (block, manager) = (buffer.block(), buffer.memory_manager());
        let is_the_pools = buffer.location() == Location::CPU
            && block.location() == Location::CPU
            && block.pool().is_some()
            && manager.pool().as_ref() == block.pool();
        let manager = (!is_the_pools).then(|| Arc::clone(manager));
        Self::placed(block.clone(), buffer.offset(), buffer.len(), manager)
    }

    /// An immutable one of `[offset, offset + len)` of these bytes, of the same device and manager. The
    /// range was checked.
    #[inline]
    pub(crate) fn part(&mut self, offset: usize, len: usize) -> Self {
        Self {
            offset: self.offset + offset,
            is_mutable: false,
            is_whole: false,
            manager: self.manager.clone(),
            is_lent: self.is_lent,
            told: self.told.share(),
            ..Self::new(self.block.clone(), len, self.is_cpu)
        }
    }

    /// The first byte, for the CPU.
    ///
    /// # Errors
    /// [`NotSupported`](ErrorKind::NotSupported) where the CPU cannot reach the memory.
    #[inline]
    pub(crate) fn cpu_ptr(&self) -> Result<NonNull<u8>> {
        if !self.is_cpu {
            return Err(self.not_of_the_cpu());
        }
        // SAFETY: the range was checked to lie in the block when the handle was made.
        #[expect(clippy::disallowed_methods, reason = "the one place: the CPU may")]
        Ok(unsafe { self.block.as_ptr().add(self.offset) })
    }

    /// The address of the first byte: the device's, which the CPU may use only where
    /// [`is_cpu`](Self::is_cpu).
    #[inline]
    pub(crate) fn address(&self) -> usize {
        #[expect(clippy::disallowed_methods, reason = "a number, never read")]
        let start = self.block.as_ptr();
        start.addr().get() + self.offset
    }

    /// Whether debug hooks find the block damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        #[expect(
            clippy::disallowed_methods,
            reason = "debug hooks look it up among their own"
        )]
        let start = self.block.as_ptr();
        self.block.pool().is_some_and(|pool| pool.is_damaged(start))
    }

    /// Whether the CPU may read and write the bytes.
    #[inline]
    pub(crate) fn is_cpu(&self) -> bool {
        self.is_cpu
    }

    /// Where the memory lies: of a view, where it is viewed.
    pub(crate) fn location(&self) -> Location {
        match &self.manager {
            Some(manager) => manager.device().location(),
            None => self.block.location(),
        }
    }

    #[cold]
    fn not_of_the_cpu(&self) -> Error {
        Error::not_supported(format!(
            "the memory is on {}, which the CPU cannot read or write: copy it by copyTo(defaultCpuMemoryManager())",
            self.location()
        ))
    }

    /// The manager, where it is not that of the block's pool.
    pub(crate) fn own_manager(&self) -> Option<&Arc<dyn MemoryManager>> {
        self.manager.as_ref()
    }

    /// The bytes as what managers work with. To be used in the call, or kept as the owner of a view.
    ///
    /// # Errors
    /// As [`memory_manager_of`].
    pub(crate) fn to_device_buffer(&self) -> Result<DeviceBuffer> {
        let manager = match (&self.manager, self.block.pool()) {
            (Some(manager), _) => Arc::clone(manager),
            (None, Some(pool)) => memory_manager_of(pool)?,
            (None, None) => device_for(self.block.location())?.default_memory_manager()?,
        };
        // SAFETY:
        // - the range was checked when the handle was made; bytes that JavaScript may read are never taken
        //   for uninitialised, whatever they are;
        // - they are shared with JavaScript, which does not run while the call that this is for reads them;
        //   a view that keeps the buffer as its owner reads nothing by it. (A worker that has a ticket can
        //   write meanwhile: a data race of the user's, as with a SharedArrayBuffer.)
        // - the manager is the block's, or came with it.
        Ok(unsafe { DeviceBuffer::from_block(self.block.clone(), self.offset, self.len, manager) })
    }

    pub(crate) fn capacity(&self) -> usize {
        if self.is_whole {
            self.block.capacity()
        } else {
            self.len
        }
    }

    /// Refuses a range that does not lie in the handle's bytes.
    pub(crate) fn check_range(&self, offset: usize, length: usize) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::range(offset, length, self.len)),
        }
    }

    /// The range `[offset, offset + length)` of the handle's bytes, for the CPU.
    pub(crate) fn range(&self, offset: usize, length: usize) -> Result<NonNull<u8>> {
        let start = self.cpu_ptr()?;
        self.check_range(offset, length)?;
        // SAFETY: just checked.
        Ok(unsafe { start.add(offset) })
    }

    /// Refuses to give memory to another environment whose owner this one's heap keeps.
    pub(crate) fn must_not_be_lent(&self) -> Result<()> {
        if self.is_lent {
            return Err(Error::not_supported(
                "foreign memory cannot be shared: copy it first",
            ));
        }
        Ok(())
    }

    pub(crate) fn must_be_mutable(&self, what: &'static str) -> Result<()> {
        if self.is_mutable {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Immutable { what }))
        }
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = &View> {
        self.view.iter().chain(&self.windows)
    }

    /// References to the block that are neither this handle nor its own views.
    pub(crate) fn others(&self) -> usize {
        let own = 1 + self.views().filter(|view| view.slot.is_live()).count();
        self.block.strong_count().saturating_sub(own)
    }

    /// Zeroes the bytes between the size and the capacity.
    pub(crate) fn zero_padding(&self) -> Result<()> {
        let padding = self.capacity() - self.len;
        // SAFETY: the capacity may be written; JavaScript shares the bytes only with itself.
        unsafe { self.cpu_ptr()?.add(self.len).write_bytes(0, padding) };
        Ok(())
    }
}

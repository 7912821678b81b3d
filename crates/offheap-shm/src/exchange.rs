//! Buffers of shared memory between processes.

use crate::device::{default_shared_memory_manager, shared_memory_device};
use crate::failure::malformed;
use crate::handle::{SharedMemoryHandle, number};
use crate::memory::SharedMemory;
use crate::options::{OpenOptions, SharedMemoryOptions};
use crate::registry;
use crate::source::SHARED_MEMORY;
use offheap::{Block, DeviceBuffer, Error, ErrorKind, MutableDeviceBuffer, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// Names a buffer for other processes: its memory, and the range in it. Goes through JSON and text as
/// [`SharedMemoryHandle`] does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SharedBufferHandle {
    /// The memory.
    pub memory: SharedMemoryHandle,
    /// Where the buffer's first byte is in it.
    pub offset: u64,
    /// Bytes of the buffer.
    pub length: u64,
}

impl fmt::Display for SharedBufferHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.memory, self.offset, self.length)
    }
}

impl FromStr for SharedBufferHandle {
    type Err = Error;

    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for other text than
    /// [`Display`](fmt::Display)'s.
    fn from_str(text: &str) -> Result<Self> {
        let expected = "a handle as `offheap-shm:process:descriptor:size:key:offset:length`";
        let mut parts = text.split(':');
        let memory = SharedMemoryHandle::from_parts(&mut parts)?;
        match (parts.next(), parts.next(), parts.next()) {
            (Some(offset), Some(length), None) => Ok(Self {
                memory,
                offset: number(offset, "offset")?,
                length: number(length, "length")?,
            }),
            _ => Err(malformed("text", expected)),
        }
    }
}

/// The shared memory in which a buffer lies, and whether it is a pool's block. Not for users: writing it would
/// change a buffer that does not change.
fn memory_of(buffer: &DeviceBuffer) -> Option<(SharedMemory, bool)> {
    let block = buffer.block();
    if block.location() != SHARED_MEMORY {
        return None;
    }
    match block.owner() {
        Some(owner) => Some((owner.downcast_ref::<SharedMemory>()?.clone(), false)),
        // Adaptors may put a guard before what they give, so any address in the memory will do.
        None => Some((registry::find(block.as_ptr().addr().get())?, true)),
    }
}

/// The shared memory in which a buffer lies: `None` of other memory, and of a pool's block of no bytes. For bindings to
/// languages that share their memory in their own ways, and so without [`export`]'s freezing.
///
/// # Safety
/// - Nobody [writes](SharedMemory::write) by it, or by what is opened by its [handle](SharedMemory::handle), the bytes of a
///   buffer that does not change.
pub unsafe fn memory_under(buffer: &DeviceBuffer) -> Option<SharedMemory> {
    memory_of(buffer).map(|(memory, _)| memory)
}

/// Whether a buffer lies in shared memory: whether [`export`] can name it without a copy. A buffer of no
/// bytes from a pool has no memory, and can be exported all the same.
pub fn is_shared(buffer: &DeviceBuffer) -> bool {
    memory_of(buffer).is_some()
}

#[cold]
fn not_shared(buffer: &DeviceBuffer) -> Error {
    Error::not_supported(format!(
        "memory of {} is not shared between processes: copy it to a manager of shared memory",
        buffer.location()
    ))
}

/// What buffers of no bytes are exported as: a pool gives them no memory.
static EMPTY: Mutex<Option<SharedMemory>> = Mutex::new(None);

fn empty() -> Result<SharedMemory> {
    let mut empty = EMPTY.lock().unwrap_or_else(PoisonError::into_inner);
    match &*empty {
        Some(memory) => Ok(memory.clone()),
        None => Ok(empty
            .insert(SharedMemory::create(0, &SharedMemoryOptions::default())?)
            .clone()),
    }
}

/// Names a buffer of shared memory, or a slice of one, for other processes of the same user. They can open
/// it as long as its memory lives here; what they have opened then lives on.
///
/// A pool's block is frozen where the system can: nobody who opens it can write. (Of memory that is no
/// pool's, [`freeze`](SharedMemory::freeze) is its creator's choice.) The buffer here stays what it is, but
/// making it mutable again would change bytes that others read: whoever exported a buffer does not
/// ([`try_into_mutable`](DeviceBuffer::try_into_mutable)).
///
/// # Errors
/// - [`NotSupported`](ErrorKind::NotSupported) for a buffer of other memory: copy it to a manager of shared
///   memory first (`view_or_copy_to` does when it must);
/// - [`Disposed`](ErrorKind::Disposed) when its memory was [revoked](revoke).
pub fn export(buffer: &DeviceBuffer) -> Result<SharedBufferHandle> {
    let Some((memory, of_pool)) = memory_of(buffer) else {
        if buffer.is_empty() && buffer.location() == SHARED_MEMORY {
            return Ok(SharedBufferHandle {
                memory: empty()?.handle()?,
                offset: 0,
                length: 0,
            });
        }
        return Err(not_shared(buffer));
    };
    if of_pool {
        match memory.freeze() {
            Err(error) if !matches!(error.kind(), ErrorKind::NotSupported { .. }) => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(SharedBufferHandle {
        memory: memory.handle()?,
        offset: (buffer.address() - memory.as_ptr().addr().get()) as u64,
        length: buffer.len() as u64,
    })
}

/// Ends all handles of a buffer's memory, and so of every buffer that lies in it. What others have opened
/// lives on. Doing so twice does nothing.
///
/// # Errors
/// [`NotSupported`](ErrorKind::NotSupported) for a buffer of other memory, and for an imported one: handles
/// are their creator's.
pub fn revoke(buffer: &DeviceBuffer) -> Result<()> {
    match memory_of(buffer) {
        Some((memory, _)) => memory.revoke(),
        None => Err(not_shared(buffer)),
    }
}

/// Opens a buffer that another process, or this one, has [exported](export): its memory in place, for
/// reading, as a buffer of this device. The mapping ends with the last slice of it.
///
/// # Errors
/// - as [`SharedMemory::open`];
/// - [`InvalidArgument`](ErrorKind::InvalidArgument) when the range is not inside of the memory.
///
/// # Safety
/// - Nobody writes the bytes while the buffer or a slice of it lives: neither who exported it nor who has
///   the memory open for writing. (Nothing worse than bytes that change under a reader comes of it, but
///   Rust's references promise that they do not.)
pub unsafe fn import(handle: &SharedBufferHandle) -> Result<DeviceBuffer> {
    let range = |number| {
        usize::try_from(number)
            .map_err(|_| malformed("range", "a handle with a range of its memory"))
    };
    let (offset, length) = (range(handle.offset)?, range(handle.length)?);
    let end = handle.offset.checked_add(handle.length);
    if end.is_none_or(|end| end > handle.memory.size) {
        return Err(malformed("range", "a handle with a range of its memory"));
    }
    let memory = SharedMemory::open(&handle.memory, OpenOptions { read_only: true })?;
    // SAFETY: the caller's promise.
    unsafe { memory.buffer(offset, length) }
}

impl SharedMemory {
    fn block(&self) -> Result<Block> {
        // SAFETY: the mapping has as many bytes, initialised by the system, while the owner, a clone, lives.
        // Whoever writes through the block has been asked by `mutable_buffer`.
        unsafe { Block::foreign_at(self.as_ptr(), self.len(), SHARED_MEMORY, self.clone()) }
    }

    /// `length` bytes from `offset` as a buffer, in place: it keeps the mapping.
    ///
    /// # Errors
    /// [`OutOfRange`](ErrorKind::OutOfRange) when the range is not inside of the memory.
    ///
    /// # Safety
    /// - Nobody, in this process or another, writes the bytes while the buffer or a slice of it lives.
    pub unsafe fn buffer(&self, offset: usize, length: usize) -> Result<DeviceBuffer> {
        self.check(offset, length)?;
        // So that `device_for` knows the location.
        let _device = shared_memory_device();
        let manager = default_shared_memory_manager();
        // SAFETY: the range lies in the block, is initialised, and the caller's promise.
        Ok(unsafe { DeviceBuffer::from_block(self.block()?, offset, length, manager) })
    }

    /// `length` bytes from `offset` as a buffer to write, in place: it keeps the mapping.
    ///
    /// # Errors
    /// - [`OutOfRange`](ErrorKind::OutOfRange) when the range is not inside of the memory;
    /// - [`Immutable`](ErrorKind::Immutable) for memory that was opened for reading.
    ///
    /// # Safety
    /// - Nobody else, in this process or another, reads or writes the bytes while the buffer lives, and
    ///   nobody writes them while a frozen one does.
    pub unsafe fn mutable_buffer(
        &self,
        offset: usize,
        length: usize,
    ) -> Result<MutableDeviceBuffer> {
        if self.is_read_only() {
            return Err(Error::new(ErrorKind::Immutable {
                what: "write shared memory that was opened for reading",
            }));
        }
        self.check(offset, length)?;
        let _device = shared_memory_device();
        let manager = default_shared_memory_manager();
        // SAFETY: the range lies in the block, is initialised and writable, and the caller's promise.
        Ok(unsafe { MutableDeviceBuffer::from_block(self.block()?, offset, length, manager) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_back_and_other_text_is_refused() {
        let handle = SharedBufferHandle {
            memory: SharedMemoryHandle {
                process: 3,
                descriptor: 9,
                size: 128,
                key: "4c".into(),
            },
            offset: 64,
            length: 7,
        };
        let text = handle.to_string();
        assert_eq!(text, "offheap-shm:3:9:128:4c:64:7");
        assert_eq!(text.parse::<SharedBufferHandle>().unwrap(), handle);
        for text in [
            "",
            "offheap-shm:3:9:128:4c",
            "offheap-shm:3:9:128:4c:64",
            "offheap-shm:3:9:128:4c:64:7:",
            "offheap-shm:3:9:128:4c:-1:7",
            "offheap-shm:3:9:128:4c:64:9007199254740992",
        ] {
            let error = text.parse::<SharedBufferHandle>().unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT", "{text}");
        }
    }
}

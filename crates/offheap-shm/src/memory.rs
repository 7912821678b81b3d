//! Shared memory.

use crate::failure::{gone, malformed, no_memory};
use crate::handle::{MAX_NUMBER, SharedMemoryHandle};
use crate::key::Key;
use crate::options::{OpenOptions, SharedMemoryOptions};
use crate::racing;
use crate::secret::Secret;
use crate::system::{self, Access, Mapping, Owned, Sought, Wanted};
use crate::trailer;
use offheap::{Alignment, Error, ErrorKind, Result};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

/// Memory that several processes of one user have mapped.
///
/// Counted: clones are of one mapping, which ends with the last of them and of the buffers over it. The
/// system's memory goes with the last process that has it mapped, however that one ends: nothing has a
/// name that would stay (but see [macOS](crate#systems)).
///
/// It is zero at first, has a fixed size, and costs whole pages: its size and 64 bytes more, rounded up. Its
/// creator holds one file descriptor for as long as it is open to others; an opener holds none. Creating
/// costs ten system calls, a handle five, opening eighteen (Linux).
///
/// # Who may write
/// Everybody who has it open for writing, at any time: [`read`](Self::read) and [`write`](Self::write) are
/// atomic for each byte and no more. Telling others when bytes are there is a matter of whatever carries
/// the handle (a pipe, a message).
///
/// # Forks
/// A forked child has the creator's mapping and descriptor, too, and its own count of them;
/// [`handle`](Self::handle) there names the child. A program that replaces itself (`exec`) loses both.
///
/// ```
/// use offheap_shm::{OpenOptions, SharedMemory, SharedMemoryOptions};
///
/// # fn main() -> offheap::Result<()> {
/// # if !cfg!(target_os = "linux") { return Ok(()); }
/// let memory = SharedMemory::create(1 << 20, &SharedMemoryOptions::default())?;
/// memory.write(0, b"for everybody")?;
/// let text = memory.handle()?.to_string();
///
/// // In another process:
/// let opened = SharedMemory::open(&text.parse()?, OpenOptions { read_only: true })?;
/// let mut bytes = [0; 13];
/// opened.read(0, &mut bytes)?;
/// assert_eq!(&bytes, b"for everybody");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedMemory {
    inner: Arc<Inner>,
}

struct Inner {
    mapping: Mapping,
    size: usize,
    origin: Origin,
}

enum Origin {
    Created {
        /// `None` once it was revoked.
        owned: Mutex<Option<Owned>>,
        secret: Secret,
    },
    Opened {
        handle: SharedMemoryHandle,
        read_only: bool,
    },
}

impl SharedMemory {
    /// New memory of `size` bytes, all zero, at a multiple of 64 (in fact, of a page).
    ///
    /// # Errors
    /// - [`OutOfMemory`](ErrorKind::OutOfMemory) when the system has not as much memory, addresses,
    ///   mappings, or file size (`RLIMIT_AS`, `RLIMIT_FSIZE`);
    /// - [`DeviceUnavailable`](ErrorKind::DeviceUnavailable) when no file descriptor is left;
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument) for the label.
    pub fn create(size: usize, options: &SharedMemoryOptions) -> Result<Self> {
        Self::create_aligned(size, Alignment::DEFAULT, options)
    }

    /// As [`create`](Self::create), at a multiple of `alignment` in this process. Others map it at a
    /// multiple of a page.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_aligned(
        size: usize,
        alignment: Alignment,
        options: &SharedMemoryOptions,
    ) -> Result<Self> {
        options.check()?;
        let whole = trailer::whole(size, system::page_size())
            .filter(|whole| *whole as u64 <= MAX_NUMBER)
            .ok_or_else(|| no_memory(size as u64, None))?;
        let secret = Secret::new()?;
        let (mapping, owned) = system::create(&Wanted {
            size,
            whole,
            alignment: alignment.get(),
            options,
            secret: &secret,
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                mapping,
                size,
                origin: Origin::Created {
                    owned: Mutex::new(Some(owned)),
                    secret,
                },
            }),
        })
    }

    /// The memory that another process of the same user, or this one, has created.
    ///
    /// Nothing of a handle is believed: that the memory is its own, its size, and that it cannot be
    /// resized, is checked before it is mapped, and the random bits in a time that tells nothing of them.
    ///
    /// # Errors
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument) for a malformed or forged handle, one of another
    ///   system, or one of memory that could be resized;
    /// - [`Disposed`](ErrorKind::Disposed) when the process ended or has let the memory go, or revoked it;
    /// - [`NotSupported`](ErrorKind::NotSupported) for a process in another PID namespace;
    /// - [`Immutable`](ErrorKind::Immutable) for frozen memory that is not opened `read_only`;
    /// - [`DeviceUnavailable`](ErrorKind::DeviceUnavailable): `permission` for memory of another user (where
    ///   the system hides other users' processes, they are gone), `descriptors`, `no-proc`;
    /// - [`OutOfMemory`](ErrorKind::OutOfMemory) when no addresses or mappings are left.
    pub fn open(handle: &SharedMemoryHandle, options: OpenOptions) -> Result<Self> {
        let access = if options.read_only {
            Access::Read
        } else {
            Access::Write
        };
        Self::open_for(handle, access)
    }

    /// As [`open`](Self::open) with `read_only`, for whoever cannot keep a program from writing, as
    /// JavaScript's views: what is written stays in this mapping, in copies of its pages, which do not follow
    /// the memory any more. Elsewhere it is seen as others write it.
    ///
    /// macOS has no such mappings of shared memory: there the program writes what all have.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`OutOfMemory`](ErrorKind::OutOfMemory) also where the system does not
    /// overcommit (`vm.overcommit_memory` 2, Windows) and has no memory left for a copy of every page.
    pub fn open_privately(handle: &SharedMemoryHandle) -> Result<Self> {
        Self::open_for(handle, Access::ReadPrivately)
    }

    fn open_for(handle: &SharedMemoryHandle, access: Access) -> Result<Self> {
        let key = Key::from_hex(&handle.key)?;
        let expected = "a handle with its memory's size";
        let size = usize::try_from(handle.size).map_err(|_| malformed("size", expected))?;
        let whole = trailer::whole(size, system::page_size())
            .filter(|whole| *whole as u64 <= MAX_NUMBER)
            .ok_or_else(|| malformed("size", expected))?;
        let mapping = system::open(&Sought {
            process: handle.process,
            descriptor: handle.descriptor,
            place: &key.place,
            size,
            whole,
            secret: &key.secret,
            access,
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                mapping,
                size,
                origin: Origin::Opened {
                    handle: handle.clone(),
                    read_only: access != Access::Write,
                },
            }),
        })
    }

    /// The handle by which other processes open the memory: of opened memory the one it was opened by, so
    /// it ends with its creator.
    ///
    /// # Errors
    /// [`Disposed`](ErrorKind::Disposed) after [`revoke`](Self::revoke).
    pub fn handle(&self) -> Result<SharedMemoryHandle> {
        match &self.inner.origin {
            Origin::Opened { handle, .. } => Ok(handle.clone()),
            Origin::Created { owned, secret } => {
                let owned = owned.lock().unwrap_or_else(PoisonError::into_inner);
                let address = owned.as_ref().ok_or_else(gone)?.address();
                let key = Key {
                    place: address.place,
                    secret: *secret,
                };
                Ok(SharedMemoryHandle {
                    process: address.process,
                    descriptor: address.descriptor,
                    size: self.inner.size as u64,
                    key: key.to_hex(),
                })
            }
        }
    }

    /// Ends all handles: the random bits in the memory become zero, and its descriptor is closed. Whoever
    /// has it mapped keeps it. Doing so twice does nothing.
    ///
    /// # Errors
    /// [`NotSupported`](ErrorKind::NotSupported) for opened memory: handles are their creator's.
    pub fn revoke(&self) -> Result<()> {
        let mut owned = self.owned("revoke")?;
        let at = self.inner.mapping.len() - trailer::BYTES + trailer::SECRET_AT;
        for i in 0..Secret::BYTES {
            // SAFETY: the trailer is the mapping's end, which is writable for the creator; other processes
            // only read it by system calls.
            let byte =
                unsafe { AtomicU8::from_ptr(self.inner.mapping.start().as_ptr().add(at + i)) };
            byte.store(0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        *owned = None;
        Ok(())
    }

    /// From now on nobody can open the memory for writing, for good. Who has it open for writing, like this
    /// process, still writes.
    ///
    /// # Errors
    /// - [`NotSupported`](ErrorKind::NotSupported) without [`freezable`](SharedMemoryOptions::freezable),
    ///   for opened memory, and elsewhere than on Linux 5.1 or later;
    /// - [`Disposed`](ErrorKind::Disposed) after [`revoke`](Self::revoke).
    pub fn freeze(&self) -> Result<()> {
        self.owned("freeze")?.as_ref().ok_or_else(gone)?.freeze()
    }

    fn owned(&self, what: &str) -> Result<std::sync::MutexGuard<'_, Option<Owned>>> {
        match &self.inner.origin {
            Origin::Created { owned, .. } => {
                Ok(owned.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Origin::Opened { .. } => Err(Error::not_supported(format!(
                "only the process that created shared memory can {what} it"
            ))),
        }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.inner.size
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inner.size == 0
    }

    /// Bytes that the system's memory has: whole pages.
    pub fn whole_len(&self) -> usize {
        self.inner.mapping.len()
    }

    /// Whether it was opened only for reading.
    pub fn is_read_only(&self) -> bool {
        matches!(
            self.inner.origin,
            Origin::Opened {
                read_only: true,
                ..
            }
        )
    }

    /// Whether this process created it (or its parent, by a fork).
    pub fn is_creator(&self) -> bool {
        matches!(self.inner.origin, Origin::Created { .. })
    }

    /// The first byte, for [`len`](Self::len) bytes while this value or a clone lives. Never null, and a
    /// multiple of 64. Writing to what [`is_read_only`](Self::is_read_only) ends the process, unless it was opened
    /// [privately](Self::open_privately).
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.inner.mapping.start()
    }

    /// How many clones and buffers have this mapping.
    pub fn strong_count(&self) -> usize {
        Arc::strong_count(&self.inner)
    }

    /// Whether both are one mapping.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn check(&self, offset: usize, length: usize) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(Error::range(offset, length, self.len())),
        }
    }

    /// Copies bytes from `offset` to all of `target`: each as it is at that moment.
    ///
    /// # Errors
    /// [`OutOfRange`](ErrorKind::OutOfRange) when there are not as many; nothing is copied.
    pub fn read(&self, offset: usize, target: &mut [u8]) -> Result<()> {
        self.check(offset, target.len())?;
        // SAFETY: the range lies in the mapping, which `self` keeps. Other processes' writes, and those of
        // `write`, are at worst as atomic ones.
        unsafe { racing::load(self.as_ptr().as_ptr().add(offset), target) };
        Ok(())
    }

    /// Copies all of `bytes` to the memory, from `offset` on.
    ///
    /// # Errors
    /// - [`OutOfRange`](ErrorKind::OutOfRange) when they do not fit; nothing is copied;
    /// - [`Immutable`](ErrorKind::Immutable) for what was opened for reading.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::new(ErrorKind::Immutable {
                what: "write shared memory that was opened for reading",
            }));
        }
        self.check(offset, bytes.len())?;
        // SAFETY: the range lies in the mapping, which `self` keeps and which is writable. Whoever makes
        // references to it (`buffer`) promises that nobody writes it.
        unsafe { racing::store(bytes, self.as_ptr().as_ptr().add(offset)) };
        Ok(())
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory")
            .field("len", &self.len())
            .field("address", &self.as_ptr())
            .field("creator", &self.is_creator())
            .field("read_only", &self.is_read_only())
            .finish()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_privately_stays_private_and_the_rest_follows() {
        let options = SharedMemoryOptions {
            freezable: true,
            ..SharedMemoryOptions::default()
        };
        let memory = SharedMemory::create(3 * system::page_size(), &options).unwrap();
        let far = 2 * system::page_size();
        for frozen in [false, true] {
            if frozen {
                memory.freeze().unwrap();
            }
            memory.write(0, b"one").unwrap();
            let opened = SharedMemory::open_privately(&memory.handle().unwrap()).unwrap();
            assert!(opened.is_read_only());
            assert_eq!(
                opened.write(0, b"x").unwrap_err().code(),
                "ERR_OFFHEAP_IMMUTABLE"
            );
            // SAFETY: the first byte of the mapping; nobody else in this process writes it.
            unsafe { opened.as_ptr().as_ptr().write(b'X') };
            memory.write(1, b"NE").unwrap();
            memory.write(far, b"two").unwrap();
            let bytes = |of: &SharedMemory, at| {
                let mut bytes = [0; 3];
                of.read(at, &mut bytes).unwrap();
                bytes
            };
            assert_eq!((bytes(&memory, 0), bytes(&opened, 0)), (*b"oNE", *b"Xne"));
            assert_eq!(bytes(&opened, far), *b"two");
        }
    }
}

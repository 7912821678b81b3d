//! Memory shared between processes, as a device of offheap.
//!
//! ```text
//!   process A                                      process B (of the same user)
//!   SharedMemory::create(size) ─▶ handle() ──JSON──▶ SharedMemory::open(&handle)
//!        │                                              │
//!        ▼                                              ▼
//!     mapping ────────────▶ pages of the system ◀──── mapping
//!                          (gone with the last mapping)
//! ```
//!
//! [`SharedMemory`] is the memory itself, read and written by any number of processes.
//! [`shared_memory_device`] makes it a [`Device`](offheap::Device) with pools, managers and buffers:
//! [`export`] names a buffer for other processes, [`import`] opens it there, without a copy.
//!
//! # Errors
//! - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument): a handle that is malformed, forged, of
//!   another system, or of memory that could still be resized;
//! - [`Disposed`](offheap::ErrorKind::Disposed): the memory behind a handle is gone: its process ended, let
//!   it go or [revoked](SharedMemory::revoke) it;
//! - [`NotSupported`](offheap::ErrorKind::NotSupported): the two processes cannot see each other (PID
//!   namespaces), or the system has no such operation;
//! - [`DeviceUnavailable`](offheap::ErrorKind::DeviceUnavailable): the system refuses. The reasons are
//!   `permission` (another user's memory), `descriptors` (no file descriptor is left), `no-proc` (no way to
//!   another process's memory), `no-random`, and `system` for what is none of these;
//! - [`Immutable`](offheap::ErrorKind::Immutable): writing what was opened for reading or frozen;
//! - [`OutOfMemory`](offheap::ErrorKind::OutOfMemory): no memory, addresses or file size is left.
//!
//! # Systems
//! | | Linux | macOS | Windows |
//! |---|---|---|---|
//! | memory | `memfd_create` | `shm_open`, mode 0600 | `CreateFileMappingW`, `Local\` |
//! | found by | process and descriptor | random name | random name |
//! | cannot be resized | seals, checked before mapping | by the system, after the first time | by the system |
//! | of the same user | mode 0600, the owner is checked | mode 0600, the owner is checked | access list |
//! | frozen for good | `F_SEAL_FUTURE_WRITE` | no | no |
//! | after `kill -9` of the creator | nothing is left | the name is left until somebody opens it | nothing is left |
//!
//! Elsewhere everything is [`NotSupported`](offheap::ErrorKind::NotSupported). The parts for macOS and
//! Windows follow the systems' documentation; they are compiled and linted for those systems, and the tests
//! that need no `/proc` are for them, too, but they have not run there yet.

mod device;
mod exchange;
mod failure;
mod handle;
mod key;
mod manager;
mod memory;
mod options;
mod racing;
mod registry;
mod secret;
mod source;
mod system;
mod trailer;

pub use device::{
    SharedMemoryDevice, default_shared_memory_manager, shared_memory_device, shared_memory_manager,
    shared_memory_pool,
};
pub use exchange::{SharedBufferHandle, export, import, is_shared, memory_under, revoke};
pub use handle::SharedMemoryHandle;
pub use manager::SharedMemoryManager;
pub use memory::SharedMemory;
pub use options::{OpenOptions, SharedMemoryOptions};
pub use secret::Secret;
pub use source::{SHARED_MEMORY, SharedMemorySource};

//! Memory pools, aligned buffers and builders with exact accounting and hard limits.
//!
//! ```
//! use offheap::{MutableBuffer, default_memory_pool};
//!
//! let query = default_memory_pool().limit(64 << 20);
//! let mut buffer = MutableBuffer::zeroed(1 << 20, &query)?;
//! buffer[0] = 42;
//! let shared = buffer.freeze();
//! let header = shared.slice(0, 64)?;
//! assert_eq!((header[0], query.bytes_allocated()), (42, 1 << 20));
//! drop((shared, header));
//! assert_eq!(query.close()?.bytes, 0);
//! # Ok::<(), offheap::Error>(())
//! ```
//!
//! Layers, each using only those before it: [`pool`] (with its adaptors), [`buffer`], [`builder`],
//! [`io`] and [`device`]. [`interop`] needs pools alone.

pub mod adaptor;
mod alignment;
pub mod buffer;
pub mod builder;
pub mod device;
pub mod domain;
mod error;
pub mod interop;
pub mod io;
mod location;
#[cfg(feature = "hooks")]
pub mod origin;
mod panic;
pub mod pool;
#[cfg(feature = "hooks")]
pub mod sweep;
mod sync;

#[cfg(feature = "hooks")]
pub use adaptor::{
    Allocation, Corruption, CorruptionKind, Counter, DebugOptions, DetectedOn, Failing,
    FailingOptions, Hook, HookedDomains, LogAction, LogCall, LogEvent, LogFormat, LogReader,
    LogSink, Logger, OnError, Request, ScopeCounters, ScopedStatistics, Site, TrackOptions,
    Tracker, read_log, remove_no_memory, set_foreign_stack_provider, set_no_memory,
    set_throw_handler, setup_debug_hooks,
};
pub use alignment::{Alignment, MAX_ALIGNMENT};
pub use buffer::{Block, Buffer, MutableBuffer, ParkedBlock, ResizableBuffer, UninitBuffer};
pub use builder::{BitmapBuilder, BufferBuilder, TypedBufferBuilder};
pub use device::{
    Device, DeviceBuffer, DeviceReader, DeviceWriter, MemoryManager, MutableDeviceBuffer, Stream,
    SyncEvent, cpu_device, cpu_memory_manager, default_cpu_memory_manager, device_for,
    memory_manager_of, register_device_mapper,
};
pub use domain::{CAllocator, Domain, c_allocator_of, object_memory_pool};
pub use error::{Error, ErrorKind, Result};
pub use interop::{AllocatorPool, GlobalAllocPool, PoolAllocator, PoolGlobalAlloc, PoolMalloc};
pub use io::{BufferOutputStream, BufferReader, FixedSizeBufferWriter, MockOutputStream};
pub use location::{DeviceType, Location};
pub use pool::{
    BackendCount, BackendStatistics, LeakReport, MemoryPool, Notice, Padding, Pool, PoolOptions,
    Statistics, ThreadCollector, TrimPolicy, default_memory_pool, jemalloc_memory_pool,
    mapped_memory_pool, mimalloc_memory_pool, set_default_memory_pool, supported_memory_backends,
    system_memory_pool, total_allocated_bytes,
};
#[cfg(feature = "hooks")]
pub use sweep::{SweepOptions, SweepReport, sweep_out_of_memory};

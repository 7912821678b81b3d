//! CUDA memory for offheap: found at run time, stream-ordered, pooled.
//!
//! ```text
//!   status ── driver (a table of libcuda's functions, looked up at the first call)
//!   CudaDevice ──▶ CudaMemoryManager { Pool, CudaStream } ──▶ CudaSource
//!                                                              plain · driver pool · sub-allocator · managed
//!              ──▶ CudaHostMemoryManager { Pool } ──▶ sub-allocator over page-locked chunks
//! ```
//!
//! A GPU's memory is a [`Pool`](offheap::Pool): limits, logs, tracking and all figures work on it. There is
//! one pool for each stream, and blocks go back in the order of theirs. Nothing is called at load; without a
//! driver every call says why ([`status`]).
//!
//! ```
//! use offheap::{DeviceBuffer, MemoryManager};
//! use std::sync::Arc;
//!
//! for gpu in offheap_cuda::devices() {
//!     let manager: Arc<dyn MemoryManager> = Arc::new(gpu.manager()?);
//!     let there = DeviceBuffer::copy_from(b"bytes", &manager)?;
//!     assert_eq!(&*there.to_cpu(&offheap::default_memory_pool())?, b"bytes");
//! }
//! # Ok::<(), offheap::Error>(())
//! ```

mod copy;
mod device;
mod driver;
mod event;
mod event_pool;
mod files;
mod foreign;
mod gpu;
mod graveyard;
mod host_memory;
mod ipc;
mod manager;
mod memory;
mod staged;
mod stream;
pub mod sub_allocator;

pub use copy::{CopyRange, copy_async, fill_async};
pub use device::{CudaDevice, DeviceProperties, devices, register_devices};
pub use driver::{
    CudaError, DriverInfo, Status, Unavailable, is_available, set_process_is_exiting, status,
};
pub use event::CudaEvent;
pub use files::{CudaBufferReader, CudaBufferWriter};
pub use host_memory::CudaHostMemoryManager;
pub use ipc::{
    CudaIpcEventHandle, CudaIpcHandle, CudaIpcMemory, CudaPoolHandle, create_shared_event,
    export_event, export_memory, open_event, open_memory,
};
pub use manager::{AllocatorStatistics, CudaMemoryManager};
pub use memory::{DriverPoolOptions, DriverPoolStatistics, RegisteredMemory, memory_key};
pub use staged::copy_staged;
pub use stream::CudaStream;

//! Where CUDA's memory comes from: sources of pools.

mod aligned;
mod cached;
mod driver_pool;
#[cfg_attr(not(target_os = "linux"), path = "exportable_elsewhere.rs")]
mod exportable;
mod hooks;
mod key;
mod pinned;
mod registered;
mod source;

pub(crate) use cached::CudaStreams;
pub(crate) use driver_pool::DriverPool;
pub use driver_pool::{DriverPoolOptions, DriverPoolStatistics};
pub(crate) use exportable::can_export;
pub(crate) use hooks::OutOfMemoryHandlers;
pub use key::memory_key;
pub(crate) use pinned::PinnedSource;
pub use registered::RegisteredMemory;
pub(crate) use source::{Allocator, CudaSource};

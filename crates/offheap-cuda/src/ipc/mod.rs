//! Memory and events of other processes.
//!
//! ```text
//!   export_memory(buffer) ─▶ CudaIpcHandle ──JSON──▶ open_memory(&handle)
//!     plain, pool             64 bytes of the driver's          ─▶ cuIpcOpenMemHandle
//!     exportable driver pool  process, number, secret ─▶ descriptors ─▶ cuMemPoolImport…
//! ```

#[cfg(target_os = "linux")]
pub(crate) mod descriptors;
mod event;
mod handle;
mod memory;
mod opened;
#[cfg(target_os = "linux")]
mod opened_pool;

pub use event::{create_shared_event, export_event, open_event};
pub use handle::{CudaIpcEventHandle, CudaIpcHandle, CudaIpcMemory, CudaPoolHandle};
pub use memory::{export_memory, open_memory};

//! NVIDIA's driver: found at run time, called through a table of our own.
//!
//! cudarc finds the library. Its own wrappers are not called: they panic when a library or symbol is missing,
//! and read results as a closed enum, which a newer driver's code would break.

pub(crate) mod abi;
mod error;
mod exiting;
mod library;
mod probe;
mod status;
mod table;

pub use error::CudaError;
pub(crate) use error::{check, failed};
pub use exiting::set_process_is_exiting;
pub(crate) use exiting::{is_exiting, watch_exit};
pub(crate) use probe::driver;
pub use probe::{is_available, status};
pub use status::{DriverInfo, Status, Unavailable};
pub(crate) use table::Table;

/// The oldest driver that works: CUDA 12.2, as `cuDriverGetVersion` says it.
const OLDEST_DRIVER: i32 = 12_020;

/// The environment variable with the path of the library to load instead of the system's.
const LIBRARY_VARIABLE: &str = "OFFHEAP_CUDA_LIBRARY";

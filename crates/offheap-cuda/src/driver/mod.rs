//! NVIDIA's driver: found at run time, called through a table of our own.
//!
//! Nothing here runs before the first question. The table's functions return integers, so a code that is newer
//! than this crate is an error like any other, and a missing function is a [`Unavailable::MissingSymbol`], never a
//! panic.

mod abi;
mod error;
mod exiting;
mod library;
mod probe;
mod status;
mod table;

pub use abi::{
    Attribute, CUcontext, CUdevice, CUdeviceptr, CUevent, CUhostFn, CUipcEventHandle,
    CUipcMemHandle, CUmemAccessDesc, CUmemLocation, CUmemPoolProps, CUmemPoolPtrExportData,
    CUmemoryPool, CUstream, CUuuid, Code, Flag, PointerAttribute, PoolAttribute,
};
pub use error::CudaError;
pub use exiting::{process_is_exiting, set_process_is_exiting};
pub use probe::{driver, is_available, status};
pub use status::{DriverInfo, Status, Unavailable};
pub use table::Driver;

/// The oldest driver that works: CUDA 12.2, as `cuDriverGetVersion` says it.
pub const OLDEST_DRIVER: i32 = 12020;

/// The environment variable with the path of the library to load instead of the system's.
pub const LIBRARY_VARIABLE: &str = "OFFHEAP_CUDA_LIBRARY";

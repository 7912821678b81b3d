//! CUDA memory for offheap: found at run time, stream-ordered, pooled.

pub mod driver;
pub mod sub_allocator;

pub use driver::{
    CudaError, DriverInfo, Status, Unavailable, is_available, process_is_exiting,
    set_process_is_exiting, status,
};

//! The exported functions, grouped as in the driver API's reference.

pub mod context;
pub mod copy;
pub mod device;
pub mod event;
pub mod host;
pub mod init;
pub mod ipc;
pub mod memory;
pub mod pointer;
pub mod pool;
pub mod stream;

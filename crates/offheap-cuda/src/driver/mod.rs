//! NVIDIA's driver: found at run time, called through a table of our own.
//!
//! cudarc finds the library and has NVIDIA's constants. Its own wrappers are not called: they panic when a
//! library or symbol is missing, and read results as a closed enum, which a newer driver's code would break.

pub(crate) mod abi;
mod exiting;
mod failure;
mod library;
mod status;
mod table;

pub(crate) use exiting::is_exiting;
pub(crate) use failure::{check, failed};
pub(crate) use status::driver;
pub use status::{Reason, Status, is_available, status};
pub(crate) use table::Table;

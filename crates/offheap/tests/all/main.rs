//! The acceptance suite: Arrow C++'s cases by their numbers, the bugs of Arrow and arrow-rs that we
//! do not have, and one conformance suite over every pool.
//!
//! Where Arrow counts a capacity rounded up to 64 and this crate counts the size, the figures here
//! are ours.

mod alone;
mod arrow_bugs;
mod arrow_rs_bugs;
mod buffers;
mod builders;
mod conformance;
mod counted;
#[cfg(feature = "statistics")]
mod counting;
#[cfg(feature = "hooks")]
mod debug;
mod default_pool;
mod devices;
#[cfg(feature = "hooks")]
mod domains;
mod environment;
mod every_pool;
#[cfg(feature = "hooks")]
mod exports;
#[cfg(feature = "hooks")]
mod failing;
mod interop;
mod io;
mod large_blocks;
mod limits;
#[cfg(feature = "hooks")]
mod log;
mod pools;
mod python_buffers;
mod refusing;
#[cfg(feature = "hooks")]
mod scopes;
#[cfg(feature = "hooks")]
mod sweep;
#[cfg(feature = "hooks")]
mod sweep_driver;
#[cfg(feature = "hooks")]
mod track;
mod trim;

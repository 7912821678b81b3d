//! A pool that cuts large chunks into blocks, for any memory that has addresses.

mod address_hash;
mod arena;
mod bins;
mod blocks;
#[cfg(test)]
mod check;
mod core;
mod growth;
mod options;
mod ordering;
mod pending;
mod pool;
mod search;
pub mod simulated;
mod size_class;
mod slabs;
mod small;
mod statistics;
mod streams;
#[cfg(test)]
mod tests;
mod upstream;

pub use options::{GRANULARITY, MAX_BLOCK, SubAllocatorOptions};
pub use pool::SubAllocator;
pub use statistics::{Count, OutOfMemoryReport, SubAllocatorStatistics};
pub use streams::{NoStreams, StreamId, Streams};
pub use upstream::Upstream;

//! A pool that cuts large chunks into blocks, for any memory that has addresses.

mod address_table;
mod arena;
mod bins;
mod blocks;
mod bytes;
#[cfg(test)]
mod check;
mod core;
mod growth;
mod options;
mod ordering;
mod pending;
mod pool;
mod pool_upstream;
mod search;
pub mod simulated;
mod size_class;
mod slabs;
mod small;
mod source;
mod statistics;
mod streams;
#[cfg(test)]
mod tests;
mod upstream;

pub use bytes::{Bytes, HostBytes};
pub use options::{GRANULARITY, MAX_BLOCK, SubAllocatorOptions};
pub use pool::SubAllocator;
pub use pool_upstream::PoolUpstream;
pub use source::SubAllocatorSource;
pub use statistics::{Count, OutOfMemoryReport, SubAllocatorStatistics};
pub use streams::{NoStreams, StreamId, Streams};
pub use upstream::Upstream;

//! Large blocks: regions of addresses that are ours, whoever the backend is.
//!
//! ```text
//!   start, a multiple of 2 MiB        start + committed          start + reserved
//!   ├── the block ───────────┤ rounding ┤── never touched: zero ───┤
//!   ├── may be resident ────────────────┤── room to grow in place ─┤
//! ```
//!
//! A block of fixed size is mapped without a tail, so that neighbours become one mapping of the
//! system's: 40,000 blocks are some thirty mappings of the 65,530 that Linux allows a process. The
//! first growth moves the pages (no byte is copied on Linux) to a place with room for twice the new
//! size; from then on it grows in place. A shrink gives the pages of the tail back at once.
//!
//! A freed region waits in a [cache](cache::Cache), its pages resident, for at most a second: what
//! would be too large for a request is cut, and what lies behind a growing block is joined to it.
//! The cache and the live regions together never hold more than the live ones did at the peak of the
//! last second.
//!
//! What is known of a region lies in a [table by address](records::Records) in mapped memory: no
//! allocator is asked for anything here, so a pool may be the program's global allocator.
//!
//! A fork while another thread is in one of these calls leaves the child with a lock that nobody
//! opens: as with any allocator without fork handlers, such a child may only call `exec`.

mod cache;
mod clock;
mod extent;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
mod macos;
mod os;
mod own_mappings;
mod record;
mod records;
mod regions;
mod statistics;
#[cfg(windows)]
mod windows;

pub(super) use os::{give_back, page_size, reserve};
#[allow(unused_imports, reason = "`decay` is told by the timer of `trim`")]
pub(crate) use regions::{
    allocate, decay, free, print_stats, reallocate, release_unused, statistics,
};

/// From this size on, a block is a region.
pub(crate) const THRESHOLD: usize = 1 << 20;

//! The words of an account that all threads share: written on the slow path only.

use crate::sync::{AtomicBool, AtomicU64, Mutex};

/// What every thread may write, apart from the shards.
#[repr(align(128))]
#[derive(Debug)]
pub(super) struct Global {
    /// Bytes held, and leased to threads. Never above the limit.
    pub(super) reserved: AtomicU64,
    pub(super) peak: AtomicU64,
    /// Counts of threads that have no shard, or have ended.
    pub(super) total: AtomicU64,
    pub(super) allocations: AtomicU64,
    pub(super) growths: AtomicU64,
    pub(super) frees: AtomicU64,
    pub(super) parked: AtomicU64,
    /// Every shard is closed and `reserved` is what is held, to the byte.
    pub(super) tight: AtomicBool,
    /// Bytes that must be free again before shards open again.
    pub(super) reopen_room: AtomicU64,
    /// Held to claim, lease, revoke and fold; the outermost limit's for all limits under it.
    pub(super) lock: Mutex<()>,
}

impl Global {
    crate::sync::const_fn! {
        pub(super) fn new() -> Self {
            Self {
                reserved: AtomicU64::new(0),
                peak: AtomicU64::new(0),
                total: AtomicU64::new(0),
                allocations: AtomicU64::new(0),
                growths: AtomicU64::new(0),
                frees: AtomicU64::new(0),
                parked: AtomicU64::new(0),
                tight: AtomicBool::new(false),
                reopen_room: AtomicU64::new(0),
                lock: Mutex::new(()),
            }
        }
    }
}

//! The atomics, locks and parts of the system that loom replaces: `tests/loom.rs` compiles the files
//! that use this module against its own `sync`, made of loom's types.

mod barrier;
mod thread_key;
mod threads;

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock};

pub(crate) use barrier::{heavy, is_asymmetric, light, light_if_asymmetric, prepare};
pub(crate) use thread_key::thread_key;
pub(crate) use threads::{enter, leave};

/// Bytes that a thread leases at first.
pub(crate) const QUANTUM: i64 = 4 << 10;
/// Threads beyond the first that may lease from one account.
pub(crate) const SLOTS: usize = 32;

/// Lets another thread of this core run.
pub(crate) fn spin() {
    std::thread::yield_now();
}

/// A function that is `const` here, for statics, and cannot be with loom's types.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        $(#[$attribute])* $visibility const fn $($rest)*
    };
}
pub(crate) use const_fn;

//! The atomics and locks that loom replaces: `tests/loom.rs` compiles the files that use this
//! module against its own `sync`, made of loom's types.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Mutex, RwLock};

/// A function that is `const` here, for statics, and cannot be with loom's types.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        $(#[$attribute])* $visibility const fn $($rest)*
    };
}
pub(crate) use const_fn;

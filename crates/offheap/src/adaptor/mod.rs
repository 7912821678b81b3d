//! Pools over pools. A limit and a proxy are accounts chained over one allocator; the others are
//! sources of their own that see every request on its way.

#[cfg(feature = "hooks")]
mod debug;
#[cfg(feature = "hooks")]
mod hook;
mod limit;
mod proxy;

#[cfg(feature = "hooks")]
pub use debug::{
    Corruption, CorruptionKind, DebugOptions, DetectedOn, OnError, set_foreign_stack_provider,
    set_throw_handler, setup_debug_hooks,
};
#[cfg(feature = "hooks")]
pub(crate) use debug::{
    debug_as_environment_says, environment_debug, initial_raw_pool, is_debugged, report_misuse,
};
#[cfg(feature = "hooks")]
pub use hook::{Hook, Request};

//! Pools over pools. A limit and a proxy are accounts chained over one allocator; the others are
//! sources of their own that see every request on its way.

#[cfg(feature = "hooks")]
mod at_exit;
#[cfg(feature = "hooks")]
mod debug;
#[cfg(feature = "hooks")]
mod failing;
#[cfg(feature = "hooks")]
mod hook;
#[cfg(feature = "hooks")]
mod hooked_domains;
mod limit;
#[cfg(feature = "hooks")]
mod log;
#[cfg(feature = "hooks")]
mod no_memory;
mod proxy;
#[cfg(feature = "hooks")]
mod scopes;
#[cfg(feature = "hooks")]
mod track;

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
pub use failing::{Failing, FailingOptions};
#[cfg(feature = "hooks")]
pub use hook::{Hook, Request};
#[cfg(feature = "hooks")]
pub use hooked_domains::HookedDomains;
#[cfg(feature = "hooks")]
pub use log::{LogAction, LogCall, LogEvent, LogFormat, LogReader, LogSink, Logger, read_log};
#[cfg(feature = "hooks")]
pub use no_memory::{remove_no_memory, set_no_memory};
#[cfg(feature = "hooks")]
pub use scopes::{Counter, ScopeCounters, ScopedStatistics};
#[cfg(feature = "hooks")]
pub use track::{Allocation, Site, TrackOptions, Tracker};

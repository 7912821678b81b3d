//! Pools over pools. A limit and a proxy are accounts chained over one allocator; the others are
//! sources of their own that see every request on its way.

#[cfg(feature = "hooks")]
mod at_exit;
#[cfg(feature = "hooks")]
mod debug;
#[cfg(feature = "hooks")]
mod hook;
mod limit;
#[cfg(feature = "hooks")]
mod log;
mod proxy;
#[cfg(feature = "hooks")]
mod scopes;
#[cfg(feature = "hooks")]
mod track;

#[cfg(feature = "hooks")]
pub(crate) use debug::{debug_as_environment_says, environment_debug, report_misuse};
#[cfg(feature = "hooks")]
pub use hook::{Hook, Request};
#[cfg(feature = "hooks")]
pub use log::{LogAction, LogCall, LogEvent, LogFormat, LogReader, LogSink, Logger, read_log};
#[cfg(feature = "hooks")]
pub use scopes::{Counter, ScopeCounters, ScopedStatistics};
#[cfg(feature = "hooks")]
pub use track::{Allocation, Site, TrackOptions, Tracker};

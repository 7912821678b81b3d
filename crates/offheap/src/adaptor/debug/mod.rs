//! Debug hooks: memory errors found where they happen.
//!
//! ```text
//!   Pool::debug ──▶ DebugPool ──┬─▶ TABLE: what every block is, by address   (table.rs)
//!                    (source.rs) ├─▶ guards around the memory                 (guarded.rs)
//!                               ├─▶ quarantine of freed blocks               (quarantine.rs)
//!                               └─▶ Corruption ──▶ abort, trap, warn, throw, a callback
//!                                    (corruption.rs)      (report.rs)
//! ```

mod corruption;
mod environment;
mod guarded;
mod options;
mod quarantine;
mod report;
mod setup;
mod source;
mod table;

use corruption::Finding;
pub use corruption::{Corruption, CorruptionKind, DetectedOn};
pub(crate) use environment::{environment_debug, initial_raw_pool};
pub use options::{DebugOptions, OnError};
pub use report::{set_foreign_stack_provider, set_throw_handler};
pub use setup::setup_debug_hooks;
pub(crate) use setup::{debug_as_environment_says, is_debugged, report_misuse};

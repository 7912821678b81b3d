//! Proof that code survives running out of memory: every allocation of it fails in turn.
//!
//! The method is SQLite's (<https://www.sqlite.org/testing.html>, "Out-Of-Memory Testing"): run with
//! the first allocation failing, with the second, and so on until a run passes without a failure;
//! then once more with every allocation failing from there on. After each run nothing may be left
//! behind, and an error must say that memory ran out. See [`sweep_out_of_memory`].

mod driver;
mod options;
mod point;
mod report;
mod run;
mod turn;
mod watch;

pub use driver::{Outcome, Sweep};
pub use options::SweepOptions;
pub use point::{FailureMode, FailurePoint};
pub use report::{SweepLeak, SweepPanic, SweepReport, SweepWrongError};
pub use run::sweep_out_of_memory;

//! What a sweep covers.

use crate::domain::Domain;
use crate::pool::Pool;
use std::error::Error as StdError;

/// What a sweep covers beside the pool that it hands to the code under test.
#[derive(Debug, Clone)]
pub struct SweepOptions {
    /// What the sweep's own pool is over; the default pool when `None`.
    pub pool: Option<Pool>,
    /// The domains whose requests fail, too: [`Domain::Object`] at first, from which every buffer's
    /// control block comes. They are the process's own, so only requests of the thread that runs
    /// the code count there, and such sweeps take turns. Empty: none.
    pub domains: Vec<Domain>,
    /// The sweep ends after as many runs, unfinished: 10,000 at first.
    pub max_runs: u64,
    /// Says which further errors mean that memory ran out. [`Error`](crate::Error)s and
    /// [`io::Error`](std::io::Error)s of that kind and `TryReserveError`s do anyhow, also as the
    /// source of another error.
    pub is_out_of_memory: Option<fn(&(dyn StdError + 'static)) -> bool>,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self {
            pool: None,
            domains: vec![Domain::Object],
            max_runs: 10_000,
            is_out_of_memory: None,
        }
    }
}

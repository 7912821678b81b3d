//! A sweep, one run at a time.

use super::options::SweepOptions;
use super::point::{FailureMode, FailurePoint};
use super::report::{SweepLeak, SweepPanic, SweepReport, SweepWrongError};
use super::turn::Turn;
use super::watch::Watched;
use crate::adaptor::{Hook, HookedDomains};
use crate::domain::Domain;
use crate::error::Result;
use crate::pool::{Pool, default_memory_pool};
use std::sync::Arc;

/// How a run of the code under test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Passed,
    /// It said that memory ran out.
    OutOfMemory,
    /// It failed in another way, with this text.
    Failed(String),
    /// It panicked, with this message.
    Panicked(String),
}

/// The runs of a sweep, for callers that run the code themselves: language bindings, asynchronous
/// code. Others use [`sweep_out_of_memory`](super::sweep_out_of_memory).
///
/// ```
/// use offheap::{MutableBuffer, sweep::{Outcome, Sweep, SweepOptions}};
///
/// let mut sweep = Sweep::start(SweepOptions::default())?;
/// let pool = sweep.pool().clone();
/// while sweep.begin().is_some() {
///     let outcome = match MutableBuffer::zeroed(100, &pool) {
///         Ok(_) => Outcome::Passed,
///         Err(error) if error.is_out_of_memory() => Outcome::OutOfMemory,
///         Err(error) => Outcome::Failed(error.to_string()),
///     };
///     sweep.end(outcome);
/// }
/// let report = sweep.finish();
/// report.assert_clean();
/// // The bytes and their control block: one undisturbed run, three each with one and all failing.
/// assert_eq!((report.requests, report.runs), (2, 7));
/// # Ok::<(), offheap::Error>(())
/// ```
#[derive(Debug)]
pub struct Sweep {
    // The hooks come off before the turn ends.
    hooked: Option<HookedDomains>,
    _turn: Option<Turn>,
    watched: Arc<Watched>,
    pool: Pool,
    domains: Vec<Domain>,
    max_runs: u64,
    /// The next run's, or the current one's; `None` at the end.
    point: Option<FailurePoint>,
    /// What the pool held when the current run began: bytes and allocations.
    before: Option<(u64, u64)>,
    report: SweepReport,
}

impl Sweep {
    /// Starts a sweep; the first run is undisturbed. What an error means is the caller's to say:
    /// [`is_out_of_memory`](SweepOptions::is_out_of_memory) is not asked.
    ///
    /// # Errors
    /// - [`Busy`](crate::ErrorKind::Busy) while another sweep over domains is on;
    /// - [`Closed`](crate::ErrorKind::Closed) when a domain's allocator was closed.
    pub fn start(options: SweepOptions) -> Result<Self> {
        Self::start_in_turn(options, false)
    }

    /// As [`start`](Self::start); when `waits`, after the other threads' sweeps.
    pub(super) fn start_in_turn(options: SweepOptions, waits: bool) -> Result<Self> {
        let SweepOptions {
            pool,
            mut domains,
            max_runs,
            is_out_of_memory: _,
        } = options;
        domains.sort_unstable_by_key(|domain| *domain as usize);
        domains.dedup();
        let turn = (!domains.is_empty())
            .then(|| Turn::take(waits))
            .transpose()?;
        let watched = Watched::new()?;
        // Before the domains are hooked: a request must not count twice.
        let pool = pool.unwrap_or_else(default_memory_pool);
        let pool = pool.hooked(watched.hook(None) as Arc<dyn Hook>, "failing");
        let hooked = turn
            .as_ref()
            .map(|_| HookedDomains::new(&domains, "failing", |domain| watched.hook(Some(domain))))
            .transpose()?;
        Ok(Self {
            hooked,
            _turn: turn,
            watched,
            pool,
            domains,
            max_runs,
            point: Some(FailurePoint {
                request: 0,
                mode: FailureMode::Undisturbed,
            }),
            before: None,
            report: SweepReport::default(),
        })
    }

    /// The pool whose requests fail, for the code under test.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Begins the next run: from now on the calling thread's requests count, and those of all
    /// threads for [`pool`](Self::pool). `None` when there is none. A run that was not ended is
    /// begun anew.
    pub fn begin(&mut self) -> Option<FailurePoint> {
        if self.report.runs >= self.max_runs {
            self.point = None;
        }
        let point = self.point?;
        self.before = Some(self.held());
        match self.watched.begin(point.options()) {
            Ok(()) => Some(point),
            Err(error) => unreachable!("a window of requests: {error}"),
        }
    }

    fn held(&self) -> (u64, u64) {
        (self.pool.bytes_allocated(), self.pool.live_allocations())
    }

    /// Ends the run: nothing fails any more. What the code made and returned must be gone. Without a
    /// run, it does nothing.
    pub fn end(&mut self, outcome: Outcome) {
        let (Some(point), Some(before)) = (self.point, self.before.take()) else {
            return;
        };
        let (requests, failures) = self.watched.end();
        self.report.runs += 1;
        self.report.injected += failures;
        self.find_leaks(point, before);
        self.point = match (outcome, point.mode) {
            (Outcome::Panicked(message), _) => {
                self.report.panic = Some(SweepPanic { point, message });
                None
            }
            (Outcome::Passed, FailureMode::Undisturbed) => {
                self.report.requests = requests;
                Some(FailurePoint {
                    request: 1,
                    mode: FailureMode::Once,
                })
            }
            (outcome, FailureMode::Undisturbed) => {
                self.wrong(point, outcome);
                None
            }
            (outcome, mode) => {
                match outcome {
                    Outcome::Passed if failures > 0 => self.report.survived += 1,
                    Outcome::Passed => {}
                    Outcome::OutOfMemory if failures > 0 => {}
                    outcome => self.wrong(point, outcome),
                }
                self.after(point, mode, failures > 0)
            }
        };
    }

    fn wrong(&mut self, point: FailurePoint, outcome: Outcome) {
        let error = match outcome {
            Outcome::Failed(error) => error,
            _ => "memory ran out without an injected failure".to_owned(),
        };
        self.report
            .wrong_errors
            .push(SweepWrongError { point, error });
    }

    fn after(
        &mut self,
        point: FailurePoint,
        mode: FailureMode,
        failed: bool,
    ) -> Option<FailurePoint> {
        if failed {
            return Some(FailurePoint {
                request: point.request + 1,
                mode,
            });
        }
        if mode == FailureMode::Once {
            return Some(FailurePoint {
                request: 1,
                mode: FailureMode::ForEver,
            });
        }
        self.report.is_complete = true;
        None
    }

    fn find_leaks(&mut self, point: FailurePoint, before: (u64, u64)) {
        let now = self.held();
        let mut found = (
            now.0.wrapping_sub(before.0) as i64,
            now.1.wrapping_sub(before.1) as i64,
        );
        if found == (0, 0) {
            // Parked memory is in no account.
            found = self.watched.left(None);
        }
        self.leak(point, None, found);
        // What the first run leaves in a domain may be a cache that is made once.
        if point.mode != FailureMode::Undisturbed {
            for i in 0..self.domains.len() {
                let domain = Some(self.domains[i]);
                self.leak(point, domain, self.watched.left(domain));
            }
        }
    }

    fn leak(&mut self, point: FailurePoint, domain: Option<Domain>, found: (i64, i64)) {
        if found != (0, 0) {
            self.report.leaks.push(SweepLeak {
                point,
                domain,
                bytes: found.0,
                allocations: found.1,
            });
        }
    }

    /// Takes the hooks off, and says what was found.
    pub fn finish(mut self) -> SweepReport {
        std::mem::take(&mut self.report)
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        // In the middle of a run, too; where the hooks lie under somebody else's, they stay.
        self.watched.end();
        drop(self.hooked.take());
    }
}

//! What a sweep found.

use super::point::FailurePoint;
use crate::domain::Domain;
use std::fmt;

/// What a run left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepLeak {
    /// The run.
    pub point: FailurePoint,
    /// The domain whose blocks are still alive; `None` for the sweep's own pool.
    pub domain: Option<Domain>,
    /// Their bytes. Negative when more was given back than taken.
    pub bytes: i64,
    /// How many they are.
    pub allocations: i64,
}

/// A run that failed with an error other than that memory ran out, or without a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepWrongError {
    /// The run.
    pub point: FailurePoint,
    /// The error's text.
    pub error: String,
}

/// A run that panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepPanic {
    /// The run.
    pub point: FailurePoint,
    /// The panic's message.
    pub message: String,
}

/// What a sweep found; its text says it in full.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SweepReport {
    /// How often the code ran, the first time undisturbed.
    pub runs: u64,
    /// Failures injected in all runs.
    pub injected: u64,
    /// Requests of the undisturbed run.
    pub requests: u64,
    /// Runs that met a failure and succeeded all the same.
    pub survived: u64,
    /// What runs left behind.
    pub leaks: Vec<SweepLeak>,
    /// Runs that failed in a way that they should not.
    pub wrong_errors: Vec<SweepWrongError>,
    /// The run that panicked. It is the last one: what it left behind is unknown.
    pub panic: Option<SweepPanic>,
    /// Whether the sweep came to its end: a run without a failure, once and for ever.
    pub is_complete: bool,
}

impl SweepReport {
    /// Whether the sweep came to its end and found nothing.
    pub fn is_clean(&self) -> bool {
        self.is_complete
            && self.leaks.is_empty()
            && self.wrong_errors.is_empty()
            && self.panic.is_none()
    }

    /// For tests.
    ///
    /// # Panics
    /// When the sweep found something or did not come to its end; the message is the report.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }
}

impl fmt::Display for SweepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "out-of-memory sweep: {} runs over {} allocations, {} failures injected, {} runs survived one",
            self.runs, self.requests, self.injected, self.survived
        )?;
        for SweepLeak {
            point,
            domain,
            bytes,
            allocations,
        } in &self.leaks
        {
            write!(
                f,
                "\n  leak with {point}: {bytes} bytes in {allocations} allocations of "
            )?;
            match domain {
                Some(domain) => write!(f, "domain '{domain}'")?,
                None => f.write_str("the pool")?,
            }
        }
        for SweepWrongError { point, error } in &self.wrong_errors {
            write!(f, "\n  wrong error with {point}: {error}")?;
        }
        if let Some(SweepPanic { point, message }) = &self.panic {
            write!(f, "\n  panic with {point}: {message}")?;
        }
        if !self.is_complete {
            write!(f, "\n  the sweep did not come to its end")?;
        }
        Ok(())
    }
}

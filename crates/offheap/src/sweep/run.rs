//! The whole sweep at once.

use super::driver::{Outcome, Sweep};
use super::options::SweepOptions;
use super::report::SweepReport;
use crate::error::{Error, Result};
use crate::pool::Pool;
use std::any::Any;
use std::collections::TryReserveError;
use std::error::Error as StdError;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body` again and again, each time with another of its allocations failing, to prove that it
/// survives running out of memory: first undisturbed, then with allocation 1, 2, 3 … failing, then
/// with 1, 2, 3 … and all after it failing, each until a run meets no failure.
///
/// What fails are requests for [`pool`](SweepOptions::pool), which `body` is to use, and for
/// [`domains`](SweepOptions::domains); the Rust global allocator is not touched. After each run,
/// checks that
/// - nothing of the pool is left, of what was made in the run nor in its accounts, and nothing that
///   the thread took from the domains;
/// - an error means that memory ran out. A body that copes and succeeds is fine: it *survived*.
///
/// To check that an operation leaves an object as it was when it fails, do so in `body` and panic:
/// the report names the allocation.
///
/// ```
/// use offheap::{BufferBuilder, sweep::{SweepOptions, sweep_out_of_memory}};
///
/// let report = sweep_out_of_memory(SweepOptions::default(), |pool| {
///     let mut builder = BufferBuilder::new(pool);
///     for i in 0..100 {
///         let before = builder.len();
///         builder.append(&[i; 100]).inspect_err(|_| assert_eq!(builder.len(), before))?;
///     }
///     builder.finish(true)
/// })?;
/// report.assert_clean();
/// assert!(report.injected > 10);
/// # Ok::<(), offheap::Error>(())
/// ```
///
/// `body` should do the same each time, and what it starts on other threads must be over when it
/// returns. Sweeps over domains are the process's own: they wait for each other, and an allocator
/// that somebody puts over a domain meanwhile stays there. Cost: as many runs as twice the
/// allocations of one, and three.
///
/// # Errors
/// - [`Busy`](crate::ErrorKind::Busy) within another sweep over domains on this thread;
/// - [`Closed`](crate::ErrorKind::Closed) when a domain's allocator was closed.
pub fn sweep_out_of_memory<T, E>(
    options: SweepOptions,
    mut body: impl FnMut(&Pool) -> Result<T, E>,
) -> Result<SweepReport>
where
    E: Into<Box<dyn StdError>>,
{
    let also = options.is_out_of_memory;
    let mut sweep = Sweep::start_in_turn(options, true)?;
    let pool = sweep.pool().clone();
    while sweep.begin().is_some() {
        // What the body returns is dropped within the run.
        let outcome = match catch_unwind(AssertUnwindSafe(|| body(&pool).map(drop))) {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(error)) => outcome_of(error, also),
            Err(payload) => Outcome::Panicked(message_of(payload)),
        };
        sweep.end(outcome);
    }
    Ok(sweep.finish())
}

type Also = Option<fn(&(dyn StdError + 'static)) -> bool>;

fn outcome_of(error: impl Into<Box<dyn StdError>>, also: Also) -> Outcome {
    let error = error.into();
    let mut next: Option<&(dyn StdError + 'static)> = Some(&*error);
    while let Some(error) = next {
        if means_out_of_memory(error) || also.is_some_and(|also| also(error)) {
            return Outcome::OutOfMemory;
        }
        next = error.source();
    }
    Outcome::Failed(error.to_string())
}

fn means_out_of_memory(error: &(dyn StdError + 'static)) -> bool {
    error.is::<TryReserveError>()
        || error
            .downcast_ref::<Error>()
            .is_some_and(Error::is_out_of_memory)
        || error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
}

fn message_of(payload: Box<dyn Any + Send>) -> String {
    let message = match payload.downcast::<String>() {
        Ok(message) => return *message,
        Err(payload) => payload.downcast::<&'static str>(),
    };
    match message {
        Ok(message) => (*message).to_owned(),
        Err(payload) => {
            // Dropping somebody's own type may panic again.
            std::mem::forget(payload);
            "a panic without a text".to_owned()
        }
    }
}

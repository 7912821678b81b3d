//! Failure injection, and sweeps of it.

use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::pools::adopt;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::sweep::{FailureMode, FailurePoint, Outcome, Sweep, SweepOptions};
use offheap::{Domain, Error, Failing, FailingOptions, HookedDomains, Result};
use std::cell::RefCell;
use std::sync::Arc;

/// What one environment has under way.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// Domains whose requests fail with a pool's, by the pool's key.
    hooked: RefCell<Vec<(usize, HookedDomains)>>,
    sweep: RefCell<Option<Sweep>>,
}

impl Failures {
    /// Takes the hooks off that a pool put over domains.
    pub(crate) fn end_of(&self, key: usize) {
        let mut hooked = self.hooked.borrow_mut();
        if let Some(index) = hooked.iter().position(|(of, _)| *of == key) {
            let ended = hooked.swap_remove(index);
            drop(hooked);
            drop(ended);
        }
    }

    /// Takes everything off.
    pub(crate) fn end(&self) {
        drop((self.hooked.take(), self.sweep.take()));
    }
}

/// What fails; see `Failing` of the core. Absent numbers are -1, absent texts empty.
#[derive(Debug)]
#[napi(object)]
pub struct NativeFailingOptions {
    /// Requests to let through.
    pub after: f64,
    /// Failures at most.
    pub count: f64,
    /// Probability of each failure.
    pub probability: f64,
    /// What it draws from.
    pub seed: f64,
    /// Smaller requests do not count.
    pub min_size: f64,
    /// Text that the stack must have.
    pub stack: String,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the TypeScript layer gives integers from 0 to 2^53 - 1, or -1 for none"
)]
fn options(given: NativeFailingOptions) -> FailingOptions {
    let some = |number: f64| (number >= 0.0).then_some(number);
    FailingOptions {
        after: some(given.after).map(|after| after as u64),
        count: some(given.count).map(|count| count as u64),
        probability: some(given.probability),
        seed: given.seed as u64,
        min_size: given.min_size as usize,
        stack: (!given.stack.is_empty()).then_some(given.stack),
    }
}

/// A pool whose requests fail; those of a domain with it, unless `domain` is empty.
#[napi(catch_unwind)]
pub fn pool_failing(
    env: Env,
    pool: f64,
    given: NativeFailingOptions,
    domain: String,
) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || {
        let failing = Failing::new(options(given))?;
        let pool = failing.over(&state.pool(pool)?);
        let key = pool.key();
        if !domain.is_empty() {
            let domains = [Domain::named(&domain)?];
            let hooked = HookedDomains::new(&domains, "failing", |_| Arc::clone(&failing))?;
            state.failures.hooked.borrow_mut().push((key, hooked));
        }
        adopt(state, pool).inspect_err(|_| state.failures.end_of(key))
    };
    made().or_throw(env)
}

fn failing_of(state: &Environment, pool: f64) -> Result<Arc<Failing>> {
    state
        .pool(pool)?
        .find_hook::<Failing>()
        .ok_or_else(|| Error::not_supported("nothing fails in this pool: make one by failing()"))
}

/// Sets words 0 and 1 to how many requests counted and failed; false where nothing fails.
#[napi(catch_unwind)]
pub fn pool_failing_counts(env: Env, pool: f64) -> napi::Result<bool> {
    let state = Environment::of(env)?;
    let found = state.pool(pool).or_throw(env)?.find_hook::<Failing>();
    Ok(found.is_some_and(|failing| {
        state.set_word(0, failing.requests());
        state.set_word(1, failing.failures());
        true
    }))
}

/// Lets everything through from now on.
#[napi(catch_unwind)]
pub fn pool_disarm(env: Env, pool: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    failing_of(state, pool)
        .map(|failing| failing.disarm())
        .or_throw(env)
}

/// Starts anew.
#[napi(catch_unwind)]
pub fn pool_rearm(env: Env, pool: f64, given: NativeFailingOptions) -> napi::Result<()> {
    let state = Environment::of(env)?;
    failing_of(state, pool)
        .and_then(|failing| failing.rearm(options(given)))
        .or_throw(env)
}

/// Which request fails in a run: its number and `undisturbed`, `once` or `forever`.
#[derive(Debug)]
#[napi(object)]
pub struct NativeFailurePoint {
    /// From 1; 0 in the undisturbed run.
    pub request: f64,
    /// What happens there.
    #[napi(ts_type = "'undisturbed' | 'once' | 'forever'")]
    pub mode: String,
}

impl From<FailurePoint> for NativeFailurePoint {
    fn from(point: FailurePoint) -> Self {
        Self {
            #[expect(clippy::cast_precision_loss, reason = "a counter below 2^53")]
            request: point.request as f64,
            mode: match point.mode {
                FailureMode::Undisturbed => "undisturbed",
                FailureMode::Once => "once",
                FailureMode::ForEver => "forever",
            }
            .to_owned(),
        }
    }
}

/// What a run left behind; `domain` is empty for the sweep's own pool.
#[derive(Debug)]
#[napi(object)]
pub struct NativeSweepLeak {
    /// The run.
    pub point: NativeFailurePoint,
    /// Whose blocks.
    pub domain: String,
    /// Their bytes.
    pub bytes: f64,
    /// Their number.
    pub allocations: f64,
}

/// A run that ended as it should not.
#[derive(Debug)]
#[napi(object)]
pub struct NativeSweepError {
    /// The run.
    pub point: NativeFailurePoint,
    /// What it said.
    pub error: String,
}

/// What a sweep found.
#[derive(Debug)]
#[napi(object)]
pub struct NativeSweepReport {
    /// Runs.
    pub runs: f64,
    /// Failures injected.
    pub injected: f64,
    /// Requests of the undisturbed run.
    pub requests: f64,
    /// Runs that succeeded in spite of a failure.
    pub survived: f64,
    /// What was left behind.
    pub leaks: Vec<NativeSweepLeak>,
    /// Other errors.
    pub wrong_errors: Vec<NativeSweepError>,
    /// Whether it came to its end.
    pub is_complete: bool,
    /// All of it in words.
    pub text: String,
}

/// Starts the environment's sweep over a pool and domains; returns the pool for the code under test.
#[napi(catch_unwind)]
pub fn sweep_start(env: Env, pool: f64, domains: Vec<String>, max_runs: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let started = || {
        if state.failures.sweep.borrow().is_some() {
            return Err(Error::busy(
                "a sweep is under way in this thread".to_owned(),
            ));
        }
        let domains = domains
            .iter()
            .map(|domain| Domain::named(domain))
            .collect::<Result<_>>()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an integer from 1 to 2^53 - 1"
        )]
        let sweep = Sweep::start(SweepOptions {
            pool: Some(state.pool(pool)?),
            domains,
            max_runs: max_runs as u64,
            ..SweepOptions::default()
        })?;
        let id = adopt(state, sweep.pool().clone())?;
        drop(state.failures.sweep.replace(Some(sweep)));
        Ok(id)
    };
    started().or_throw(env)
}

/// Begins the next run; null at the end.
#[napi(catch_unwind)]
pub fn sweep_begin(env: Env) -> napi::Result<Option<NativeFailurePoint>> {
    let state = Environment::of(env)?;
    let mut sweep = state.failures.sweep.borrow_mut();
    Ok(sweep
        .as_mut()
        .and_then(Sweep::begin)
        .map(NativeFailurePoint::from))
}

/// Ends the run: `outcome` is 0 passed, 1 out of memory, 2 failed with this text.
#[napi(catch_unwind)]
pub fn sweep_end(env: Env, outcome: u32, error: String) -> napi::Result<()> {
    let state = Environment::of(env)?;
    if let Some(sweep) = state.failures.sweep.borrow_mut().as_mut() {
        sweep.end(match outcome {
            0 => Outcome::Passed,
            1 => Outcome::OutOfMemory,
            _ => Outcome::Failed(error),
        });
    }
    Ok(())
}

/// Takes the hooks off, and says what was found.
#[napi(catch_unwind)]
pub fn sweep_finish(env: Env) -> napi::Result<NativeSweepReport> {
    let state = Environment::of(env)?;
    let sweep = state.failures.sweep.take();
    let report = sweep.map(Sweep::finish).unwrap_or_default();
    let text = report.to_string();
    Ok(NativeSweepReport {
        runs: report.runs as f64,
        injected: report.injected as f64,
        requests: report.requests as f64,
        survived: report.survived as f64,
        is_complete: report.is_complete,
        leaks: report
            .leaks
            .into_iter()
            .map(|leak| NativeSweepLeak {
                point: leak.point.into(),
                domain: leak
                    .domain
                    .map_or_else(String::new, |domain| domain.name().to_owned()),
                bytes: leak.bytes as f64,
                allocations: leak.allocations as f64,
            })
            .collect(),
        wrong_errors: report
            .wrong_errors
            .into_iter()
            .map(|wrong| NativeSweepError {
                point: wrong.point.into(),
                error: wrong.error,
            })
            .collect(),
        text,
    })
}

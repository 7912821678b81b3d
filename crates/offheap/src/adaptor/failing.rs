//! Requests that fail on purpose.

use super::hook::{Hook, Request};
use crate::domain::{AddressMap, Unhooked};
use crate::error::{Error, Result};
use crate::origin::{self, StackId};
use crate::pool::Pool;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which requests fail: see [`Failing`].
///
/// Every field narrows: a request counts when it is large enough and its stack matches, and of those
/// that count, `after` or `probability` says which fail. With neither, all of them do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FailingOptions {
    /// Lets as many requests through, and fails those after them.
    pub after: Option<u64>,
    /// Fails no more than as many requests; without, it goes on for ever.
    pub count: Option<u64>,
    /// Fails each request with this probability, 0 to 1. Not together with `after`.
    pub probability: Option<f64>,
    /// What `probability` draws from. The n-th request that counts draws the n-th number of
    /// SplitMix64 (Steele, Lea, Flood 2014) started at the seed, its upper 53 bits as a fraction:
    /// the same seed fails the same requests, as far as those come in the same order.
    pub seed: u64,
    /// Smaller requests never fail and do not count, in bytes. A reallocation is as large as its
    /// new size.
    pub min_size: usize,
    /// Only requests whose native or foreign stack names this text in a function or a file count.
    /// Native frames are looked at from the caller of the pool on, 64 deep.
    ///
    /// Cost: a capture of the stack, 0.3 to 4 us a request, and some milliseconds and 20 bytes for
    /// each stack that was not seen before.
    pub stack: Option<String>,
}

/// Makes requests for memory fail, to see what a program then does: SQLite's out-of-memory tests and
/// CPython's `_testcapi.set_nomemory` as a hook.
///
/// Allocations and reallocations count, shrinking ones too; frees never fail. A request that fails
/// is an [`OutOfMemory`](crate::ErrorKind::OutOfMemory) error that names the failing pool, and
/// leaves every statistic as it was.
///
/// One value over several pools or domains counts the requests of all of them.
///
/// ```
/// use offheap::{Failing, FailingOptions, MutableBuffer, default_memory_pool};
///
/// let failing = Failing::new(FailingOptions { after: Some(2), count: Some(1), ..Default::default() })?;
/// let pool = failing.over(&default_memory_pool());
/// let buffers: Vec<_> = (0..4).map(|_| MutableBuffer::zeroed(100, &pool)).collect();
/// assert_eq!(buffers.iter().position(Result::is_err), Some(2));
/// assert!(buffers[3].is_ok());
/// assert_eq!((failing.requests(), failing.failures()), (4, 1));
/// # Ok::<(), offheap::Error>(())
/// ```
#[derive(Debug)]
pub struct Failing {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rule: Rule,
    count: u64,
    min_size: usize,
    stack: Option<Arc<StackFilter>>,
    requests: u64,
    failures: u64,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Nothing fails and nothing counts.
    Disarmed,
    After(u64),
    Probability {
        probability: f64,
        seed: u64,
    },
}

impl State {
    fn new(options: FailingOptions) -> Result<Self> {
        let rule = match (options.after, options.probability) {
            (Some(_), Some(probability)) => {
                return Err(Error::invalid_argument(
                    "probability",
                    probability,
                    "given without 'after', or 'after' without it",
                ));
            }
            // A NaN is in no range.
            (None, Some(probability)) if !(0.0..=1.0).contains(&probability) => {
                return Err(Error::invalid_argument(
                    "probability",
                    probability,
                    "a number from 0 to 1",
                ));
            }
            (None, Some(probability)) => Rule::Probability {
                probability,
                seed: options.seed,
            },
            (after, None) => Rule::After(after.unwrap_or(0)),
        };
        let stack = match options.stack {
            Some(text) if text.is_empty() => {
                return Err(Error::invalid_argument(
                    "stack",
                    "''",
                    "the name of a function or file, or a part of it",
                ));
            }
            text => text.map(|text| Arc::new(StackFilter::new(text))),
        };
        Ok(Self {
            rule,
            count: options.count.unwrap_or(u64::MAX),
            min_size: options.min_size,
            stack,
            requests: 0,
            failures: 0,
        })
    }

    fn counts(&self, size: usize) -> bool {
        !matches!(self.rule, Rule::Disarmed) && size >= self.min_size
    }

    /// Counts a request, and says whether it fails.
    fn fails(&mut self) -> bool {
        self.requests += 1;
        let fails = self.failures < self.count
            && match self.rule {
                Rule::Disarmed => false,
                Rule::After(after) => self.requests > after,
                Rule::Probability { probability, seed } => {
                    fraction(seed, self.requests) < probability
                }
            };
        self.failures += u64::from(fails);
        fails
    }
}

/// The `n`-th number of SplitMix64 as a fraction: at least 0, less than 1.
fn fraction(seed: u64, n: u64) -> f64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

impl Failing {
    /// A hook that fails what the options say.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a probability that is not from 0
    /// to 1, `after` and `probability` together, or an empty `stack`.
    pub fn new(options: FailingOptions) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            state: Mutex::new(State::new(options)?),
        }))
    }

    /// A pool over `pool` whose requests this fails. Beside its other pools: all count together.
    pub fn over(self: &Arc<Self>, pool: &Pool) -> Pool {
        pool.hooked(Arc::clone(self) as Arc<dyn Hook>, "failing")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that counted since it was armed.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// Requests that failed since it was armed.
    pub fn failures(&self) -> u64 {
        self.state().failures
    }

    /// Starts anew, with other options and both counters at zero.
    ///
    /// # Errors
    /// As [`new`](Self::new); it then goes on as it was.
    pub fn rearm(&self, options: FailingOptions) -> Result<()> {
        let state = State::new(options)?;
        let old = std::mem::replace(&mut *self.state(), state);
        // The filter's text is freed outside of the lock.
        drop(old);
        Ok(())
    }

    /// Whether it looks at stacks: a binding then says where each call comes from
    /// ([`set_current_foreign`](crate::origin::set_current_foreign)).
    pub fn asks_for_stacks(&self) -> bool {
        self.state().stack.is_some()
    }

    /// Lets everything through from now on, uncounted. The counters stay to be read.
    pub fn disarm(&self) {
        self.state().rule = Rule::Disarmed;
    }

    /// Whether the request is to fail; it is counted.
    fn refuses(&self, size: usize) -> bool {
        loop {
            let mut state = self.state();
            if !state.counts(size) {
                return false;
            }
            let Some(filter) = state.stack.clone() else {
                return state.fails();
            };
            drop(state);
            let matches = filter.matches();
            let mut state = self.state();
            // Armed anew meanwhile: what matched then may not match now.
            if !state
                .stack
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &filter))
            {
                continue;
            }
            return matches && state.counts(size) && state.fails();
        }
    }
}

impl Hook for Failing {
    fn before(&self, request: &Request, pool: &Pool) -> Result<()> {
        let size = match *request {
            Request::Allocate { size, .. } => size,
            Request::Reallocate { new_size, .. } => new_size,
            Request::Free { .. } => return Ok(()),
        };
        if !self.refuses(size) {
            return Ok(());
        }
        Err(Error::allocator_refused(
            request.requested() as u64,
            pool.bytes_allocated(),
            format!("failing of {}", pool.given_name()),
        ))
    }
}

impl Pool {
    /// A pool over this one whose requests fail as `options` say: see [`Failing`], which
    /// [`find_hook`](Self::find_hook) gives back, to read its counters or to arm it anew.
    ///
    /// ```
    /// use offheap::{BufferBuilder, FailingOptions, default_memory_pool};
    ///
    /// let pool = default_memory_pool().failing(FailingOptions { after: Some(1), ..Default::default() })?;
    /// let mut builder = BufferBuilder::new(&pool);
    /// builder.append(b"the first allocation works")?;
    /// let error = builder.append(&[0; 1000]).unwrap_err();
    /// assert!(error.is_out_of_memory());
    /// assert_eq!(builder.as_slice(), b"the first allocation works");
    /// # Ok::<(), offheap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Failing::new`].
    pub fn failing(&self, options: FailingOptions) -> Result<Self> {
        Ok(Failing::new(options)?.over(self))
    }
}

/// Looks for a text in the stack of the calling thread.
#[derive(Debug)]
struct StackFilter {
    text: String,
    /// What was found in native stacks.
    known: Mutex<AddressMap<StackId, bool>>,
}

/// Where the frames of the adaptors end: the outermost one of these.
const ADAPTOR: &str = "adaptor::hook::Hooked";

impl StackFilter {
    fn new(text: String) -> Self {
        Self {
            text,
            known: Mutex::new(AddressMap::with_hasher_in(
                BuildHasherDefault::new(),
                Unhooked,
            )),
        }
    }

    fn known(&self) -> MutexGuard<'_, AddressMap<StackId, bool>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn matches(&self) -> bool {
        origin::current_foreign().is_some_and(|stack| stack.contains(&self.text))
            || self.matches_native()
    }

    fn matches_native(&self) -> bool {
        let id = StackId::capture(0, 64);
        if id.is_none() {
            return false;
        }
        let known = self.known().get(&id).copied();
        known.unwrap_or_else(|| {
            let frames = id.frames();
            let has = |name: &Option<String>, text: &str| {
                name.as_ref().is_some_and(|name| name.contains(text))
            };
            // The hook's own frames would match names that mean the program's.
            let first = frames
                .iter()
                .rposition(|frame| has(&frame.function, ADAPTOR))
                .map_or(0, |last| last + 1);
            let matches = frames[first..]
                .iter()
                .any(|frame| has(&frame.function, &self.text) || has(&frame.file, &self.text));
            let mut known = self.known();
            if known.try_reserve(1).is_ok() {
                known.insert(id, matches);
            }
            matches
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_those_of_splitmix64() {
        // The generator's first numbers from 0 and from 1234567 on, as its authors' C code gives.
        let numbers = [
            (0, [0xE220_A839_7B1D_CDAF_u64, 0x6E78_9E6A_A1B9_65F4]),
            (
                1_234_567,
                [6_457_827_717_110_365_317, 3_203_168_211_198_807_973],
            ),
        ];
        for (seed, expected) in numbers {
            for (n, number) in (1..).zip(expected) {
                let fraction = fraction(seed, n);
                assert_eq!(fraction, (number >> 11) as f64 / (1_u64 << 53) as f64);
                assert!((0.0..1.0).contains(&fraction));
            }
        }
    }

    #[test]
    fn options_that_can_never_be_right_are_refused() {
        let probability = |probability| FailingOptions {
            probability: Some(probability),
            ..Default::default()
        };
        for options in [
            probability(f64::NAN),
            probability(-0.1),
            probability(1.000_001),
            probability(f64::INFINITY),
            FailingOptions {
                after: Some(1),
                ..probability(0.5)
            },
            FailingOptions {
                stack: Some(String::new()),
                ..Default::default()
            },
        ] {
            let error = Failing::new(options.clone()).unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT", "{options:?}");
            // What was armed stays armed.
            let failing = Failing::new(FailingOptions::default()).unwrap();
            assert!(failing.rearm(options).is_err());
            assert!(failing.refuses(1));
        }
        for right in [0.0, 0.5, 1.0] {
            assert!(Failing::new(probability(right)).is_ok());
        }
    }
}

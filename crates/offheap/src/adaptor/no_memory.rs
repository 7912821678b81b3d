//! CPython's `_testcapi.set_nomemory` over the domains.

use super::failing::{Failing, FailingOptions};
use super::hooked_domains::HookedDomains;
use crate::domain::Domain;
use crate::error::Result;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
struct NoMemory {
    failing: Arc<Failing>,
    hooked: HookedDomains,
}

static NO_MEMORY: Mutex<Option<NoMemory>> = Mutex::new(None);

/// The window of CPython's `fm_nomemory`: request `n` fails when `n > start && (stop <= 0 || n <=
/// stop)`.
fn window(start: i64, stop: i64) -> FailingOptions {
    let after = start.max(0).unsigned_abs();
    let count = (stop > 0).then(|| stop.unsigned_abs().saturating_sub(after));
    FailingOptions {
        after: Some(after),
        count,
        ..Default::default()
    }
}

/// Makes memory run out in all domains after `start` requests, up to request `stop` (for ever when
/// that is 0 or less): CPython's `_testcapi.set_nomemory(start, stop)`. Requests of all domains and
/// threads count together, from 0 at each call. A large request of the `object` domain, which hands
/// it on to `mem`, is two.
///
/// A block that is older than the hooks is reallocated by the allocator that made it, which does not
/// fail (CPython's hooks see that, too).
///
/// A second call arms the same hooks anew; [`remove_no_memory`] takes them off. Pools that are in no
/// domain do not fail: see [`Pool::failing`](crate::Pool::failing).
///
/// ```
/// use offheap::{Domain, remove_no_memory, set_no_memory};
///
/// set_no_memory(1, 2)?;
/// let blocks: Vec<_> = (0..3).map(|_| Domain::Raw.malloc(10)).collect();
/// remove_no_memory();
/// assert_eq!(blocks.iter().position(|block| block.is_null()), Some(1));
/// // SAFETY: blocks of this domain, or null.
/// blocks.into_iter().for_each(|block| unsafe { Domain::Raw.free(block) });
/// # Ok::<(), offheap::Error>(())
/// ```
///
/// # Errors
/// [`Closed`](crate::ErrorKind::Closed) when a domain's allocator was closed; nothing is hooked
/// then.
pub fn set_no_memory(start: i64, stop: i64) -> Result<()> {
    let options = window(start, stop);
    let mut no_memory = NO_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(no_memory) = &*no_memory {
        return no_memory.failing.rearm(options);
    }
    let failing = Failing::new(options)?;
    let hooked = HookedDomains::new(&Domain::ALL, "failing", |_| Arc::clone(&failing))?;
    *no_memory = Some(NoMemory { failing, hooked });
    Ok(())
}

/// Takes the hooks of [`set_no_memory`] off (CPython's `remove_mem_hooks`). The second time in a row
/// it does nothing.
pub fn remove_no_memory() {
    let removed = NO_MEMORY
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(NoMemory { failing, hooked }) = removed {
        // Where they lie under somebody else's allocator, they stay.
        failing.disarm();
        drop(hooked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `fm_nomemory` of CPython's Modules/_testcapi/mem.c answers.
    fn reference(start: i64, stop: i64, n: i64) -> bool {
        n > start && (stop <= 0 || n <= stop)
    }

    #[test]
    fn the_window_is_that_of_cpython() {
        let ends = [i64::MIN, -3, -1, 0, 1, 2, 5, 9, 10, 19, 20, 21, i64::MAX];
        for start in ends {
            for stop in ends {
                let failing = Failing::new(window(start, stop)).unwrap();
                let pool = failing.over(&crate::system_memory_pool());
                for n in 1..=25 {
                    let failed = crate::MutableBuffer::zeroed(10, &pool).is_err();
                    assert_eq!(failed, reference(start, stop, n), "{start}, {stop}: {n}");
                }
            }
        }
    }
}

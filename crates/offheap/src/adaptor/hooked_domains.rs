//! Hooks over whole domains, for a while.

use super::hook::{Hook, Hooked};
use crate::domain::Domain;
use crate::error::Result;
use crate::pool::{MemoryPool, Pool};
use std::sync::Arc;

/// Hooks over the allocators of domains, taken off again when this is dropped (PEP 445's wrapping
/// and unwrapping).
///
/// Where somebody put an allocator over a hook meanwhile, the hook stays below it: it goes on being
/// asked until that allocator goes, if that is another `HookedDomains`; else for good. (CPython would throw the other one out.) Blocks go back to the
/// allocator that made them either way.
///
/// ```
/// use offheap::{Domain, Failing, FailingOptions, HookedDomains};
///
/// let failing = Failing::new(FailingOptions::default())?;
/// let hooked = HookedDomains::new(&[Domain::Raw], "failing", |_| failing.clone())?;
/// assert!(Domain::Raw.malloc(10).is_null());
/// drop(hooked);
/// let block = Domain::Raw.malloc(10);
/// assert!(!block.is_null());
/// // SAFETY: the block just allocated.
/// unsafe { Domain::Raw.free(block) };
/// # Ok::<(), offheap::Error>(())
/// ```
///
/// Once the `object` domain was hooked, offheap's control blocks stay 50 to 80 ns slower in this
/// process: each is looked up in a table.
#[derive(Debug)]
#[must_use = "the hooks come off when it is dropped"]
pub struct HookedDomains {
    over: Vec<Over>,
}

#[derive(Debug)]
struct Over {
    domain: Domain,
    hooked: Pool,
    before: Pool,
}

impl HookedDomains {
    /// Puts the hook that `hook` returns for a domain over each of `domains`. Their pools are called
    /// after `kind`: `failing of system`.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) when a domain's allocator was closed; no hook stays.
    pub fn new<H: Hook>(
        domains: &[Domain],
        kind: &'static str,
        hook: impl Fn(Domain) -> Arc<H>,
    ) -> Result<Self> {
        let mut hooked = Self { over: Vec::new() };
        for domain in domains {
            let hook = hook(*domain);
            let pool = domain.wrap(|before| before.hooked(Arc::clone(&hook) as _, kind))?;
            let Some(before) = pool.parent().cloned() else {
                unreachable!("a hooked pool has an upstream")
            };
            hooked.over.push(Over {
                domain: *domain,
                hooked: pool,
                before,
            });
        }
        Ok(hooked)
    }

    /// The pool that was put over a domain's allocator.
    pub fn pool(&self, domain: Domain) -> Option<&Pool> {
        let over = self.over.iter().find(|over| over.domain == domain)?;
        Some(&over.hooked)
    }
}

/// The hook that a pool is, if it is one that is to come off.
fn retired(pool: &Pool) -> Option<&Hooked> {
    pool.own_source::<Hooked>()
        .filter(|hooked| hooked.is_retired())
}

impl Over {
    fn take_off(self) {
        let Self {
            domain,
            mut hooked,
            mut before,
        } = self;
        if let Some(source) = hooked.own_source::<Hooked>() {
            source.retire();
        }
        loop {
            // What was taken off while this lay over it.
            while let Some(under) = retired(&before).and_then(MemoryPool::upstream).cloned() {
                before = under;
            }
            // An allocator below that was closed meanwhile refuses whatever is asked, hooked or not.
            let was_on_top = domain.replace(&before, Some(&hooked)).unwrap_or(false);
            // Retired just now by a thread that still found this one over it.
            if !was_on_top || retired(&before).is_none() {
                return;
            }
            hooked = before.clone();
        }
    }
}

impl Drop for HookedDomains {
    fn drop(&mut self) {
        // A domain named twice comes off in the order of a stack.
        while let Some(over) = self.over.pop() {
            over.take_off();
        }
    }
}

//! Pools over sources, and pools over pools.

use super::pool_core::{Base, PoolCore};
use super::{Pool, STATIC};
use crate::pool::account::Account;
#[cfg(feature = "hooks")]
use crate::pool::account::UNLIMITED;
use crate::pool::memory_pool::MemoryPool;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

impl Pool {
    /// The handle of a core that lives for ever.
    pub(crate) fn of_static(core: &'static PoolCore) -> Self {
        Self {
            core: NonNull::from(core).map_addr(|a| a | STATIC),
            marker: PhantomData,
        }
    }

    fn of_core(core: PoolCore) -> Self {
        Self {
            core: NonNull::from(Box::leak(Box::new(core))),
            marker: PhantomData,
        }
    }

    /// A pool over a program's own source of memory.
    ///
    /// The pool counts, so [`MemoryPool`] implementations need not.
    pub fn custom(source: impl MemoryPool) -> Self {
        Self::of_core(PoolCore::of_source(source, None))
    }

    /// A pool over an adaptor, called `kind of` what it wraps.
    #[cfg(feature = "hooks")]
    pub(crate) fn adapted(source: impl MemoryPool, kind: &'static str) -> Self {
        Self::of_core(PoolCore::of_source(source, Some(kind)))
    }

    /// A pool that counts into `self` and has its memory from a source: an adaptor whose own needs,
    /// which it has of `self` [without counting](Self::allocate_uncounted), are not to count. `make`
    /// is told the pool's name.
    #[cfg(feature = "hooks")]
    pub(crate) fn child_over<S: MemoryPool>(
        &self,
        kind: &'static str,
        make: impl FnOnce(&str) -> S,
    ) -> Self {
        self.child_named_over(&format!("{kind} of {}", self.core().given_name), make)
    }

    /// As [`child_over`](Self::child_over), with the name itself.
    #[cfg(feature = "hooks")]
    pub(crate) fn child_named_over<S: MemoryPool>(
        &self,
        name: &str,
        make: impl FnOnce(&str) -> S,
    ) -> Self {
        let mut core = PoolCore::of_named_source(
            make(name),
            Cow::Owned(name.to_owned()),
            self.core().given_name.clone(),
        );
        // SAFETY: the parent's handle in the core keeps it where it is; the core's end retires first.
        core.account = unsafe { Account::child(UNLIMITED, &self.core().account) };
        core.parent = Some(self.clone());
        Self::of_core(core)
    }

    /// A pool that counts into `self` too, under `limit`.
    pub(crate) fn child(&self, limit: u64, name: Option<&str>, kind: &'static str) -> Self {
        let (name, given_name) = match name {
            Some(name) => (name.to_owned(), Cow::Owned(name.to_owned())),
            // Not the parent's own made-up name: a long chain's names would grow with its length.
            None => {
                let given = self.core().given_name.clone();
                (format!("{kind} of {given}"), given)
            }
        };
        let base = match &self.core().base {
            Base::Backend(backend) => Base::Backend(*backend),
            Base::Custom(source) => Base::Custom(Arc::clone(source)),
        };
        Self::of_core(PoolCore {
            // SAFETY: as in `child_named_over`.
            account: unsafe { Account::child(limit, &self.core().account) },
            base,
            padding: self.core().padding,
            location: self.core().location,
            name: Cow::Owned(name),
            given_name,
            parent: Some(self.clone()),
            closed: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
        })
    }
}

//! What a pool's handles point to.

use crate::location::Location;
use crate::pool::account::{Account, UNLIMITED};
use crate::pool::backend::Backend;
use crate::pool::handle::Pool;
use crate::pool::memory_pool::{MemoryPool, Padding};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// Where the bytes come from.
pub(in crate::pool) enum Base {
    Backend(Backend),
    Custom(Arc<dyn MemoryPool>),
}

/// What a handle points to.
pub(crate) struct PoolCore {
    pub(in crate::pool) account: Account,
    pub(super) base: Base,
    pub(super) padding: Padding,
    pub(super) location: Location,
    pub(super) name: Cow<'static, str>,
    /// The name of the nearest pool of the chain that was given one; a backend has its own.
    pub(super) given_name: Cow<'static, str>,
    pub(super) parent: Option<Pool>,
    pub(super) closed: AtomicBool,
    /// Handles, but for a static's.
    pub(super) handles: AtomicUsize,
}

impl PoolCore {
    /// A backend's own pool, to be kept in a static.
    pub(in crate::pool) const fn of_backend(backend: Backend) -> Self {
        Self {
            account: Account::telling(backend.on_moved()),
            base: Base::Backend(backend),
            padding: Padding::Rounded,
            location: Location::CPU,
            name: Cow::Borrowed(backend.name()),
            given_name: Cow::Borrowed(backend.name()),
            parent: None,
            closed: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
        }
    }

    /// A pool over a program's own source, or over an adaptor of some `kind`.
    pub(in crate::pool) fn of_source(source: impl MemoryPool, kind: Option<&str>) -> Self {
        let given_name = match source.upstream() {
            Some(upstream) if kind.is_some() => upstream.core().given_name.clone(),
            _ => Cow::Owned(source.backend_name().to_owned()),
        };
        let name = match kind {
            Some(kind) => Cow::Owned(format!("{kind} of {given_name}")),
            None => given_name.clone(),
        };
        Self::of_named_source(source, name, given_name)
    }

    /// The core of a built-in pool that is no backend's, to be kept in a static.
    pub(crate) fn built_in(source: impl MemoryPool) -> Self {
        Self::of_source(source, None)
    }

    /// A pool over a source, with names.
    pub(crate) fn of_named_source(
        source: impl MemoryPool,
        name: Cow<'static, str>,
        given_name: Cow<'static, str>,
    ) -> Self {
        Self {
            account: Account::new(UNLIMITED),
            padding: source.padding(),
            location: source.location(),
            base: Base::Custom(Arc::new(source)),
            name,
            given_name,
            parent: None,
            closed: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
        }
    }
}

//! What can be replaced while others use it.

use crate::sync::{AtomicBool, Ordering, RwLock};

/// A value that is missing until something is put in its place, and that readers get a copy of: the
/// allocator of a domain.
///
/// Nothing runs under the lock but the copy, so whatever is called through the value may replace it.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    value: RwLock<Option<T>>,
    /// Whether there is a value: the usual answer takes no lock.
    is_set: AtomicBool,
    /// Whether there ever was one.
    was_set: AtomicBool,
}

impl<T: Clone> Slot<T> {
    crate::sync::const_fn! {
        /// An empty slot.
        pub(crate) fn new() -> Self {
            Self {
                value: RwLock::new(None),
                is_set: AtomicBool::new(false),
                was_set: AtomicBool::new(false),
            }
        }
    }

    /// A copy of the value.
    #[inline]
    pub(crate) fn get(&self) -> Option<T> {
        if !self.is_set.load(Ordering::Acquire) {
            return None;
        }
        self.value
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Whether a value was ever put in: what was made under one must be looked for.
    ///
    /// Whoever has something that was made under a value sees `true`: it was set before.
    #[inline]
    pub(crate) fn was_set(&self) -> bool {
        self.was_set.load(Ordering::Acquire)
    }

    /// Replaces the value by what `change` makes of it, which nobody else changes meanwhile; returns
    /// the old value, to be dropped outside of the lock.
    ///
    /// # Errors
    /// What `change` returns; the value is then as it was.
    pub(crate) fn change<E>(
        &self,
        change: impl FnOnce(Option<&T>) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let mut value = self
            .value
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let new = change(value.as_ref())?;
        self.is_set.store(new.is_some(), Ordering::Release);
        if new.is_some() {
            self.was_set.store(true, Ordering::Release);
        }
        Ok(std::mem::replace(&mut *value, new))
    }

    /// Calls `body` with the value, which stays meanwhile.
    pub(crate) fn with<R>(&self, body: impl FnOnce(Option<&T>) -> R) -> R {
        let value = self
            .value
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        body(value.as_ref())
    }
}

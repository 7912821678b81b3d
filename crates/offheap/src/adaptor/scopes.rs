//! What a stretch of a thread's work allocated.

use super::hook::{Hook, Request};
use crate::domain::{AddressMap, Unhooked};
use crate::error::{Error, Result};
use crate::origin::thread_number;
use crate::pool::Pool;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A figure of a scope. The value may be negative: what an outer scope allocated may be freed in an
/// inner one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    /// Allocated less freed, since the scope began.
    pub value: i64,
    /// The most that the value has been, inner scopes included; at least 0.
    pub peak: i64,
    /// All that was allocated since the scope began.
    pub total: i64,
}

impl Counter {
    fn add(&mut self, n: i64) {
        self.value = self.value.saturating_add(n);
        self.total = self.total.saturating_add(n);
        self.peak = self.peak.max(self.value);
    }

    fn subtract(&mut self, n: i64) {
        self.value = self.value.saturating_sub(n);
    }

    /// Takes in what an inner scope, which ended, counted.
    fn add_inner(&mut self, inner: Self) {
        self.peak = self.peak.max(self.value.saturating_add(inner.peak));
        self.value = self.value.saturating_add(inner.value);
        self.total = self.total.saturating_add(inner.total);
    }
}

/// What a scope counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeCounters {
    /// Bytes. A resize counts its difference.
    pub bytes: Counter,
    /// Blocks. A resize is none.
    pub allocations: Counter,
}

impl ScopeCounters {
    fn count(&mut self, request: &Request) {
        let size = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        match *request {
            Request::Allocate { size: bytes, .. } => {
                self.bytes.add(size(bytes));
                self.allocations.add(1);
            }
            Request::Reallocate {
                old_size, new_size, ..
            } => match new_size.checked_sub(old_size) {
                Some(growth) => self.bytes.add(size(growth)),
                None => self.bytes.subtract(size(old_size - new_size)),
            },
            Request::Free { size: bytes, .. } => {
                self.bytes.subtract(size(bytes));
                self.allocations.subtract(1);
            }
        }
    }

    fn add_inner(&mut self, inner: Self) {
        self.bytes.add_inner(inner.bytes);
        self.allocations.add_inner(inner.allocations);
    }
}

/// A thread's open scopes, the innermost last.
type Scopes = allocator_api2::vec::Vec<ScopeCounters, Unhooked>;
type Threads = AddressMap<u64, Scopes>;

const SHARDS: usize = 16;

/// Counts bytes and allocations by scopes, which nest: each thread has its own (RMM's
/// `statistics_resource_adaptor` with `push_counters` and `pop_counters`, whose scopes all threads
/// share): see [`Pool::scoped_statistics`].
///
/// What a thread does outside of its scopes, and the sums of scopes that ended, are counted for all
/// threads together.
pub struct ScopedStatistics {
    threads: [Mutex<Threads>; SHARDS],
    outside: Mutex<ScopeCounters>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for ScopedStatistics {
    fn default() -> Self {
        let threads = || Mutex::new(Threads::with_hasher_in(BuildHasherDefault::new(), Unhooked));
        Self {
            threads: std::array::from_fn(|_| threads()),
            outside: Mutex::default(),
        }
    }
}

impl ScopedStatistics {
    fn shard(&self, thread: u64) -> MutexGuard<'_, Threads> {
        lock(&self.threads[thread as usize % SHARDS])
    }

    /// Runs `body` on the innermost scope of this thread, or on what is outside of all.
    fn with_top<R>(&self, body: impl FnOnce(&mut ScopeCounters) -> R) -> R {
        let thread = thread_number();
        let mut shard = self.shard(thread);
        match shard.get_mut(&thread).and_then(|scopes| scopes.last_mut()) {
            Some(top) => body(top),
            None => {
                drop(shard);
                body(&mut lock(&self.outside))
            }
        }
    }

    /// What this thread's innermost scope has counted so far; without a scope, what all threads
    /// have outside of theirs.
    pub fn counters(&self) -> ScopeCounters {
        self.with_top(|top| *top)
    }

    /// How many scopes this thread has open.
    pub fn depth(&self) -> usize {
        let thread = thread_number();
        self.shard(thread)
            .get(&thread)
            .map_or(0, |scopes| scopes.len())
    }

    /// Begins a scope on this thread, counting from zero, and says what the one around it has
    /// counted so far.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) when there is no memory for its 48 bytes; no
    /// scope has then begun.
    pub fn push(&self) -> Result<ScopeCounters> {
        let around = self.counters();
        let thread = thread_number();
        let mut shard = self.shard(thread);
        let has_room = shard.try_reserve(1).is_ok()
            && shard
                .entry(thread)
                .or_insert_with(|| Scopes::new_in(Unhooked))
                .try_reserve(1)
                .is_ok();
        if has_room && let Some(scopes) = shard.get_mut(&thread) {
            scopes.push(ScopeCounters::default());
            return Ok(around);
        }
        if shard.get(&thread).is_some_and(|scopes| scopes.is_empty()) {
            shard.remove(&thread);
        }
        drop(shard);
        let size = size_of::<ScopeCounters>() as u64;
        Err(Error::allocator_refused(size, 0, "scopes".to_owned()))
    }

    /// Ends this thread's innermost scope, adds what it counted to the one around it, and says it.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when this thread has no scope open.
    pub fn pop(&self) -> Result<ScopeCounters> {
        let thread = thread_number();
        let mut shard = self.shard(thread);
        let scopes = shard.get_mut(&thread);
        let Some((counted, scopes)) = scopes.and_then(|scopes| Some((scopes.pop()?, scopes)))
        else {
            drop(shard);
            return Err(Error::invalid_argument(
                "pop",
                "one more",
                "called once for each push of the same thread",
            ));
        };
        if let Some(around) = scopes.last_mut() {
            around.add_inner(counted);
            return Ok(counted);
        }
        // A thread without scopes takes no memory: it may end.
        shard.remove(&thread);
        drop(shard);
        lock(&self.outside).add_inner(counted);
        Ok(counted)
    }

    /// What `body` allocates on this thread: runs it in a scope, which also a panic ends.
    ///
    /// # Errors
    /// As [`push`](Self::push); `body` is then not run.
    pub fn measure<R>(&self, body: impl FnOnce() -> R) -> Result<(R, ScopeCounters)> {
        struct Scope<'a>(Option<&'a ScopedStatistics>);
        impl Drop for Scope<'_> {
            fn drop(&mut self) {
                if let Some(scopes) = self.0 {
                    drop(scopes.pop());
                }
            }
        }
        self.push()?;
        let mut scope = Scope(Some(self));
        let result = body();
        scope.0 = None;
        Ok((result, self.pop()?))
    }
}

impl Hook for ScopedStatistics {
    fn before(&self, request: &Request, _pool: &Pool) -> Result<()> {
        // Before the memory may be another thread's, so that a value never exceeds what is held.
        if matches!(request, Request::Free { .. }) {
            self.with_top(|top| top.count(request));
        }
        Ok(())
    }

    fn after(&self, request: &Request, answer: Result<Option<NonNull<u8>>, &Error>) {
        if answer.is_ok() && !matches!(request, Request::Free { .. }) {
            self.with_top(|top| top.count(request));
        }
    }
}

impl fmt::Debug for ScopedStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedStatistics")
            .field("outside", &*lock(&self.outside))
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool over this one that says what a stretch of a thread's work allocated: see
    /// [`scopes`](Self::scopes). Requests of zero bytes are not counted. Cost: one or two locks a
    /// request, some 50 ns.
    ///
    /// ```
    /// use offheap::{MutableBuffer, default_memory_pool};
    ///
    /// let pool = default_memory_pool().scoped_statistics();
    /// let scopes = pool.scopes().unwrap();
    /// let (kept, counted) = scopes.measure(|| {
    ///     drop(MutableBuffer::zeroed(1000, &pool));
    ///     MutableBuffer::zeroed(10, &pool)
    /// })?;
    /// assert_eq!((counted.bytes.value, counted.bytes.peak, counted.bytes.total), (10, 1000, 1010));
    /// assert_eq!(counted.allocations.total, 2);
    /// # drop(kept);
    /// # Ok::<(), offheap::Error>(())
    /// ```
    #[must_use]
    pub fn scoped_statistics(&self) -> Self {
        self.hooked(Arc::new(ScopedStatistics::default()), "scopes")
    }

    /// The outermost scopes that requests of this pool pass.
    pub fn scopes(&self) -> Option<Arc<ScopedStatistics>> {
        self.find_hook()
    }
}

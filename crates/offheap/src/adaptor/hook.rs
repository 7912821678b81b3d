//! Pools whose every request a hook sees, and may refuse.
//!
//! ```text
//!   pool.hook(a).hook(b):   b.before → a.before → the allocator → a.after → b.after
//! ```

use crate::alignment::Alignment;
use crate::error::{Error, Result};
use crate::pool::{BackendStatistics, MemoryPool, Notice, Padding, Pool};
use std::any::Any;
use std::cell::Cell;
use std::fmt::Debug;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One request on its way to the allocator. Sizes are in bytes, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// A new block.
    Allocate {
        /// Its size.
        size: usize,
        /// What its address will be a multiple of.
        alignment: Alignment,
        /// Whether it will be all zero.
        zeroed: bool,
    },
    /// Another size for a block.
    Reallocate {
        /// The block.
        ptr: NonNull<u8>,
        /// Its size so far.
        old_size: usize,
        /// The size asked for.
        new_size: usize,
        /// Its alignment.
        alignment: Alignment,
    },
    /// The end of a block.
    Free {
        /// The block.
        ptr: NonNull<u8>,
        /// Its size.
        size: usize,
        /// Its alignment.
        alignment: Alignment,
    },
}

// SAFETY: a request only names addresses; nobody may use them through it.
unsafe impl Send for Request {}
// SAFETY: as above.
unsafe impl Sync for Request {}

impl Request {
    /// Bytes that the request adds: what a refusal reports as requested.
    pub fn requested(&self) -> usize {
        match *self {
            Self::Allocate { size, .. } => size,
            Self::Reallocate {
                old_size, new_size, ..
            } => new_size.saturating_sub(old_size),
            Self::Free { .. } => 0,
        }
    }
}

/// Sees the requests of the pools that it was put over by [`Pool::hook`] (PEP 445's "hooks over
/// everything", without pointers to get wrong).
///
/// Calls come from every thread that uses the pool, at any time. A hook that uses a pool that it
/// hooks itself is not called for that again (on the same thread); one that panics is reported once
/// on stderr and the request goes on. Requests of zero bytes need no memory and reach no hook.
///
/// `before` and `after` of one request run on one thread. Of a free and of a reallocation, `before`
/// comes while the old block is still whole: after it, another thread may be given the same address.
pub trait Hook: Any + Send + Sync + Debug {
    /// Before the allocator is asked.
    ///
    /// # Errors
    /// What the caller of the pool is told; the request then ends here. The answer to a free is
    /// ignored.
    fn before(&self, _request: &Request, _pool: &Pool) -> Result<()> {
        Ok(())
    }

    /// After the allocator answered, with the new block of an allocation or reallocation (a free's
    /// `None`), or that it failed.
    fn after(&self, _request: &Request, _answer: Result<Option<NonNull<u8>>, &Error>) {}

    /// What happened to a live block beside.
    fn notice(&self, _ptr: NonNull<u8>, _size: usize, _notice: Notice) {}
}

/// A pool's memory with a [`Hook`] in front of it.
#[derive(Debug)]
pub(crate) struct Hooked {
    upstream: Pool,
    hook: Arc<dyn Hook>,
    has_panicked: AtomicBool,
    is_retired: AtomicBool,
}

thread_local! {
    /// The innermost of this thread's running hooks.
    static RUNNING: Cell<Option<NonNull<Running>>> = const { Cell::new(None) };
}

/// A hook that runs on this thread; a list on the stack, so that it needs no memory.
struct Running {
    hook: *const (),
    outer: Option<NonNull<Running>>,
}

fn is_running(hook: *const ()) -> bool {
    let mut next = RUNNING.get();
    while let Some(running) = next {
        // SAFETY: an entry lives on the stack of `run`, below us, which unlinks it before it goes.
        let running = unsafe { running.as_ref() };
        if running.hook == hook {
            return true;
        }
        next = running.outer;
    }
    false
}

/// An address on the stack between the innermost hook that runs on this thread and the request that
/// it sees; 0 when none runs. Frames below are ours.
pub(super) fn running_mark() -> usize {
    RUNNING.get().map_or(0, |running| running.addr().get())
}

/// Unlinks the innermost entry, also when the hook panics.
struct Unlink(Option<NonNull<Running>>);

impl Drop for Unlink {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

impl Hooked {
    /// Puts `hook` over `upstream`.
    pub(crate) fn new(upstream: Pool, hook: Arc<dyn Hook>) -> Self {
        Self {
            upstream,
            hook,
            has_panicked: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
        }
    }

    /// Says that the hook is to come off where it lies under another one, once that goes.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    pub(crate) fn hook(&self) -> &Arc<dyn Hook> {
        &self.hook
    }

    /// Calls the hook, unless it runs on this thread already; a panic is reported and answered with
    /// `None`.
    fn run<T>(&self, call: impl FnOnce(&dyn Hook) -> T) -> Option<T> {
        let id = Arc::as_ptr(&self.hook).cast::<()>();
        if is_running(id) {
            return None;
        }
        let outer = RUNNING.get();
        let running = Running { hook: id, outer };
        RUNNING.set(Some(NonNull::from(&running)));
        let unlink = Unlink(outer);
        let result = catch_unwind(AssertUnwindSafe(|| call(&*self.hook)));
        drop(unlink);
        match result {
            Ok(value) => Some(value),
            Err(payload) => {
                if !self.has_panicked.swap(true, Ordering::Relaxed) {
                    // Where stderr is gone there is nobody to tell.
                    drop(writeln!(
                        std::io::stderr(),
                        "offheap: a hook over pool '{}' panicked; its requests go on without it",
                        self.upstream.name()
                    ));
                }
                // Dropping a payload may panic again: that of a plain message cannot.
                std::mem::forget(payload);
                None
            }
        }
    }

    fn before(&self, request: &Request) -> Result<()> {
        self.run(|hook| hook.before(request, &self.upstream))
            .unwrap_or(Ok(()))
    }

    fn answered(&self, request: &Request, answer: Result<NonNull<u8>>) -> Result<NonNull<u8>> {
        self.run(|hook| hook.after(request, answer.as_ref().map(|ptr| Some(*ptr))));
        answer
    }

    fn make(&self, size: usize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>> {
        let request = Request::Allocate {
            size,
            alignment,
            zeroed,
        };
        self.before(&request)?;
        let answer = self.upstream.allocate_on_device(size, alignment, zeroed);
        self.answered(&request, answer)
    }
}

// SAFETY: every block is the upstream pool's, which keeps the promises.
unsafe impl MemoryPool for Hooked {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.make(size, alignment, false)
    }

    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.make(size, alignment, true)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        let request = Request::Reallocate {
            ptr,
            old_size,
            new_size,
            alignment,
        };
        self.before(&request)?;
        // SAFETY: the caller's promise; the block is the upstream's.
        let answer = unsafe { self.upstream.reallocate(ptr, old_size, new_size, alignment) };
        self.answered(&request, answer)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { self.free_checked(ptr, size, alignment, &mut Some(size)) };
    }

    unsafe fn free_checked(
        &self,
        ptr: NonNull<u8>,
        size: usize,
        alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        let request = Request::Free {
            ptr,
            size,
            alignment,
        };
        // A free cannot be refused.
        drop(self.before(&request));
        // SAFETY: the caller's promise; the block is the upstream's.
        unsafe { MemoryPool::free_checked(&self.upstream, ptr, size, alignment, freed) };
        self.run(|hook| hook.after(&request, Ok(None)));
    }

    unsafe fn park(&self, ptr: NonNull<u8>, size: usize) {
        self.run(|hook| hook.notice(ptr, size, Notice::Parked));
        // SAFETY: the caller's promise; the block is the upstream's.
        unsafe { self.upstream.park(ptr, size) };
    }

    unsafe fn free_parked(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        let request = Request::Free {
            ptr,
            size,
            alignment,
        };
        // A free cannot be refused.
        drop(self.before(&request));
        // SAFETY: the caller's promise; the block is the upstream's.
        unsafe { self.upstream.free_parked(ptr, size, alignment) };
        self.run(|hook| hook.after(&request, Ok(None)));
    }

    fn padding(&self) -> Padding {
        MemoryPool::padding(&self.upstream)
    }

    fn upstream(&self) -> Option<&Pool> {
        Some(&self.upstream)
    }

    fn notice(&self, ptr: NonNull<u8>, size: usize, notice: Notice) {
        self.run(|hook| hook.notice(ptr, size, notice));
        self.upstream.notice(ptr, size, notice);
    }

    fn backend_name(&self) -> &str {
        self.upstream.backend_name()
    }

    fn release_unused(&self) {
        self.upstream.release_unused();
    }

    fn print_stats(&self) {
        self.upstream.print_stats();
    }

    fn backend_statistics(&self) -> BackendStatistics {
        self.upstream.backend_statistics()
    }
}

impl Pool {
    /// A pool over this one that tells `hook` of every request before and after it. Hooks stack:
    /// the one put on last is asked first.
    ///
    /// Cost: two virtual calls and two guards against re-entrance a request, some 10 ns, and what
    /// the hook itself does.
    ///
    /// ```
    /// use offheap::{Alignment, Hook, Pool, Request, Result};
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    ///
    /// #[derive(Debug, Default)]
    /// struct Largest(AtomicU64);
    ///
    /// impl Hook for Largest {
    ///     fn before(&self, request: &Request, _pool: &Pool) -> Result<()> {
    ///         self.0.fetch_max(request.requested() as u64, Ordering::Relaxed);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let largest = Arc::new(Largest::default());
    /// let pool = offheap::default_memory_pool().hook(largest.clone());
    /// drop(offheap::MutableBuffer::zeroed(1000, &pool)?);
    /// assert_eq!(largest.0.load(Ordering::Relaxed), 1000);
    /// # Ok::<(), offheap::Error>(())
    /// ```
    pub fn hook(&self, hook: Arc<dyn Hook>) -> Self {
        self.hooked(hook, "hook")
    }

    /// As [`hook`](Self::hook), with the adaptor's own word for the pool's name.
    pub(crate) fn hooked(&self, hook: Arc<dyn Hook>, kind: &'static str) -> Self {
        Self::adapted(Hooked::new(self.clone(), hook), kind)
    }

    /// The outermost hook of type `H` that requests of this pool pass.
    pub fn find_hook<H: Hook>(&self) -> Option<Arc<H>> {
        self.sources().find_map(|source| {
            let source: &dyn Any = source;
            let hook: Arc<dyn Any + Send + Sync> = source.downcast_ref::<Hooked>()?.hook().clone();
            hook.downcast::<H>().ok()
        })
    }
}

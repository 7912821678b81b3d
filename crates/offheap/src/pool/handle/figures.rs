//! What a pool says of itself: its figures, its names, what it is made of, and what is left when it
//! is closed.

use super::{Base, CLOSED, Pool};
use crate::error::{Error, Result};
use crate::pool::backend::BackendStatistics;
use crate::pool::memory_pool::MemoryPool;
use crate::pool::statistics::{LeakReport, Statistics};
use std::any::Any;
use std::sync::atomic::Ordering;

impl Pool {
    /// Bytes in live allocations, as asked for.
    pub fn bytes_allocated(&self) -> u64 {
        self.core().account.snapshot().bytes
    }

    /// The most that [`bytes_allocated`](Self::bytes_allocated) has been (Arrow's `max_memory`).
    pub fn peak_bytes(&self) -> u64 {
        self.core().account.snapshot().peak
    }

    /// Bytes ever allocated; growth adds its difference.
    pub fn total_bytes_allocated(&self) -> u64 {
        self.core().account.snapshot().total
    }

    /// Allocations and growing reallocations.
    pub fn num_allocations(&self) -> u64 {
        self.core().account.snapshot().num_allocations
    }

    /// Allocations that were not freed.
    pub fn live_allocations(&self) -> u64 {
        self.core().account.snapshot().live
    }

    /// This pool's own limit in bytes.
    pub fn limit_bytes(&self) -> Option<u64> {
        self.core().account.limit()
    }

    /// Bytes that can still be had under every limit of the chain; `None` without one.
    pub fn available(&self) -> Option<u64> {
        self.chain()
            .filter_map(|core| core.account.available())
            .min()
    }

    /// All figures at once.
    pub fn statistics(&self) -> Statistics {
        let now = self.core().account.snapshot();
        Statistics {
            bytes_allocated: now.bytes,
            peak_bytes: now.peak,
            total_bytes_allocated: now.total,
            num_allocations: now.num_allocations,
            live_allocations: now.live,
            parked_bytes: now.parked,
            limit_bytes: self.limit_bytes(),
            available: self.available(),
            backend: self.backend_statistics(),
        }
    }

    /// What the allocator underneath tells about itself. Cost: up to some milliseconds (jemalloc
    /// merges its threads' figures).
    pub fn backend_statistics(&self) -> BackendStatistics {
        match &self.core().base {
            Base::Backend(backend) => backend.statistics(),
            Base::Custom(source) => source.backend_statistics(),
        }
    }

    /// Starts [`peak_bytes`](Self::peak_bytes) anew from the bytes held now.
    pub fn reset_peak(&self) {
        self.core().account.reset_peak();
    }

    /// Gives the allocator's unused memory back to the system, for every pool over it, and the cached
    /// large blocks.
    ///
    /// mimalloc's heaps can be swept by their own threads only: this call sweeps the calling thread's,
    /// those of threads that have ended, and what other threads handed back; it wakes the event loops
    /// that were [registered](crate::ThreadCollector) to sweep theirs, and other threads do when they
    /// next free something worth telling. Cost: 60 us when there is nothing, some milliseconds and more for
    /// hundreds of MiB.
    pub fn release_unused(&self) {
        match &self.core().base {
            Base::Backend(backend) => backend.release_unused(),
            Base::Custom(source) => source.release_unused(),
        }
    }

    /// Prints the allocator's own statistics to stderr.
    pub fn print_stats(&self) {
        match &self.core().base {
            Base::Backend(backend) => backend.print_stats(),
            Base::Custom(source) => source.print_stats(),
        }
    }

    /// The name of the allocator underneath: `mimalloc`, `jemalloc`, `system`, or a custom one.
    pub fn backend_name(&self) -> &str {
        match &self.core().base {
            Base::Backend(backend) => backend.name(),
            Base::Custom(source) => source.backend_name(),
        }
    }

    /// The pool's own name, which errors and reports give.
    pub fn name(&self) -> &str {
        &self.core().name
    }

    /// The name that pools over this one are called after.
    #[cfg(feature = "hooks")]
    pub(crate) fn given_name(&self) -> &str {
        &self.core().given_name
    }

    /// The pool that this one counts into: a limit's or a proxy's parent, an adaptor's upstream.
    pub fn parent(&self) -> Option<&Pool> {
        match (&self.core().parent, &self.core().base) {
            (Some(parent), _) => Some(parent),
            (None, Base::Custom(source)) => source.upstream(),
            (None, Base::Backend(_)) => None,
        }
    }

    /// The nearest source of type `T` that every request of this pool passes: what a device's crate needs to
    /// know its own pool under limits and adaptors.
    pub fn find_source<T: MemoryPool>(&self) -> Option<&T> {
        self.sources().find_map(|source| {
            let source: &dyn Any = source;
            source.downcast_ref()
        })
    }

    /// The sources that every request of this pool passes, the outermost first.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &dyn MemoryPool> {
        std::iter::successors(self.source(), |source| source.upstream()?.source())
    }

    /// The source of type `T` that this pool, and none over it, is made of.
    pub(crate) fn own_source<T: MemoryPool>(&self) -> Option<&T> {
        match (&self.core().parent, &self.core().base) {
            (None, Base::Custom(source)) => {
                let source: &dyn Any = &**source;
                source.downcast_ref()
            }
            _ => None,
        }
    }

    fn source(&self) -> Option<&dyn MemoryPool> {
        match &self.core().base {
            Base::Custom(source) => Some(&**source),
            Base::Backend(_) => None,
        }
    }

    /// Whether two handles are of one pool.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.core == other.core
    }

    /// A number that two handles share only if they are of one pool, while either lives.
    pub fn key(&self) -> usize {
        self.core.addr().get()
    }

    /// The name of a pool of the chain that was closed.
    pub(crate) fn closed_name(&self) -> Option<&str> {
        self.lineage()
            .find(|pool| pool.is_closed())
            .map(|pool| pool.name())
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.core().closed.load(Ordering::Acquire)
    }

    /// Refuses later allocations, also of pools that count into this one, and says what is alive
    /// (see [`leak_report`](Self::leak_report)).
    /// Live buffers stay valid. Closing twice reports anew.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a backend's own pool or the default
    /// pool, which others rely on.
    pub fn close(&self) -> Result<LeakReport> {
        // Nor a pool that the default counts into. The default cannot change meanwhile.
        let closes = !self.is_static()
            && crate::pool::default::with_default(|default| {
                let closes = !default.lineage().any(|pool| pool.ptr_eq(self));
                if closes {
                    // Counted first: who sees a closed pool looks for it.
                    CLOSED.fetch_add(1, Ordering::AcqRel);
                    if self.core().closed.swap(true, Ordering::AcqRel) {
                        CLOSED.fetch_sub(1, Ordering::AcqRel);
                    }
                }
                closes
            });
        if !closes {
            return Err(Error::invalid_argument(
                "pool",
                format_args!("'{}'", self.name()),
                "neither a backend's own pool nor one that the default pool relies on",
            ));
        }
        Ok(self.leak_report())
    }

    /// What is alive now, as [`close`](Self::close) says, without closing. Where requests of this
    /// pool pass a tracker, the places are listed, those of everything that goes through the
    /// tracker: a limit over a tracked pool lists its siblings' blocks, too. Track the limit to see
    /// its own.
    pub fn leak_report(&self) -> LeakReport {
        let now = self.core().account.snapshot();
        #[cfg_attr(not(feature = "hooks"), expect(unused_mut, reason = "no trackers"))]
        let mut report = LeakReport::new(self.name().to_owned(), now.bytes, now.live);
        #[cfg(feature = "hooks")]
        if let Some(tracker) = self.tracker() {
            tracker.fill(&mut report);
        }
        report
    }
}

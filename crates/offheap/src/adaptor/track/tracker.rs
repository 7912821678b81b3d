//! The hook that keeps a table of live blocks.

use super::allocation::Allocation;
use super::forgotten::Forgotten;
use super::options::TrackOptions;
use super::site::{Place, Site, Sum};
use super::table::{Copied, Entry, Table};
use crate::adaptor::at_exit::{AtExit, at_exit};
use crate::adaptor::hook::{Hook, Request, running_mark};
use crate::alignment::Alignment;
use crate::error::{Error, Result};
use crate::origin::{Origin, thread_number};
use crate::pool::{LeakReport, Notice, Pool};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::io::Write;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// The live blocks of a tracked pool, with their origins (RMM's `tracking_resource_adaptor`,
/// CPython's `tracemalloc`): see [`Pool::track`].
pub struct Tracker {
    options: TrackOptions,
    /// The tracked pool's name.
    pool: OnceLock<String>,
    table: Table,
    forgotten: Forgotten,
    next_serial: AtomicU64,
    untracked_blocks: AtomicU64,
    untracked_frees: AtomicU64,
}

impl Tracker {
    fn new(options: TrackOptions) -> Self {
        Self {
            options,
            pool: OnceLock::new(),
            table: Table::new(),
            forgotten: Forgotten::new(),
            next_serial: AtomicU64::new(1),
            untracked_blocks: AtomicU64::new(0),
            untracked_frees: AtomicU64::new(0),
        }
    }

    /// How this tracker tracks.
    pub fn options(&self) -> TrackOptions {
        self.options
    }

    /// All live blocks, parked ones included, in the order of their allocation. Cost: a copy of the
    /// table, shard by shard, so that allocations go on meanwhile.
    pub fn live(&self) -> Vec<Allocation> {
        let copy = self.table.copy();
        let mut live: Vec<_> = copy
            .iter()
            .map(|(address, entry)| {
                Allocation::of(*address, entry, self.options.foreign_stack_depth)
            })
            .collect();
        live.sort_unstable_by_key(|allocation| allocation.serial);
        live
    }

    /// The live block that `address` lies in (`tracemalloc.get_object_traceback`). Cost: a table
    /// lookup for a block's first byte, a walk over all blocks for others.
    pub fn find(&self, address: usize) -> Option<Allocation> {
        let (start, entry) = self.table.find(address)?;
        Some(Allocation::of(
            start,
            &entry,
            self.options.foreign_stack_depth,
        ))
    }

    /// Bytes in live blocks, without parked ones.
    pub fn live_bytes(&self) -> u64 {
        self.table.held().0.bytes
    }

    /// How many blocks are alive, without parked ones.
    pub fn live_count(&self) -> u64 {
        self.table.held().0.blocks
    }

    /// Bytes that were given back while their memory waits for work in flight.
    pub fn parked_bytes(&self) -> u64 {
        self.table.held().1.bytes
    }

    /// How many blocks are parked.
    pub fn parked_count(&self) -> u64 {
        self.table.held().1.blocks
    }

    /// The live blocks, without parked ones, summed by the place that they came from; the most bytes
    /// first.
    pub fn sites(&self) -> Vec<Site> {
        summed(&self.table.copy(), self.options.foreign_stack_depth)
    }

    /// What a garbage collector freed because nobody disposed of it, by place, since the tracker was
    /// made. At most 4096 places are told apart; later ones are summed up as one without frames.
    pub fn forgotten(&self) -> Vec<Site> {
        self.forgotten.sites()
    }

    /// Blocks that could not be listed for lack of memory. They work as others do.
    pub fn untracked_blocks(&self) -> u64 {
        self.untracked_blocks.load(Ordering::Relaxed)
    }

    /// Frees of blocks that are not in the table: from before the tracker, or of another pool.
    pub fn untracked_frees(&self) -> u64 {
        self.untracked_frees.load(Ordering::Relaxed)
    }

    /// What is alive and what was forgotten, to be printed.
    pub fn report(&self) -> LeakReport {
        let held = self.table.held().0;
        let mut report = LeakReport::new(self.pool_name().to_owned(), held.bytes, held.blocks);
        self.fill(&mut report);
        report
    }

    /// Adds the places to a pool's report.
    pub(crate) fn fill(&self, report: &mut LeakReport) {
        report.sites = self.sites();
        report.forgotten = self.forgotten();
    }

    fn pool_name(&self) -> &str {
        self.pool.get().map_or("", String::as_str)
    }

    fn track(&self, block: NonNull<u8>, entry: Entry) {
        match self.table.insert(block.addr().get(), entry) {
            Ok(replaced) => drop(replaced),
            Err(entry) => {
                self.untracked_blocks.fetch_add(1, Ordering::Relaxed);
                drop(entry);
            }
        }
    }

    fn allocated(&self, block: NonNull<u8>, size: usize, alignment: Alignment) {
        let entry = Entry {
            size,
            alignment,
            serial: self.next_serial.fetch_add(1, Ordering::Relaxed),
            origin: Origin::capture_above(running_mark(), self.options.stack_depth),
            parked: false,
            forgotten: false,
        };
        self.track(block, entry);
    }

    fn freed(&self, block: NonNull<u8>) {
        let Some(entry) = self.table.remove(block.addr().get(), thread_number()) else {
            self.untracked_frees.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if entry.forgotten {
            let sum = Sum::of_one(entry.size as u64, entry.origin.time);
            self.forgotten
                .add(place(&entry, self.options.foreign_stack_depth), sum);
        }
    }

    fn moves(&self, block: NonNull<u8>) {
        match self.table.start_move(block.addr().get(), thread_number()) {
            Ok(never_ended) => drop(never_ended),
            Err(Some(no_memory)) => {
                self.untracked_blocks.fetch_add(1, Ordering::Relaxed);
                drop(no_memory);
            }
            // Not listed before, so not after.
            Err(None) => {}
        }
    }

    fn moved(&self, old: NonNull<u8>, new: Option<(NonNull<u8>, usize)>) {
        let Some(entry) = self.table.end_move(old.addr().get(), thread_number()) else {
            return;
        };
        match new {
            Some((block, size)) => self.track(block, Entry { size, ..entry }),
            None => self.track(old, entry),
        }
    }
}

fn place(entry: &Entry, foreign_depth: usize) -> Place {
    Place {
        native: entry.origin.native,
        foreign: entry.origin.foreign_frames(foreign_depth),
        tags: entry.origin.all_tags(),
    }
}

fn summed(blocks: &Copied, foreign_depth: usize) -> Vec<Site> {
    let mut sums: HashMap<Place, Sum> = HashMap::new();
    for (_, entry) in blocks.iter().filter(|(_, entry)| !entry.parked) {
        let one = Sum::of_one(entry.size as u64, entry.origin.time);
        match sums.entry(place(entry, foreign_depth)) {
            Slot::Occupied(mut sum) => sum.get_mut().add(one),
            Slot::Vacant(slot) => {
                slot.insert(one);
            }
        }
    }
    let mut sites: Vec<_> = sums
        .into_iter()
        .map(|(place, sum)| Site::new(place, sum))
        .collect();
    Site::sort(&mut sites);
    sites
}

impl Hook for Tracker {
    fn before(&self, request: &Request, _pool: &Pool) -> Result<()> {
        match *request {
            Request::Allocate { .. } => {}
            Request::Reallocate { ptr, .. } => self.moves(ptr),
            // Once the block is free, another thread may be given its address.
            Request::Free { ptr, .. } => self.freed(ptr),
        }
        Ok(())
    }

    fn after(&self, request: &Request, answer: Result<Option<NonNull<u8>>, &Error>) {
        let block = answer.ok().flatten();
        match *request {
            Request::Allocate {
                size, alignment, ..
            } => {
                if let Some(block) = block {
                    self.allocated(block, size, alignment);
                }
            }
            Request::Reallocate { ptr, new_size, .. } => {
                self.moved(ptr, block.map(|block| (block, new_size)));
            }
            Request::Free { .. } => {}
        }
    }

    fn notice(&self, ptr: NonNull<u8>, _size: usize, notice: Notice) {
        match notice {
            Notice::Parked => {
                self.table.park(ptr.addr().get());
            }
            Notice::Forgotten => {
                self.table.forget(ptr.addr().get());
            }
            Notice::Sealed | Notice::Unsealed | Notice::Ended => {}
        }
    }
}

impl AtExit for Tracker {
    fn at_exit(&self) {
        let report = self.report();
        if !report.is_empty() {
            // Where stderr is gone there is nobody to tell.
            drop(writeln!(std::io::stderr(), "offheap: at exit, {report}"));
        }
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("pool", &self.pool_name())
            .field("options", &self.options)
            .field("live_count", &self.live_count())
            .field("live_bytes", &self.live_bytes())
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool over this one that knows every live block and where it came from (RMM's
    /// `tracking_resource_adaptor`, CPython's `tracemalloc`): see [`tracker`](Self::tracker). A
    /// [`LeakReport`] of the pool, or of pools over it, then lists the places.
    ///
    /// With debug hooks, track over them (`pool.debug(…).track(…)`): a tracker below them sees their
    /// guards as part of a block, what their quarantine holds as alive, and no notices.
    ///
    /// Blocks of zero bytes are not tracked. Cost: 1 to 4 us for an allocation's 16 native frames,
    /// some 100 ns without frames, a lock and a table lookup for a free, and some 150 bytes for each
    /// live block.
    ///
    /// ```
    /// use offheap::{MutableBuffer, TrackOptions, default_memory_pool};
    ///
    /// let pool = default_memory_pool().track(TrackOptions::default());
    /// let tracker = pool.tracker().unwrap();
    /// let buffer = MutableBuffer::zeroed(1000, &pool)?;
    /// let found = tracker.find(buffer.as_ptr() as usize + 10).unwrap();
    /// assert_eq!((found.size, found.serial), (1000, 1));
    /// assert_eq!(tracker.sites()[0].bytes, 1000);
    /// println!("{}", pool.leak_report());
    /// drop(buffer);
    /// assert_eq!(tracker.live_count(), 0);
    /// # Ok::<(), offheap::Error>(())
    /// ```
    #[must_use]
    pub fn track(&self, options: TrackOptions) -> Self {
        let tracker = Arc::new(Tracker::new(options));
        let pool = self.hooked(tracker.clone(), "track");
        drop(tracker.pool.set(pool.name().to_owned()));
        if options.report_at_exit {
            let weak = Arc::downgrade(&tracker);
            at_exit(weak as Weak<dyn AtExit>);
        }
        pool
    }

    /// The outermost tracker that requests of this pool pass.
    pub fn tracker(&self) -> Option<Arc<Tracker>> {
        self.find_hook()
    }
}

//! One pool's counters and its limit.
//!
//! ```text
//!   limit 'query' ──▶ proxy 'tenant' ──▶ limit 'process' ──▶ backend 'mimalloc'     accounts
//!      shard ───────────▶ shard ───────────▶ shard ─────────────▶ shard             this thread's
//!   reserve: the leases of 'query' and 'process', both or neither
//!   allocate: the backend, once
//!   commit: bytes, peak, total, allocations of all four
//! ```
//!
//! Every thread that uses a pool leases some of its bytes, and counts in a [`Shard`] of its own with
//! plain loads and stores; the words that all share are only touched when a lease is used up or has
//! grown too large. A thread finds its shard by its thread pointer, and from there those of the pools
//! above: one look-up for the whole chain.
//!
//! A limit is exact both ways. Bytes are *reserved* before the backend is asked and *committed* after
//! it answered, so a refusal of either leaves every statistic as it was. Before a limit refuses, it
//! takes the leases of all other threads back (see `slow.rs`): nothing is refused while bytes are
//! free. In a chain with two limits or more, inner limits are only ever raised together with the
//! outer ones, or under the outermost one's lock: a request that an outer limit refuses never shows
//! up in an inner one, not even for a moment.
//!
//! The peak is exact while one thread uses the pool. With several it is never less than the truth, and
//! at most two quanta more for each other thread, plus what others have asked for at that moment and
//! then not got.

use super::global::Global;
use super::shard::{COUNTS, Kind, Shard, leasable};
use super::snapshot::Snapshot;
use super::table::Table;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, thread_key};
use std::ptr::{self, NonNull};

/// No limit.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// Counters and limit of one pool.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Account {
    /// The key of the thread that `home` is leased to, or zero. This line is written seldom: every
    /// thread reads it.
    pub(super) home_owner: AtomicUsize,
    pub(super) table: AtomicPtr<Table>,
    pub(super) limit: u64,
    /// The account that this one counts into, too.
    parent: *const Account,
    /// Whether figures of this account or a limit above need shards.
    counted: bool,
    /// Its number among those that are told of threads' ends.
    pub(super) id: AtomicU64,
    /// Told of bytes given back, now and then.
    pub(super) on_moved: Option<fn(i64)>,
    pub(super) home: Shard,
    pub(super) global: Global,
}

// SAFETY: the parent is only read, and lives longer (`child`); everything else is atomic or locked.
unsafe impl Send for Account {}
// SAFETY: as above.
unsafe impl Sync for Account {}

impl Account {
    crate::sync::const_fn! {
        /// An account with a limit ([`UNLIMITED`] for none).
        pub(crate) fn new(limit: u64) -> Self {
            Self {
                home_owner: AtomicUsize::new(0),
                table: AtomicPtr::new(ptr::null_mut()),
                limit,
                parent: ptr::null(),
                counted: COUNTS || limit != UNLIMITED,
                id: AtomicU64::new(0),
                on_moved: None,
                home: Shard::new(),
                global: Global::new(),
            }
        }
    }

    crate::sync::const_fn! {
        /// An unlimited account that tells how much a thread took or, negative, gave back, now and then:
        /// whenever a lease has run out or grown too large.
        pub(crate) fn telling(on_moved: fn(i64)) -> Self {
            let mut account = Self::new(UNLIMITED);
            account.on_moved = Some(on_moved);
            account
        }
    }

    /// An account that counts into `parent`, too.
    ///
    /// # Safety
    /// - `parent` stays where it is until this account was [retired](Self::retire).
    pub(crate) unsafe fn child(limit: u64, parent: &Self) -> Self {
        let mut account = Self::new(limit);
        account.counted |= parent.counted;
        account.parent = parent;
        account
    }

    #[inline]
    pub(super) fn parent(&self) -> Option<&Self> {
        // SAFETY: null, or as `child`'s caller promised.
        unsafe { self.parent.as_ref() }
    }

    /// This account and those above.
    pub(super) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |account| account.parent())
    }

    /// The limits of the chain, innermost first.
    pub(super) fn limits(&self) -> impl Iterator<Item = &Self> {
        self.chain().filter(|account| account.limit != UNLIMITED)
    }

    /// Whether there is anything to count.
    #[inline(always)]
    pub(crate) fn is_counted(&self) -> bool {
        COUNTS || self.counted
    }

    /// The limit in bytes.
    #[inline]
    pub(crate) fn limit(&self) -> Option<u64> {
        (self.limit != UNLIMITED).then_some(self.limit)
    }

    /// This thread's shard, if it has one.
    #[inline(always)]
    pub(crate) fn mine(&self) -> Option<&Shard> {
        let key = thread_key();
        if self.home_owner.load(Ordering::Relaxed) == key {
            return Some(&self.home);
        }
        self.mine_in_table(key)
    }

    /// Apart, so that the way of the first thread is short enough to be inlined.
    #[inline(never)]
    fn mine_in_table(&self, key: usize) -> Option<&Shard> {
        self.table()?.find(key)
    }

    #[inline]
    pub(super) fn table(&self) -> Option<&Table> {
        // SAFETY: null, or a table that stays until the account ends.
        unsafe { self.table.load(Ordering::Acquire).as_ref() }
    }

    /// The shards that have owners. The lock is held.
    pub(super) fn claimed(&self) -> impl Iterator<Item = &Shard> {
        let home = self.home_owner.load(Ordering::Relaxed) != 0;
        home.then_some(&self.home)
            .into_iter()
            .chain(self.table().into_iter().flat_map(Table::claimed))
    }

    /// Reserves `n` bytes under every limit of the chain, or under none.
    ///
    /// # Errors
    /// The account whose limit refused.
    #[inline]
    pub(crate) fn reserve(&self, n: u64) -> Result<(), &Self> {
        if let (Some(small), Some(shard)) = (leasable(n), self.mine_or_claim())
            && shard.reserve(small)
        {
            return Ok(());
        }
        self.reserve_slowly(n)
    }

    /// Takes back what [`reserve`](Self::reserve) gave.
    pub(crate) fn unreserve(&self, n: u64) {
        match (leasable(n), self.mine_or_claim()) {
            (Some(n), Some(shard)) => shard.unreserve(n),
            _ => self
                .limits()
                .for_each(|account| account.give_slowly(None, n, false)),
        }
    }

    fn commit(&self, n: u64, kind: Kind) {
        if !COUNTS {
            return;
        }
        if let (Some(n), Some(shard)) = (leasable(n), self.mine_or_claim()) {
            return shard.commit(n, kind);
        }
        for account in self.chain() {
            let global = &account.global;
            if account.limit == UNLIMITED {
                global.reserved.fetch_add(n, Ordering::Relaxed);
            }
            let count = match kind {
                Kind::Block => &global.allocations,
                Kind::Part => &global.growths,
            };
            global.total.fetch_add(n, Ordering::Relaxed);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn give(&self, n: u64, kind: Kind) {
        if !self.is_counted() {
            return;
        }
        if let (Some(n), Some(shard)) = (leasable(n), self.mine_or_claim()) {
            return shard.give(n, kind);
        }
        for account in self.chain() {
            if COUNTS || account.limit != UNLIMITED {
                account.give_slowly(None, n, true);
            }
            if COUNTS && kind == Kind::Block {
                account.global.frees.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts an allocation of `n` bytes in every account of the chain.
    pub(crate) fn commit_allocation(&self, n: u64) {
        self.commit(n, Kind::Block);
    }

    /// Counts a reallocation that added `n` bytes in every account of the chain.
    pub(crate) fn commit_growth(&self, n: u64) {
        self.commit(n, Kind::Part);
    }

    /// Counts a reallocation that gave `n` bytes back in every account of the chain.
    pub(crate) fn commit_shrink(&self, n: u64) {
        self.give(n, Kind::Part);
    }

    /// Counts a free of `n` bytes in every account of the chain.
    pub(crate) fn commit_free(&self, n: u64) {
        self.give(n, Kind::Block);
    }

    /// Counts `n` bytes that were given back but whose memory waits for somebody else, in every
    /// account of the chain.
    pub(crate) fn park(&self, n: u64) {
        for account in self.chain() {
            account.global.parked.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Counts the end of [`park`](Self::park).
    pub(crate) fn unpark(&self, n: u64) {
        for account in self.chain() {
            account.global.parked.fetch_sub(n, Ordering::Relaxed);
        }
    }

    /// Bytes that can still be had under this limit alone.
    pub(crate) fn available(&self) -> Option<u64> {
        Some(self.limit()?.saturating_sub(self.reserved()))
    }

    /// Bytes reserved under the limit: those that threads lease are not.
    pub(crate) fn reserved(&self) -> u64 {
        let _lock = self.lock();
        self.reserved_locked()
    }

    pub(super) fn reserved_locked(&self) -> u64 {
        let leased: i64 = self.claimed().map(Shard::avail).sum();
        let held = self.global.reserved.load(Ordering::Acquire) as i64;
        // Others may be giving back at this moment.
        held.wrapping_sub(leased).max(0) as u64
    }

    /// Starts the peak anew from the bytes held now.
    pub(crate) fn reset_peak(&self) {
        let _lock = self.lock();
        let mine = self.mine();
        for shard in self.claimed().filter(|shard| !shard.is_closed()) {
            if mine.is_some_and(|mine| ptr::eq(mine, shard)) {
                shard.set_low();
            } else if crate::sync::is_asymmetric() {
                shard.reset_low();
            }
        }
        self.global
            .peak
            .store(self.held_at_most(), Ordering::Relaxed);
    }

    /// The figures of this moment; exact when no other thread uses the pool.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let _lock = self.lock();
        let global = &self.global;
        let sum = |word: &AtomicU64, of: fn(&Shard) -> &AtomicU64| {
            self.claimed()
                .map(|shard| of(shard).load(Ordering::Relaxed))
                .fold(word.load(Ordering::Relaxed), u64::wrapping_add)
        };
        let frees = sum(&global.frees, |shard| &shard.frees);
        let allocations = sum(&global.allocations, |shard| &shard.allocations);
        let growths = sum(&global.growths, |shard| &shard.growths);
        let bytes = self.reserved_locked();
        let peak = if COUNTS {
            let mut least = self.held_at_most();
            if self.limit == UNLIMITED {
                // Seen before its owner has noted it: a later peak is not less. Under a limit it may
                // be bytes that are not given out yet.
                least = least.max(bytes);
                global.peak.fetch_max(least, Ordering::Relaxed);
            }
            global.peak.load(Ordering::Relaxed).max(least).max(bytes)
        } else {
            0
        };
        Snapshot {
            bytes,
            peak,
            total: sum(&global.total, |shard| &shard.total),
            num_allocations: allocations + growths,
            live: allocations.saturating_sub(frees),
            parked: global.parked.load(Ordering::Relaxed),
        }
    }

    /// The account is not used any more, and those above may end: for its last user.
    pub(crate) fn retire(&self) {
        crate::sync::leave(&self.id);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.retire();
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            // SAFETY: the account's own, which nobody else uses any more.
            unsafe { Table::free(table) };
        }
    }
}

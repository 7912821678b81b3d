//! One pool's counters and its limit.
//!
//! ```text
//!   limit 'query' ──▶ proxy 'tenant' ──▶ limit 'process' ──▶ backend 'mimalloc'
//!   reserve: check 'query', then claim 'process' (the outermost limit decides, by one CAS)
//!   allocate: the backend, once
//!   commit: bytes, peak, total, allocations of all four
//! ```
//!
//! A limit is exact. Bytes are *reserved* before the backend is asked and *committed* after it
//! answered, so a refusal of either leaves every statistic as it was. In a chain with two limits or
//! more, inner limits are only ever raised under the outermost one's lock: a request that the
//! outermost limit refuses never shows up in an inner one, not even for a moment, so nothing is
//! refused while bytes are free.

use crate::sync::{AtomicU64, Mutex, Ordering};

/// No limit.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// The words that every allocation writes, apart from what others only read.
#[repr(align(128))]
#[derive(Debug)]
struct Counters {
    bytes: AtomicU64,
    peak: AtomicU64,
    total: AtomicU64,
    allocations: AtomicU64,
    growths: AtomicU64,
    frees: AtomicU64,
    parked: AtomicU64,
    /// Bytes reserved under the limit; not used without one.
    reserved: AtomicU64,
}

/// Counters and limit of one pool.
#[derive(Debug)]
pub(crate) struct Account {
    limit: u64,
    /// Held while a chain that has this account as its outermost limit, and other limits below
    /// it, reserves.
    serial: Mutex<()>,
    counters: Counters,
}

/// A moment's figures of an [`Account`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) bytes: u64,
    pub(crate) peak: u64,
    pub(crate) total: u64,
    pub(crate) num_allocations: u64,
    pub(crate) live: u64,
    pub(crate) parked: u64,
}

impl Account {
    crate::sync::const_fn! {
        /// An account with a limit ([`UNLIMITED`] for none).
        pub(crate) fn new(limit: u64) -> Self {
            Self {
                limit,
                serial: Mutex::new(()),
                counters: Counters {
                    bytes: AtomicU64::new(0),
                    peak: AtomicU64::new(0),
                    total: AtomicU64::new(0),
                    allocations: AtomicU64::new(0),
                    growths: AtomicU64::new(0),
                    frees: AtomicU64::new(0),
                    parked: AtomicU64::new(0),
                    reserved: AtomicU64::new(0),
                },
            }
        }
    }

    /// The limit in bytes.
    #[inline]
    pub(crate) fn limit(&self) -> Option<u64> {
        (self.limit != UNLIMITED).then_some(self.limit)
    }

    /// Bytes that can still be had under this limit alone.
    pub(crate) fn available(&self) -> Option<u64> {
        let limit = self.limit()?;
        Some(limit.saturating_sub(self.counters.reserved.load(Ordering::Acquire)))
    }

    /// Bytes reserved under the limit.
    pub(crate) fn reserved(&self) -> u64 {
        self.counters.reserved.load(Ordering::Acquire)
    }

    fn try_claim(&self, n: u64) -> bool {
        let mut held = self.counters.reserved.load(Ordering::Relaxed);
        loop {
            match held.checked_add(n) {
                Some(sum) if sum <= self.limit => {
                    match self.counters.reserved.compare_exchange_weak(
                        held,
                        sum,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => return true,
                        Err(now) => held = now,
                    }
                }
                _ => return false,
            }
        }
    }

    /// Reserves `n` bytes under every limit of `chain` (innermost first), or under none.
    ///
    /// # Errors
    /// The account whose limit refused.
    pub(crate) fn reserve<'a>(
        chain: impl Iterator<Item = &'a Self> + Clone,
        n: u64,
    ) -> Result<(), &'a Self> {
        let limited = chain.filter(|account| account.limit != UNLIMITED);
        let Some(outermost) = limited.clone().last() else {
            return Ok(());
        };
        let inner = limited.take_while(|account| !std::ptr::eq(*account, outermost));
        if inner.clone().next().is_none() {
            return if outermost.try_claim(n) {
                Ok(())
            } else {
                Err(outermost)
            };
        }
        // Whoever raises an inner account holds this lock, so what fits now still fits below.
        let _serial = outermost
            .serial
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for account in inner.clone() {
            let held = account.counters.reserved.load(Ordering::Acquire);
            if held.checked_add(n).is_none_or(|sum| sum > account.limit) {
                return Err(account);
            }
        }
        if !outermost.try_claim(n) {
            return Err(outermost);
        }
        for account in inner {
            account.counters.reserved.fetch_add(n, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Takes back what [`reserve`](Self::reserve) gave, or what a free returns.
    #[inline]
    pub(crate) fn unreserve(&self, n: u64) {
        if self.limit != UNLIMITED {
            self.counters.reserved.fetch_sub(n, Ordering::AcqRel);
        }
    }

    #[inline]
    fn grow(&self, n: u64) {
        let now = self.counters.bytes.fetch_add(n, Ordering::Relaxed) + n;
        if now > self.counters.peak.load(Ordering::Relaxed) {
            self.counters.peak.fetch_max(now, Ordering::Relaxed);
        }
        self.counters.total.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts an allocation of `n` bytes.
    #[inline]
    pub(crate) fn commit_allocation(&self, n: u64) {
        self.grow(n);
        self.counters.allocations.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a reallocation that added `n` bytes.
    #[inline]
    pub(crate) fn commit_growth(&self, n: u64) {
        self.grow(n);
        self.counters.growths.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a reallocation that gave `n` bytes back.
    #[inline]
    pub(crate) fn commit_shrink(&self, n: u64) {
        self.counters.bytes.fetch_sub(n, Ordering::Release);
        self.unreserve(n);
    }

    /// Counts a free of `n` bytes.
    #[inline]
    pub(crate) fn commit_free(&self, n: u64) {
        self.commit_shrink(n);
        self.counters.frees.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `n` bytes that were given back but whose memory waits for somebody else.
    pub(crate) fn park(&self, n: u64) {
        self.counters.parked.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts the end of [`park`](Self::park).
    pub(crate) fn unpark(&self, n: u64) {
        self.counters.parked.fetch_sub(n, Ordering::Relaxed);
    }

    /// Starts the peak anew from the bytes held now.
    pub(crate) fn reset_peak(&self) {
        self.counters.peak.store(
            self.counters.bytes.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
        // An allocation in between has raised one of the two: never report less than is held.
        self.counters.peak.fetch_max(
            self.counters.bytes.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
    }

    /// The figures of this moment; exact when no other thread uses the pool.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let c = &self.counters;
        let frees = c.frees.load(Ordering::Relaxed);
        let allocations = c.allocations.load(Ordering::Relaxed);
        let bytes = c.bytes.load(Ordering::Acquire);
        Snapshot {
            bytes,
            peak: c.peak.load(Ordering::Relaxed).max(bytes),
            total: c.total.load(Ordering::Relaxed),
            num_allocations: allocations + c.growths.load(Ordering::Relaxed),
            live: allocations.saturating_sub(frees),
            parked: c.parked.load(Ordering::Relaxed),
        }
    }
}

//! One thread's part of an account.

use super::ledger::Account;
use crate::sync::{self, AtomicBool, AtomicI64, AtomicPtr, AtomicU64, Ordering};
use std::ptr;

/// Whether figures are kept that no limit needs.
pub(super) const COUNTS: bool = cfg!(feature = "statistics");

/// Bytes of a request that a lease may serve: sums of a few never overflow. More than this no
/// allocator gives, but a limit may be larger.
#[inline(always)]
pub(super) fn leasable(n: u64) -> Option<i64> {
    (n <= 1 << 60).then_some(n as i64)
}

/// What was allocated and freed, for the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Block,
    /// A block's growth or shrinking.
    Part,
}

/// A lease of one thread, which alone writes it, with plain loads and stores.
///
/// `avail` bytes of the account's `reserved` are not in use. Whoever wants them back closes the shard
/// (`floor` and `cap`), runs a barrier in all threads, and waits until the owner is not busy.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Shard {
    /// The owner changes `avail`. Only kept under a limit: nothing is ever taken from another shard.
    busy: AtomicBool,
    limited: AtomicBool,
    avail: AtomicI64,
    /// The least that `avail` was since the peak was last looked at.
    low: AtomicI64,
    /// `avail` may not go below; `i64::MAX` when closed.
    floor: AtomicI64,
    /// `avail` may not go above; -1 when closed.
    cap: AtomicI64,
    pub(super) total: AtomicU64,
    pub(super) allocations: AtomicU64,
    pub(super) frees: AtomicU64,
    pub(super) growths: AtomicU64,
    quantum: AtomicI64,
    /// The same thread's shard of the account above.
    parent: AtomicPtr<Shard>,
    /// The same thread's shard of the nearest limit above.
    limit: AtomicPtr<Shard>,
    account: AtomicPtr<Account>,
}

impl Shard {
    crate::sync::const_fn! {
        pub(super) fn new() -> Self {
            Self {
                busy: AtomicBool::new(false),
                limited: AtomicBool::new(false),
                avail: AtomicI64::new(0),
                low: AtomicI64::new(0),
                floor: AtomicI64::new(0),
                cap: AtomicI64::new(0),
                total: AtomicU64::new(0),
                allocations: AtomicU64::new(0),
                frees: AtomicU64::new(0),
                growths: AtomicU64::new(0),
                quantum: AtomicI64::new(0),
                parent: AtomicPtr::new(ptr::null_mut()),
                limit: AtomicPtr::new(ptr::null_mut()),
                account: AtomicPtr::new(ptr::null_mut()),
            }
        }
    }

    /// A new owner, with an empty lease; closed where the account is tight, for a lease would hide
    /// there. The account's lock is held.
    pub(super) fn set_owner(&self, account: &Account, parent: Option<&Self>, tight: bool) {
        let address = |shard: Option<&Self>| {
            shard.map_or(ptr::null_mut(), |shard| ptr::from_ref(shard).cast_mut())
        };
        self.limited
            .store(account.limit().is_some(), Ordering::Relaxed);
        self.parent.store(address(parent), Ordering::Relaxed);
        self.limit.store(
            address(parent.and_then(Self::limit_at_or_above)),
            Ordering::Relaxed,
        );
        self.account
            .store(ptr::from_ref(account).cast_mut(), Ordering::Relaxed);
        for word in [&self.total, &self.allocations, &self.frees, &self.growths] {
            word.store(0, Ordering::Relaxed);
        }
        self.avail.store(0, Ordering::Relaxed);
        if tight { self.close() } else { self.open() }
    }

    #[inline(always)]
    fn at(shard: &AtomicPtr<Self>) -> Option<&Self> {
        // SAFETY: null, or a shard of this thread's in an account above: those live as long as the
        // account that this one is in, and are this thread's until it ends.
        unsafe { shard.load(Ordering::Relaxed).as_ref() }
    }

    #[inline(always)]
    pub(crate) fn parent(&self) -> Option<&Self> {
        Self::at(&self.parent)
    }

    #[inline(always)]
    fn limit_above(&self) -> Option<&Self> {
        Self::at(&self.limit)
    }

    #[inline(always)]
    fn limit_at_or_above(&self) -> Option<&Self> {
        if self.limited.load(Ordering::Relaxed) {
            Some(self)
        } else {
            self.limit_above()
        }
    }

    #[inline(always)]
    fn account(&self) -> &Account {
        // SAFETY: the account that the shard is a part of.
        unsafe { &*self.account.load(Ordering::Relaxed) }
    }

    #[inline(always)]
    fn fits(&self, n: i64) -> bool {
        n <= self.avail.load(Ordering::Relaxed) - self.floor.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn add(&self, n: i64) {
        let avail = self.avail.load(Ordering::Relaxed);
        self.avail.store(avail + n, Ordering::Relaxed);
    }

    #[inline(always)]
    fn begin(&self) {
        self.busy.store(true, Ordering::Relaxed);
    }

    #[inline(always)]
    fn end(&self) {
        self.busy.store(false, Ordering::Release);
    }

    /// Takes `n` bytes of the lease of every limit of the chain, or of none: for the owner, before
    /// the memory is asked for.
    #[inline(always)]
    pub(crate) fn reserve(&self, n: i64) -> bool {
        let Some(first) = self.limit_at_or_above() else {
            return true;
        };
        first.begin();
        let Some(next) = first.limit_above() else {
            sync::light();
            let fits = first.fits(n);
            if fits {
                first.add(-n);
            }
            first.end();
            return fits;
        };
        first.reserve_rest(next, n)
    }

    /// All or none, so that no bytes are gone for a moment because of a request that is refused.
    #[inline(never)]
    fn reserve_rest(&self, next: &Self, n: i64) -> bool {
        let each = |visit: &dyn Fn(&Self)| {
            let mut at = Some(next);
            while let Some(shard) = at {
                visit(shard);
                at = shard.limit_above();
            }
        };
        each(&Self::begin);
        sync::light();
        let mut fits = self.fits(n);
        let mut at = Some(next);
        while let Some(shard) = at {
            fits &= shard.fits(n);
            at = shard.limit_above();
        }
        if fits {
            self.add(-n);
            each(&|shard| shard.add(-n));
        }
        self.end();
        each(&Self::end);
        fits
    }

    /// Counts what was allocated, in every account of the chain: for the owner.
    #[inline(always)]
    pub(crate) fn commit(&self, n: i64, kind: Kind) {
        if !COUNTS {
            return;
        }
        self.commit_one(n, kind);
        if let Some(parent) = self.parent() {
            parent.commit_rest(n, kind);
        }
    }

    #[inline(never)]
    fn commit_rest(&self, n: i64, kind: Kind) {
        let mut at = Some(self);
        while let Some(shard) = at {
            shard.commit_one(n, kind);
            at = shard.parent();
        }
    }

    #[inline(always)]
    fn commit_one(&self, n: i64, kind: Kind) {
        let mut avail = self.avail.load(Ordering::Relaxed);
        if !self.limited.load(Ordering::Relaxed) {
            if n > avail {
                self.account().lease(self, n);
                avail = self.avail.load(Ordering::Relaxed);
            }
            avail -= n;
            self.avail.store(avail, Ordering::Relaxed);
            sync::light_if_asymmetric();
        }
        if avail < self.low.load(Ordering::Relaxed) {
            self.low.store(avail, Ordering::Relaxed);
        }
        let count = match kind {
            Kind::Block => &self.allocations,
            Kind::Part => &self.growths,
        };
        bump(&self.total, n as u64);
        bump(count, 1);
    }

    /// Takes `n` bytes back, in every account of the chain: for the owner.
    #[inline(always)]
    pub(crate) fn give(&self, n: i64, kind: Kind) {
        self.give_one(n, kind);
        if let Some(parent) = self.parent() {
            parent.give_rest(n, kind);
        }
    }

    #[inline(never)]
    fn give_rest(&self, n: i64, kind: Kind) {
        let mut at = Some(self);
        while let Some(shard) = at {
            shard.give_one(n, kind);
            at = shard.parent();
        }
    }

    #[inline(always)]
    fn give_one(&self, n: i64, kind: Kind) {
        let limited = self.limited.load(Ordering::Relaxed);
        if !COUNTS && !limited {
            return;
        }
        if !self.put(n, limited) {
            self.account().give_slowly(Some(self), n as u64, true);
        }
        if COUNTS && kind == Kind::Block {
            bump(&self.frees, 1);
        }
    }

    /// Puts `n` bytes into the lease, unless it is closed or would be too large.
    #[inline(always)]
    fn put(&self, n: i64, limited: bool) -> bool {
        if limited {
            self.begin();
            sync::light();
        }
        let avail = self.avail.load(Ordering::Relaxed);
        let fits = n <= self.cap.load(Ordering::Relaxed) - avail;
        if fits {
            self.avail.store(avail + n, Ordering::Relaxed);
        }
        if limited {
            self.end();
        }
        fits
    }

    /// The end of a [`reserve`](Self::reserve) whose memory was refused: for the owner.
    #[cold]
    #[inline(never)]
    pub(crate) fn unreserve(&self, n: i64) {
        let mut at = self.limit_at_or_above();
        while let Some(shard) = at {
            if !shard.put(n, true) {
                shard.account().give_slowly(Some(shard), n as u64, false);
            }
            at = shard.limit_above();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.cap.load(Ordering::Relaxed) < 0
    }

    /// The lease: for the owner, or whoever closed the shard, with the account's lock.
    pub(super) fn avail(&self) -> i64 {
        self.avail.load(Ordering::Relaxed)
    }

    pub(super) fn low(&self) -> i64 {
        self.low.load(Ordering::Relaxed)
    }

    pub(super) fn cap(&self) -> i64 {
        self.cap.load(Ordering::Relaxed)
    }

    pub(super) fn quantum(&self) -> i64 {
        self.quantum.load(Ordering::Relaxed)
    }

    /// Closes the shard: once a barrier has run, the owner leaves `avail` alone.
    pub(super) fn close(&self) {
        self.floor.store(i64::MAX, Ordering::Relaxed);
        self.cap.store(-1, Ordering::Relaxed);
    }

    /// Opens the shard with an empty lease and the smallest quantum: for the owner.
    pub(super) fn open(&self) {
        self.low.store(self.avail(), Ordering::Relaxed);
        // The first lease doubles it.
        self.quantum.store(sync::QUANTUM / 2, Ordering::Relaxed);
        self.reopen();
    }

    /// Takes a [`close`](Self::close) back that had no effect.
    pub(super) fn reopen(&self) {
        self.floor.store(0, Ordering::Relaxed);
        self.cap.store(2 * self.quantum(), Ordering::Relaxed);
    }

    /// Waits until the owner is not changing `avail` any more. The shard is closed, and a barrier has
    /// run since.
    pub(super) fn wait(&self) {
        while self.busy.load(Ordering::Acquire) {
            sync::spin();
        }
    }

    /// Sets the lease: for the owner, or whoever closed the shard, with the account's lock.
    pub(super) fn set_avail(&self, avail: i64) {
        self.avail.store(avail, Ordering::Relaxed);
    }

    /// The lease as it is now is the least of it.
    pub(super) fn set_low(&self) {
        self.low.store(self.avail(), Ordering::Relaxed);
    }

    /// As [`set_low`](Self::set_low) by another thread, whose lock is held. What the owner takes
    /// meanwhile is not lost: it either sees the new low, or its lease is seen below.
    pub(super) fn reset_low(&self) {
        let low = self.low();
        let raised = self.low.compare_exchange(
            low,
            self.avail().max(low),
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        if raised.is_ok() {
            if !sync::heavy() {
                self.low.fetch_min(low, Ordering::SeqCst);
            }
            self.low.fetch_min(self.avail(), Ordering::SeqCst);
        }
    }

    /// Bytes of the next lease, twice those of the last one.
    pub(super) fn grow_quantum(&self, most: i64) -> i64 {
        let quantum = (2 * self.quantum()).min(most);
        self.quantum.store(quantum, Ordering::Relaxed);
        self.cap.store(2 * quantum, Ordering::Relaxed);
        quantum
    }
}

#[inline(always)]
fn bump(word: &AtomicU64, n: u64) {
    word.store(
        word.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

//! Leases: how they are had, given back, and taken from other threads.
//!
//! A limit that finds too little outside of the leases closes all shards, so that no owner changes its
//! lease any more: `floor` and `cap` are set, one barrier runs in all threads, and whoever was in
//! the middle of a change is waited for. Then the leases are added back, and the account is *tight*:
//! every thread uses the one word `reserved`, by compare and swap, which is exact. Once there is room
//! again, each owner opens its own shard.

use super::ledger::{Account, UNLIMITED};
use super::shard::{COUNTS, Shard, leasable};
use super::table::Table;
use crate::sync::{self, MutexGuard, Ordering, QUANTUM, thread_key};
use std::ptr;

impl Account {
    /// The lock of all that is not lock-free: the outermost limit's for limits, so that what fits
    /// under the inner ones still fits when the outer ones have been asked.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        let holder = match self.limit {
            UNLIMITED => self,
            _ => self.limits().last().unwrap_or(self),
        };
        holder
            .global
            .lock
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Bytes of a lease, at most.
    fn most(&self) -> i64 {
        let share = i64::try_from(self.limit / 64).unwrap_or(i64::MAX);
        share.clamp(QUANTUM, 64 * QUANTUM)
    }

    #[inline]
    pub(super) fn mine_or_claim(&self) -> Option<&Shard> {
        self.mine().or_else(|| self.claim())
    }

    /// A shard for this thread, here and in every account above. `None` when there is no room, or
    /// the thread ends: it then uses the words that all share.
    #[cold]
    #[inline(never)]
    pub(crate) fn claim(&self) -> Option<&Shard> {
        if !self.is_counted() {
            return None;
        }
        let parent = match self.parent() {
            Some(parent) if parent.is_counted() => Some(parent.mine_or_claim()?),
            _ => None,
        };
        sync::prepare();
        let key = thread_key();
        let shard = {
            let _lock = self.lock();
            let shard = if self.home_owner.load(Ordering::Relaxed) == 0 {
                self.home_owner.store(key, Ordering::Relaxed);
                &self.home
            } else {
                self.table_or_new()?.claim(key)?
            };
            shard.set_owner(self, parent, self.global.tight.load(Ordering::Relaxed));
            shard
        };
        // SAFETY: the account lives until `retire`, `leave`'s caller; a fold asks nobody for memory.
        let told = unsafe { sync::enter(&self.id, ptr::from_ref(self).cast(), Self::fold) };
        if !told {
            // SAFETY: this account, and this thread.
            unsafe { Self::fold(ptr::from_ref(self).cast(), key) };
            return None;
        }
        Some(shard)
    }

    /// The lock is held.
    fn table_or_new(&self) -> Option<&Table> {
        if self.table().is_none() {
            let table = Table::allocate()?;
            self.table.store(table.as_ptr(), Ordering::Release);
        }
        self.table()
    }

    /// Ends the lease of the thread with this key.
    ///
    /// # Safety
    /// - `account` is one that lives, and the caller that thread, or nobody uses the shard.
    pub(crate) unsafe fn fold(account: *const (), key: usize) {
        // SAFETY: the caller's promise.
        let account = unsafe { &*account.cast::<Self>() };
        let _lock = account.lock();
        let home = account.home_owner.load(Ordering::Relaxed) == key;
        let shard = if home {
            Some(&account.home)
        } else {
            account.table().and_then(|table| table.find(key))
        };
        let Some(shard) = shard else { return };
        account.evaluate();
        let global = &account.global;
        let left = shard.avail() as u64;
        shard.set_avail(0);
        shard.set_low();
        global.reserved.fetch_sub(left, Ordering::AcqRel);
        for (sum, part) in [
            (&global.total, &shard.total),
            (&global.allocations, &shard.allocations),
            (&global.growths, &shard.growths),
            (&global.frees, &shard.frees),
        ] {
            sum.fetch_add(part.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        if home {
            account.home_owner.store(0, Ordering::Relaxed);
        } else if let Some(table) = account.table() {
            table.release(key);
        }
        if global.tight.load(Ordering::Relaxed) {
            account.set_reopen_room();
            account.loosen();
        }
    }

    /// What was held at most since the last time, without what is given out and not yet counted.
    pub(super) fn held_at_most(&self) -> u64 {
        let free: i64 = self
            .claimed()
            .filter(|shard| !shard.is_closed())
            .map(Shard::low)
            .sum();
        let reserved = self.global.reserved.load(Ordering::Acquire) as i64;
        reserved.wrapping_sub(free).max(0) as u64
    }

    /// Raises the peak. To be called before leases change, or `reserved` sinks: what was the most until
    /// then could not be told any more. The lock is held.
    fn evaluate(&self) {
        if COUNTS {
            let held = self.held_at_most();
            self.global.peak.fetch_max(held, Ordering::Relaxed);
        }
    }

    /// Leases so much to the owner of an unlimited account's shard that `n` bytes fit.
    #[cold]
    #[inline(never)]
    pub(super) fn lease(&self, shard: &Shard, n: i64) {
        let lock = self.lock();
        self.evaluate();
        let quantum = shard.grow_quantum(self.most());
        let avail = n + quantum;
        let more = avail - shard.avail();
        self.global
            .reserved
            .fetch_add(more as u64, Ordering::Relaxed);
        shard.set_avail(avail);
        shard.set_low();
        drop(lock);
        if let Some(on_moved) = self.on_moved {
            on_moved(more);
        }
    }

    /// Takes `n` bytes of the word that all share.
    fn try_claim(&self, n: u64) -> bool {
        let reserved = &self.global.reserved;
        let mut held = reserved.load(Ordering::Relaxed);
        loop {
            match held.checked_add(n) {
                Some(sum) if sum <= self.limit => {
                    match reserved.compare_exchange_weak(
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

    /// As [`reserve`](Self::reserve), when the leases do not have it.
    #[cold]
    #[inline(never)]
    pub(crate) fn reserve_slowly(&self, n: u64) -> Result<(), &Self> {
        let mut limits = self.limits();
        let Some(first) = limits.next() else {
            return Ok(());
        };
        // Nobody above can refuse what the one limit gives.
        if limits.next().is_none()
            && (first.global.tight.load(Ordering::Acquire) || first.mine().is_none())
            && first.try_claim(n)
        {
            return Ok(());
        }
        let _lock = first.lock();
        for account in self.limits() {
            if !account.reserve_locked(n) {
                // Nobody has seen it: who raises these limits holds the lock.
                for taken in self.limits().take_while(|taken| !ptr::eq(*taken, account)) {
                    taken.unreserve_locked(n);
                }
                return Err(account);
            }
        }
        Ok(())
    }

    fn open_shard(&self) -> Option<&Shard> {
        let shard = self.mine()?;
        if shard.is_closed() {
            if self.global.tight.load(Ordering::Relaxed) {
                return None;
            }
            shard.open();
        }
        Some(shard)
    }

    /// Reserves under this limit alone. The lock is held.
    fn reserve_locked(&self, n: u64) -> bool {
        let shard = self.open_shard();
        let mut mine = 0;
        if let (Some(small), Some(shard)) = (leasable(n), shard) {
            mine = shard.avail();
            if small <= mine || self.refill(shard, small - mine) {
                shard.set_avail(shard.avail() - small);
                return true;
            }
        } else if self.try_claim(n) {
            return true;
        }
        // The others' leases are never more than this.
        let others: i64 = self
            .claimed()
            .filter(|other| shard.is_none_or(|shard| !ptr::eq(shard, *other)))
            .map(|other| other.cap().max(0))
            .sum();
        let room = (self.limit)
            .saturating_sub(self.global.reserved.load(Ordering::Acquire))
            .saturating_add(mine as u64)
            .saturating_add(others as u64);
        n <= room && others > 0 && self.revoke() && self.try_claim(n)
    }

    /// Leases at least `need` bytes more to the owner of a limit's shard.
    fn refill(&self, shard: &Shard, need: i64) -> bool {
        self.evaluate();
        let quantum = (2 * shard.quantum()).min(self.most());
        let whole = need.saturating_add(quantum);
        let got = if self.try_claim(whole as u64) {
            whole
        } else if self.try_claim(need as u64) {
            need
        } else {
            return false;
        };
        shard.set_avail(shard.avail() + got);
        shard.grow_quantum(self.most());
        shard.set_low();
        true
    }

    /// Takes back what [`reserve_locked`](Self::reserve_locked) gave: the same way, for the lock is
    /// still held.
    fn unreserve_locked(&self, n: u64) {
        match (leasable(n), self.mine()) {
            (Some(n), Some(shard)) if !shard.is_closed() => shard.set_avail(shard.avail() + n),
            _ => {
                self.global.reserved.fetch_sub(n, Ordering::AcqRel);
            }
        }
    }

    /// Takes all leases back and makes the account tight. The lock is held. `false` when the system
    /// has no barrier for us: all is as it was.
    fn revoke(&self) -> bool {
        let open = |shard: &&Shard| !shard.is_closed();
        self.evaluate();
        let mut closed = [None; sync::SLOTS + 1];
        for (entry, shard) in closed.iter_mut().zip(self.claimed().filter(open)) {
            shard.close();
            *entry = Some(shard);
        }
        if !sync::heavy() {
            closed.iter().flatten().for_each(|shard| shard.reopen());
            return false;
        }
        closed.iter().flatten().for_each(|shard| shard.wait());
        let low: i64 = closed.iter().flatten().map(|shard| shard.low()).sum();
        let mut left = 0;
        for shard in closed.iter().flatten() {
            left += shard.avail();
            shard.set_avail(0);
        }
        let global = &self.global;
        if COUNTS {
            // What was held since `evaluate` looked.
            let held = global.reserved.load(Ordering::Acquire) as i64 - low;
            global.peak.fetch_max(held.max(0) as u64, Ordering::Relaxed);
        }
        global.reserved.fetch_sub(left as u64, Ordering::AcqRel);
        self.set_reopen_room();
        global.tight.store(true, Ordering::Release);
        true
    }

    /// The room that makes leases worth while again: for one thread any, else some for each.
    fn set_reopen_room(&self) {
        let shards = self.claimed().count() as u64;
        let each = 8 * QUANTUM as u64 * shards;
        let room = match shards {
            0 | 1 => 1,
            _ if each > self.limit / 2 => u64::MAX,
            _ => each.max(self.limit / 8),
        };
        self.global.reopen_room.store(room, Ordering::Relaxed);
    }

    fn has_reopen_room(&self) -> bool {
        let held = self.global.reserved.load(Ordering::Relaxed);
        self.limit.saturating_sub(held) >= self.global.reopen_room.load(Ordering::Relaxed)
    }

    /// Lets owners open their shards, if there is room. The lock is held.
    fn loosen(&self) {
        if self.has_reopen_room() {
            self.global.tight.store(false, Ordering::Release);
        }
    }

    /// Takes `n` bytes back that do not fit into the caller's lease; `counted` when they were
    /// committed.
    #[cold]
    #[inline(never)]
    pub(super) fn give_slowly(&self, shard: Option<&Shard>, n: u64, counted: bool) {
        let tight = self.global.tight.load(Ordering::Acquire);
        let back = match (shard, leasable(n)) {
            (Some(shard), Some(n)) if !tight || !shard.is_closed() => {
                self.give_locked(shard, n, counted)
            }
            _ => {
                self.give_exactly(n, counted);
                n
            }
        };
        if let Some(on_moved) = self.on_moved
            && back > 0
        {
            on_moved(-(back as i64));
        }
    }

    fn give_locked(&self, shard: &Shard, n: i64, counted: bool) -> u64 {
        let _lock = self.lock();
        if shard.is_closed() {
            if self.global.tight.load(Ordering::Relaxed) {
                self.give_shared(n as u64, counted);
                if self.has_reopen_room() {
                    self.loosen();
                }
                return n as u64;
            }
            shard.open();
        }
        self.evaluate();
        let quantum = shard.grow_quantum(self.most());
        let whole = shard.avail().saturating_add(n);
        let back = if whole > shard.cap() {
            whole - quantum
        } else {
            0
        };
        self.global
            .reserved
            .fetch_sub(back as u64, Ordering::AcqRel);
        shard.set_avail(whole - back);
        shard.set_low();
        back as u64
    }

    /// To the word that all share, without a lock.
    fn give_exactly(&self, n: u64, counted: bool) {
        self.give_shared(n, counted);
        if self.global.tight.load(Ordering::Relaxed) && self.has_reopen_room() {
            let _lock = self.lock();
            self.loosen();
        }
    }

    fn give_shared(&self, n: u64, counted: bool) {
        let before = self.global.reserved.fetch_sub(n, Ordering::AcqRel);
        // Others' leases count as held here: two quanta each, at most.
        if COUNTS && counted && before > self.global.peak.load(Ordering::Relaxed) {
            self.global.peak.fetch_max(before, Ordering::Relaxed);
        }
    }
}

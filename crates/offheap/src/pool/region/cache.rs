//! The freed regions that wait for the next request.

use super::clock::Millis;
use super::extent::UNIT;
use super::os;
use super::record::{Record, State};
use super::records::{Records, Slot, address_of, slot_of};

/// How long a freed region stays.
pub(super) const LIFE: Millis = 1000;

/// Sizes below this many units have a list of their own; above, there are eight to each doubling.
const LINEAR: usize = 16;
const BINS: usize = LINEAR + 8 * 23;

/// How many entries of a list are looked at: in a list, sizes differ by an eighth at most.
const TRIES: usize = 8;

/// The freed regions, by size and by age, and the figures that bound them. All of it lies in the
/// regions' records; everything here is done under one lock.
#[derive(Debug)]
pub(super) struct Cache {
    records: &'static Records,
    bins: [Slot; BINS],
    filled: [u64; BINS.div_ceil(64)],
    oldest: Slot,
    newest: Slot,
    /// Committed bytes of the entries.
    bytes: usize,
    /// Committed bytes of the live regions.
    live: usize,
    /// The most that `live` was since `since`, and in the second before.
    peak: usize,
    previous_peak: usize,
    since: Millis,
}

/// Regions taken out to be given back to the system: a list by their records' `next`.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Evicted(pub(super) Slot);

/// What a growing block got of the regions behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Absorbed {
    /// Bytes of addresses.
    pub(super) reserved: usize,
    /// How many of the entries were mappings of their own.
    pub(super) own: usize,
}

const fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

fn bin_of(units: usize) -> usize {
    if units < LINEAR {
        return units;
    }
    let top = units.ilog2() as usize;
    (LINEAR + (top - 4) * 8 + ((units >> (top - 3)) & 7)).min(BINS - 1)
}

impl Cache {
    pub(super) const fn new(records: &'static Records) -> Self {
        Self {
            records,
            bins: [0; BINS],
            filled: [0; BINS.div_ceil(64)],
            oldest: 0,
            newest: 0,
            bytes: 0,
            live: 0,
            peak: 0,
            previous_peak: 0,
            since: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn is_empty(&self) -> bool {
        self.oldest == 0
    }

    /// A record of the table: whatever is linked has one.
    fn record(&self, slot: Slot) -> &'static Record {
        self.records
            .get(slot)
            .expect("a linked region has a record")
    }

    fn roll(&mut self, now: Millis) {
        let passed = now.saturating_sub(self.since);
        if passed >= LIFE {
            self.previous_peak = if passed < 2 * LIFE {
                self.peak
            } else {
                self.live
            };
            self.peak = self.live;
            self.since = now;
        }
    }

    /// Counts a live region's bytes.
    pub(super) fn add_live(&mut self, bytes: usize, now: Millis) {
        self.roll(now);
        self.live += bytes;
        self.peak = self.peak.max(self.live);
    }

    /// Counts fewer bytes in live regions.
    pub(super) fn remove_live(&mut self, bytes: usize) {
        self.live -= bytes;
    }

    /// The first nonempty list from `bin` on.
    fn next_filled(&self, bin: usize) -> Option<usize> {
        let mut word = bin / 64;
        let mut bits = self.filled.get(word)? & (u64::MAX << (bin % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            bits = *self.filled.get(word)?;
        }
    }

    fn link_bin(&mut self, slot: Slot, record: &Record) {
        let bin = bin_of(units(record.committed()));
        let first = self.bins[bin];
        set(&record.next, first);
        set(&record.previous, 0);
        if first != 0 {
            set(&self.record(first).previous, slot);
        }
        self.bins[bin] = slot;
        self.filled[bin / 64] |= 1 << (bin % 64);
    }

    fn unlink_bin(&mut self, record: &Record) {
        let bin = bin_of(units(record.committed()));
        let (next, previous) = (get(&record.next), get(&record.previous));
        if next != 0 {
            set(&self.record(next).previous, previous);
        }
        if previous != 0 {
            set(&self.record(previous).next, next);
        } else {
            self.bins[bin] = next;
            if next == 0 {
                self.filled[bin / 64] &= !(1 << (bin % 64));
            }
        }
    }

    /// Into the order of ages, behind `older`.
    fn link_age(&mut self, slot: Slot, record: &Record, older: Slot) {
        let newer = if older == 0 {
            std::mem::replace(&mut self.oldest, slot)
        } else {
            get(&self.record(older).newer)
        };
        set(&record.older, older);
        set(&record.newer, newer);
        if older != 0 {
            set(&self.record(older).newer, slot);
        }
        if newer == 0 {
            self.newest = slot;
        } else {
            set(&self.record(newer).older, slot);
        }
    }

    fn unlink_age(&mut self, record: &Record) {
        let (older, newer) = (get(&record.older), get(&record.newer));
        if older == 0 {
            self.oldest = newer;
        } else {
            set(&self.record(older).newer, newer);
        }
        if newer == 0 {
            self.newest = older;
        } else {
            set(&self.record(newer).older, older);
        }
    }

    fn put(&mut self, slot: Slot, record: &Record, freed_at: Millis, older: Slot) {
        record.set_freed_at(freed_at);
        record.set_state(record.state().without(State::LIVE).with(State::CACHED));
        self.bytes += record.committed();
        self.link_bin(slot, record);
        self.link_age(slot, record, older);
    }

    fn take_out(&mut self, record: &Record) {
        self.unlink_bin(record);
        self.unlink_age(record);
        self.bytes -= record.committed();
        record.set_state(record.state().without(State::CACHED).with(State::LIVE));
    }

    /// A live region is free. What the bound has no room for any more comes back, the oldest first.
    pub(super) fn insert(&mut self, slot: Slot, now: Millis) -> Evicted {
        self.roll(now);
        let record = self.record(slot);
        self.live -= record.committed();
        self.put(slot, record, now, self.newest);
        let bound = self.peak.max(self.previous_peak);
        self.evict(|cache, oldest| cache.live + cache.bytes > bound || expired(oldest, now))
    }

    fn evict(&mut self, evicts: impl Fn(&Self, &Record) -> bool) -> Evicted {
        let mut evicted = Evicted(0);
        while self.oldest != 0 {
            let slot = self.oldest;
            let record = self.record(slot);
            if !evicts(self, record) {
                break;
            }
            self.take_out(record);
            set(&record.next, evicted.0);
            evicted.0 = slot;
        }
        evicted
    }

    /// Takes out what has waited too long.
    pub(super) fn expire(&mut self, now: Millis) -> Evicted {
        if self.oldest == 0 {
            return Evicted(0);
        }
        self.roll(now);
        self.evict(|_, oldest| expired(oldest, now))
    }

    /// Takes out everything.
    pub(super) fn empty(&mut self) -> Evicted {
        self.evict(|_, _| true)
    }

    /// A region with at least `reserved` bytes, whole units, at a multiple of `alignment`: the best
    /// fit by committed bytes, cut when it has more. It counts as live.
    pub(super) fn take(&mut self, reserved: usize, alignment: usize, now: Millis) -> Option<Slot> {
        if self.oldest == 0 {
            return None;
        }
        let needed = reserved / UNIT;
        let mut bin = bin_of(needed);
        loop {
            bin = self.next_filled(bin)?;
            let mut slot = self.bins[bin];
            for _ in 0..TRIES {
                if slot == 0 {
                    break;
                }
                let record = self.record(slot);
                let found = units(record.committed());
                let fits = found >= needed
                    && address_of(slot) & (alignment - 1) == 0
                    // What cannot be cut must not be much too large.
                    && (os::SPLITS || found <= needed + needed / 4);
                if fits {
                    self.cut(slot, record, reserved);
                    self.add_live(record.committed(), now);
                    return Some(slot);
                }
                slot = get(&record.next);
            }
            bin += 1;
        }
    }

    /// Takes an entry out, of which what lies beyond `reserved` bytes stays in.
    fn cut(&mut self, slot: Slot, record: &Record, reserved: usize) {
        let older = get(&record.older);
        self.take_out(record);
        let (committed, all) = (record.committed(), record.reserved());
        if !os::SPLITS || committed <= reserved {
            // The rest is room to grow.
            return;
        }
        let rest = slot_of(address_of(slot) + reserved);
        let Some(rest_record) = self.records.ensure(rest) else {
            return;
        };
        let state = record.state();
        rest_record.set(committed - reserved, all - reserved, state);
        record.set(
            reserved,
            reserved,
            state.without(State::GUARDED | State::OWN),
        );
        self.put(rest, rest_record, record.freed_at(), older);
    }

    /// Joins at least `needed` bytes, whole units, of the entries behind `end` to a live region that
    /// ends there. They are no longer entries and not yet counted as live.
    pub(super) fn absorb(&mut self, end: usize, needed: usize) -> Option<Absorbed> {
        if !os::SPLITS {
            return None;
        }
        let mut found = 0;
        while found < needed {
            let record = self.records.get(slot_of(end + found))?;
            let state = record.state();
            if !state.has(State::CACHED) || state.has(State::GUARDED) {
                return None;
            }
            found += record.reserved();
        }
        let mut absorbed = Absorbed {
            reserved: 0,
            own: 0,
        };
        while absorbed.reserved < needed {
            let slot = slot_of(end + absorbed.reserved);
            let record = self.record(slot);
            self.cut(slot, record, needed - absorbed.reserved);
            absorbed.reserved += record.reserved();
            absorbed.own += usize::from(record.state().has(State::OWN));
            record.set(0, 0, State::NONE);
        }
        Some(absorbed)
    }
}

fn expired(record: &Record, now: Millis) -> bool {
    now.saturating_sub(record.freed_at()) >= LIFE
}

fn get(link: &std::sync::atomic::AtomicU32) -> Slot {
    link.load(std::sync::atomic::Ordering::Relaxed)
}

fn set(link: &std::sync::atomic::AtomicU32, slot: Slot) {
    link.store(slot, std::sync::atomic::Ordering::Relaxed);
}

//! The freed regions that wait for the next request.

use super::clock::Millis;
use super::extent::UNIT;
use super::os;
use super::record::{Record, State};
use super::records::{Records, Slot, address_of, slot_of};

/// How long a freed region stays.
pub(super) const LIFE: Millis = 1000;

/// The cache and the live regions may hold this part more than the live ones did at their peak.
const SLACK: usize = 4;

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
    /// Addresses that the system would not take back, without memory: a list by `next`.
    kept: Slot,
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
            kept: 0,
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

    /// Links a region in. Where the system's mappings can be joined and cut, its last unit says where
    /// it starts, for the one behind it.
    fn put(&mut self, slot: Slot, record: &Record, freed_at: Millis, older: Slot) {
        record.set_freed_at(freed_at);
        record.set_state(record.state().without(State::LIVE).with(State::CACHED));
        self.bytes += record.committed();
        self.link_bin(slot, record);
        self.link_age(slot, record, older);
        if let Some(foot) = self.foot(slot, record, true) {
            set(&foot.next, slot);
            foot.set_state(State(State::FOOT));
        }
    }

    fn take_out(&mut self, slot: Slot, record: &Record) {
        self.unlink_bin(record);
        self.unlink_age(record);
        self.bytes -= record.committed();
        record.set_state(record.state().without(State::CACHED).with(State::LIVE));
        if let Some(foot) = self.foot(slot, record, false) {
            foot.set_state(State::NONE);
        }
    }

    /// The record of a region's last unit, unless that is its first, too.
    fn foot(&self, slot: Slot, record: &Record, makes: bool) -> Option<&'static Record> {
        let last = slot_of(address_of(slot) + record.reserved() - UNIT);
        if !os::SPLITS || last == slot {
            None
        } else if makes {
            self.records.ensure(last)
        } else {
            self.records.get(last)
        }
    }

    /// A live region is free. What the bound has no room for any more comes back, the oldest first.
    pub(super) fn insert(&mut self, slot: Slot, now: Millis) -> Evicted {
        self.roll(now);
        let record = self.record(slot);
        self.live -= record.committed();
        self.join(slot, record, now);
        let bound = self.peak.max(self.previous_peak);
        let bound = bound + bound / SLACK;
        self.evict(|cache, oldest| cache.live + cache.bytes > bound || expired(oldest, now))
    }

    /// Links a freed region in, as one with the cached ones on both sides of it. The larger part's
    /// age is the whole's: a small block that comes and goes keeps no large one from decaying.
    fn join(&mut self, mut slot: Slot, mut record: &'static Record, now: Millis) {
        let (mut freed_at, mut older) = (now, self.newest);
        let mut largest = record.committed();
        for behind in [true, false] {
            let Some(neighbour) = self.neighbour(slot, record, behind) else {
                continue;
            };
            let other = self.record(neighbour);
            if !is_joinable(record) || !is_joinable(other) {
                continue;
            }
            let (first, second) = if behind {
                (record, other)
            } else {
                (other, record)
            };
            // Untouched room in the middle would count as touched.
            let gap = first.reserved() - first.committed();
            if gap > UNIT.max(first.reserved() / 8) {
                continue;
            }
            let their_older = get(&other.older);
            if older == neighbour {
                older = their_older;
            }
            if other.committed() > largest {
                largest = other.committed();
                (freed_at, older) = (other.freed_at(), their_older);
            }
            self.take_out(neighbour, other);
            let own = first.state().has(State::OWN) && second.state().has(State::OWN);
            super::regions::OWN.give_back(usize::from(own));
            let state = State(first.state().0 | second.state().0);
            let committed = first.reserved() + second.committed();
            first.set(committed, first.reserved() + second.reserved(), state);
            second.set(0, 0, State::NONE);
            if !behind {
                (slot, record) = (neighbour, other);
            }
        }
        self.put(slot, record, freed_at, older);
    }

    /// The cached region right behind or right before another.
    fn neighbour(&self, slot: Slot, record: &Record, behind: bool) -> Option<Slot> {
        if !os::SPLITS {
            return None;
        }
        let address = address_of(slot);
        let found = slot_of(if behind {
            address + record.reserved()
        } else {
            address - UNIT
        });
        let other = self.records.get(found)?;
        let state = other.state();
        if state.has(State::CACHED) {
            (behind || other.reserved() == UNIT).then_some(found)
        } else if state.has(State::FOOT) && !behind {
            Some(get(&other.next))
        } else {
            None
        }
    }

    fn evict(&mut self, evicts: impl Fn(&Self, &Record) -> bool) -> Evicted {
        let mut evicted = Evicted(0);
        while self.oldest != 0 {
            let slot = self.oldest;
            let record = self.record(slot);
            if !evicts(self, record) {
                break;
            }
            self.take_out(slot, record);
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

    /// Notes addresses that the system would not take back.
    pub(super) fn keep(&mut self, slot: Slot) {
        set(&self.record(slot).next, self.kept);
        self.kept = slot;
    }

    /// Takes out what is [kept](Self::keep), to try again.
    pub(super) fn take_kept(&mut self) -> Evicted {
        Evicted(std::mem::take(&mut self.kept))
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
        self.take_out(slot, record);
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

fn is_joinable(record: &Record) -> bool {
    !record.state().has(State::GUARDED)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// A cache over addresses that nobody uses: it only keeps books.
    struct Books {
        cache: Cache,
        records: &'static Records,
    }

    impl Books {
        fn new() -> Self {
            let records: &Records = Box::leak(Box::new(Records::new()));
            Self {
                cache: Cache::new(records),
                records,
            }
        }

        fn live(&mut self, slot: Slot, committed: usize, now: Millis) {
            let record = self.records.ensure(slot).unwrap();
            record.set(
                committed,
                units(committed) * UNIT,
                State::NONE.with(State::LIVE),
            );
            self.cache.add_live(committed, now);
        }

        fn evicted(&self, Evicted(mut slot): Evicted) -> Vec<Slot> {
            let mut all = Vec::new();
            while slot != 0 {
                all.push(slot);
                slot = get(&self.records.get(slot).unwrap().next);
            }
            all.sort_unstable();
            all
        }

        fn free(&mut self, slot: Slot, now: Millis) -> Vec<Slot> {
            let evicted = self.cache.insert(slot, now);
            self.evicted(evicted)
        }

        fn expire(&mut self, now: Millis) -> Vec<Slot> {
            let evicted = self.cache.expire(now);
            self.evicted(evicted)
        }

        fn take(&mut self, size: usize, now: Millis) -> Option<(Slot, usize)> {
            let slot = self.cache.take(units(size) * UNIT, UNIT, now)?;
            Some((slot, self.records.get(slot).unwrap().committed()))
        }
    }

    #[test]
    fn lists_are_in_the_order_of_sizes() {
        let mut last = 0;
        for units in 0..5000 {
            let bin = bin_of(units);
            assert!(bin == last || bin == last + 1, "{units}");
            last = bin;
        }
        assert!(bin_of(1 << 26) < BINS && bin_of(usize::MAX / UNIT) < BINS);
    }

    #[test]
    fn what_was_freed_is_gone_a_second_later() {
        let mut books = Books::new();
        for slot in [10, 20, 30] {
            books.live(slot, 4 * MIB, 5000);
        }
        for (slot, freed_at) in [(10, 5000), (20, 5400), (30, 5999)] {
            assert_eq!(books.free(slot, freed_at), []);
        }
        assert_eq!(books.cache.bytes(), 12 * MIB);
        assert_eq!(books.expire(5999), []);
        assert_eq!(books.expire(6000), [10]);
        assert_eq!(books.expire(6500), [20]);
        assert_eq!(books.expire(9000), [30]);
        assert_eq!((books.cache.bytes(), books.cache.live()), (0, 0));
        assert!(books.cache.is_empty());
    }

    #[test]
    fn the_peak_of_the_last_second_bounds_it() {
        let mut books = Books::new();
        // 100 MiB at once, of which 80 stay.
        for slot in 1..=25 {
            books.live(10 * slot, 4 * MIB, 0);
        }
        for slot in 21..=25 {
            assert_eq!(books.free(10 * slot, 10), []);
        }
        // Others come, that fit none of those, and go: a quarter over the peak and no more.
        books.live(1000, 24 * MIB, 20);
        assert_eq!(books.free(1000, 30), []);
        assert_eq!(books.cache.bytes(), 44 * MIB);
        books.live(2000, 8 * MIB, 40);
        assert_eq!(books.free(2000, 50), [210], "the oldest goes first");
        assert_eq!(books.cache.live() + books.cache.bytes(), 128 * MIB);
        // Two seconds later the peak is what is live.
        assert_eq!(books.free(10, 2050).len(), 6);
        assert_eq!(books.cache.live(), 76 * MIB);
        assert_eq!(books.cache.bytes(), 4 * MIB);
    }

    #[test]
    fn a_gigabyte_in_use_may_wait_whole() {
        let mut books = Books::new();
        books.live(100, 1024 * MIB, 0);
        assert_eq!(books.free(100, 1), []);
        assert_eq!(books.take(1024 * MIB, 2), Some((100, 1024 * MIB)));
    }

    #[cfg(unix)]
    #[test]
    fn the_best_fit_serves_and_is_cut() {
        let mut books = Books::new();
        for (slot, size) in [(100, 64 * MIB), (200, 6 * MIB), (300, 10 * MIB)] {
            books.live(slot, size, 0);
            assert_eq!(books.free(slot, 0), []);
        }
        assert_eq!(books.take(7 * MIB, 1), Some((300, 8 * MIB)));
        // What was cut off is two units further, one unit long, and as old as before.
        assert_eq!(books.cache.bytes(), 72 * MIB);
        assert_eq!(books.take(2 * MIB, 1), Some((304, 2 * MIB)));
        assert_eq!(books.take(5 * MIB, 1), Some((200, 6 * MIB)));
        assert_eq!(books.take(65 * MIB, 1), None);
        assert_eq!(books.take(20 * MIB, 1), Some((100, 20 * MIB)));
        assert_eq!(books.expire(1000), [110]);
        assert!(books.cache.is_empty());
    }

    #[test]
    fn an_alignment_beyond_a_unit_is_honoured() {
        let mut books = Books::new();
        for slot in [33, 64, 35] {
            books.live(slot, 2 * MIB, 0);
        }
        for slot in [33, 64, 35] {
            assert_eq!(books.free(slot, 0), []);
        }
        assert_eq!(books.cache.take(UNIT, 32 * UNIT, 1), Some(64));
        assert_eq!(books.cache.take(UNIT, 32 * UNIT, 1), None);
    }

    #[test]
    #[cfg(unix)]
    fn neighbours_are_joined_from_both_sides() {
        for order in [[10, 12, 15], [15, 12, 10], [10, 15, 12], [12, 10, 15]] {
            let mut books = Books::new();
            books.live(10, 4 * MIB, 0);
            books.live(12, 6 * MIB, 0);
            books.live(15, 3 * MIB, 0);
            for slot in order {
                assert_eq!(books.free(slot, 0), []);
            }
            assert_eq!(books.cache.bytes(), 13 * MIB);
            assert_eq!(books.take(13 * MIB, 0), Some((10, 13 * MIB)), "{order:?}");
            assert!(books.cache.is_empty());
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_larger_part_decides_the_age() {
        let mut books = Books::new();
        books.live(100, 64 * MIB, 0);
        books.live(132, 4 * MIB, 0);
        books.live(200, 2 * MIB, 0);
        assert_eq!(books.free(100, 0), []);
        assert_eq!(books.free(200, 100), []);
        // A small one that comes and goes behind it keeps the large one no longer.
        assert_eq!(books.free(132, 900), []);
        assert_eq!(books.expire(1000), [100]);
        assert_eq!(books.cache.bytes(), 2 * MIB);
        books.live(201, 8 * MIB, 1000);
        assert_eq!(books.free(201, 1010), []);
        assert_eq!(books.expire(1500), []);
        assert_eq!(books.expire(2010), [200]);
    }

    #[test]
    fn untouched_room_in_the_middle_is_not_joined() {
        let mut books = Books::new();
        books.live(10, 4 * MIB, 0);
        books.records.get(10).unwrap().set_reserved(40 * MIB);
        books.live(30, 4 * MIB, 0);
        assert_eq!(books.free(10, 0), []);
        assert_eq!(books.free(30, 0), []);
        assert_eq!(books.cache.bytes(), 8 * MIB);
        assert_eq!(books.take(8 * MIB, 0), None);
    }

    #[cfg(unix)]
    #[test]
    fn what_lies_behind_a_growing_block_is_absorbed() {
        let mut books = Books::new();
        books.live(10, 2 * MIB, 0);
        for (slot, size) in [(11, 4 * MIB), (14, 64 * MIB), (13, 2 * MIB)] {
            books.live(slot, size, 0);
        }
        assert_eq!(books.free(11, 0), []);
        assert_eq!(books.free(14, 0), []);
        // What is live lies between.
        assert_eq!(books.cache.absorb(address_of(11), 8 * MIB), None);
        assert_eq!(books.free(13, 0), []);
        let absorbed = books.cache.absorb(address_of(11), 8 * MIB).unwrap();
        assert_eq!(absorbed.reserved, 8 * MIB);
        assert_eq!(books.cache.bytes(), 62 * MIB);
        assert_eq!(books.records.get(11).unwrap().state(), State::NONE);
        assert_eq!(books.cache.absorb(address_of(15), 63 * MIB), None);
        assert_eq!(books.take(62 * MIB, 0), Some((15, 62 * MIB)));
    }
}

//! What all threads took of an allocator and gave back to it.

use super::family::{FAMILIES, Family};
use super::policy::Setting;
use super::watch::Sample;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Sums that threads tell in steps; figures of a moment while others run.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Ledger {
    pub(super) setting: Setting,
    counts: Counts,
}

/// Written now and then; apart from the setting, which is read all the time.
#[derive(Debug)]
#[repr(align(128))]
struct Counts {
    taken: AtomicU64,
    given: AtomicU64,
    /// The most that was held since the last collection.
    high: AtomicI64,
    /// `given` at the last collection.
    settled: AtomicU64,
}

#[expect(clippy::cast_possible_wrap, reason = "a difference of two sums")]
fn difference(taken: u64, given: u64) -> i64 {
    taken.wrapping_sub(given) as i64
}

impl Ledger {
    pub(super) const fn new() -> Self {
        Self {
            setting: Setting::new(),
            counts: Counts {
                taken: AtomicU64::new(0),
                given: AtomicU64::new(0),
                high: AtomicI64::new(0),
                settled: AtomicU64::new(0),
            },
        }
    }

    /// Counts what a thread took and gave back. Whether enough was given back to look after it.
    pub(super) fn add(&self, taken: u64, given: u64) -> bool {
        let counts = &self.counts;
        // What was freed had been taken before.
        let all_given = counts.given.load(Ordering::Relaxed);
        let all_taken = counts.taken.fetch_add(taken, Ordering::Relaxed) + taken;
        let held = difference(all_taken, all_given);
        if held > counts.high.load(Ordering::Relaxed) {
            counts.high.fetch_max(held, Ordering::Relaxed);
        }
        counts.given.fetch_add(given, Ordering::Relaxed);
        self.is_worth_it()
    }

    /// Whether enough was given back since the last collection.
    pub(super) fn is_worth_it(&self) -> bool {
        let settled = self.counts.settled.load(Ordering::Relaxed);
        let given = self.counts.given.load(Ordering::Relaxed);
        given.wrapping_sub(settled) >= self.setting.min_bytes()
    }

    pub(super) fn sample(&self) -> Sample {
        let taken = self.counts.taken.load(Ordering::Relaxed);
        let given = self.counts.given.load(Ordering::Relaxed);
        let unused = self.counts.high.load(Ordering::Relaxed) - difference(taken, given);
        let freed = given.wrapping_sub(self.counts.settled.load(Ordering::Relaxed));
        Sample {
            policy: self.setting.get(),
            moved: taken.wrapping_add(given),
            freed,
            unused: freed.min(u64::try_from(unused).unwrap_or(0)),
        }
    }

    /// Begins anew: what was given back until now has been looked after.
    pub(super) fn settle(&self) {
        let taken = self.counts.taken.load(Ordering::Relaxed);
        let given = self.counts.given.load(Ordering::Relaxed);
        self.counts.settled.store(given, Ordering::Relaxed);
        self.counts
            .high
            .store(difference(taken, given), Ordering::Relaxed);
    }
}

static LEDGERS: [Ledger; FAMILIES] = [const { Ledger::new() }; FAMILIES];

/// All of them, by their families.
pub(super) fn ledgers() -> &'static [Ledger; FAMILIES] {
    &LEDGERS
}

/// The ledger of an allocator.
#[inline]
pub(super) fn ledger(family: Family) -> &'static Ledger {
    &LEDGERS[family as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::trim::TrimPolicy;
    use std::time::Duration;

    #[test]
    fn what_is_unused_is_what_was_held_and_is_no_more() {
        let ledger = Ledger::new();
        ledger.setting.set(Some(TrimPolicy {
            idle: Duration::ZERO,
            min_bytes: 100,
        }));
        assert!(!ledger.add(500, 0));
        assert!(!ledger.add(0, 99));
        assert_eq!(ledger.sample().unused, 99);
        assert!(ledger.add(0, 1));
        assert_eq!((ledger.sample().freed, ledger.sample().unused), (100, 100));
        // What is used again is not unused, however much was freed.
        assert!(ledger.add(100, 0));
        assert_eq!((ledger.sample().freed, ledger.sample().unused), (100, 0));
        assert!(ledger.add(0, 400));
        assert_eq!(ledger.sample().unused, 400);
        ledger.settle();
        assert_eq!((ledger.sample().freed, ledger.sample().unused), (0, 0));
        assert!(!ledger.add(0, 60));
        assert_eq!((ledger.sample().freed, ledger.sample().unused), (60, 60));
        ledger.setting.set(None);
        assert!(!ledger.add(0, 1000));
        assert_eq!(ledger.sample().policy, None);
    }
}

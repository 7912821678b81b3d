//! When a thread collects a heap that only it can collect.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A thread that gave back all but one part in this many of what it had is done.
const DONE: i64 = 64;

/// A thread that collects by itself waits so long at least before the next time, and at most.
const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(64);

/// Collecting so rarely costs a hundredth of the time, whatever comes in between.
const RARELY: Duration = Duration::from_secs(4);

/// What a thread took of its heap and gave back to heaps, its own or another's, since it last
/// collected it.
#[derive(Debug)]
pub(super) struct OwnHeap {
    given: Cell<u64>,
    held: Cell<i64>,
    high: Cell<i64>,
    /// The last request of the timer's that was heeded.
    heeded: Cell<u32>,
    collected: Cell<Option<Instant>>,
    pause: Cell<Duration>,
}

#[expect(clippy::cast_possible_wrap, reason = "sizes are below 2^63")]
const fn signed(bytes: u64) -> i64 {
    bytes as i64
}

impl OwnHeap {
    pub(super) const fn new() -> Self {
        Self {
            given: Cell::new(0),
            held: Cell::new(0),
            high: Cell::new(0),
            heeded: Cell::new(0),
            collected: Cell::new(None),
            pause: Cell::new(LEAST),
        }
    }

    #[inline]
    pub(super) fn take(&self, bytes: u64) {
        let held = self.held.get() + signed(bytes);
        self.held.set(held);
        self.high.set(self.high.get().max(held));
    }

    /// Counts bytes given back; whether it may be time to collect.
    #[inline]
    pub(super) fn free(&self, bytes: u64, min_bytes: u64) -> bool {
        let held = self.held.get() - signed(bytes);
        self.held.set(held);
        let given = self.given.get() + bytes;
        self.given.set(given);
        given >= min_bytes && (self.is_done() || self.heeded.get() != super::timer::request())
    }

    fn is_done(&self) -> bool {
        self.held.get().saturating_mul(DONE) <= self.high.get()
    }

    /// Whether to collect now: the timer asks, or the thread has given back nearly all. Who fills and
    /// frees again and again would pay for every page each time, so it does ever more rarely.
    pub(super) fn is_due(&self, now: Instant, request: u32) -> bool {
        if self.heeded.replace(request) != request {
            return true;
        }
        let Some(collected) = self.collected.get() else {
            return true;
        };
        let passed = now.saturating_duration_since(collected);
        let pause = self.pause.get();
        if passed < pause {
            return false;
        }
        self.pause.set(if passed < (2 * pause).max(RARELY) {
            (2 * pause).min(MOST)
        } else {
            LEAST
        });
        true
    }

    /// Begins anew.
    pub(super) fn settle(&self, now: Instant) {
        self.given.set(0);
        self.high.set(self.held.get());
        self.collected.set(Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Fills and frees 64 MiB in steps of 256 KiB, as leases go; how often the heap was due.
    fn batch(heap: &OwnHeap, now: Instant) -> usize {
        for _ in 0..256 {
            heap.take(MIB / 4);
        }
        let mut times = 0;
        for _ in 0..256 {
            if heap.free(MIB / 4, 32 * MIB) && heap.is_due(now, 0) {
                heap.settle(now);
                times += 1;
            }
        }
        times
    }

    #[test]
    fn who_gives_nearly_all_back_collects_at_once() {
        let heap = OwnHeap::new();
        assert_eq!(batch(&heap, Instant::now()), 1);
        // A few MiB are not worth it.
        heap.take(8 * MIB);
        assert!(!heap.free(8 * MIB, 32 * MIB));
        // Nor is half of what there is.
        heap.take(512 * MIB);
        assert!(!heap.free(256 * MIB, 32 * MIB));
    }

    #[test]
    fn who_fills_and_frees_in_turn_collects_ever_more_rarely() {
        let (heap, start) = (OwnHeap::new(), Instant::now());
        let times: usize = (0..6000_u32)
            .map(|round| batch(&heap, start + Duration::from_millis(20) * round))
            .sum();
        // In two minutes: at 0, 0.1, 0.3, 0.7, 1.5 … and 102.3 s.
        assert_eq!(times, 11);
        // After a pause it is a thread like any other.
        assert_eq!(batch(&heap, start + Duration::from_secs(1000)), 1);
        assert_eq!(batch(&heap, start + Duration::from_secs(1001)), 1);
    }

    #[test]
    fn a_request_is_heeded_once() {
        let (heap, now) = (OwnHeap::new(), Instant::now());
        heap.settle(now);
        assert!(!heap.is_due(now, 0));
        assert!(heap.is_due(now, 1));
        assert!(!heap.is_due(now, 1));
    }

    #[test]
    fn another_threads_blocks_do_not_disturb() {
        let heap = OwnHeap::new();
        // Only ever frees: its own heap is empty, and that is found out rarely.
        let now = Instant::now();
        let mut times = 0;
        for _ in 0..10_000 {
            if heap.free(MIB, 32 * MIB) && heap.is_due(now, 0) {
                heap.settle(now);
                times += 1;
            }
        }
        assert_eq!(times, 1);
    }
}

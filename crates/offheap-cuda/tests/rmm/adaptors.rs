//! `statistics_mr_tests.cpp`, `tracking_mr_tests.cpp`, `limiting_mr_tests.cpp`, `callback_mr_tests.cpp`, as far as
//! `tests/gpu/adaptors.rs` does not have them.

use crate::kinds::{KIB, Kind, MIB, code, cuda_alignment, kinds};
use offheap::{
    Block, Counter, Error, FailingOptions, Hook, LeakReport, Pool, Request, Result, TrackOptions,
};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};

const TEN: usize = 10 * MIB;

fn blocks(kind: &Kind, count: usize) -> Vec<Block> {
    (0..count).map(|_| kind.block(TEN).unwrap()).collect()
}

fn without_every_other(blocks: Vec<Block>) -> Vec<Block> {
    let numbered = blocks.into_iter().enumerate();
    numbered
        .filter(|(at, _)| at % 2 == 1)
        .map(|(_, block)| block)
        .collect()
}

/// RMM's `delayed_memory_resource`: one free has reached the memory, and its caller does not know yet. Steps in place
/// of its sleeps.
#[derive(Debug)]
struct Delayed {
    is_armed: AtomicBool,
    is_free: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
}

impl Hook for Delayed {
    fn after(&self, request: &Request, _answer: Result<Option<NonNull<u8>>, &Error>) {
        if matches!(request, Request::Free { .. }) && self.is_armed.swap(false, Ordering::AcqRel) {
            self.is_free.lock().unwrap().send(()).unwrap();
            // An error is the end of a test that failed.
            let _ = self.go_on.lock().unwrap().recv();
        }
    }
}

/// Frees a block on another thread, and while that one's books are still to be done, has a new block of the same
/// size: mostly the same address. Gives the new block.
fn free_and_allocate_at_once(
    kind: &Kind,
    adapt: impl Fn(&Pool) -> Pool,
    size: usize,
) -> (Block, Pool) {
    let (free, is_free) = channel();
    let (go_on, may_go_on) = channel();
    let delayed = Arc::new(Delayed {
        is_armed: AtomicBool::new(true),
        is_free: Mutex::new(free),
        go_on: Mutex::new(may_go_on),
    });
    let pool = adapt(&kind.pool().hook(delayed));
    let kind = kind.over(&pool);
    let first = kind.block(size).unwrap();
    let second = std::thread::scope(|scope| {
        let other = scope.spawn(move || drop(first));
        is_free.recv().unwrap();
        let second = kind.block(size).unwrap();
        go_on.send(()).unwrap();
        other.join().unwrap();
        second
    });
    (second, pool)
}

/// `StatisticsTest` `MultiThreaded`.
#[test]
fn statistics_multi_threaded() {
    for kind in kinds() {
        let (block, pool) = free_and_allocate_at_once(&kind, Pool::scoped_statistics, 256);
        let counters = pool.scopes().unwrap().counters();
        assert_eq!(counters.bytes.value, 256, "{}", kind.name);
        drop(block);
        let counters = pool.scopes().unwrap().counters();
        assert_eq!((counters.bytes.value, counters.bytes.total), (0, 512));
        assert_eq!(counters.allocations.value, 0, "{}", kind.name);
        assert_eq!(counters.allocations.total, 2, "{}", kind.name);
        let now = pool.statistics();
        assert_eq!((now.bytes_allocated, now.live_allocations), (0, 0));
        assert_eq!((now.total_bytes_allocated, now.num_allocations), (512, 2));
    }
}

/// `TrackingTest` `MultiThreaded`: the same address twice (ABA) is two blocks.
#[test]
fn tracking_multi_threaded() {
    for kind in kinds() {
        let track = |pool: &Pool| pool.track(TrackOptions::default());
        let (block, pool) = free_and_allocate_at_once(&kind, track, 256);
        let tracker = pool.tracker().unwrap();
        assert_eq!((tracker.live_count(), tracker.live_bytes()), (1, 256));
        assert!(tracker.find(block.as_ptr().addr().get()).is_some());
        drop(block);
        assert_eq!((tracker.live_count(), tracker.live_bytes()), (0, 0));
        assert_eq!(tracker.untracked_frees(), 0, "{}", kind.name);
    }
}

/// The same of a limit: what is held is never more than what it says.
#[test]
fn limits_multi_threaded() {
    for kind in kinds() {
        let (block, pool) = free_and_allocate_at_once(&kind, |pool| pool.limit(512), 256);
        assert_eq!(pool.available(), Some(256), "{}", kind.name);
        drop(block);
        assert_eq!(pool.available(), Some(512), "{}", kind.name);
    }
}

/// `StatisticsTest` `Empty`, `PeakAllocations`.
#[test]
fn statistics_peak_allocations() {
    for kind in kinds() {
        let pool = kind.pool().scoped_statistics();
        let (kind, scopes) = (kind.over(&pool), pool.scopes().unwrap());
        assert_eq!(scopes.counters(), Default::default());
        let mut live = without_every_other(blocks(&kind, 10));
        let five = |value, peak, total| Counter { value, peak, total };
        let ten = TEN as i64;
        let counters = scopes.counters();
        assert_eq!(counters.bytes, five(5 * ten, 10 * ten, 10 * ten));
        assert_eq!(counters.allocations, five(5, 10, 10));
        live.extend(blocks(&kind, 10));
        drop(live);
        let counters = scopes.counters();
        assert_eq!(counters.bytes, five(0, 15 * ten, 20 * ten), "{}", kind.name);
        assert_eq!(counters.allocations, five(0, 15, 20), "{}", kind.name);
    }
}

/// `StatisticsTest` `MultiTracking`, `NegativeInnerTracking`: of two adaptors one over the other, each counts what went
/// through it; what the inner one sees freed that it has not seen allocated counts as less than nothing.
#[test]
fn statistics_of_adaptors_over_each_other() {
    let ten = TEN as i64;
    for kind in kinds() {
        let under = kind.pool().scoped_statistics();
        let over = under.scoped_statistics();
        let (below, above) = (under.scopes().unwrap(), over.scopes().unwrap());
        let mut live = blocks(&kind.over(&under), 10);
        live.extend(blocks(&kind.over(&over), 5));
        assert_eq!(below.counters().allocations.value, 15, "{}", kind.name);
        assert_eq!(above.counters().allocations.value, 5, "{}", kind.name);
        assert_eq!(below.counters().bytes.value, 15 * ten);
        assert_eq!(above.counters().bytes.value, 5 * ten);
        drop(live);
        for (scopes, count) in [(&below, 15), (&above, 5)] {
            let counters = scopes.counters();
            assert_eq!((counters.bytes.value, counters.allocations.value), (0, 0));
            assert_eq!(counters.bytes.peak, count * ten, "{}", kind.name);
            assert_eq!(counters.allocations.peak, count, "{}", kind.name);
        }
        // Freed by another than it came from: memory's own pool counts right, the scope below nothing.
        let alignment = cuda_alignment();
        let block = under.allocate_on_device(TEN, alignment, false).unwrap();
        // SAFETY: a block of the pool under this one, which frees it there; nobody uses it.
        unsafe { over.free(block, TEN, alignment) };
        assert_eq!(below.counters().bytes.value, 0, "{}", kind.name);
        assert_eq!(above.counters().bytes.value, -ten, "{}", kind.name);
        assert_eq!(above.counters().allocations.value, -1, "{}", kind.name);
        assert_eq!(above.counters().bytes.total, 5 * ten, "{}", kind.name);
    }
}

/// `StatisticsTest` `Nested`. Scopes that end add what they counted to the one around them, as in RMM.
#[test]
fn statistics_nested() {
    let ten = TEN as i64;
    for kind in kinds() {
        let pool = kind.pool().scoped_statistics();
        let (kind, scopes) = (kind.over(&pool), pool.scopes().unwrap());
        let first = kind.block(TEN).unwrap();
        let around = scopes.push().unwrap();
        assert_eq!((around.bytes.value, around.allocations.value), (ten, 1));
        assert_eq!(scopes.counters(), Default::default());
        let second = kind.block(TEN).unwrap();
        scopes.push().unwrap();
        drop(kind.block(TEN).unwrap());
        let inner = scopes.pop().unwrap();
        assert_eq!((inner.bytes.value, inner.bytes.peak), (0, ten));
        assert_eq!((inner.allocations.value, inner.allocations.peak), (0, 1));
        drop(first);
        let outer = scopes.pop().unwrap();
        assert_eq!((outer.bytes.value, outer.bytes.peak), (0, 2 * ten));
        assert_eq!((outer.allocations.value, outer.allocations.peak), (0, 2));
        drop(second);
        assert_eq!(code(scopes.pop()), "ERR_OFFHEAP_INVALID_ARGUMENT");
        assert_eq!(scopes.counters().bytes.value, 0, "{}", kind.name);
    }
}

/// `TrackingTest` `Empty`, `AllocationsLeftWithStacks`, `AllocationsLeftWithoutStacks`.
#[test]
fn tracking_with_and_without_stacks() {
    for (kind, depth) in kinds()
        .into_iter()
        .flat_map(|kind| [(kind.clone(), 16), (kind, 0)])
    {
        let pool = kind
            .pool()
            .track(TrackOptions::default().stack_depth(depth));
        let (kind, tracker) = (kind.over(&pool), pool.tracker().unwrap());
        assert_eq!((tracker.live_count(), tracker.live_bytes()), (0, 0));
        let left = without_every_other(blocks(&kind, 10));
        assert_eq!(tracker.live_bytes(), 5 * TEN as u64, "{}", kind.name);
        let live = tracker.live();
        assert_eq!(live.len(), 5, "{}", kind.name);
        assert!(live.iter().all(|one| one.native.is_none() == (depth == 0)));
        drop(left);
        assert_eq!(tracker.live(), [], "{}", kind.name);
    }
}

/// `TrackingTest` `MultiTracking`, `NegativeInnerTracking`, `UntrackedDeallocationDoesNotUnderflowAllocatedBytes`.
#[test]
fn trackers_over_each_other() {
    for kind in kinds() {
        let under = kind.pool().track(TrackOptions::default());
        let over = under.track(TrackOptions::default());
        let (below, above) = (under.tracker().unwrap(), over.tracker().unwrap());
        let mut live = blocks(&kind.over(&under), 10);
        live.extend(blocks(&kind.over(&over), 5));
        assert_eq!((below.live_count(), above.live_count()), (15, 5));
        assert_eq!(below.live_bytes(), 15 * TEN as u64, "{}", kind.name);
        assert_eq!(above.live_bytes(), 5 * TEN as u64, "{}", kind.name);
        drop(live);
        let alignment = cuda_alignment();
        let block = under.allocate_on_device(TEN, alignment, false).unwrap();
        // SAFETY: a block of the pool under this one, which frees it there; nobody uses it.
        unsafe { over.free(block, TEN, alignment) };
        assert_eq!(above.untracked_frees(), 1, "{}", kind.name);
        for tracker in [below, above] {
            assert_eq!((tracker.live_count(), tracker.live_bytes()), (0, 0));
        }
    }
}

/// `TrackingTest` `LogOutstandingAllocations`.
#[test]
fn what_is_left_is_reported() {
    for kind in kinds() {
        let pool = kind.pool().track(TrackOptions::default());
        let kind = kind.over(&pool);
        let left = blocks(&kind, 2);
        let report: LeakReport = pool.leak_report();
        assert_eq!((report.bytes, report.allocations), (2 * TEN as u64, 2));
        let text = report.to_string();
        assert!(text.contains("20971520 bytes"), "{}: {text}", kind.name);
        assert!(text.contains("adaptors"), "the place: {text}");
        drop(left);
        assert!(pool.leak_report().is_empty(), "{}", kind.name);
    }
}

/// `LimitingTest` `UpstreamFailure`: the larger limit over the smaller.
#[test]
fn limits_under_limits() {
    for kind in kinds() {
        let smaller = kind.pool().limit(2 * MIB as u64);
        let larger = smaller.limit(5 * MIB as u64);
        let kind = kind.over(&larger);
        assert!(kind.block(4 * MIB).unwrap_err().is_out_of_memory());
        assert_eq!(larger.available(), Some(2 * MIB as u64), "{}", kind.name);
        assert_eq!(
            (larger.bytes_allocated(), smaller.bytes_allocated()),
            (0, 0)
        );
        drop(kind.block(2 * MIB).unwrap());
    }
}

/// Not so soon, at least.
fn never() -> FailingOptions {
    FailingOptions {
        after: Some(u64::MAX),
        ..FailingOptions::default()
    }
}

/// `AdaptorTest` `Equality`, `GetUpstreamResource`, `AllocFree`, and the same of `CcclAdaptorTest`, with its
/// `SharedOwnership`: a pool's memory is there as long as a block of it.
#[test]
fn adaptors_are_themselves_and_keep_what_is_under_them() {
    let adapt: [fn(&Pool) -> Pool; 5] = [
        |pool| pool.limit(64 << 20),
        |pool| pool.proxy(),
        Pool::scoped_statistics,
        |pool| pool.track(TrackOptions::default()),
        |pool| pool.failing(never()).unwrap(),
    ];
    for kind in kinds() {
        for adapt in adapt {
            let (first, second) = (adapt(&kind.pool()), adapt(&kind.pool()));
            assert_eq!(first, first.clone(), "{}", kind.name);
            assert_ne!(first, second, "{}", kind.name);
            assert_eq!(first.location(), kind.pool().location());
            let over = kind.over(&first);
            assert!(!over.manager.equals(&*kind.manager), "{}", kind.name);
            let block = over.block(KIB).unwrap();
            let copy = first.clone();
            drop((over, first, second));
            assert_eq!(copy.bytes_allocated(), 1024, "{}", kind.name);
            drop(block);
            assert_eq!(copy.bytes_allocated(), 0, "{}", kind.name);
        }
    }
}

/// `CallbackTest` `TestCallbacksAreInvoked`, `LoggingTest`: once each, with the size.
#[derive(Debug, Default)]
struct Words(Mutex<Vec<String>>);

impl Hook for Words {
    fn before(&self, request: &Request, _pool: &Pool) -> Result<()> {
        self.0.lock().unwrap().push(match request {
            Request::Allocate { size, .. } => format!("Allocating {size} bytes"),
            Request::Free { size, .. } => format!("Deallocating {size} bytes"),
            other => format!("{other:?}"),
        });
        Ok(())
    }
}

#[test]
fn callbacks_are_invoked() {
    for kind in kinds() {
        let words = Arc::new(Words::default());
        let over = kind.over(&kind.pool().hook(words.clone()));
        drop(over.block(TEN).unwrap());
        assert_eq!(
            *words.0.lock().unwrap(),
            ["Allocating 10485760 bytes", "Deallocating 10485760 bytes"],
            "{}",
            kind.name
        );
    }
}

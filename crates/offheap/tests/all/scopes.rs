//! Statistics by scopes. Names in capitals are RMM's `statistics_mr_tests.cpp`.

use crate::every_pool::own;
use crate::refusing::Refusing;
use offheap::{
    Alignment, Block, Counter, Hook, MutableBuffer, Pool, Request, ScopeCounters, ScopedStatistics,
    system_memory_pool,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const TEN_MIB: usize = 10 << 20;
const MIB: i64 = 1 << 20;

fn scoped(base: &Pool) -> (Pool, Arc<ScopedStatistics>) {
    let pool = base.scoped_statistics();
    let scopes = pool.scopes().unwrap();
    (pool, scopes)
}

fn block(size: usize, pool: &Pool) -> Block {
    Block::allocate(size, Alignment::DEFAULT, pool, false).unwrap()
}

fn counter(value: i64, peak: i64, total: i64) -> Counter {
    let mut counter = Counter::default();
    (counter.value, counter.peak, counter.total) = (value, peak, total);
    counter
}

/// Bytes in MiB and blocks.
fn assert_counted(counted: ScopeCounters, mib: [i64; 3], blocks: [i64; 3]) {
    let [value, peak, total] = mib;
    assert_eq!(counted.bytes, counter(value * MIB, peak * MIB, total * MIB));
    let [value, peak, total] = blocks;
    assert_eq!(counted.allocations, counter(value, peak, total));
}

/// `Empty`, `AllFreed`.
#[test]
fn nothing_is_counted_before_and_all_freed_is_zero() {
    for base in own() {
        let (pool, scopes) = scoped(&base);
        assert_eq!(scopes.counters(), ScopeCounters::default());
        let blocks: Vec<_> = (0..10).map(|_| block(TEN_MIB, &pool)).collect();
        drop(blocks);
        assert_counted(scopes.counters(), [0, 100, 100], [0, 10, 10]);
    }
}

/// `PeakAllocations`.
#[test]
fn the_peak_is_of_bytes_and_of_blocks() {
    let (pool, scopes) = scoped(&system_memory_pool());
    let mut blocks: Vec<_> = (0..10).map(|_| block(TEN_MIB, &pool)).collect();
    blocks.truncate(5);
    assert_counted(scopes.counters(), [50, 100, 100], [5, 10, 10]);
    blocks.extend((0..10).map(|_| block(TEN_MIB, &pool)));
    drop(blocks);
    assert_counted(scopes.counters(), [0, 150, 200], [0, 15, 20]);
}

/// `MultiTracking`.
#[test]
fn scopes_stack() {
    let (outer_pool, outer) = scoped(&system_memory_pool());
    let mut blocks: Vec<_> = (0..10).map(|_| block(TEN_MIB, &outer_pool)).collect();
    let (inner_pool, inner) = scoped(&outer_pool);
    blocks.extend((0..5).map(|_| block(TEN_MIB, &inner_pool)));
    assert_counted(outer.counters(), [150, 150, 150], [15, 15, 15]);
    assert_counted(inner.counters(), [50, 50, 50], [5, 5, 5]);
    drop(blocks);
    assert_counted(outer.counters(), [0, 150, 150], [0, 15, 15]);
    assert_counted(inner.counters(), [0, 50, 50], [0, 5, 5]);
}

/// `NegativeInnerTracking`: what another pool allocated is freed through the inner hook.
#[test]
fn frees_of_others_blocks_make_an_inner_value_negative() {
    let (pool, inner) = scoped(&system_memory_pool());
    let mut blocks: Vec<_> = (0..5).map(|_| block(TEN_MIB, &pool)).collect();
    let elsewhere = system_memory_pool().proxy();
    blocks.extend((0..10).map(|_| block(TEN_MIB, &elsewhere)));
    for block in &blocks[5..] {
        let free = Request::Free {
            ptr: block.as_ptr(),
            size: TEN_MIB,
            alignment: Alignment::DEFAULT,
        };
        inner.before(&free, &pool).unwrap();
        inner.after(&free, Ok(None));
    }
    drop(blocks);
    assert_counted(inner.counters(), [-100, 50, 50], [-10, 5, 5]);
}

/// `Nested`.
#[test]
fn an_inner_scope_is_added_to_the_one_around_it() {
    let (pool, scopes) = scoped(&system_memory_pool());
    let a0 = block(TEN_MIB, &pool);
    assert_counted(scopes.counters(), [10, 10, 10], [1, 1, 1]);
    assert_counted(scopes.push().unwrap(), [10, 10, 10], [1, 1, 1]);
    assert_counted(scopes.counters(), [0, 0, 0], [0, 0, 0]);
    let a1 = block(TEN_MIB, &pool);
    scopes.push().unwrap();
    assert_eq!(scopes.depth(), 2);
    assert_counted(scopes.counters(), [0, 0, 0], [0, 0, 0]);
    drop(block(TEN_MIB, &pool));
    assert_counted(scopes.counters(), [0, 10, 10], [0, 1, 1]);
    assert_counted(scopes.pop().unwrap(), [0, 10, 10], [0, 1, 1]);
    drop(a0);
    assert_counted(scopes.pop().unwrap(), [0, 20, 20], [0, 2, 2]);
    drop(a1);
    let error = scopes.pop().unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
    assert_eq!(
        error.to_string(),
        "pop must be called once for each push of the same thread, got one more"
    );
    // Beside the scopes: 10 MiB at first, 20 more at most inside, all freed.
    assert_counted(scopes.counters(), [0, 30, 30], [0, 3, 3]);
}

/// What an outer scope allocated, and an inner one frees, is negative there and right outside.
#[test]
fn an_inner_scope_may_free_what_an_outer_one_allocated() {
    let (pool, scopes) = scoped(&system_memory_pool());
    scopes.push().unwrap();
    let outer = block(TEN_MIB, &pool);
    let ((), inner) = scopes.measure(|| drop(outer)).unwrap();
    assert_counted(inner, [-10, 0, 0], [-1, 0, 0]);
    assert_counted(scopes.pop().unwrap(), [0, 10, 10], [0, 1, 1]);
}

#[test]
fn a_resize_counts_its_difference() {
    for base in own() {
        let (pool, scopes) = scoped(&base);
        let mut block = block(TEN_MIB, &pool);
        block.reallocate(2 * TEN_MIB).unwrap();
        block.reallocate(TEN_MIB / 2).unwrap();
        assert_counted(scopes.counters(), [5, 20, 20], [1, 1, 1]);
        assert!(block.reallocate(isize::MAX as usize).is_err());
        assert_counted(scopes.counters(), [5, 20, 20], [1, 1, 1]);
        // To nothing: the block is given back.
        block.reallocate(0).unwrap();
        assert_counted(scopes.counters(), [0, 20, 20], [0, 1, 1]);
    }
}

#[test]
fn what_is_refused_is_not_counted() {
    let (pool, scopes) = scoped(&Pool::custom(Refusing));
    assert!(MutableBuffer::zeroed(100, &pool).is_err());
    let (result, counted) = scopes
        .measure(|| MutableBuffer::zeroed(100, &pool).is_err())
        .unwrap();
    assert!(result);
    assert_eq!(counted, ScopeCounters::default());
    assert_eq!(scopes.counters(), ScopeCounters::default());
}

/// `MultiThreaded`: threads that allocate and free at once leave nothing.
#[test]
fn threads_count_together_outside_of_scopes() {
    for base in own() {
        let (pool, scopes) = scoped(&base);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        drop(block(256, &pool));
                    }
                });
            }
        });
        let counted = scopes.counters();
        assert_eq!(
            (counted.bytes.value, counted.bytes.total),
            (0, 2 * 100 * 256)
        );
        assert_eq!(
            (counted.allocations.value, counted.allocations.total),
            (0, 200)
        );
        assert!((256..=512).contains(&counted.bytes.peak));
    }
}

#[test]
fn each_thread_has_scopes_of_its_own() {
    let (pool, scopes) = scoped(&system_memory_pool());
    scopes.push().unwrap();
    std::thread::scope(|scope| {
        for thread in 1..=8 {
            let (pool, scopes) = (&pool, &scopes);
            scope.spawn(move || {
                assert_eq!(scopes.depth(), 0);
                assert!(scopes.pop().is_err());
                for _ in 0..100 {
                    let (_, counted) = scopes
                        .measure(|| {
                            drop(block(thread, pool));
                            scopes.measure(|| drop(block(10, pool))).unwrap()
                        })
                        .unwrap();
                    assert_eq!(counted.bytes.total, thread as i64 + 10);
                    assert_eq!(counted.allocations, counter(0, 1, 2));
                }
            });
        }
    });
    assert_eq!(scopes.pop().unwrap(), ScopeCounters::default());
    let counted = scopes.counters();
    assert_eq!(counted.bytes.total, 100 * (36 + 80));
    assert_eq!((counted.bytes.value, counted.allocations.total), (0, 1600));
}

#[test]
fn a_panic_ends_the_scope() {
    let (pool, scopes) = scoped(&system_memory_pool());
    let runs = AtomicUsize::new(0);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        scopes.measure(|| {
            let _held = block(100, &pool);
            runs.fetch_add(1, Ordering::Relaxed);
            panic!("on purpose");
        })
    }));
    assert!(result.is_err());
    assert_eq!((runs.into_inner(), scopes.depth()), (1, 0));
    assert_eq!(scopes.counters().bytes, counter(0, 100, 100));
}

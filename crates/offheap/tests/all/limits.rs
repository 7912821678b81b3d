//! Limits: Arrow's cases 12 and 13 (`CappedMemoryPool`), and what Arrow's cap cannot do.

use crate::every_pool::backends;
use offheap::{Alignment, ErrorKind, MutableBuffer, Pool, ResizableBuffer};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn buffer(size: usize, pool: &Pool) -> offheap::Result<MutableBuffer> {
    // Not touched: these tests are about counting.
    offheap::UninitBuffer::allocate(size, Alignment::DEFAULT, pool).map(|buffer| buffer.fill(0))
}

/// Case 12: a limit of 1000 is reached exactly, and a refusal changes no statistic.
#[test]
fn case_12_allocate_limit() {
    for base in backends() {
        let pool = base.proxy().limit(1000);
        let first = buffer(600, &pool).unwrap();
        let second = buffer(400, &pool).unwrap();
        assert_eq!((pool.bytes_allocated(), pool.available()), (1000, Some(0)));
        drop(second);
        let third = buffer(300, &pool).unwrap();
        drop(third);
        let before = pool.statistics();
        let error = buffer(401, &pool).unwrap_err();
        assert!(error.is_out_of_memory());
        let now = pool.statistics();
        assert_eq!(now.bytes_allocated, 600);
        assert_eq!(now.total_bytes_allocated, 1300);
        assert_eq!(now.peak_bytes, 1000);
        assert_eq!(now.num_allocations, before.num_allocations);
        assert_eq!(now.live_allocations, before.live_allocations);
        drop(first);
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// Case 13: a reallocation needs room for the difference only.
#[test]
fn case_13_reallocate_limit() {
    for base in backends() {
        let pool = base.proxy().limit(1000);
        let first = buffer(600, &pool).unwrap();
        let mut second = ResizableBuffer::zeroed(400, &pool).unwrap();
        second.resize(300, true).unwrap();
        assert_eq!(pool.bytes_allocated(), 900);
        second.fill(7);
        let error = second.resize(401, true).unwrap_err();
        assert!(error.is_out_of_memory());
        assert_eq!(pool.bytes_allocated(), 900);
        assert_eq!(second[..], [7; 300]);
        second.resize(400, true).unwrap();
        assert_eq!(pool.available(), Some(0));
        drop((first, second));
    }
}

/// The error says who refused, how much was asked, what is held and what is left.
#[test]
fn the_error_names_the_limit_that_refused() {
    for base in backends() {
        let process = base.limit_named(1000, Some("process"));
        let tenant = process.proxy_named(Some("tenant"));
        let query = tenant.limit_named(2000, Some("query"));
        let _held = buffer(700, &tenant).unwrap();
        let error = buffer(301, &query).unwrap_err();
        assert_eq!(
            *error.kind(),
            ErrorKind::OutOfMemory {
                requested: 301,
                limit: Some(1000),
                allocated: 700,
                pool: "process".to_owned(),
            }
        );
        assert_eq!(
            error.to_string(),
            "pool 'process' cannot allocate 301 bytes: 700 of its limit of 1000 bytes are \
             allocated, 300 are left"
        );
        let error = buffer(2001, &query).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("pool 'query' cannot allocate 2001 bytes: 0 of")
        );
        // A reallocation asks for the difference.
        let mut growing = ResizableBuffer::zeroed(100, &query).unwrap();
        let error = growing.resize(500, true).unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::OutOfMemory { requested: 400, .. }
        ));
        assert_eq!(
            (query.limit_bytes(), query.available()),
            (Some(2000), Some(200))
        );
        assert_eq!(tenant.limit_bytes(), None);
    }
}

/// Limits of nothing and of everything, and pools over them.
#[test]
fn limits_at_both_ends() {
    for base in backends() {
        let none = base.limit(0);
        assert!(buffer(1, &none).unwrap_err().is_out_of_memory());
        assert_eq!(buffer(0, &none).unwrap().len(), 0);
        let all = base.limit(u64::MAX).limit(u64::MAX - 1);
        let held = buffer(100, &all).unwrap();
        assert_eq!(all.available(), Some(u64::MAX - 1 - 100));
        assert!(
            all.allocate(usize::MAX, Alignment::DEFAULT)
                .unwrap_err()
                .is_out_of_memory()
        );
        assert_eq!(all.available(), Some(u64::MAX - 1 - 100));
        drop(held);
    }
}

/// What goes through a sibling or the parent does not count: Arrow's cap reads its parent's bytes.
#[test]
fn only_what_goes_through_a_limit_counts() {
    for base in backends() {
        let _other = buffer(5000, &base).unwrap();
        let pool = base.limit(1000);
        let sibling = base.limit(1000);
        let _sibling = buffer(1000, &sibling).unwrap();
        assert_eq!(buffer(1000, &pool).unwrap().len(), 1000);
    }
}

const THREADS: usize = 8;
const ROUNDS: usize = 50;
const LIMIT: usize = 1_000_000;

/// A cheap generator of sizes, different in each thread.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize
}

/// Runs `work` in eight threads at once while another one watches that no pool is over its limit.
fn race(pools: &[Pool], work: impl Fn(usize) + Sync) {
    let done = AtomicBool::new(false);
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                for pool in pools {
                    let limit = pool.limit_bytes().unwrap();
                    assert!(pool.bytes_allocated() <= limit, "{pool:?}");
                    assert!(pool.peak_bytes() <= limit, "{pool:?}");
                }
                thread::yield_now();
            }
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|i| {
                let (work, start) = (&work, &start);
                scope.spawn(move || {
                    start.wait();
                    work(i);
                })
            })
            .collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Release);
        watcher.join().unwrap();
        results.into_iter().for_each(|result| result.unwrap());
    });
    for pool in pools {
        let now = pool.statistics();
        assert!(now.peak_bytes <= now.limit_bytes.unwrap());
    }
}

/// Eight threads take whatever they get: never a byte over, and when all are refused, nothing is
/// left (Arrow 26 lets 1.2 MB through a limit of 1 MB in 18 of 50 rounds).
#[test]
fn eight_threads_never_exceed_a_limit_and_fill_it() {
    for base in backends() {
        for round in 0..ROUNDS {
            let pool = base.limit(LIMIT as u64);
            let held = std::sync::Mutex::new(Vec::new());
            race(std::slice::from_ref(&pool), |i| {
                let mut state = (round * THREADS + i + 1) as u64;
                let mut mine = Vec::new();
                // Some come and go, of any size.
                for _ in 0..20 {
                    mine.extend(pool_take(&pool, next(&mut state) % 60_000));
                    if next(&mut state).is_multiple_of(3) {
                        mine.clear();
                    }
                }
                // Then everybody takes until refused. Nobody frees, so a refusal means full.
                while let Some(more) = pool_take(&pool, 1000) {
                    mine.push(more);
                }
                held.lock().unwrap().append(&mut mine);
            });
            // The threads still held odd sizes while others were refused: fill up what they left.
            let mut held = held.into_inner().unwrap();
            while let Some(more) = pool_take(&pool, 1) {
                held.push(more);
                assert!(held.len() < 100_000);
            }
            assert_eq!(pool.bytes_allocated(), LIMIT as u64);
            assert_eq!(pool.peak_bytes(), LIMIT as u64);
            drop(held);
            assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
            assert_eq!(pool.available(), Some(LIMIT as u64));
        }
    }
}

fn pool_take(pool: &Pool, size: usize) -> Option<MutableBuffer> {
    buffer(size, pool).ok()
}

/// Eight threads that each hold an eighth at most are never refused.
#[test]
fn eight_threads_are_never_refused_while_bytes_are_free() {
    for base in backends() {
        for round in 0..ROUNDS {
            let pool = base.limit(LIMIT as u64);
            race(std::slice::from_ref(&pool), |i| {
                let mut state = (round * THREADS + i + 1) as u64;
                for _ in 0..30 {
                    let size = next(&mut state) % (LIMIT / THREADS + 1);
                    let mut held = ResizableBuffer::with_capacity(size, Alignment::DEFAULT, &pool)
                        .unwrap_or_else(|error| panic!("{size} of an eighth: {error}"));
                    held.reserve(LIMIT / THREADS).unwrap();
                    held.resize(size / 2, true).unwrap();
                }
            });
            assert_eq!(pool.bytes_allocated(), 0);
        }
    }
}

/// Three levels of limits, two threads in each leaf: no level is exceeded, nobody is refused while
/// every level above has room, and in the end each refusal had a full level to blame.
#[test]
fn nested_limits_hold_at_every_level() {
    for base in backends() {
        for round in 0..ROUNDS {
            let top = base.limit_named(LIMIT as u64, Some("top"));
            let middles = ["left", "right"].map(|name| top.limit_named(600_000, Some(name)));
            let leaves: Vec<Pool> = middles
                .iter()
                .flat_map(|middle| [middle.limit(400_000), middle.proxy().limit(400_000)])
                .collect();
            let all: Vec<Pool> = [&top]
                .into_iter()
                .chain(&middles)
                .chain(&leaves)
                .cloned()
                .collect();
            let held = std::sync::Mutex::new(Vec::new());
            race(&all, |i| {
                let leaf = &leaves[i / 2];
                let mut state = (round * THREADS + i + 1) as u64;
                // An eighth each fits at every level: 8 of 1,000,000, 4 of 600,000, 2 of 400,000.
                for _ in 0..20 {
                    let size = next(&mut state) % (LIMIT / THREADS + 1);
                    drop(buffer(size, leaf).unwrap_or_else(|error| panic!("{size}: {error}")));
                }
            });
            race(&all, |i| {
                let mut mine = Vec::new();
                while let Some(more) = pool_take(&leaves[i / 2], 1000) {
                    mine.push(more);
                }
                held.lock().unwrap().append(&mut mine);
            });
            for leaf in &leaves {
                assert!(pool_take(leaf, 1000).is_none());
                assert!(leaf.available().unwrap() < 1000, "{leaf:?}");
            }
            let sum: u64 = middles.iter().map(Pool::bytes_allocated).sum();
            assert_eq!(top.bytes_allocated(), sum);
            assert_eq!(top.bytes_allocated(), LIMIT as u64);
            drop(held);
            assert!(all.iter().all(|pool| pool.bytes_allocated() == 0));
            assert!(
                all.iter()
                    .all(|pool| pool.available() == pool.limit_bytes())
            );
        }
    }
}

const MIB: usize = 1 << 20;

/// RMM's `limiting_mr_tests.cpp`: `TooBig`, `UpstreamFailure`, `UnderLimitDueToFrees`, `OverLimit`,
/// on every backend.
#[test]
fn rmms_limiting_cases() {
    for base in crate::every_pool::own() {
        // TooBig: one request over the limit.
        let limit = base.limit(MIB as u64);
        assert!(buffer(5 * MIB, &limit).unwrap_err().is_out_of_memory());
        assert_eq!(
            (limit.bytes_allocated(), limit.available()),
            (0, Some(MIB as u64))
        );

        // UpstreamFailure: the outer limit has room, the inner one has not.
        let outer = limit.limit(10 * MIB as u64);
        assert!(buffer(5 * MIB, &outer).unwrap_err().is_out_of_memory());
        assert_eq!((outer.bytes_allocated(), limit.bytes_allocated()), (0, 0));
        assert_eq!(outer.num_allocations(), 0);

        // UnderLimitDueToFrees: more than the limit in all, never at once.
        let limit = base.limit(10 * MIB as u64);
        let used = |mib: usize| {
            let now = (limit.bytes_allocated(), limit.available());
            assert_eq!(now, ((mib * MIB) as u64, Some(((10 - mib) * MIB) as u64)));
        };
        let first = buffer(4 * MIB, &limit).unwrap();
        used(4);
        let second = buffer(6 * MIB, &limit).unwrap();
        used(10);
        drop(first);
        used(6);
        let third = buffer(4 * MIB, &limit).unwrap();
        used(10);

        // OverLimit: full to the byte, and not one more.
        assert!(buffer(1, &limit).unwrap_err().is_out_of_memory());
        used(10);
        drop((second, third));
        used(0);
    }
}

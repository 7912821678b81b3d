//! What is left where nobody wants figures (`default-features = false` without `statistics`): limits are as exact as
//! ever, and nothing else is counted. The other tests are about figures, and are not run there.

#![cfg(not(feature = "statistics"))]

use offheap::{Alignment, Block, BufferBuilder, ErrorKind, MutableBuffer, Pool, ResizableBuffer};
use std::sync::Barrier;
use std::thread;

fn buffer(size: usize, pool: &Pool) -> offheap::Result<MutableBuffer> {
    MutableBuffer::zeroed(size, pool)
}

/// Every built-in pool of this build.
fn backends() -> Vec<Pool> {
    offheap::supported_memory_backends()
        .into_iter()
        .map(|name| offheap::pool::memory_pool_named(name).unwrap())
        .collect()
}

#[test]
fn a_pool_without_a_limit_counts_nothing() {
    for pool in backends() {
        let proxy = pool.proxy();
        let kept = buffer(10_000, &proxy).unwrap();
        let figures = proxy.statistics();
        assert_eq!(
            (
                figures.peak_bytes,
                figures.total_bytes_allocated,
                figures.num_allocations,
                figures.live_allocations
            ),
            (0, 0, 0, 0)
        );
        assert_eq!(proxy.bytes_allocated(), 0);
        assert!(kept.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_limit_is_exact_and_knows_what_it_holds() {
    for pool in backends() {
        let pool = pool.limit(1000);
        let first = buffer(600, &pool).unwrap();
        let second = buffer(400, &pool).unwrap();
        assert_eq!((pool.bytes_allocated(), pool.available()), (1000, Some(0)));
        let error = buffer(1, &pool).unwrap_err();
        let ErrorKind::OutOfMemory {
            requested,
            limit,
            allocated,
            ..
        } = error.kind()
        else {
            panic!("{error}");
        };
        assert_eq!((*requested, *limit, *allocated), (1, Some(1000), 1000));
        drop(second);
        assert_eq!((pool.bytes_allocated(), pool.available()), (600, Some(400)));
        let third = buffer(400, &pool).unwrap();
        drop((first, third));
        assert_eq!((pool.bytes_allocated(), pool.available()), (0, Some(1000)));
    }
}

/// Blocks may be freed by any thread, and grow by the difference only.
#[test]
fn limits_within_limits() {
    for pool in backends() {
        let outer = pool.limit(1 << 20);
        let inner = outer.limit(1 << 19);
        let mut growing = ResizableBuffer::zeroed(1 << 18, &inner).unwrap();
        growing.resize(1 << 19, true).unwrap();
        assert_eq!(
            (inner.available(), outer.available()),
            (Some(0), Some(1 << 19))
        );
        assert!(
            growing
                .resize((1 << 19) + 1, true)
                .unwrap_err()
                .is_out_of_memory()
        );
        assert_eq!(growing.len(), 1 << 19);
        let beside = buffer(1 << 19, &outer).unwrap();
        assert_eq!(outer.available(), Some(0));
        thread::spawn(move || drop((growing, beside)))
            .join()
            .unwrap();
        assert_eq!(
            (inner.available(), outer.available()),
            (Some(1 << 19), Some(1 << 20))
        );
    }
}

/// Never more than the limit at once, and all of it where it is asked for: by eight threads.
#[test]
fn threads_share_a_limit() {
    const EACH: usize = 1000;
    for pool in backends() {
        let pool = pool.limit(4 * EACH as u64);
        let barrier = Barrier::new(8);
        let held: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        for round in 0..2000 {
                            let size = 1 + round % EACH;
                            if let Ok(block) =
                                Block::allocate(size, Alignment::DEFAULT, &pool, false)
                            {
                                assert!(pool.bytes_allocated() <= 4 * EACH as u64);
                                drop(block);
                            }
                        }
                        barrier.wait();
                        let kept = buffer(EACH, &pool);
                        barrier.wait();
                        usize::from(kept.is_ok())
                    })
                })
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(held, 4);
        assert_eq!(pool.available(), Some(4 * EACH as u64));
    }
}

#[test]
fn a_builder_under_a_limit_leaves_what_it_has() {
    for pool in backends() {
        let pool = pool.limit(1 << 16);
        let mut builder = BufferBuilder::new(&pool);
        let error = loop {
            if let Err(error) = builder.append(&[7; 1000]) {
                break error;
            }
        };
        assert!(error.is_out_of_memory(), "{error}");
        let finished = builder.finish(true).unwrap();
        assert!(finished.len() >= 1 << 14 && finished.iter().all(|byte| *byte == 7));
        drop(finished);
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// Large blocks and small, freed by others, and given back.
#[test]
fn memory_goes_round_and_back() {
    for pool in backends() {
        let pool = pool.limit(1 << 30);
        thread::scope(|scope| {
            for size in [64, 4096, 1 << 20, 9 << 20] {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..50_u8 {
                        let mut block = buffer(size, pool).unwrap();
                        block.fill(round);
                        scope.spawn(move || assert!(block.iter().all(|byte| *byte == round)));
                    }
                });
            }
        });
        pool.release_unused();
        assert_eq!(pool.available(), Some(1 << 30));
        pool.close().unwrap();
        assert_eq!(buffer(1, &pool).unwrap_err().code(), "ERR_OFFHEAP_CLOSED");
    }
}

//! Counting across threads: limits to the last byte, hand-overs, threads and pools that end.

use offheap::{Alignment, ErrorKind, Pool, system_memory_pool};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

const ALIGNMENT: Alignment = Alignment::DEFAULT;

/// A block on its way to another thread.
struct Sent(NonNull<u8>, usize);

// SAFETY: memory of a pool belongs to no thread.
unsafe impl Send for Sent {}

impl Sent {
    fn new(pool: &Pool, size: usize) -> offheap::Result<Self> {
        Ok(Self(pool.allocate(size, ALIGNMENT)?, size))
    }

    fn free(self, pool: &Pool) {
        // SAFETY: a live block of this pool, with its size.
        unsafe { pool.free(self.0, self.1, ALIGNMENT) };
    }
}

/// Nothing is held, and everything can be had, to the last byte.
fn check_whole(pool: &Pool, limit: usize) {
    let now = pool.statistics();
    assert_eq!(now.bytes_allocated, 0);
    assert_eq!(now.available, Some(limit as u64));
    let all = Sent::new(pool, limit).unwrap();
    let error = Sent::new(pool, 1).map(drop).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::OutOfMemory { limit: Some(l), allocated, .. }
            if *l == limit as u64 && allocated == l),
        "{error}"
    );
    all.free(pool);
}

#[test]
fn blocks_are_handed_between_threads_under_three_levels() {
    let limit = 4 << 20;
    let outer = system_memory_pool().limit(limit as u64);
    let inner = outer.proxy().limit(limit as u64);
    for _ in 0..5 {
        let held = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (senders, receivers): (Vec<_>, Vec<_>) =
                (0..4).map(|_| mpsc::channel::<Sent>()).unzip();
            for (i, receiver) in receivers.into_iter().enumerate() {
                let (pool, held) = (if i % 2 == 0 { &inner } else { &outer }, &held);
                // A block goes back to the pool that it came from: even ones to even ones.
                let own = senders[(i + 2) % 4].clone();
                scope.spawn(move || {
                    for n in 0..2000_usize {
                        let size = (n * 7919 + i * 104_729) % 30_000;
                        match Sent::new(pool, size) {
                            Ok(block) => {
                                let now = held.fetch_add(size as u64, Ordering::SeqCst);
                                assert!(now + size as u64 <= limit as u64);
                                own.send(block).unwrap();
                            }
                            Err(error) => {
                                assert!(matches!(error.kind(), ErrorKind::OutOfMemory { .. }));
                            }
                        }
                        while let Ok(block) = receiver.try_recv() {
                            held.fetch_sub(block.1 as u64, Ordering::SeqCst);
                            block.free(pool);
                        }
                    }
                    drop(own);
                    for block in receiver {
                        held.fetch_sub(block.1 as u64, Ordering::SeqCst);
                        block.free(pool);
                    }
                });
            }
            drop(senders);
        });
        assert_eq!(inner.live_allocations(), 0);
        assert_eq!(outer.live_allocations(), 0);
        check_whole(&inner, limit);
        check_whole(&outer, limit);
    }
}

#[test]
fn filled_to_the_last_byte_beside_hammering_threads() {
    let limit = 1 << 20;
    let pool = system_memory_pool().limit(limit as u64);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for size in [64, 1000] {
            let (pool, done) = (&pool, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    if let Ok(block) = Sent::new(pool, size) {
                        block.free(pool);
                    }
                }
            });
        }
        // The others hold 1064 bytes at most: what they do not hold is never refused.
        let rest = limit - 1064;
        for round in 0..2000 {
            let first = round * 37 % rest;
            let blocks = [first, rest - first].map(|size| Sent::new(&pool, size).unwrap());
            assert!(pool.bytes_allocated() <= limit as u64);
            for block in blocks {
                block.free(&pool);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    check_whole(&pool, limit);
    assert!(pool.peak_bytes() <= limit as u64);
}

#[test]
fn ten_thousand_pools_and_threads_that_end() {
    let base = system_memory_pool().proxy();
    let pools: Vec<_> = (0..10_000).map(|_| base.limit(1 << 20)).collect();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for start in 0..2 {
                let pools = &pools;
                scope.spawn(move || {
                    for pool in pools.iter().skip(start).step_by(7) {
                        Sent::new(pool, 100).unwrap().free(pool);
                    }
                });
            }
        });
    }
    for pool in &pools {
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    }
    let made = 3 * (10_000_u64.div_ceil(7) + 9_999_u64.div_ceil(7));
    assert_eq!(base.num_allocations(), made);
    assert_eq!(base.total_bytes_allocated(), 100 * made);
    // Some end before the threads that used them.
    drop(pools);
    assert_eq!(base.bytes_allocated(), 0);
}

#[test]
fn more_threads_than_shards() {
    let pool = system_memory_pool().limit(64 << 20);
    let barrier = std::sync::Barrier::new(80);
    std::thread::scope(|scope| {
        for i in 0..80 {
            let (pool, barrier) = (&pool, &barrier);
            scope.spawn(move || {
                let block = Sent::new(pool, i).unwrap();
                barrier.wait();
                for n in 0..200 {
                    Sent::new(pool, n * i).unwrap().free(pool);
                }
                barrier.wait();
                block.free(pool);
            });
        }
    });
    assert_eq!(pool.num_allocations(), 80 * 201);
    assert_eq!(pool.live_allocations(), 0);
    check_whole(&pool, 64 << 20);
}

#[test]
fn pools_are_used_while_a_thread_ends() {
    struct Late(Pool);
    impl Drop for Late {
        fn drop(&mut self) {
            let block = Sent::new(&self.0, 500).unwrap();
            Sent::new(&self.0, 100_000).unwrap().free(&self.0);
            block.free(&self.0);
        }
    }
    thread_local! {
        static LATE: std::cell::RefCell<Vec<Late>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let pool = system_memory_pool().limit(1 << 20).proxy();
    for first in [false, true] {
        let pool = pool.clone();
        std::thread::spawn(move || {
            // Destructors of a thread run in the order of first use, or against it.
            if first {
                Sent::new(&pool, 10).unwrap().free(&pool);
            }
            LATE.with_borrow_mut(|late| late.push(Late(pool.clone())));
            Sent::new(&pool, 10).unwrap().free(&pool);
        })
        .join()
        .unwrap();
    }
    let now = pool.statistics();
    assert_eq!((now.bytes_allocated, now.live_allocations), (0, 0));
    assert_eq!(now.available, Some(1 << 20));
}

/// The child has its parent's registration for the barrier.
#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_can_revoke() {
    let limit = 1 << 20;
    let pool = system_memory_pool().limit(limit as u64);
    Sent::new(&pool, 10).unwrap().free(&pool);
    // Leaves its lease in a shard that nobody uses any more in the child.
    let (holds, go) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            Sent::new(&pool, 10).unwrap().free(&pool);
            holds.wait();
            go.wait();
        });
        holds.wait();
        // SAFETY: the child only uses this pool, over the C library, whose locks fork takes, and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let filled = Sent::new(&pool, limit).is_ok() && Sent::new(&pool, 1).is_err();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if filled { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: the child made above; the place for its status.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        go.wait();
    });
    check_whole(&pool, limit);
}

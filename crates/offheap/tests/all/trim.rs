//! Unused memory goes back by itself. Each case has a process of its own: resident memory is the
//! process's.

use crate::alone::alone;
use offheap::pool::memory_pool_named;
use offheap::{Alignment, Pool, TrimPolicy, supported_memory_backends};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// Bytes of this process in physical memory; `None` where that is not known, and under sanitizers:
/// they keep what is freed for themselves, and terabytes of addresses.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split(' ').map(str::parse::<usize>);
    let (addresses, resident) = (pages.next()?.ok()?, pages.next()?.ok()?);
    (addresses < (1 << 40) / 4096).then_some(resident * 4096)
}

/// Blocks of `size` bytes, written, `bytes` in all, of which all but the first of each 1024 are freed.
fn fill_and_free(pool: &Pool, size: usize, bytes: usize) -> Vec<usize> {
    let blocks: Vec<NonNull<u8>> = (0..bytes / size)
        .map(|_| {
            let block = pool.allocate(size, Alignment::DEFAULT).unwrap();
            // SAFETY: the block just allocated.
            unsafe { block.write_bytes(1, size) };
            block
        })
        .collect();
    let mut left = Vec::new();
    for (index, block) in blocks.into_iter().enumerate() {
        if index % 1024 == 0 {
            left.push(block.addr().get());
        } else {
            // SAFETY: a live block of the pool's.
            unsafe { pool.free(block, size, Alignment::DEFAULT) };
        }
    }
    left
}

/// Waits until no more than `most` bytes are resident over `start`.
fn wait_until_returned(what: &str, start: usize, most: usize) {
    let give_up_at = Instant::now() + Duration::from_secs(60);
    loop {
        let over = resident().unwrap().saturating_sub(start);
        if over <= most {
            return;
        }
        assert!(
            Instant::now() < give_up_at,
            "{what}: still {} MiB",
            over / MIB
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn memory_goes_back_while_nobody_calls_anything() {
    alone("trim::memory_goes_back_while_nobody_calls_anything", || {
        if resident().is_none() || cfg!(not(feature = "statistics")) {
            return; // nothing to see, or nothing told
        }
        for backend in supported_memory_backends() {
            let pool = memory_pool_named(backend).unwrap();
            for size in [4096, 65_536, 4 * MIB] {
                let start = resident().unwrap();
                let left = fill_and_free(&pool, size, 256 * MIB);
                wait_until_returned(&format!("{backend}, {size}"), start, 60 * MIB);
                drop(left);
            }
        }
    });
}

#[test]
fn several_threads_give_back_what_they_freed_whether_they_end_or_sleep() {
    alone(
        "trim::several_threads_give_back_what_they_freed_whether_they_end_or_sleep",
        || {
            if resident().is_none() || cfg!(not(feature = "statistics")) {
                return;
            }
            for backend in supported_memory_backends() {
                let pool = memory_pool_named(backend).unwrap();
                let start = resident().unwrap();
                let (sender, receiver) = std::sync::mpsc::channel::<()>();
                let receiver = std::sync::Mutex::new(receiver);
                std::thread::scope(|scope| {
                    for sleeps in [false, false, true, true] {
                        let (pool, receiver) = (&pool, &receiver);
                        scope.spawn(move || {
                            fill_and_free(pool, 4096, 64 * MIB);
                            if sleeps {
                                let _ = receiver.lock().unwrap().recv();
                            }
                        });
                    }
                    wait_until_returned(backend, start, 60 * MIB);
                    drop(sender);
                });
            }
        },
    );
}

#[test]
fn what_is_switched_off_stays_until_somebody_asks() {
    alone(
        "trim::what_is_switched_off_stays_until_somebody_asks",
        || {
            if resident().is_none() {
                return;
            }
            let pool = memory_pool_named("system").unwrap();
            pool.trim(None).unwrap();
            let start = resident().unwrap();
            fill_and_free(&pool, 4096, 128 * MIB);
            // Longer than the default's 500 ms: nothing is there that could end the wait earlier.
            std::thread::sleep(Duration::from_millis(1500));
            if cfg!(target_env = "gnu") {
                assert!(resident().unwrap() - start > 100 * MIB);
            }
            pool.trim(Some(TrimPolicy::default())).unwrap();
            pool.release_unused();
            wait_until_returned("released", start, 20 * MIB);
        },
    );
}

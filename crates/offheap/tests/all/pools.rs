//! Pools: Arrow's cases 1 to 13 (`memory_pool_test.cc`) and 98 to 113 (`test_memory.py`).

use crate::alone::{alone, is_alone, run};
use crate::every_pool::{backends, backends_and_capped};
use offheap::{
    Alignment, Error, MutableBuffer, Pool, default_memory_pool, jemalloc_memory_pool,
    mimalloc_memory_pool, supported_memory_backends, system_memory_pool, total_allocated_bytes,
};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const DEFAULT: Alignment = Alignment::DEFAULT;

fn allocate(pool: &Pool, size: usize) -> NonNull<u8> {
    let block = pool.allocate(size, DEFAULT).unwrap();
    assert_eq!(block.addr().get() % 64, 0);
    block
}

fn free(pool: &Pool, block: NonNull<u8>, size: usize) {
    // SAFETY: the tests below free what they allocated from the same pool, once.
    unsafe { pool.free(block, size, DEFAULT) };
}

fn reallocate(
    pool: &Pool,
    block: NonNull<u8>,
    old: usize,
    new: usize,
) -> Result<NonNull<u8>, Error> {
    // SAFETY: the tests below give live blocks with their sizes.
    unsafe { pool.reallocate(block, old, new, DEFAULT) }
}

/// Case 1: bytes are counted as asked for, and blocks are aligned to 64.
#[test]
fn case_1_memory_tracking() {
    alone("pools::case_1_memory_tracking", || {
        for pool in backends_and_capped() {
            let before = pool.bytes_allocated();
            let first = allocate(&pool, 100);
            assert_eq!(pool.bytes_allocated(), before + 100);
            let second = allocate(&pool, 27);
            assert_eq!(pool.bytes_allocated(), before + 127);
            free(&pool, first, 100);
            assert_eq!(pool.bytes_allocated(), before + 27);
            free(&pool, second, 27);
            assert_eq!(pool.bytes_allocated(), before);
        }
    });
}

/// Case 2: sizes that cannot be had are out of memory, and change nothing.
#[test]
fn case_2_out_of_memory() {
    alone("pools::case_2_out_of_memory", || {
        for pool in backends_and_capped() {
            let before = pool.statistics();
            for size in [
                usize::MAX,
                usize::MAX - 63,
                isize::MAX as usize,
                isize::MAX as usize - 63,
                isize::MAX as usize - 127,
            ] {
                let error = pool.allocate(size, DEFAULT).unwrap_err();
                assert!(error.is_out_of_memory(), "{size}: {error}");
            }
            assert_eq!(counters(&pool), counters_of(&before), "{pool:?}");
        }
    });
}

fn counters(pool: &Pool) -> [u64; 5] {
    counters_of(&pool.statistics())
}

fn counters_of(s: &offheap::Statistics) -> [u64; 5] {
    [
        s.bytes_allocated,
        s.peak_bytes,
        s.total_bytes_allocated,
        s.num_allocations,
        s.live_allocations,
    ]
}

/// Case 3: a reallocation keeps the bytes and counts the difference.
#[test]
fn case_3_reallocate() {
    alone("pools::case_3_reallocate", || {
        for pool in backends_and_capped() {
            let before = pool.bytes_allocated();
            let block = allocate(&pool, 10);
            // SAFETY: the block has 10 bytes.
            unsafe {
                block.write(35);
                block.add(9).write(12);
            }
            let block = reallocate(&pool, block, 10, 20).unwrap();
            // SAFETY: the block has 20 bytes, the first 10 as they were.
            assert_eq!(unsafe { block.add(9).read() }, 12);
            assert_eq!(pool.bytes_allocated(), before + 20);
            let block = reallocate(&pool, block, 20, 5).unwrap();
            // SAFETY: the block has 5 bytes.
            assert_eq!(unsafe { block.read() }, 35);
            assert_eq!(pool.bytes_allocated(), before + 5);
            free(&pool, block, 5);
            assert_eq!(pool.bytes_allocated(), before);
        }
    });
}

/// Case 4: the alignment asked for is honoured.
#[test]
fn case_4_alignment() {
    for pool in backends_and_capped() {
        for bytes in [1, 64, 512] {
            let alignment = Alignment::new(bytes).unwrap();
            let block = pool.allocate(12, alignment).unwrap();
            assert_eq!(block.addr().get() % bytes.max(64), 0);
            // SAFETY: the block is the one just allocated.
            unsafe { pool.free(block, 12, alignment) };
        }
    }
}

/// Cases 5 and 103: releasing unused memory leaves the bytes allocated as they are.
#[test]
fn case_5_103_release_unused() {
    alone("pools::case_5_103_release_unused", || {
        for pool in backends_and_capped() {
            let held = allocate(&pool, 1000);
            let unused = allocate(&pool, 1 << 20);
            free(&pool, unused, 1 << 20);
            let before = pool.bytes_allocated();
            pool.release_unused();
            assert_eq!(pool.bytes_allocated(), before);
            free(&pool, held, 1000);
        }
    });
}

/// Case 6: the default pool is one of the backends' own.
#[test]
fn case_6_default_identity() {
    alone("pools::case_6_default_identity", || {
        let default = default_memory_pool();
        let of_its_name: Vec<Pool> = backends()
            .into_iter()
            .filter(|pool| *pool == default)
            .collect();
        assert_eq!(of_its_name.len(), 1);
        assert_eq!(of_its_name[0].key(), default.key());
        assert_eq!(default_memory_pool(), default);
    });
}

/// Case 7: peak, total, current and number of allocations. A growing reallocation is an allocation
/// of the difference; a shrinking one is none.
#[test]
fn case_7_statistics() {
    alone("pools::case_7_statistics", || {
        for pool in backends_and_capped() {
            // A backend's own pool may have served the cap over it, not the other way round.
            let start = counters(&pool);
            let since = |pool: &Pool| {
                let [bytes, peak, total, allocations, _] = counters(pool);
                [peak, total - start[2], bytes, allocations - start[3]]
            };
            pool.reset_peak();
            let first = allocate(&pool, 100);
            let second = allocate(&pool, 50);
            free(&pool, second, 50);
            assert_eq!(since(&pool), [150, 150, 100, 2]);
            let first = reallocate(&pool, first, 100, 150).unwrap();
            assert_eq!(since(&pool), [150, 200, 150, 3]);
            let first = reallocate(&pool, first, 150, 50).unwrap();
            assert_eq!(since(&pool), [150, 200, 50, 3]);
            free(&pool, first, 50);
            assert_eq!(since(&pool), [150, 200, 0, 3]);
        }
    });
}

/// Case 9: a proxy counts its own bytes, and its parent counts both.
#[test]
fn case_9_proxy() {
    for base in backends() {
        let pool = base.proxy();
        let first = allocate(&pool, 100);
        let proxy = pool.proxy();
        let second = allocate(&proxy, 300);
        assert_eq!(
            (pool.bytes_allocated(), proxy.bytes_allocated()),
            (400, 300)
        );
        free(&pool, first, 100);
        free(&proxy, second, 300);
        assert_eq!((pool.bytes_allocated(), proxy.bytes_allocated()), (0, 0));
        assert_eq!(proxy.backend_name(), base.backend_name());
        assert_eq!(proxy.parent(), Some(&pool));
        assert_eq!((pool.peak_bytes(), proxy.peak_bytes()), (400, 300));
    }
}

/// Case 10: jemalloc's decay can be set, or is not supported.
#[test]
fn case_10_jemalloc_decay() {
    match jemalloc_memory_pool() {
        Err(error) => assert_eq!(error.code(), "ERR_OFFHEAP_NOT_SUPPORTED"),
        #[cfg(feature = "jemalloc")]
        Ok(_) => {
            use offheap::pool::jemalloc;
            // Alone: it changes the process's arenas.
            alone("pools::case_10_jemalloc_decay", || {
                jemalloc::set_decay_ms(0).unwrap();
                assert_eq!(jemalloc::stat("stats.arenas.0.dirty_decay_ms").unwrap(), 0);
                jemalloc::set_decay_ms(1000).unwrap();
                assert_eq!(
                    jemalloc::stat("stats.arenas.0.dirty_decay_ms").unwrap(),
                    1000
                );
                jemalloc::set_decay_ms(-1).unwrap();
                assert!(jemalloc::set_decay_ms(-2).is_err());
            });
        }
        #[cfg(not(feature = "jemalloc"))]
        Ok(_) => panic!("a pool of a backend that this build lacks"),
    }
}

/// Case 11: jemalloc's own statistics.
#[cfg(feature = "jemalloc")]
#[test]
fn case_11_jemalloc_statistics() {
    use offheap::pool::jemalloc::{peak_reset, stat, stats_string};
    // Alone and on one thread: the figures are the thread's and the process's.
    alone("pools::case_11_jemalloc_statistics", || {
        let near = |value: u64, expected: u64, by: u64| {
            assert!(value.abs_diff(expected) <= by, "{value}, not {expected}");
        };
        let pool = jemalloc_memory_pool().unwrap();
        let warm_up = allocate(&pool, 1025);
        for key in ["allocated", "active", "metadata", "resident", "mapped"] {
            assert!(stat(&format!("stats.{key}")).unwrap() > 0, "{key}");
        }
        stat("stats.retained").unwrap();
        let [allocated, freed] =
            ["thread.allocated", "thread.deallocated"].map(|k| stat(k).unwrap());
        peak_reset().unwrap();
        let block = allocate(&pool, 1025);
        let block = reallocate(&pool, block, 1025, 1023).unwrap();
        // 1025 bytes are of the class of 1280, 1023 of 1024: Arrow's figures.
        near(stat("thread.allocated").unwrap() - allocated, 2500, 500);
        assert_eq!(stat("thread.deallocated").unwrap() - freed, 1280);
        near(stat("thread.peak.read").unwrap(), 1024, 700 + 640);
        free(&pool, block, 1023);
        peak_reset().unwrap();
        let large = allocate(&pool, 100_000);
        near(stat("thread.peak.read").unwrap(), 100_000, 50_000);
        free(&pool, large, 100_000);
        peak_reset().unwrap();
        let block = allocate(&pool, 1256);
        near(stat("thread.peak.read").unwrap(), 1256, 100);
        free(&pool, block, 1256);
        free(&pool, warm_up, 1025);
        let text = stats_string("Jax").unwrap();
        assert!(
            text.starts_with("{\"jemalloc\":{\"version\""),
            "{}",
            &text[..80]
        );
        let error = stat("stats.nonesuch").unwrap_err();
        assert!(error.to_string().contains("'stats.nonesuch'"), "{error}");
        assert!(stats_string("J\0").is_err());
    });
}

/// Case 98: what the default pool holds is what the process holds, as long as nobody uses another.
#[test]
fn case_98_total_allocated_bytes() {
    alone("pools::case_98_total_allocated_bytes", || {
        let default = default_memory_pool();
        let buffer = MutableBuffer::zeroed(12_345, &default).unwrap();
        assert_eq!(default.bytes_allocated(), 12_345);
        assert_eq!(total_allocated_bytes(), 12_345);
        // Every built-in pool's bytes count, through whatever adaptor.
        let others: Vec<MutableBuffer> = backends()
            .iter()
            .map(|pool| MutableBuffer::zeroed(100, &pool.proxy().limit(100)).unwrap())
            .collect();
        assert_eq!(total_allocated_bytes(), 12_345 + 100 * others.len() as u64);
        drop((buffer, others));
        assert_eq!(total_allocated_bytes(), 0);
    });
}

/// Says when it is dropped.
#[derive(Debug)]
struct Told(Arc<AtomicUsize>, Pool);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: forwards to a pool.
unsafe impl offheap::MemoryPool for Told {
    fn allocate(&self, size: usize, alignment: Alignment) -> offheap::Result<NonNull<u8>> {
        self.1.allocate(size, alignment)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> offheap::Result<NonNull<u8>> {
        // SAFETY: the caller's promise.
        unsafe { self.1.reallocate(ptr, old_size, new_size, alignment) }
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { self.1.free(ptr, size, alignment) };
    }

    fn backend_name(&self) -> &str {
        "told"
    }
}

/// Case 99: a pool over a pool goes with its last handle, of which every buffer is one.
#[test]
fn case_99_a_pool_goes_with_its_last_user() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let pool = Pool::custom(Told(Arc::clone(&dropped), system_memory_pool()));
    let proxy = pool.proxy();
    let buffer = MutableBuffer::zeroed(1000, &proxy).unwrap();
    assert_eq!(
        (proxy.backend_name(), proxy.bytes_allocated()),
        ("told", 1000)
    );
    drop((pool, proxy));
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(buffer);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

/// Cases 102, 105 and 106: the backends by their names.
#[test]
fn case_102_105_106_backends() {
    let supported = supported_memory_backends();
    assert!(supported.ends_with(&["system", "mapped"]));
    assert!(
        supported
            .iter()
            .all(|name| ["mimalloc", "jemalloc", "system", "mapped"].contains(name))
    );
    assert!(
        supported.contains(
            &offheap::pool::memory_pool_named(supported[0])
                .unwrap()
                .name()
        )
    );
    assert_eq!(supported.contains(&"mimalloc"), cfg!(feature = "mimalloc"));
    assert_eq!(supported.contains(&"jemalloc"), cfg!(feature = "jemalloc"));
    assert_eq!(system_memory_pool().backend_name(), "system");
    assert_eq!(offheap::mapped_memory_pool().backend_name(), "mapped");
    for (name, pool) in [
        ("mimalloc", mimalloc_memory_pool()),
        ("jemalloc", jemalloc_memory_pool()),
    ] {
        match pool {
            Ok(pool) => assert_eq!((pool.backend_name(), pool.name()), (name, name)),
            Err(error) => {
                assert_eq!(error.code(), "ERR_OFFHEAP_NOT_SUPPORTED");
                assert!(error.to_string().contains(name));
                assert!(!supported.contains(&name));
            }
        }
    }
    alone("pools::case_102_105_106_backends", || {
        // mimalloc, then jemalloc, then the system's, as in Arrow since 22.
        assert_eq!(
            default_memory_pool().backend_name(),
            supported_memory_backends()[0]
        );
    });
}

/// Case 113: every backend prints something about itself.
#[test]
fn case_113_print_stats() {
    let name = "pools::case_113_print_stats";
    if is_alone() {
        let backend = std::env::var("OFFHEAP_TEST_BACKEND").unwrap();
        let pool = offheap::pool::memory_pool_named(&backend).unwrap();
        let block = allocate(&pool, 1000);
        pool.proxy().print_stats();
        free(&pool, block, 1000);
        return;
    }
    for backend in supported_memory_backends() {
        let output = run(name, &[("OFFHEAP_TEST_BACKEND", backend)]);
        assert!(output.status.success());
        assert!(!output.stderr.is_empty(), "{backend}");
    }
}

/// The backends tell what they hold, where they can, and say nothing where they cannot.
#[test]
fn statistics_name_what_the_backend_holds() {
    for pool in backends() {
        let held = MutableBuffer::copy_from(&[1; 1 << 20], &pool).unwrap();
        let backend = pool.statistics().backend;
        if pool.backend_name() == "jemalloc" {
            assert!(backend.usable.unwrap() >= 1 << 20);
            assert!(backend.resident.unwrap() >= backend.usable.unwrap());
        } else if pool.backend_name() == "system" {
            let known = cfg!(all(target_os = "linux", target_env = "gnu"));
            assert_eq!(backend.retained.is_some(), known);
        }
        assert_eq!(
            pool.proxy().backend_statistics().usable.is_some(),
            backend.usable.is_some()
        );
        drop(held);
    }
}

/// A backend's own pool and the default pool cannot be closed; others can, and say what is alive.
#[test]
fn closing_refuses_later_allocations_and_reports_live_ones() {
    for base in backends() {
        assert_eq!(
            base.close().unwrap_err().code(),
            "ERR_OFFHEAP_INVALID_ARGUMENT"
        );
        assert!(!base.is_closed());
        let pool = base.limit_named(1000, Some("query"));
        let child = pool.proxy();
        let mut buffer = offheap::ResizableBuffer::zeroed(600, &child).unwrap();
        let empty = MutableBuffer::zeroed(0, &pool).unwrap();
        let report = pool.close().unwrap();
        assert_eq!(
            (report.pool.as_str(), report.bytes, report.allocations),
            ("query", 600, 2)
        );
        assert!(!report.is_empty() && pool.is_closed() && !child.is_closed());
        for refused in [&pool, &child] {
            let error = MutableBuffer::zeroed(1, refused).unwrap_err();
            assert_eq!(error.to_string(), "pool 'query' is closed");
            assert_eq!(error.code(), "ERR_OFFHEAP_CLOSED");
            assert!(MutableBuffer::zeroed(0, refused).is_err());
        }
        // Live buffers stay valid: they may shrink and go, not grow.
        assert!(buffer.resize(700, true).is_err());
        buffer.resize(10, true).unwrap();
        assert_eq!(buffer[..], [0; 10]);
        drop((buffer, empty));
        assert!(pool.close().unwrap().is_empty());
    }
}

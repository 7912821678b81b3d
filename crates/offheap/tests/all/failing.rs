//! Failure injection: which requests fail, and that nothing else changes.

use crate::alone::alone;
use offheap::origin::set_current_foreign;
use offheap::{
    Alignment, Domain, Error, ErrorKind, Failing, FailingOptions, HookedDomains, MutableBuffer,
    Pool, Statistics, remove_no_memory, set_no_memory, system_memory_pool,
};
use std::sync::Arc;

fn own() -> Pool {
    system_memory_pool().proxy()
}

fn request(pool: &Pool, size: usize) -> Result<(), Error> {
    MutableBuffer::zeroed(size, pool).map(drop)
}

/// Which of `n` requests of 100 bytes fail, from 1.
fn failures(pool: &Pool, n: u64) -> Vec<u64> {
    (1..=n).filter(|_| request(pool, 100).is_err()).collect()
}

fn counters(pool: &Pool) -> Statistics {
    let mut counters = pool.statistics();
    counters.backend = Default::default();
    counters
}

#[test]
fn requests_fail_after_as_many_and_as_often_as_asked_for() {
    let window = |after, count| {
        let options = FailingOptions {
            after,
            count,
            ..Default::default()
        };
        failures(&own().failing(options).unwrap(), 6)
    };
    assert_eq!(window(None, None), [1, 2, 3, 4, 5, 6]);
    assert_eq!(window(Some(0), Some(1)), [1]);
    assert_eq!(window(Some(2), None), [3, 4, 5, 6]);
    assert_eq!(window(Some(2), Some(2)), [3, 4]);
    assert_eq!(window(None, Some(2)), [1, 2]);
    assert_eq!(window(Some(6), Some(9)), []);
    assert_eq!(window(Some(2), Some(0)), []);
    assert_eq!(window(Some(u64::MAX), None), []);
}

#[test]
fn a_refusal_names_the_failing_pool_and_leaves_every_statistic() {
    let parent = own();
    let failing = Failing::new(FailingOptions::default()).unwrap();
    failing.disarm();
    let pool = failing.over(&parent).limit(10_000);
    let held = MutableBuffer::zeroed(1000, &pool).unwrap();
    let before: Vec<_> = [&pool, pool.parent().unwrap(), &parent]
        .map(counters)
        .into();
    failing.rearm(FailingOptions::default()).unwrap();
    let alignment = Alignment::DEFAULT;
    for error in [
        pool.allocate(200, alignment).unwrap_err(),
        pool.allocate_zeroed(200, alignment).unwrap_err(),
    ] {
        assert_eq!(
            *error.kind(),
            ErrorKind::OutOfMemory {
                requested: 200,
                limit: None,
                allocated: 1000,
                pool: "failing of system".to_owned(),
            }
        );
    }
    failing.disarm();
    let after: Vec<_> = [&pool, pool.parent().unwrap(), &parent]
        .map(counters)
        .into();
    assert_eq!(before, after);
    drop(held);
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn reallocations_count_whichever_way_and_frees_and_nothing_do_not() {
    let failing = Failing::new(FailingOptions::default()).unwrap();
    failing.disarm();
    let pool = failing.over(&own());
    let alignment = Alignment::DEFAULT;
    let block = pool.allocate(500, alignment).unwrap();
    // SAFETY: a live block of 500 bytes.
    unsafe { block.write_bytes(7, 500) };
    failing.rearm(FailingOptions::default()).unwrap();
    for (size, requested) in [(900, 400), (100, 0)] {
        // SAFETY: a live block with its size and alignment.
        let error = unsafe { pool.reallocate(block, 500, size, alignment) }.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::OutOfMemory { requested: n, .. } if *n == requested),
            "{error:?}"
        );
    }
    assert_eq!(pool.bytes_allocated(), 500);
    assert_eq!((failing.requests(), failing.failures()), (2, 2));
    // No bytes need no memory.
    let nothing = pool.allocate(0, alignment).unwrap();
    // SAFETY: live blocks with their sizes; the first has 500 bytes written above.
    unsafe {
        assert_eq!(block.add(499).read(), 7);
        pool.free(nothing, 0, alignment);
        pool.free(block, 500, alignment);
    }
    assert_eq!((failing.requests(), failing.failures()), (2, 2));
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
}

#[test]
fn a_seed_fails_the_same_requests_and_another_one_others() {
    let of = |probability, seed, count| {
        let options = FailingOptions {
            probability: Some(probability),
            seed,
            count,
            ..Default::default()
        };
        failures(&own().failing(options).unwrap(), 1000)
    };
    let some = of(0.25, 42, None);
    assert_eq!(some, of(0.25, 42, None));
    assert_ne!(some, of(0.25, 43, None));
    // Within five standard deviations of 250.
    assert!((180..320).contains(&some.len()), "{}", some.len());
    // A larger probability fails these and more; a count cuts them.
    let more = of(0.5, 42, None);
    assert!(some.iter().all(|n| more.contains(n)));
    assert_eq!(of(0.25, 42, Some(3)), some[..3]);
    assert_eq!(of(0.0, 42, None), []);
    assert_eq!(of(1.0, 42, None).len(), 1000);
}

#[test]
fn small_requests_neither_fail_nor_count() {
    let failing = Failing::new(FailingOptions {
        after: Some(1),
        min_size: 100,
        ..Default::default()
    })
    .unwrap();
    let pool = failing.over(&own());
    for size in [1, 99] {
        request(&pool, size).unwrap();
    }
    assert_eq!(failing.requests(), 0);
    request(&pool, 100).unwrap();
    request(&pool, 99).unwrap();
    assert!(request(&pool, 100).is_err());
    assert_eq!(failing.requests(), 2);
    // A reallocation is as large as its new size.
    let alignment = Alignment::DEFAULT;
    let block = pool.allocate(50, alignment).unwrap();
    // SAFETY: live blocks with their sizes.
    unsafe {
        assert!(pool.reallocate(block, 50, 100, alignment).is_err());
        let block = pool.reallocate(block, 50, 70, alignment).unwrap();
        pool.free(block, 70, alignment);
    }
    assert_eq!(failing.requests(), 3);
}

#[inline(never)]
fn allocates_by_a_telling_name(pool: &Pool) -> Result<(), Error> {
    // The frame must not be left before the call.
    std::hint::black_box(request(std::hint::black_box(pool), 10))
}

fn failing_in(stack: &str) -> (Arc<Failing>, Pool) {
    let failing = Failing::new(FailingOptions {
        stack: Some(stack.to_owned()),
        ..Default::default()
    })
    .unwrap();
    let pool = failing.over(&own());
    (failing, pool)
}

#[test]
fn only_stacks_that_name_the_text_count() {
    let (failing, pool) = failing_in("allocates_by_a_telling_name");
    for n in 1..=3 {
        request(&pool, 10).unwrap();
        assert!(allocates_by_a_telling_name(&pool).is_err());
        assert_eq!(failing.requests(), n);
    }
    // A file's name, where the binary knows it.
    if cfg!(debug_assertions) {
        let (_, pool) = failing_in("all/failing.rs");
        assert!(request(&pool, 10).is_err());
    }
    // The hook's own frames are nobody's.
    for own in ["adaptor::failing", "adaptor::hook", "origin::stacks"] {
        let (failing, pool) = failing_in(own);
        request(&pool, 10).unwrap();
        assert_eq!(failing.requests(), 0, "{own}");
    }
    // Other text, armed later, forgets what it knew of these stacks.
    failing
        .rearm(FailingOptions {
            stack: Some("no such function".to_owned()),
            ..Default::default()
        })
        .unwrap();
    allocates_by_a_telling_name(&pool).unwrap();
    assert_eq!(failing.requests(), 0);
}

#[test]
fn frames_of_a_language_above_count_while_they_are_told() {
    let (failing, pool) = failing_in("loadTable (table.ts:");
    request(&pool, 10).unwrap();
    set_current_foreign(Some("read (file.ts:1:2)\nloadTable (table.ts:10:5)".into()));
    assert!(request(&pool, 10).is_err());
    // Other threads have other callers.
    std::thread::scope(|scope| {
        let other = scope.spawn(|| request(&pool, 10));
        other.join().unwrap().unwrap();
    });
    set_current_foreign(Some("loadOther (other.ts:10:5)".into()));
    request(&pool, 10).unwrap();
    set_current_foreign(None);
    request(&pool, 10).unwrap();
    assert_eq!((failing.requests(), failing.failures()), (1, 1));
}

#[test]
fn one_hook_over_several_pools_counts_them_together() {
    let failing = Failing::new(FailingOptions {
        after: Some(2),
        count: Some(1),
        ..Default::default()
    })
    .unwrap();
    let (a, b) = (failing.over(&own()), failing.over(&own().limit(1000)));
    let answers = [&a, &b, &a, &b].map(|pool| request(pool, 10).is_err());
    assert_eq!(answers, [false, false, true, false]);
    assert!(Arc::ptr_eq(
        &b.proxy().find_hook::<Failing>().unwrap(),
        &failing
    ));
    // Over itself, a request is two.
    failing.rearm(FailingOptions::default()).unwrap();
    failing.disarm();
    let twice = failing.over(&a);
    failing
        .rearm(FailingOptions {
            after: Some(1),
            ..Default::default()
        })
        .unwrap();
    assert!(request(&twice, 10).is_err());
    assert_eq!(failing.requests(), 2);
}

#[test]
fn threads_count_together_and_exactly() {
    const THREADS: u64 = 4;
    const EACH: u64 = 2000;
    let failing = Failing::new(FailingOptions {
        after: Some(1000),
        count: Some(500),
        ..Default::default()
    })
    .unwrap();
    let pool = failing.over(&own());
    let failed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| failures(&pool, EACH).len()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(failed, 500);
    assert_eq!(failing.requests(), THREADS * EACH);
    assert_eq!(failing.failures(), 500);
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    assert_eq!(pool.num_allocations(), THREADS * EACH - 500);
}

/// Arming anew while others allocate neither hangs nor loses the counters' sense.
#[test]
fn it_can_be_armed_anew_while_threads_allocate() {
    let (failing, pool) = failing_in("allocates_by_a_telling_name");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..300).for_each(|_| drop(allocates_by_a_telling_name(&pool))));
        }
        for round in 0..200 {
            match round % 3 {
                0 => failing.disarm(),
                1 => failing.rearm(FailingOptions::default()).unwrap(),
                _ => failing
                    .rearm(FailingOptions {
                        stack: Some(format!("text {round}")),
                        ..Default::default()
                    })
                    .unwrap(),
            }
            assert!(failing.failures() <= failing.requests());
        }
    });
    failing.rearm(FailingOptions::default()).unwrap();
    assert_eq!((failing.requests(), failing.failures()), (0, 0));
    assert_eq!(failures(&pool, 3), [1, 2, 3]);
    failing.disarm();
    assert_eq!(failures(&pool, 3), []);
    assert_eq!((failing.requests(), failing.failures()), (3, 3));
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
}

/// CPython's `test_set_nomemory` (Lib/test/test_mem.py): the loops, and what they print.
#[test]
fn memory_runs_out_in_all_domains_as_in_cpython() {
    alone(
        "failing::memory_runs_out_in_all_domains_as_in_cpython",
        || {
            let before = Domain::ALL.map(Domain::allocator);
            let mut printed = Vec::new();
            for outer in 1..4_i64 {
                let start = 10 * outer;
                for j in 0..100 {
                    if j == 0 {
                        let stop = if outer == 3 { start + 1 } else { 0 };
                        set_no_memory(start, stop).unwrap();
                    }
                    // An object of theirs is a block of the object domain.
                    let block = Domain::Object.malloc(40);
                    if block.is_null() {
                        if outer == 3 {
                            // The window is one request wide.
                            let next = Domain::Object.malloc(40);
                            assert!(!next.is_null());
                            // SAFETY: the block just allocated.
                            unsafe { Domain::Object.free(next) };
                        } else {
                            assert!(Domain::Raw.malloc(40).is_null());
                            remove_no_memory();
                        }
                        printed.push((outer, j));
                        remove_no_memory();
                        break;
                    }
                    // SAFETY: the block just allocated.
                    unsafe { Domain::Object.free(block) };
                }
            }
            assert_eq!(printed, [(1, 10), (2, 20), (3, 30)]);
            assert_eq!(Domain::ALL.map(Domain::allocator), before);
            // Set twice: armed anew, and one removal takes them off.
            set_no_memory(1000, 0).unwrap();
            set_no_memory(0, 0).unwrap();
            for domain in Domain::ALL {
                assert!(domain.malloc(10).is_null());
                assert!(domain.calloc(2, 5).is_null());
                // SAFETY: null is a malloc.
                assert!(unsafe { domain.realloc(std::ptr::null_mut(), 10) }.is_null());
            }
            assert!(MutableBuffer::zeroed(10, &offheap::default_memory_pool()).is_err());
            remove_no_memory();
            assert_eq!(Domain::ALL.map(Domain::allocator), before);
            assert!(MutableBuffer::zeroed(10, &offheap::default_memory_pool()).is_ok());
        },
    );
}

#[test]
fn a_reallocation_that_fails_leaves_the_block_of_a_domain() {
    alone(
        "failing::a_reallocation_that_fails_leaves_the_block_of_a_domain",
        || {
            for domain in Domain::ALL {
                for size in [40, 5000] {
                    set_no_memory(i64::MAX, 0).unwrap();
                    let block = domain.malloc(size);
                    // SAFETY: a live block of `size` bytes.
                    unsafe { block.write_bytes(9, size) };
                    set_no_memory(0, 0).unwrap();
                    // SAFETY: as above.
                    assert!(unsafe { domain.realloc(block, 9000) }.is_null());
                    assert_eq!(domain.block_size(block), Some(size));
                    // SAFETY: as above; freed once, while nothing can be had.
                    unsafe {
                        assert_eq!(block.add(size - 1).read(), 9);
                        domain.free(block);
                    }
                    assert_eq!(domain.allocator().live_allocations(), 0);
                    remove_no_memory();
                }
            }
        },
    );
}

/// A block that is older than the hooks grows where it was made; only one that must leave the small
/// objects needs a new block, and stays when there is none.
#[test]
fn older_blocks_stay_with_the_allocator_that_made_them() {
    alone(
        "failing::older_blocks_stay_with_the_allocator_that_made_them",
        || {
            for (domain, size) in [
                (Domain::Raw, 40),
                (Domain::Mem, 40),
                (Domain::Object, 5000),
                (Domain::Object, 40),
            ] {
                let block = domain.malloc(size);
                // SAFETY: a live block of `size` bytes.
                unsafe { block.write_bytes(9, size) };
                set_no_memory(0, 0).unwrap();
                // SAFETY: as above.
                let grown = unsafe { domain.realloc(block, 9000) };
                assert_eq!(grown.is_null(), size == 40 && domain == Domain::Object);
                let now = if grown.is_null() { block } else { grown };
                // SAFETY: the old block or the new one; freed once.
                unsafe {
                    assert_eq!(now.add(size - 1).read(), 9);
                    domain.free(now);
                }
                remove_no_memory();
            }
        },
    );
}

#[test]
fn hooks_over_domains_come_off_unless_others_lie_over_them() {
    alone(
        "failing::hooks_over_domains_come_off_unless_others_lie_over_them",
        || {
            let before = Domain::Raw.allocator();
            let failing = Failing::new(FailingOptions::default()).unwrap();
            let hooked = HookedDomains::new(&Domain::ALL, "failing", |_| failing.clone()).unwrap();
            assert_eq!(hooked.pool(Domain::Raw), Some(&Domain::Raw.allocator()));
            assert_eq!(Domain::Raw.allocator().name(), "failing of system");
            // Somebody hooks the raw domain, too, and stays longer.
            let other = HookedDomains::new(&[Domain::Raw], "other", |_| {
                Failing::new(FailingOptions {
                    after: Some(u64::MAX),
                    ..Default::default()
                })
                .unwrap()
            })
            .unwrap();
            drop(hooked);
            assert_eq!(Some(&Domain::Raw.allocator()), other.pool(Domain::Raw));
            assert!(
                Domain::Raw.malloc(10).is_null(),
                "the lower hook is still asked"
            );
            failing.disarm();
            let block = Domain::Raw.malloc(10);
            assert!(!block.is_null());
            drop(other);
            // What was taken off while the other one lay over it went along.
            assert_eq!(Domain::Raw.allocator(), before);
            // SAFETY: the block allocated above, by an allocator that was replaced since.
            unsafe { Domain::Raw.free(block) };
            // The same domain twice: off in the order of a stack.
            let twice =
                HookedDomains::new(&[Domain::Raw, Domain::Raw], "twice", |_| failing.clone())
                    .unwrap();
            assert_ne!(Domain::Raw.allocator(), before);
            drop(twice);
            assert_eq!(Domain::Raw.allocator(), before);
        },
    );
}

/// When one of the domains cannot be hooked, none is.
#[test]
fn a_closed_allocator_cannot_be_hooked() {
    alone("failing::a_closed_allocator_cannot_be_hooked", || {
        let raw = Domain::Raw.allocator();
        let pool = own();
        Domain::Object.set_allocator(&pool).unwrap();
        pool.close().unwrap();
        let error = set_no_memory(0, 0).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_CLOSED");
        assert_eq!(Domain::Raw.allocator(), raw);
        remove_no_memory();
    });
}

/// Whether it is the bytes or their control block that cannot be had.
#[test]
fn a_block_that_cannot_be_had_leaves_every_figure() {
    alone(
        "failing::a_block_that_cannot_be_had_leaves_every_figure",
        || {
            let pool = offheap::system_memory_pool().limit(1000);
            let figures = || {
                let mut now = pool.statistics();
                // The backend's are also others'.
                now.backend = Default::default();
                now
            };
            let before = figures();
            let failing = FailingOptions::default();
            let objects = HookedDomains::new(&[Domain::Object], "failing", |_| {
                Failing::new(failing.clone()).unwrap()
            })
            .unwrap();
            assert!(MutableBuffer::zeroed(100, &pool).is_err());
            assert_eq!(figures(), before);
            drop(objects);
            let hooked = pool.failing(failing).unwrap();
            let objects = offheap::domain::small_object_statistics().live_blocks;
            assert!(MutableBuffer::zeroed(100, &hooked).is_err());
            assert_eq!(figures(), before);
            assert_eq!(
                offheap::domain::small_object_statistics().live_blocks,
                objects
            );
        },
    );
}

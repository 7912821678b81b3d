//! Debug hooks: what they find, and what a process then does. Arrow's debug pool finds one of the
//! first five corruptions; CPython's dies in its report of a double free.

use crate::alone::{alone, is_alone, run};
use crate::every_pool::backends;
use crate::refusing::PanicsOnGrowth;
use offheap::pool::memory_pool_named;
use offheap::{
    Alignment, Block, Buffer, Corruption, CorruptionKind, DebugOptions, DetectedOn, Domain,
    MutableBuffer, OnError, Padding, Pool, default_memory_pool, object_memory_pool,
    set_throw_handler, setup_debug_hooks, supported_memory_backends, system_memory_pool,
    total_allocated_bytes,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Output;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const ALIGNMENT: Alignment = Alignment::DEFAULT;

/// What a debug pool's callback was told.
#[derive(Clone, Default)]
struct Found(Arc<Mutex<Vec<Corruption>>>);

impl Found {
    fn options(&self) -> DebugOptions {
        let found = self.clone();
        DebugOptions {
            on_error: OnError::Call(Arc::new(move |corruption: &Corruption| {
                found.0.lock().unwrap().push(corruption.clone());
            })),
            ..DebugOptions::default()
        }
    }

    fn over(pool: &Pool) -> (Pool, Self) {
        let found = Self::default();
        (pool.debug(found.options()), found)
    }

    /// The only one since the last call.
    #[track_caller]
    fn one(&self) -> Corruption {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    }

    #[track_caller]
    fn none(&self) {
        let all = self.0.lock().unwrap();
        assert!(all.is_empty(), "{}", all[0]);
    }
}

#[inline(never)]
fn allocated_here(pool: &Pool, size: usize) -> NonNull<u8> {
    std::hint::black_box(pool.allocate(size, ALIGNMENT).unwrap())
}

#[inline(never)]
fn freed_here(pool: &Pool, block: NonNull<u8>, size: usize) {
    // SAFETY: a live block of these figures, or the misuse that a test is about.
    unsafe { pool.free(block, size, ALIGNMENT) };
    std::hint::black_box(());
}

fn write(block: NonNull<u8>, offset: isize, byte: u8) {
    // SAFETY: the guards around a block are memory of the debug pool; freed blocks are in its
    // quarantine.
    unsafe { block.offset(offset).write_volatile(byte) };
}

fn names(origin: &offheap::origin::Origin, function: &str) -> bool {
    let frames = origin.native.frames();
    frames
        .iter()
        .any(|frame| frame.to_string().contains(function))
}

/// arrow-cpp.md §1.1: a write at the size, in the padding, in front, past Arrow's trailer, after the
/// free: five of five, with both stacks.
#[test]
fn bug_4_every_corruption_that_arrow_misses_is_found() {
    for backend in backends() {
        let (pool, found) = Found::over(&backend);
        for (offset, kind) in [
            (10, CorruptionKind::Overflow),
            (20, CorruptionKind::Overflow),
            (63, CorruptionKind::Overflow),
            (64, CorruptionKind::Overflow),
            (72, CorruptionKind::Overflow),
            (127, CorruptionKind::Overflow),
            (-1, CorruptionKind::Underflow),
            (-16, CorruptionKind::Underflow),
            (-40, CorruptionKind::Underflow),
            (-64, CorruptionKind::Underflow),
        ] {
            let block = allocated_here(&pool, 10);
            found.none();
            write(block, offset, 0x78);
            freed_here(&pool, block, 10);
            let corruption = found.one();
            assert_eq!((corruption.kind, corruption.offset), (kind, Some(offset)));
            assert_eq!(corruption.detected_on, DetectedOn::Deallocation);
            assert_eq!((corruption.size, corruption.domain), (10, 'm'));
            assert_eq!(corruption.address, block.addr().get());
            assert!(names(
                corruption.allocated_at.as_ref().unwrap(),
                "allocated_here"
            ));
            assert!(names(&corruption.detected_at, "freed_here"));
            assert!(corruption.freed_at.is_none());
            assert!(corruption.dump().contains(">78"), "{}", corruption.dump());
            // Given back again: the memory is not used again, and the block is still known.
            freed_here(&pool, block, 10);
            assert_eq!(found.one().kind, CorruptionKind::DoubleFree);
        }
        for offset in [0, 9, 10, 72, -1] {
            let block = allocated_here(&pool, 10);
            freed_here(&pool, block, 10);
            write(block, offset, 0x78);
            let checked = pool.check_integrity().unwrap();
            pool.release_unused();
            for corruption in [found.one(), checked[0].clone()] {
                assert_eq!(corruption.kind, CorruptionKind::WriteAfterFree);
                assert_eq!(corruption.offset, Some(offset));
                assert!(names(
                    corruption.allocated_at.as_ref().unwrap(),
                    "allocated_here"
                ));
                assert!(names(corruption.freed_at.as_ref().unwrap(), "freed_here"));
            }
            assert_eq!(checked.len(), 1);
            assert!(pool.check_integrity().unwrap().is_empty());
        }
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    }
}

#[test]
fn new_memory_is_cb_and_freed_memory_db() {
    let (pool, found) = Found::over(&system_memory_pool());
    assert_eq!(pool.padding(), Padding::None);
    for size in [1, 63, 64, 1000] {
        let block = allocated_here(&pool, size);
        // SAFETY: a live block, filled; its guards; the same in the quarantine.
        unsafe {
            let bytes = std::slice::from_raw_parts(block.as_ptr(), size);
            assert!(bytes.iter().all(|byte| *byte == 0xCB));
            assert_eq!(block.sub(1).read(), 0xFB);
            assert_eq!(block.sub(16).read(), 0xFB);
            assert_eq!(block.add(size).read(), 0xFB);
            assert_eq!(block.add(size + 63).read(), 0xFB);
            // Size and serial number, as a core file shows them.
            let mut header = [0; 8];
            header.copy_from_slice(std::slice::from_raw_parts(block.as_ptr().sub(64), 8));
            assert_eq!(u64::from_be_bytes(header), size as u64);
            let grown = pool.reallocate(block, size, size + 5, ALIGNMENT).unwrap();
            assert_ne!(grown, block);
            assert_eq!(block.read_volatile(), 0xDB);
            assert_eq!(grown.add(size + 4).read(), 0xCB);
            freed_here(&pool, grown, size + 5);
            assert_eq!(grown.add(size - 1).read_volatile(), 0xDB);
        }
        let zeroed = pool.allocate_zeroed(size, ALIGNMENT).unwrap();
        // SAFETY: a live block.
        let bytes = unsafe { std::slice::from_raw_parts(zeroed.as_ptr(), size) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        freed_here(&pool, zeroed, size);
    }
    found.none();
}

#[test]
fn calls_that_name_a_block_wrongly_touch_nothing_and_are_not_counted() {
    for backend in backends() {
        let base = backend.limit(1000);
        let (pool, found) = Found::over(&base);
        let (other, others) = Found::over(&base);
        let block = allocated_here(&pool, 100);
        let kept = allocated_here(&other, 50);
        let bytes = (pool.bytes_allocated(), other.bytes_allocated());
        assert_eq!(bytes, (100, 50));
        assert_eq!(base.bytes_allocated(), 150);

        // Another pool's.
        freed_here(&other, block, 100);
        let corruption = others.one();
        assert_eq!(corruption.kind, CorruptionKind::WrongPool);
        assert!(corruption.to_string().contains(pool.name()), "{corruption}");
        // SAFETY: the misuse that this is about, as below.
        let error = unsafe { other.reallocate(block, 100, 200, ALIGNMENT) }.unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_CORRUPTION");
        assert_eq!(others.one().kind, CorruptionKind::WrongPool);

        // Inside of a block, or nowhere.
        // SAFETY: in bounds.
        freed_here(&pool, unsafe { block.add(8) }, 92);
        let corruption = found.one();
        assert_eq!(corruption.kind, CorruptionKind::InvalidPointer);
        assert_eq!(corruption.inside, Some(8));
        assert!(names(
            corruption.allocated_at.as_ref().unwrap(),
            "allocated_here"
        ));
        let mut local = 0_u64;
        freed_here(&pool, NonNull::from(&mut local).cast(), 8);
        assert_eq!(found.one().kind, CorruptionKind::InvalidPointer);
        freed_here(&pool, NonNull::dangling(), 8);
        let corruption = found.one();
        assert!(corruption.allocated_at.is_none() && corruption.dump().is_empty());

        // Nothing of this was counted, and a reallocation with a wrong size or alignment is refused.
        assert_eq!((pool.bytes_allocated(), other.bytes_allocated()), bytes);
        for (size, alignment, kind) in [
            (99, ALIGNMENT, CorruptionKind::WrongSize { given: 99 }),
            (
                100,
                Alignment::new(128).unwrap(),
                CorruptionKind::WrongAlignment { given: 128 },
            ),
        ] {
            // SAFETY: as above.
            let error = unsafe { pool.reallocate(block, size, 200, alignment) }.unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_CORRUPTION");
            let corruption = found.one();
            assert_eq!(corruption.kind, kind);
            assert_eq!(corruption.detected_on, DetectedOn::Reallocation);
        }
        assert_eq!((pool.bytes_allocated(), other.bytes_allocated()), bytes);

        // A free with a wrong size counts the right one.
        freed_here(&pool, block, 70);
        let corruption = found.one();
        assert_eq!(corruption.kind, CorruptionKind::WrongSize { given: 70 });
        let text = corruption.to_string();
        assert!(
            text.contains("Wrong size on deallocation: given size = 70, actual size = 100"),
            "{text}"
        );
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));

        // Twice, and by a reallocation.
        freed_here(&pool, block, 100);
        let corruption = found.one();
        assert_eq!(corruption.kind, CorruptionKind::DoubleFree);
        assert!(names(corruption.freed_at.as_ref().unwrap(), "freed_here"));
        assert!(corruption.to_string().contains("Memory block freed at"));
        for to in [200, 0] {
            // SAFETY: as above.
            let error = unsafe { pool.reallocate(block, 100, to, ALIGNMENT) }.unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_CORRUPTION");
            assert_eq!(found.one().kind, CorruptionKind::DoubleFree);
        }
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
        freed_here(&other, kept, 50);
        others.none();
        assert_eq!(base.available(), Some(1000));
        // When the quarantine has let the block go, it is no block any more.
        pool.release_unused();
        freed_here(&pool, block, 100);
        assert_eq!(found.one().kind, CorruptionKind::InvalidPointer);
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// Adaptors over debug hooks count what was really given back, too.
#[test]
fn what_was_not_freed_is_not_counted_at_any_level() {
    #[derive(Debug)]
    struct Nothing;
    impl offheap::Hook for Nothing {}
    let (debug, found) = Found::over(&system_memory_pool().proxy());
    let limit = debug.hook(Arc::new(Nothing)).proxy().limit(1000);
    let block = allocated_here(&limit, 100);
    freed_here(&limit, block, 100);
    freed_here(&limit, block, 100);
    assert_eq!(found.one().kind, CorruptionKind::DoubleFree);
    let block = allocated_here(&limit, 100);
    freed_here(&limit, block, 99);
    assert_eq!(found.one().kind, CorruptionKind::WrongSize { given: 99 });
    for pool in std::iter::successors(Some(&limit), |pool| pool.parent()).take(5) {
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    }
    assert_eq!(limit.available(), Some(1000));
}

#[test]
fn resizing_moves_and_finds_damage_and_a_failure_changes_nothing() {
    let (pool, found) = Found::over(&default_memory_pool());
    let block = allocated_here(&pool, 100);
    write(block, 42, 7);
    let start = pool.bytes_allocated();
    for size in [usize::MAX, isize::MAX as usize, isize::MAX as usize - 4096] {
        // SAFETY: a live block of these figures.
        let error = unsafe { pool.reallocate(block, 100, size, ALIGNMENT) }.unwrap_err();
        assert!(error.is_out_of_memory(), "{error}");
    }
    found.none();
    assert_eq!(pool.bytes_allocated(), start);
    // SAFETY: as above.
    let grown = unsafe { pool.reallocate(block, 100, 101, ALIGNMENT) }.unwrap();
    assert_ne!(grown, block);
    // SAFETY: a live block.
    assert_eq!(unsafe { grown.add(42).read() }, 7);
    // A stale pointer shows.
    write(block, 42, 8);
    let checked = pool.check_integrity().unwrap();
    assert_eq!(checked[0].kind, CorruptionKind::WriteAfterFree);
    assert_eq!(checked[0].offset, Some(42));
    assert!(names(
        checked[0].freed_at.as_ref().unwrap(),
        "resizing_moves"
    ));
    // Damage is found on the way, and the new block is whole.
    write(grown, 101, 1);
    // SAFETY: as above.
    let again = unsafe { pool.reallocate(grown, 101, 50, ALIGNMENT) }.unwrap();
    let corruption = found.one();
    assert_eq!(corruption.kind, CorruptionKind::Overflow);
    assert_eq!(corruption.detected_on, DetectedOn::Reallocation);
    // SAFETY: a live block.
    assert_eq!(unsafe { again.add(42).read() }, 7);
    freed_here(&pool, again, 50);
    found.none();
}

#[test]
fn writes_to_frozen_buffers_are_found() {
    let (pool, found) = Found::over(&default_memory_pool());
    let frozen = || {
        let mut buffer = MutableBuffer::zeroed(100, &pool).unwrap();
        buffer[5] = 1;
        buffer.freeze()
    };
    let first = |buffer: &Buffer| NonNull::from(&buffer[0]);
    drop(frozen());
    found.none();
    let buffer = frozen();
    write(first(&buffer), 99, 2);
    let checked = pool.check_integrity().unwrap();
    assert_eq!(checked[0].kind, CorruptionKind::ImmutableWrite);
    assert_eq!(checked[0].detected_on, DetectedOn::Check);
    drop(buffer);
    assert_eq!(found.one().kind, CorruptionKind::ImmutableWrite);
    // Thawed, it may be written again.
    let mut thawed = frozen().try_into_mutable().unwrap();
    thawed[0] = 9;
    assert!(pool.check_integrity().unwrap().is_empty());
    drop(thawed);
    found.none();
    // Work in flight may write parked memory, but not what is around it.
    for (offset, kind) in [(50, None), (100, Some(CorruptionKind::Overflow))] {
        let block = Block::allocate(100, ALIGNMENT, &pool, true).unwrap();
        block.notice(offheap::Notice::Sealed);
        let start = block.as_ptr();
        let parked = block.park();
        write(start, offset, 1);
        drop(parked);
        match kind {
            None => found.none(),
            Some(kind) => assert_eq!(found.one().kind, kind),
        }
    }
    assert_eq!(pool.statistics().parked_bytes, 0);
}

/// Freeing 1 GiB holds back no more than the bound, and neither guards nor the quarantine count.
#[test]
fn the_quarantine_is_bounded() {
    let real = system_memory_pool().proxy();
    let options = DebugOptions {
        quarantine_bytes: 1 << 20,
        stack_depth: 0,
        ..DebugOptions::default()
    };
    // What a custom source is asked for counts in the pool under it, guards and all.
    let custom = Pool::custom(real.clone());
    let pool = custom.debug(options);
    for _ in 0..1 << 14 {
        let block = allocated_here(&pool, 1 << 16);
        assert_eq!(
            (pool.bytes_allocated(), custom.bytes_allocated()),
            (1 << 16, 1 << 16)
        );
        freed_here(&pool, block, 1 << 16);
        assert!(
            real.bytes_allocated() <= 1 << 20,
            "{}",
            real.bytes_allocated()
        );
    }
    assert_eq!(pool.total_bytes_allocated(), 1 << 30);
    assert!(real.bytes_allocated() > 1 << 19);
    assert!(real.peak_bytes() <= (1 << 20) + 2 * (1 << 17));
    // More than the bound goes at once, and takes nothing with it.
    let held = real.bytes_allocated();
    let large = allocated_here(&pool, 2 << 20);
    freed_here(&pool, large, 2 << 20);
    assert_eq!(real.bytes_allocated(), held);
    pool.release_unused();
    assert_eq!(real.bytes_allocated(), 0);
    let block = allocated_here(&pool, 100);
    freed_here(&pool, block, 100);
    assert_eq!(real.bytes_allocated(), 64 + 128 + 64);
    drop(pool);
    assert_eq!((real.bytes_allocated(), real.live_allocations()), (0, 0));
}

#[test]
fn threads_use_one_pool_while_another_checks_it() {
    let (pool, found) = Found::over(&default_memory_pool().proxy());
    let running = AtomicUsize::new(4);
    std::thread::scope(|scope| {
        for seed in 0..4_u64 {
            let (pool, running) = (&pool, &running);
            scope.spawn(move || {
                let mut random = seed + 1;
                let mut blocks = Vec::new();
                for _ in 0..3000 {
                    random = random
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    let size = (random >> 33) as usize % 3000 + 1;
                    match (random >> 60, blocks.len()) {
                        (0..7, _) | (_, 0) => blocks.push((allocated_here(pool, size), size)),
                        (7..9, n) => {
                            let (block, old) = blocks[random as usize % n];
                            // SAFETY: a live block of this thread.
                            let new = unsafe { pool.reallocate(block, old, size, ALIGNMENT) };
                            blocks[random as usize % n] = (new.unwrap(), size);
                        }
                        (_, n) => {
                            let (block, size) = blocks.swap_remove(random as usize % n);
                            freed_here(pool, block, size);
                        }
                    }
                }
                for (block, size) in blocks {
                    freed_here(pool, block, size);
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while running.load(Ordering::SeqCst) > 0 {
            let damaged = pool.check_integrity().unwrap();
            assert!(damaged.is_empty(), "{}", damaged[0]);
        }
    });
    found.none();
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
}

/// Of many frees of one block at once, one is right.
#[test]
fn racing_double_frees_are_found() {
    let (pool, found) = Found::over(&default_memory_pool());
    for _ in 0..50 {
        let block = allocated_here(&pool, 64).addr().get();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    let block = NonNull::new(std::ptr::with_exposed_provenance_mut(block)).unwrap();
                    freed_here(pool, block, 64);
                });
            }
        });
        let all = std::mem::take(&mut *found.0.lock().unwrap());
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|c| c.kind == CorruptionKind::DoubleFree));
    }
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
}

#[test]
fn a_callback_may_use_the_pool_and_panic() {
    let calls = Arc::new(AtomicUsize::new(0));
    let pool_of_callback = Arc::new(Mutex::new(None::<Pool>));
    let options = DebugOptions {
        on_error: OnError::Call({
            let (calls, pool) = (calls.clone(), pool_of_callback.clone());
            Arc::new(move |corruption: &Corruption| {
                let pool = pool.lock().unwrap().clone().unwrap();
                let again = NonNull::new(std::ptr::with_exposed_provenance_mut(corruption.address));
                let block = allocated_here(&pool, 1000);
                freed_here(&pool, block, 1000);
                // Damage found meanwhile does not call again.
                freed_here(&pool, again.unwrap(), 10);
                calls.fetch_add(1, Ordering::SeqCst);
                panic!("the callback's own");
            })
        }),
        ..DebugOptions::default()
    };
    let pool = default_memory_pool().debug(options);
    *pool_of_callback.lock().unwrap() = Some(pool.clone());
    for turn in 1..=2 {
        let block = allocated_here(&pool, 10);
        write(block, 10, 1);
        block.as_ptr().expose_provenance();
        freed_here(&pool, block, 10);
        assert_eq!(calls.load(Ordering::SeqCst), turn);
    }
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    *pool_of_callback.lock().unwrap() = None;
}

/// Without a handler, `Throw` panics with the report, the work done and everything counted.
#[test]
fn throwing_panics_where_nobody_takes_the_report() {
    alone(
        "debug::throwing_panics_where_nobody_takes_the_report",
        || {
            let pool = default_memory_pool().debug(DebugOptions {
                on_error: OnError::Throw,
                ..DebugOptions::default()
            });
            let damaged = || {
                let buffer = MutableBuffer::zeroed(10, &pool).unwrap();
                write(NonNull::from(&buffer[0]), 10, 1);
                buffer
            };
            let buffer = damaged();
            let panic = catch_unwind(AssertUnwindSafe(|| drop(buffer))).unwrap_err();
            let text = panic.downcast_ref::<String>().unwrap();
            assert!(
                text.contains("Buffer overflow found on deallocation: byte 10 of a block of 10")
            );
            assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
            // Of two at once, the second comes while the first unwinds: a warning, not an abort.
            let two = [damaged(), damaged()];
            assert!(catch_unwind(AssertUnwindSafe(|| drop(two))).is_err());
            assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
            // A reallocation that panics leaves the block with its owner.
            let block = allocated_here(&pool, 10);
            write(block, 10, 1);
            // SAFETY: a live block of these figures.
            let resize = || unsafe { pool.reallocate(block, 10, 20, ALIGNMENT) };
            assert!(catch_unwind(AssertUnwindSafe(resize)).is_err());
            assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (10, 1));
            assert!(catch_unwind(AssertUnwindSafe(|| freed_here(&pool, block, 10))).is_err());
            let twice = catch_unwind(AssertUnwindSafe(|| freed_here(&pool, block, 10)));
            assert!(
                twice
                    .unwrap_err()
                    .downcast_ref::<String>()
                    .unwrap()
                    .contains("Double free")
            );
            assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
            // C cannot be unwound into.
            let c = offheap::c_allocator_of(&pool);
            // SAFETY: the struct's functions with its context; a byte in the guard.
            unsafe {
                let block = (c.malloc)(c.ctx, 10);
                block.cast::<u8>().add(10).write_volatile(1);
                (c.free)(c.ctx, block);
            }
            // A handler that takes the report ends it.
            static TAKEN: Mutex<Vec<CorruptionKind>> = Mutex::new(Vec::new());
            set_throw_handler(Some(|corruption| {
                TAKEN.lock().unwrap().push(corruption.kind);
                corruption.kind != CorruptionKind::Underflow
            }));
            drop(damaged());
            let block = allocated_here(&pool, 10);
            write(block, -1, 1);
            assert!(catch_unwind(AssertUnwindSafe(|| freed_here(&pool, block, 10))).is_err());
            assert_eq!(
                *TAKEN.lock().unwrap(),
                [CorruptionKind::Overflow, CorruptionKind::Underflow]
            );
        },
    );
}

#[test]
fn only_pools_with_debug_hooks_can_be_checked() {
    let error = default_memory_pool().proxy().check_integrity().unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_NOT_SUPPORTED");
    let (pool, _found) = Found::over(&default_memory_pool());
    let above = pool.limit(10).proxy().debug(DebugOptions::default());
    assert!(above.check_integrity().unwrap().is_empty());
    assert!(pool.proxy().check_integrity().unwrap().is_empty());
    assert_eq!(
        pool.name(),
        format!("debug of {}", default_memory_pool().name())
    );
    assert_eq!(pool.backend_name(), default_memory_pool().backend_name());
    assert_eq!(pool.parent(), Some(&default_memory_pool()));
}

/// Hooks in hooks: each finds its own.
#[test]
fn debug_hooks_stack() {
    let (inner, inners) = Found::over(&default_memory_pool());
    let (outer, outers) = Found::over(&inner);
    let block = allocated_here(&outer, 100);
    // Behind the outer block's guards are the inner one's.
    write(block, 128 + 64, 1);
    freed_here(&outer, block, 100);
    outers.none();
    inners.none();
    outer.release_unused();
    assert_eq!(inners.one().kind, CorruptionKind::Overflow);
    outers.none();
}

// What a process does: children, each with a mode of its own.

/// A child's corruption of a block of the pool of `OFFHEAP_TEST_POOL`.
fn corrupt(size: usize, offset: isize) {
    let pool = memory_pool_named(&std::env::var("OFFHEAP_TEST_POOL").unwrap()).unwrap();
    assert_eq!(pool.name(), pool.backend_name());
    let block = allocated_here(&pool, size);
    write(block, offset, 0x78);
    freed_here(&pool, block, size);
    println!("still here");
}

const IN_ENVIRONMENT: &str = "debug::case_107_108_109_110_111_the_environment";

fn child(pool: &str, size: &str, variables: &[(&str, &str)]) -> (Output, String) {
    let mut all = vec![("OFFHEAP_TEST_POOL", pool), ("OFFHEAP_TEST_SIZE", size)];
    all.extend(variables);
    let output = run(IN_ENVIRONMENT, &all);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, stderr)
}

/// Cases 107 to 111: pyarrow writes one byte behind a buffer of 64 and expects "Wrong size on
/// deallocation", since Arrow's notes about the size are there. Here those words are for a wrong
/// size; an overflow is called one.
#[test]
fn case_107_108_109_110_111_the_environment() {
    if is_alone() {
        // Without hooks, byte 60 of a block of 60 is padding, which may be written.
        let size = std::env::var("OFFHEAP_TEST_SIZE").unwrap().parse().unwrap();
        corrupt(size, size as isize);
        return;
    }
    for pool in supported_memory_backends() {
        for variable in ["OFFHEAP_DEBUG_MEMORY_POOL", "ARROW_DEBUG_MEMORY_POOL"] {
            #[cfg(unix)]
            for (mode, signal) in [("abort", libc::SIGABRT), ("trap", libc::SIGTRAP)] {
                use std::os::unix::process::ExitStatusExt;
                let (output, stderr) = child(pool, "64", &[(variable, mode)]);
                assert_eq!(output.status.signal(), Some(signal), "{stderr}");
                assert!(
                    stderr.contains(
                        "Buffer overflow found on deallocation: byte 64 of a block of 64"
                    ),
                    "{stderr}"
                );
            }
            let (output, stderr) = child(pool, "64", &[(variable, "warn")]);
            assert!(output.status.success(), "{stderr}");
            assert!(
                stderr.contains("Buffer overflow found on deallocation"),
                "{stderr}"
            );
            assert!(String::from_utf8_lossy(&output.stdout).contains("still here"));
            // Nobody takes the report: the test panics.
            let (output, stderr) = child(pool, "64", &[(variable, "throw")]);
            assert!(!output.status.success());
            assert!(
                stderr.contains("Buffer overflow found on deallocation"),
                "{stderr}"
            );
            assert!(stderr.contains("panicked"), "{stderr}");
        }
        for off in ["none", ""] {
            let (output, stderr) = child(pool, "60", &[("OFFHEAP_DEBUG_MEMORY_POOL", off)]);
            assert!(output.status.success(), "{stderr}");
            assert!(!stderr.contains("offheap"), "{stderr}");
        }
    }
}

/// The first of the two that is set counts, and an unknown value warns once.
#[test]
fn case_112_the_environment_is_read_in_order() {
    if is_alone() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(default_memory_pool))
            .collect();
        threads.into_iter().for_each(|thread| drop(thread.join()));
        println!(
            "debugged: {}",
            default_memory_pool().check_integrity().is_ok()
        );
        return;
    }
    const OURS: &str = "OFFHEAP_DEBUG_MEMORY_POOL";
    const ARROWS: &str = "ARROW_DEBUG_MEMORY_POOL";
    let child = |variables: &[(&str, &str)]| {
        let output = run(
            "debug::case_112_the_environment_is_read_in_order",
            variables,
        );
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{stdout}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (stdout.contains("debugged: true"), stderr)
    };
    assert_eq!(child(&[]), (false, String::new()));
    assert_eq!(
        child(&[(OURS, "warn"), (ARROWS, "none")]),
        (true, String::new())
    );
    assert_eq!(
        child(&[(OURS, "none"), (ARROWS, "abort")]),
        (false, String::new())
    );
    assert_eq!(
        child(&[(OURS, ""), (ARROWS, "trap")]),
        (true, String::new())
    );
    for variable in [OURS, ARROWS] {
        for unknown in ["some_arbitrary_value", "ABORT", " warn"] {
            let (debugged, stderr) = child(&[(variable, unknown)]);
            assert!(!debugged);
            assert_eq!(
                stderr,
                format!(
                    "offheap: Invalid value for {variable}: '{unknown}'. Valid values are 'abort', 'trap', 'warn', 'throw', 'none'.\n"
                )
            );
        }
    }
}

/// Under the environment's hooks every domain has them, with its letter, `set_allocator` puts them
/// over what it installs, and names and totals are as without.
#[test]
fn the_environment_covers_every_domain() {
    if !is_alone() {
        let output = run(
            "debug::the_environment_covers_every_domain",
            &[("OFFHEAP_DEBUG_MEMORY_POOL", "warn")],
        );
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        for letter in ['r', 'm', 'o'] {
            let line = format!("API '{letter}'\n    16 bytes originally requested");
            assert_eq!(stderr.matches(&line).count(), 2, "{letter}: {stderr}");
        }
        return;
    }
    for name in supported_memory_backends() {
        let pool = memory_pool_named(name).unwrap();
        assert_eq!((pool.name(), pool.backend_name()), (name, name));
        pool.check_integrity().unwrap();
    }
    // A buffer, and its control block.
    drop(MutableBuffer::zeroed(100, &default_memory_pool()).unwrap());
    assert!(Domain::Object.allocator().num_allocations() > 0);
    assert_eq!(total_allocated_bytes(), 0);
    for round in 0..2 {
        for domain in Domain::ALL {
            domain.allocator().check_integrity().unwrap();
            let block = NonNull::new(domain.malloc(16)).unwrap();
            // The program's own source, below, counts its guards in the system's pool.
            if round == 0 && domain != Domain::Object {
                assert_eq!(total_allocated_bytes(), 16);
            }
            write(block, 16, 1);
            // SAFETY: a live block of the domain.
            unsafe { domain.free(block.as_ptr()) };
            assert!(round == 1 || total_allocated_bytes() == 0);
        }
        if round == 0 {
            Domain::Raw
                .set_allocator(&Pool::custom(PanicsOnGrowth))
                .unwrap();
            Domain::Mem
                .set_allocator(&default_memory_pool().proxy())
                .unwrap();
            Domain::Object.set_allocator(&object_memory_pool()).unwrap();
        }
    }
}

/// CPython's `test_buffer_overflow` and `test_buffer_underflow`: the report, line by line.
#[test]
fn the_report_reads_as_cpythons() {
    if is_alone() {
        let pool = default_memory_pool().debug(DebugOptions {
            on_error: OnError::Warn,
            ..DebugOptions::default()
        });
        for offset in [16, -1] {
            let block = allocated_here(&pool, 16);
            write(block, offset, b'x');
            freed_here(&pool, block, 16);
        }
        return;
    }
    let output = run("debug::the_report_reads_as_cpythons", &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let (overflow, underflow) = stderr.split_once("offheap: Buffer underflow").unwrap();
    let mut lines = overflow.lines();
    for expected in [
        "offheap: Buffer overflow found on deallocation: byte 16 of a block of 16 bytes was written (bad trailing pad byte)",
        "Debug memory block at address p=0x…: API 'm'",
        "    16 bytes originally requested",
        "    aligned to 64, from pool 'debug of …'",
        "    The 64 pad bytes at p-64 are FORBIDDENBYTE and the header, as expected.",
        "    The 112 pad bytes at tail=0x… are not all FORBIDDENBYTE (0xfb):",
        "        at tail+0: 0x78 *** OUCH",
        "        at tail+1: 0xfb",
        "        at tail+2: 0xfb",
    ] {
        let line = lines.next().unwrap();
        let (start, end) = expected.split_once('…').unwrap_or((expected, ""));
        assert!(
            line.starts_with(start) && line.ends_with(end),
            "{line:?} {stderr}"
        );
    }
    for expected in [
        "    The block was made by call #",
        "    Data at p: cb cb cb cb cb cb cb cb cb cb cb cb cb cb cb cb\n",
        "        p  +16:>78 fb fb",
        "Memory block allocated at (thread 1, ",
        "Detected at (thread 1; most recent call first):\n",
    ] {
        assert!(overflow.contains(expected), "{expected}: {overflow}");
    }
    let (allocated, detected) = overflow.split_once("Detected at").unwrap();
    assert!(allocated.contains("debug::allocated_here"), "{allocated}");
    assert!(detected.contains("debug::freed_here"), "{detected}");
    for expected in [
        "    The 64 pad bytes at p-64 are not all FORBIDDENBYTE (0xfb):\n        at p-1: 0x78 *** OUCH\n",
        "    The 112 pad bytes at tail=0x",
        "(bad leading pad byte)",
    ] {
        assert!(underflow.contains(expected), "{expected}: {underflow}");
    }
}

/// CPython's `test_api_misuse`, and `PyMem_SetupDebugHooks` called twice.
#[test]
fn hooks_over_every_domain_find_misuse_of_one() {
    alone("debug::hooks_over_every_domain_find_misuse_of_one", || {
        // Made before, it goes back to who made it.
        let before = Domain::Mem.malloc(100);
        let found = Found::default();
        setup_debug_hooks(&found.options()).unwrap();
        let pools = Domain::ALL.map(Domain::allocator);
        setup_debug_hooks(&DebugOptions::default()).unwrap();
        assert_eq!(Domain::ALL.map(Domain::allocator), pools);
        // SAFETY: a live block of the domain.
        unsafe { Domain::Mem.free(before) };
        found.none();
        for (domain, letter) in Domain::ALL.into_iter().zip(['r', 'm', 'o']) {
            let block = NonNull::new(domain.malloc(16)).unwrap();
            write(block, 16, 1);
            // SAFETY: a live block of the domain.
            unsafe { domain.free(block.as_ptr()) };
            let corruption = found.one();
            assert_eq!(
                (corruption.kind, corruption.domain),
                (CorruptionKind::Overflow, letter)
            );
            for other in Domain::ALL.into_iter().filter(|other| *other != domain) {
                let block = NonNull::new(domain.malloc(16)).unwrap();
                // SAFETY: the misuse that this is about: the block is left alone.
                unsafe { other.free(block.as_ptr()) };
                let corruption = found.one();
                assert_eq!(corruption.kind, CorruptionKind::WrongDomain);
                let text = corruption.to_string();
                let expected = format!(
                    "bad ID: Allocated using API '{letter}', verified using API '{}'",
                    other.letter()
                );
                assert!(text.contains(&expected), "{text}");
                // SAFETY: as above; and at last the right one.
                unsafe {
                    assert!(other.realloc(block.as_ptr(), 32).is_null());
                    assert_eq!(found.one().kind, CorruptionKind::WrongDomain);
                    domain.free(block.as_ptr());
                }
                found.none();
            }
            let block = domain.malloc(16);
            // SAFETY: a live block of the domain; then the misuse that this is about.
            unsafe {
                domain.free(block);
                domain.free(block);
            }
            let corruption = found.one();
            assert_eq!(corruption.kind, CorruptionKind::DoubleFree);
            assert!(corruption.freed_at.is_some());
            // SAFETY: as above.
            unsafe { assert!(domain.realloc(block, 100).is_null()) };
            assert_eq!(found.one().kind, CorruptionKind::DoubleFree);
        }
        // Buffers and their control blocks are under hooks, too.
        let buffer = MutableBuffer::zeroed(100, &default_memory_pool()).unwrap();
        write(NonNull::from(&buffer[0]), 100, 1);
        drop(buffer);
        assert_eq!(found.one().kind, CorruptionKind::Overflow);
        for pool in Domain::ALL.map(Domain::allocator) {
            assert!(pool.check_integrity().unwrap().is_empty());
            assert_eq!(pool.bytes_allocated(), 0);
        }
    });
}

/// A C library's double free is reported and changes no figure, though the size in front of its
/// block is gone by then.
#[test]
fn a_double_free_through_malloc_is_reported_and_not_counted() {
    let limit = system_memory_pool().limit(10_000);
    let (pool, found) = Found::over(&limit);
    let memory = offheap::PoolMalloc::new(&pool);
    let kept = memory.malloc(100);
    let freed = memory.malloc(1000);
    // SAFETY: live blocks; then one that debug hooks hold back, which is what they are for.
    unsafe {
        memory.free(freed);
        found.none();
        memory.free(freed);
    }
    assert_eq!(found.one().kind, CorruptionKind::DoubleFree);
    for pool in [&pool, &limit] {
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (100, 1));
    }
    assert_eq!(limit.available(), Some(9900));
    // One too far, right behind the size that was asked for.
    // SAFETY: the guard is there to be written.
    unsafe {
        kept.cast::<u8>().add(100).write(1);
        memory.free(kept);
    }
    assert_eq!(found.one().kind, CorruptionKind::Overflow);
    assert_eq!((limit.bytes_allocated(), limit.live_allocations()), (0, 0));
}

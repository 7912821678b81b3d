//! What every pool must do, over every backend and random stacks of adaptors (in the manner of
//! RMM's suite).

use crate::alone::alone;
use crate::every_pool::{backends, own};
use crate::refusing::Refusing;
use offheap::{Alignment, ErrorKind, Padding, Pool, Statistics};
use proptest::prelude::*;
use std::ptr::NonNull;

/// The counters, without what the backend tells.
fn counters(pool: &Pool) -> Statistics {
    let mut counters = pool.statistics();
    counters.backend = Default::default();
    counters
}

fn alignments() -> impl Iterator<Item = Alignment> {
    let powers = (0..=12).map(|shift| 1 << shift);
    powers
        .chain([64 << 10, 2 << 20])
        .map(|bytes| Alignment::new(bytes).unwrap())
}

fn fill(block: NonNull<u8>, size: usize, seed: u8) {
    for i in 0..size {
        // SAFETY: the callers give blocks of at least `size` bytes.
        unsafe { block.add(i).write(seed.wrapping_add(i as u8)) };
    }
}

fn check(block: NonNull<u8>, size: usize, seed: u8) {
    for i in 0..size {
        // SAFETY: the callers give blocks of at least `size` bytes, written by `fill`.
        let byte = unsafe { block.add(i).read() };
        assert_eq!(byte, seed.wrapping_add(i as u8), "byte {i} of {size}");
    }
}

/// Everything below, with the counters of this pool followed exactly: nobody else may use it.
pub(crate) fn conforms(pool: &Pool) {
    alignment_is_honoured_and_contents_are_kept(pool);
    zero_sizes_share_one_address(pool);
    out_of_memory_changes_nothing(pool);
    zeroed_memory_is_zero(pool);
    large_blocks_keep_their_contents(pool);
    the_counters_are_exact(pool);
}

/// Around the size from which offheap maps blocks itself, and far above.
fn large_blocks_keep_their_contents(pool: &Pool) {
    const MIB: usize = 1 << 20;
    const STEP: usize = 4093;
    let start = counters(pool);
    let stamp = |block: NonNull<u8>, from: usize, to: usize| {
        for at in (from.next_multiple_of(STEP)..to).step_by(STEP) {
            // SAFETY: the block has `to` bytes.
            unsafe { block.add(at).write((at / STEP) as u8 | 1) };
        }
    };
    let look = |block: NonNull<u8>, to: usize| {
        for at in (0..to).step_by(STEP) {
            // SAFETY: as above, and `stamp` wrote there.
            let byte = unsafe { block.add(at).read() };
            assert_eq!(byte, (at / STEP) as u8 | 1, "byte {at} of {to}");
        }
    };
    for alignment in [64, 4096, 4 * MIB].map(|bytes| Alignment::new(bytes).unwrap()) {
        let mut size = MIB / 2;
        let mut block = pool.allocate(size, alignment).unwrap();
        let neighbour = pool.allocate(3 * MIB, alignment).unwrap();
        stamp(block, 0, size);
        stamp(neighbour, 0, 3 * MIB);
        let sizes = [
            MIB - 64,
            MIB,
            MIB + 1,
            5 * MIB,
            20 * MIB,
            7 * MIB + 5,
            2 * MIB,
        ];
        for to in sizes.into_iter().chain([MIB - 1, 2 * MIB, 100, 9 * MIB]) {
            // SAFETY: the block is live, with this size and alignment.
            block = unsafe { pool.reallocate(block, size, to, alignment).unwrap() };
            assert!(
                alignment.is_aligned(block.addr().get()),
                "{to} at {alignment}"
            );
            look(block, size.min(to));
            stamp(block, size.min(to), to);
            size = to;
            let held = start.bytes_allocated + (size + 3 * MIB) as u64;
            assert_eq!(pool.bytes_allocated(), held);
        }
        look(neighbour, 3 * MIB);
        // SAFETY: both are live, with their sizes and alignment.
        unsafe {
            pool.free(block, size, alignment);
            pool.free(neighbour, 3 * MIB, alignment);
        }
        // What was just freed, stamps and all, must not show.
        for size in [MIB, 3 * MIB, 9 * MIB] {
            let zero = pool.allocate_zeroed(size, alignment).unwrap();
            // SAFETY: the block has `size` bytes, and they are initialised.
            let bytes =
                unsafe { std::slice::from_raw_parts(zero.as_ptr().cast::<u64>(), size / 8) };
            assert!(bytes.iter().all(|word| *word == 0), "{size} at {alignment}");
            // SAFETY: the block just allocated.
            unsafe { pool.free(zero, size, alignment) };
        }
    }
    pool.release_unused();
    assert_eq!(pool.bytes_allocated(), start.bytes_allocated);
    assert_eq!(pool.live_allocations(), start.live_allocations);
}

fn alignment_is_honoured_and_contents_are_kept(pool: &Pool) {
    let start = counters(pool);
    let mut held = 0;
    let mut blocks = Vec::new();
    for alignment in alignments() {
        let sizes: &[usize] = if alignment.get() > 4096 {
            &[1, 5000]
        } else {
            &[1, 64, 100, 5000]
        };
        for (i, &size) in sizes.iter().enumerate() {
            let block = pool.allocate(size, alignment).unwrap();
            assert!(
                alignment.is_aligned(block.addr().get()),
                "{size} at {alignment}"
            );
            fill(block, size, i as u8);
            blocks.push((block, size, alignment, i as u8));
            held += size as u64;
        }
    }
    assert_eq!(pool.bytes_allocated(), start.bytes_allocated + held);
    // Growing, shrinking, staying within the padding, to and from nothing.
    for to in [1, 63, 64, 65, 700, 40_000, 130_000, 3000, 0, 200] {
        for (block, size, alignment, seed) in &mut blocks {
            // SAFETY: the block is live, with this size and alignment.
            let new = unsafe { pool.reallocate(*block, *size, to, *alignment).unwrap() };
            assert!(
                alignment.is_aligned(new.addr().get()),
                "{size} to {to} at {alignment}"
            );
            check(new, to.min(*size), *seed);
            fill(new, to, *seed);
            held = held + to as u64 - *size as u64;
            (*block, *size) = (new, to);
            assert_eq!(pool.bytes_allocated(), start.bytes_allocated + held);
        }
    }
    // All at once still hold their own bytes: nothing overlaps.
    for (block, size, alignment, seed) in blocks {
        check(block, size, seed);
        // SAFETY: the block is live, with this size and alignment.
        unsafe { pool.free(block, size, alignment) };
    }
    assert_eq!(pool.bytes_allocated(), start.bytes_allocated);
    assert_eq!(pool.live_allocations(), start.live_allocations);
}

fn zero_sizes_share_one_address(pool: &Pool) {
    let start = counters(pool);
    for alignment in alignments() {
        let first = pool.allocate(0, alignment).unwrap();
        let second = pool.allocate_zeroed(0, alignment).unwrap();
        assert_eq!(first, second);
        assert!(alignment.is_aligned(first.addr().get()));
        // SAFETY: live blocks of no bytes; nothing is read or written.
        unsafe {
            let same = pool.reallocate(first, 0, 0, alignment).unwrap();
            assert_eq!(same, second);
            pool.free(same, 0, alignment);
            pool.free(second, 0, alignment);
        }
    }
    let now = counters(pool);
    assert_eq!(now.bytes_allocated, start.bytes_allocated);
    assert_eq!(now.total_bytes_allocated, start.total_bytes_allocated);
    assert_eq!(
        now.num_allocations,
        start.num_allocations + 2 * alignments().count() as u64
    );
    assert_eq!(now.live_allocations, start.live_allocations);
}

fn out_of_memory_changes_nothing(pool: &Pool) {
    const SIZES: [usize; 7] = [
        usize::MAX,
        usize::MAX - 63,
        isize::MAX as usize + 1,
        isize::MAX as usize,
        isize::MAX as usize - 63,
        isize::MAX as usize - 127,
        isize::MAX as usize - 4096,
    ];
    for alignment in alignments() {
        let block = pool.allocate(100, alignment).unwrap();
        fill(block, 100, 9);
        let start = counters(pool);
        for size in SIZES {
            for error in [
                pool.allocate(size, alignment).unwrap_err(),
                pool.allocate_zeroed(size, alignment).unwrap_err(),
                // SAFETY: a live block with its size and alignment.
                unsafe { pool.reallocate(block, 100, size, alignment) }.unwrap_err(),
            ] {
                let ErrorKind::OutOfMemory {
                    requested,
                    pool: name,
                    ..
                } = error.kind()
                else {
                    panic!("{size} at {alignment}: {error:?}");
                };
                // A reallocation asks for the difference, a custom source for padded sizes.
                assert!(*requested >= size as u64 - 128, "{requested}");
                assert!(!name.is_empty());
            }
        }
        assert_eq!(counters(pool), start);
        check(block, 100, 9);
        // SAFETY: as above.
        unsafe { pool.free(block, 100, alignment) };
    }
}

fn zeroed_memory_is_zero(pool: &Pool) {
    for alignment in alignments() {
        for size in [1_usize, 64, 100, 5000, 300_000] {
            // What was freed just before must not show.
            let dirty = pool.allocate(size, alignment).unwrap();
            fill(dirty, size, 1);
            // SAFETY: the block just allocated.
            unsafe { pool.free(dirty, size, alignment) };
            let block = pool.allocate_zeroed(size, alignment).unwrap();
            // Under debug hooks there is no padding.
            let bytes = match pool.padding() {
                Padding::None => size,
                _ => size.next_multiple_of(64),
            };
            // SAFETY: the block has `bytes` bytes, and they are initialised.
            let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), bytes) };
            assert!(bytes.iter().all(|byte| *byte == 0), "{size} at {alignment}");
            // SAFETY: as above.
            unsafe { pool.free(block, size, alignment) };
        }
    }
}

fn the_counters_are_exact(pool: &Pool) {
    pool.reset_peak();
    let start = counters(pool);
    assert_eq!(start.peak_bytes, start.bytes_allocated);
    let alignment = Alignment::DEFAULT;
    let mut blocks: Vec<_> = (1..=100)
        .map(|size| (pool.allocate(size, alignment).unwrap(), size))
        .collect();
    let grown = pool.statistics();
    assert_eq!(grown.bytes_allocated, start.bytes_allocated + 5050);
    assert_eq!(grown.peak_bytes, grown.bytes_allocated);
    assert_eq!(grown.num_allocations, start.num_allocations + 100);
    assert_eq!(grown.live_allocations, start.live_allocations + 100);
    for (block, size) in &mut blocks {
        // SAFETY: live blocks with their sizes.
        *block = unsafe {
            pool.reallocate(*block, *size, *size + 10, alignment)
                .unwrap()
        };
        *size += 10;
    }
    for (block, size) in &mut blocks {
        // SAFETY: as above.
        *block = unsafe { pool.reallocate(*block, *size, 1, alignment).unwrap() };
        *size = 1;
    }
    let shrunk = counters(pool);
    assert_eq!(shrunk.bytes_allocated, start.bytes_allocated + 100);
    assert_eq!(shrunk.peak_bytes, start.bytes_allocated + 6050);
    assert_eq!(
        shrunk.total_bytes_allocated,
        start.total_bytes_allocated + 6050
    );
    assert_eq!(shrunk.num_allocations, start.num_allocations + 200);
    assert_eq!(shrunk.live_allocations, start.live_allocations + 100);
    for (block, size) in blocks {
        // SAFETY: as above.
        unsafe { pool.free(block, size, alignment) };
    }
    let end = counters(pool);
    assert_eq!(end.bytes_allocated, start.bytes_allocated);
    assert_eq!(end.live_allocations, start.live_allocations);
    assert_eq!(end.peak_bytes, start.bytes_allocated + 6050);
    pool.reset_peak();
    assert_eq!(pool.peak_bytes(), pool.bytes_allocated());
}

#[test]
fn every_backend_conforms() {
    alone("conformance::every_backend_conforms", || {
        backends().iter().for_each(conforms);
    });
}

#[test]
fn debug_hooks_conform() {
    for backend in backends() {
        conforms(&debug(&backend.proxy()));
    }
}

#[test]
fn every_adaptor_conforms() {
    own().iter().for_each(conforms);
}

/// Only powers of two up to 4 GiB are alignments, whatever the backend (Arrow's mimalloc pool says
/// that memory is out).
#[test]
fn an_alignment_that_is_no_power_of_two_is_invalid() {
    for bytes in [0, 3, 12, 65, 100, 4095, usize::MAX] {
        let error = Alignment::new(bytes).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
        assert!(error.to_string().contains(&bytes.to_string()), "{error}");
    }
}

/// An alignment far above what a block needs is honoured, or out of memory.
#[test]
fn huge_alignments_are_honoured_or_refused() {
    for pool in own() {
        for shift in [22, 24, 27, 30, 32] {
            let alignment = Alignment::new(1 << shift).unwrap();
            let before = counters(&pool);
            match pool.allocate(100, alignment) {
                Ok(block) => {
                    assert!(alignment.is_aligned(block.addr().get()));
                    fill(block, 100, 1);
                    // SAFETY: the block just allocated; growing keeps it aligned or refuses.
                    match unsafe { pool.reallocate(block, 100, 70_000, alignment) } {
                        Ok(block) => {
                            assert!(alignment.is_aligned(block.addr().get()));
                            check(block, 100, 1);
                            // SAFETY: the block just reallocated.
                            unsafe { pool.free(block, 70_000, alignment) };
                        }
                        Err(error) => {
                            assert!(error.is_out_of_memory());
                            check(block, 100, 1);
                            // SAFETY: a failed reallocation leaves the block.
                            unsafe { pool.free(block, 100, alignment) };
                        }
                    }
                }
                Err(error) => {
                    assert!(error.is_out_of_memory(), "{error:?}");
                    assert_eq!(counters(&pool), before);
                }
            }
            assert_eq!(pool.bytes_allocated(), 0);
        }
    }
}

/// One adaptor of a stack.
#[derive(Debug, Clone, Copy)]
enum Level {
    Limit(u64),
    Proxy,
    Custom,
    Debug,
    /// With a failure point that is never reached.
    #[cfg(feature = "hooks")]
    Failing,
    #[cfg(feature = "hooks")]
    Hook,
    #[cfg(feature = "hooks")]
    Log,
    #[cfg(feature = "hooks")]
    Track,
    #[cfg(feature = "hooks")]
    Scopes,
}

fn debug(pool: &Pool) -> Pool {
    #[cfg(feature = "hooks")]
    return pool.debug(offheap::DebugOptions {
        stack_depth: 1,
        ..Default::default()
    });
    #[cfg(not(feature = "hooks"))]
    pool.proxy()
}

#[cfg(feature = "hooks")]
fn never_failing(pool: &Pool) -> Pool {
    pool.failing(offheap::FailingOptions {
        after: Some(u64::MAX),
        ..Default::default()
    })
    .unwrap()
}

fn levels() -> impl Strategy<Value = Vec<Level>> {
    // Enough for the suite: limits that refuse are the subject of `limits` and of the state machine.
    let level = prop_oneof![
        3 => (50_000_000..u64::MAX).prop_map(Level::Limit),
        2 => Just(Level::Proxy),
        1 => Just(Level::Custom),
        1 => Just(Level::Debug),
    ];
    #[cfg(feature = "hooks")]
    let level = prop_oneof![
        3 => level,
        2 => prop::sample::select(vec![
            Level::Failing,
            Level::Hook,
            Level::Log,
            Level::Track,
            Level::Scopes,
        ]),
    ];
    prop::collection::vec(level, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_stack_of_adaptors_conforms(backend in 0..backends().len(), levels in levels()) {
        let base = backends()[backend].proxy();
        let mut stack = vec![base.clone()];
        for level in levels {
            let top = stack.last().unwrap();
            let next = match level {
                Level::Limit(bytes) => top.limit(bytes),
                Level::Proxy => top.proxy(),
                Level::Custom => Pool::custom(top.clone()),
                Level::Debug => debug(top),
                #[cfg(feature = "hooks")]
                Level::Failing => never_failing(top),
                #[cfg(feature = "hooks")]
                Level::Hook => crate::every_pool::hooked(top),
                #[cfg(feature = "hooks")]
                Level::Log => crate::every_pool::logged(top),
                #[cfg(feature = "hooks")]
                Level::Track => top.track(offheap::TrackOptions::default()),
                #[cfg(feature = "hooks")]
                Level::Scopes => top.scoped_statistics(),
            };
            stack.push(next);
        }
        conforms(stack.last().unwrap());
        // What debug hooks hold back, they have of a custom source, which counts it.
        stack.last().unwrap().release_unused();
        // Every level has counted what went through it, and holds nothing any more.
        for pool in &stack {
            prop_assert_eq!(pool.bytes_allocated(), 0);
            prop_assert_eq!(pool.live_allocations(), 0);
            prop_assert!(pool.num_allocations() > 0);
            prop_assert_eq!(pool.backend_name(), base.backend_name());
            #[cfg(feature = "hooks")]
            if let Some(tracker) = pool.tracker() {
                prop_assert_eq!((tracker.live().len(), tracker.untracked_frees()), (0, 0));
            }
        }
    }
}

/// A source that refuses is asked once, and its own error comes through.
#[test]
fn the_error_of_a_custom_source_comes_through() {
    let pool = Pool::custom(Refusing);
    let error = pool
        .limit(1000)
        .proxy()
        .allocate(65, Alignment::DEFAULT)
        .unwrap_err();
    assert_eq!(error.to_string(), "'refusing' was asked for 128 bytes");
    assert_eq!((pool.bytes_allocated(), pool.num_allocations()), (0, 0));
    // Zero bytes need no source.
    let nothing = pool.allocate(0, Alignment::DEFAULT).unwrap();
    // SAFETY: the block just allocated.
    unsafe { pool.free(nothing, 0, Alignment::DEFAULT) };
}

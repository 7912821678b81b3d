//! Arena allocators of a program's own, good and bad ones.

use super::super::arena_allocator::ArenaAllocator;
use super::super::class::ARENA_SIZE;
use super::super::heap::{Heap, heap};
use super::super::statistics::SmallObjectStatistics;
use super::{Held, Source, assert_all_returned, flush, install};
use crate::pool::system_memory_pool;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[test]
fn an_allocator_with_ten_bytes_more_and_odd_addresses() {
    for shift in [0, 1, 10, 16, 4096, 8191] {
        heap!(Mine);
        let source = install::<Mine>(Source::new(10, shift));
        let held: Vec<_> = (0..3000)
            .map(|i| Held::new::<Mine>(1 + i % 512, [1, 16, 32, 64][i % 4], i as u8))
            .collect::<Option<_>>()
            .unwrap();
        assert!(source.live() >= 3);
        held.into_iter().for_each(Held::free::<Mine>);
        assert_all_returned::<Mine>();
        assert_eq!(source.live(), 0);
        assert_eq!(Arc::strong_count(&source), 2, "the heap's and ours");
        Mine::central().set_arena_allocator(ArenaAllocator::MAPPED);
        assert_eq!(Arc::strong_count(&source), 1);
    }
}

#[test]
fn an_arena_is_freed_by_its_maker() {
    heap!(Mine);
    let first = install::<Mine>(Source::new(0, 16));
    let one = Held::new::<Mine>(512, 1, 1).unwrap();
    let second = install::<Mine>(Source::new(10, 32));
    let more: Vec<_> = (0..600)
        .map(|i| Held::new::<Mine>(512, 1, i as u8).unwrap())
        .collect();
    Mine::central().set_arena_allocator(ArenaAllocator::MAPPED);
    let last: Vec<_> = (0..600)
        .map(|i| Held::new::<Mine>(512, 1, i as u8).unwrap())
        .collect();
    assert_eq!((first.live(), second.live()), (1, 1));
    assert_eq!(Mine::central().statistics().arenas, 3);
    // Each arena holds its allocator.
    assert_eq!(
        (Arc::strong_count(&first), Arc::strong_count(&second)),
        (2, 2)
    );
    last.into_iter().for_each(Held::free::<Mine>);
    more.into_iter().for_each(Held::free::<Mine>);
    one.free::<Mine>();
    assert_all_returned::<Mine>();
    assert_eq!((first.live(), second.live()), (0, 0));
    assert_eq!(
        (Arc::strong_count(&first), Arc::strong_count(&second)),
        (1, 1)
    );
}

#[test]
fn a_refused_arena_changes_nothing() {
    for refused in 1..=4 {
        heap!(Mine);
        let earlier = Mine::central().statistics().arenas_allocated_total;
        let mut source = Source::new(0, 16);
        source.refuse = Box::new(move |call| call == refused);
        let source = install::<Mine>(source);
        let mut held = Vec::new();
        while let Some(block) = Held::new::<Mine>(512, 1, held.len() as u8) {
            held.push(block);
        }
        let arenas = refused - 1;
        assert_eq!(held.len() as u64, arenas * 31 * 16);
        let statistics = Mine::central().statistics();
        assert_eq!((statistics.arenas, source.live() as u64), (arenas, arenas));
        assert_eq!(statistics.arenas_allocated_total - earlier, arenas);
        assert_eq!(statistics.live_blocks, held.len() as u64);
        // The next call is answered.
        held.push(Held::new::<Mine>(512, 1, 7).unwrap());
        assert_eq!(source.live() as u64, refused);
        held.into_iter().for_each(Held::free::<Mine>);
        assert_all_returned::<Mine>();
        assert_eq!(source.live(), 0);
    }
}

#[test]
fn refused_for_good_still_serves_what_is_free() {
    heap!(Mine);
    let mut source = Source::new(0, 16);
    source.refuse = Box::new(|call| call > 1);
    let source = install::<Mine>(source);
    let mut held = Vec::new();
    while let Some(block) = Held::new::<Mine>(48, 1, held.len() as u8) {
        held.push(block);
    }
    // All 31 pages of 170 blocks each.
    assert_eq!(held.len(), 31 * 170);
    assert_eq!(Mine::allocate(512, 1), None);
    held.into_iter().for_each(Held::free::<Mine>);
    flush::<Mine>();
    // Pages change their class.
    let other = Held::new::<Mine>(512, 1, 1).unwrap();
    other.free::<Mine>();
    assert_all_returned::<Mine>();
    assert_eq!(source.live(), 0);
}

#[test]
fn panics_of_an_arena_allocator_are_refusals() {
    heap!(Mine);
    let mut source = Source::new(0, 16);
    source.refuse = Box::new(|call| {
        if call <= 2 {
            panic!("call {call}")
        } else {
            false
        }
    });
    source.on_free = Box::new(|_| panic!("after the arena was freed"));
    let source = install::<Mine>(source);
    assert_eq!(Mine::allocate(64, 1), None);
    assert_eq!(Mine::allocate(64, 1), None);
    assert_eq!(
        Mine::central().statistics(),
        SmallObjectStatistics::default()
    );
    Held::new::<Mine>(64, 1, 1).unwrap().free::<Mine>();
    assert_all_returned::<Mine>();
    assert_eq!(source.live(), 0);
    assert_eq!(source.calls.load(Ordering::Relaxed), 3);

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a payload that panics when dropped");
        }
    }
    let mut source = Source::new(0, 0);
    source.refuse = Box::new(|_| std::panic::panic_any(Bomb));
    install::<Mine>(source);
    let result = catch_unwind(AssertUnwindSafe(|| Mine::allocate(64, 1)));
    assert_eq!(result.unwrap(), None);
}

#[test]
fn an_arena_allocator_may_use_the_heap() {
    heap!(Mine);
    let mut source = Source::new(0, 16);
    let nested = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&nested);
    source.refuse = Box::new(move |call| {
        // Enough to need an arena of its own, in the class that is asked for and in others.
        let blocks: Vec<_> = (0..600)
            .map(|i| Held::new::<Mine>([512, 64][i % 2], 1, i as u8).unwrap())
            .collect();
        let mut kept = theirs.lock().unwrap();
        for (i, block) in blocks.into_iter().enumerate() {
            if i % 100 == 0 {
                kept.push(block);
            } else {
                block.free::<Mine>();
            }
        }
        // Also when it refuses in the end.
        call.is_multiple_of(2)
    });
    source.on_free = Box::new(|_| {
        let blocks: Vec<_> = (0..100)
            .map(|_| Held::new::<Mine>(512, 1, 9).unwrap())
            .collect();
        blocks.into_iter().for_each(Held::free::<Mine>);
    });
    let source = install::<Mine>(source);
    let mut held: Vec<_> = (0..4000)
        .filter_map(|i| Held::new::<Mine>(512, 1, i as u8))
        .collect();
    assert!(source.calls.load(Ordering::Relaxed) > 1);
    held.append(&mut nested.lock().unwrap());
    held.into_iter().for_each(Held::free::<Mine>);
    // Freeing the arena that was kept allocates, and leaves an empty one behind.
    Mine::release_unused();
    Mine::central().set_arena_allocator(ArenaAllocator::MAPPED);
    let later = std::mem::take(&mut *nested.lock().unwrap());
    later.into_iter().for_each(Held::free::<Mine>);
    // Twice: what frees the last arena of the source leaves one of the system's.
    Mine::release_unused();
    Mine::release_unused();
    assert_all_returned::<Mine>();
    assert_eq!(source.live(), 0);
}

/// PEP 445's example: 10 bytes of padding around the allocator that was there.
struct Padded {
    original: ArenaAllocator,
    bytes: AtomicUsize,
}

unsafe extern "C" fn padded_alloc(ctx: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the test passes a `Padded` that outlives the arenas.
    let padded = unsafe { &*ctx.cast::<Padded>() };
    padded.bytes.fetch_add(size + 10, Ordering::Relaxed);
    let (ctx, alloc, _) = padded.original.as_raw_parts();
    // SAFETY: `original` lives.
    unsafe { alloc(ctx, size + 10) }
}

unsafe extern "C" fn padded_free(ctx: *mut c_void, ptr: *mut c_void, size: usize) {
    // SAFETY: as above.
    let padded = unsafe { &*ctx.cast::<Padded>() };
    padded.bytes.fetch_sub(size + 10, Ordering::Relaxed);
    let (ctx, _, free) = padded.original.as_raw_parts();
    // SAFETY: `original` made the block of as many bytes.
    unsafe { free(ctx, ptr, size + 10) }
}

#[test]
fn the_c_form_wraps_what_was_there() {
    heap!(Mine);
    let source = install::<Mine>(Source::new(0, 16));
    for original in [ArenaAllocator::MAPPED, Mine::central().arena_allocator()] {
        let is_source = !original.same(&ArenaAllocator::MAPPED);
        let padded = Padded {
            original,
            bytes: AtomicUsize::new(0),
        };
        let ctx = (&raw const padded).cast_mut().cast();
        // SAFETY: both functions work with any thread's `Padded`, which lives to the end.
        let allocator = unsafe { ArenaAllocator::new(ctx, padded_alloc, padded_free) };
        if is_source {
            // The test's source insists on an arena's exact size, so the call is a refusal.
            Mine::central().set_arena_allocator(allocator);
            assert_eq!(Mine::allocate(64, 1), None);
            assert_eq!(source.live(), 0);
            continue;
        }
        let parts = allocator.as_raw_parts();
        assert_eq!(parts.0, ctx);
        let old = Mine::central().set_arena_allocator(allocator.clone());
        assert!(Mine::central().arena_allocator().same(&allocator));
        Held::new::<Mine>(64, 1, 1).unwrap().free::<Mine>();
        assert_eq!(padded.bytes.load(Ordering::Relaxed), ARENA_SIZE + 10);
        assert_all_returned::<Mine>();
        assert_eq!(padded.bytes.load(Ordering::Relaxed), 0);
        // A Rust source through its C form.
        let (ctx, alloc, free) = old.as_raw_parts();
        // SAFETY: `old` lives, and is asked for the size that it takes.
        unsafe {
            let block = alloc(ctx, ARENA_SIZE);
            assert_eq!(source.live(), 1);
            free(ctx, block, ARENA_SIZE);
        }
        assert_eq!(source.live(), 0);
        Mine::central().set_arena_allocator(old);
    }
}

#[test]
fn arenas_of_a_pool_are_counted_there_and_under_its_limit() {
    heap!(Mine);
    let pool = system_memory_pool().limit(2 * ARENA_SIZE as u64 + 100);
    Mine::central().set_arena_allocator(ArenaAllocator::from_pool(&pool));
    let mut held = Vec::new();
    while let Some(block) = Held::new::<Mine>(512, 64, held.len() as u8) {
        held.push(block);
    }
    assert!(
        (2 * 31 * 16..=2 * 32 * 16).contains(&held.len()),
        "{}",
        held.len()
    );
    assert_eq!(pool.bytes_allocated(), 2 * ARENA_SIZE as u64);
    held.into_iter().for_each(Held::free::<Mine>);
    flush::<Mine>();
    assert_eq!(pool.bytes_allocated(), ARENA_SIZE as u64);
    assert_all_returned::<Mine>();
    assert_eq!(pool.bytes_allocated(), 0);
    assert_eq!(pool.close().unwrap().bytes, 0);
    assert_eq!(Mine::allocate(64, 1), None, "the pool is closed");
}

//! The allocator as a whole. Each test has a heap of its own, so its figures are exact whatever
//! other tests do.

use super::arena_allocator::{ArenaAllocator, ArenaSource};
use super::class::{ARENA_SIZE, Class};
use super::heap::{Heap, heap};
use super::*;
use crate::pool::system_memory_pool;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

/// A block with its contents, which are checked when it goes.
struct Held {
    ptr: NonNull<u8>,
    size: usize,
    alignment: usize,
    fill: u8,
}

// SAFETY: a block is its holder's alone, on any thread.
unsafe impl Send for Held {}

impl Held {
    fn new<H: Heap>(size: usize, alignment: usize, fill: u8) -> Option<Self> {
        let ptr = H::allocate(size, alignment)?;
        assert_eq!(ptr.addr().get() % alignment.max(16), 0);
        let class = Class::of(size, alignment).unwrap();
        assert_eq!(block_size(ptr.as_ptr()), Some(class.size()));
        // SAFETY: a block of the class's size, all of which is usable.
        unsafe { ptr.write_bytes(fill, class.size()) };
        Some(Self {
            ptr,
            size,
            alignment,
            fill,
        })
    }

    fn range(&self) -> (usize, usize) {
        let size = Class::of(self.size, self.alignment).unwrap().size();
        (self.ptr.addr().get(), size)
    }

    #[track_caller]
    fn check(&self) {
        let (_, size) = self.range();
        // SAFETY: the block is live and was written.
        let bytes = unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), size) };
        assert!(bytes.iter().all(|b| *b == self.fill), "{:?}", self.range());
    }

    #[track_caller]
    fn free<H: Heap>(self) {
        self.check();
        // SAFETY: `new` got the block with these.
        unsafe { H::free(self.ptr, self.size, self.alignment) };
    }
}

fn flush<H: Heap>() {
    H::with(|magazines| magazines.flush(H::central()));
}

/// Asserts that nothing is left but what `release_unused` gives back.
#[track_caller]
fn assert_all_returned<H: Heap>() {
    let before = H::central().statistics();
    assert_eq!(
        (before.live_blocks, before.live_bytes),
        (0, 0),
        "{before:?}"
    );
    H::release_unused();
    let after = H::central().statistics();
    let expected = SmallObjectStatistics {
        arenas_allocated_total: after.arenas_allocated_total,
        arenas_freed_total: after.arenas_allocated_total,
        ..SmallObjectStatistics::default()
    };
    assert_eq!(after, expected);
}

type Hook = Box<dyn Fn(&Source) + Send + Sync>;

/// An arena source over the C library's malloc that checks what comes back.
struct Source {
    padding: usize,
    shift: usize,
    calls: AtomicU64,
    live: Arc<Mutex<BTreeMap<usize, usize>>>,
    refuse: Box<dyn Fn(u64) -> bool + Send + Sync>,
    on_free: Hook,
}

impl Source {
    fn new(padding: usize, shift: usize) -> Self {
        Self {
            padding,
            shift,
            calls: AtomicU64::new(0),
            live: Arc::default(),
            refuse: Box::new(|_| false),
            on_free: Box::new(|_| ()),
        }
    }

    fn live(&self) -> usize {
        self.live.lock().unwrap().len()
    }
}

struct SharedSource(Arc<Source>);

const PAD: u8 = 0xA5;

// SAFETY: malloc's bytes, `shift` in, nobody else's until `free`.
unsafe impl ArenaSource for SharedSource {
    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        assert_eq!(size, ARENA_SIZE);
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if (self.0.refuse)(call) {
            return None;
        }
        let whole = self.0.shift + size + self.0.padding;
        // SAFETY: malloc takes any size.
        let block = NonNull::new(unsafe { libc::malloc(whole) }.cast::<u8>()).unwrap();
        // SAFETY: the block has `whole` bytes.
        let arena = unsafe {
            block.write_bytes(PAD, whole);
            block.add(self.0.shift)
        };
        let mut live = self.0.live.lock().unwrap();
        assert_eq!(live.insert(arena.addr().get(), size), None);
        Some(arena)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize) {
        let found = self.0.live.lock().unwrap().remove(&ptr.addr().get());
        assert_eq!(found, Some(size), "an arena of another allocator");
        // SAFETY: `allocate` made the block like that.
        let (before, after) = unsafe {
            (
                std::slice::from_raw_parts(ptr.as_ptr().sub(self.0.shift), self.0.shift),
                std::slice::from_raw_parts(ptr.as_ptr().add(size), self.0.padding),
            )
        };
        assert!(before.iter().chain(after).all(|b| *b == PAD));
        // SAFETY: malloc's block.
        unsafe { libc::free(ptr.as_ptr().sub(self.0.shift).cast()) };
        (self.0.on_free)(&self.0);
    }
}

fn install<H: Heap>(source: Source) -> Arc<Source> {
    let source = Arc::new(source);
    let allocator = ArenaAllocator::from_source(SharedSource(Arc::clone(&source)));
    H::central().set_arena_allocator(allocator);
    source
}

#[test]
fn every_size_and_alignment_is_honoured_and_kept() {
    heap!(Mine);
    let mut held = Vec::new();
    for alignment in [1, 2, 4, 8, 16, 32, 64] {
        for size in 1..=MAX_SMALL {
            held.push(Held::new::<Mine>(size, alignment, held.len() as u8).unwrap());
        }
        for size in [0, MAX_SMALL + 1, usize::MAX] {
            assert_eq!(Mine::allocate(size, alignment), None);
        }
    }
    let mut ranges: Vec<_> = held.iter().map(Held::range).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?} overlap");
    }
    let statistics = Mine::central().statistics();
    assert_eq!(statistics.live_blocks, held.len() as u64);
    let bytes: usize = ranges.iter().map(|(_, size)| size).sum();
    assert_eq!(statistics.live_bytes, bytes as u64);
    assert_eq!(
        statistics.arena_bytes,
        statistics.arenas * ARENA_SIZE as u64
    );
    // Out of order, so that pages fill and empty in all ways.
    while !held.is_empty() {
        let index = held.len() * 7 / 11;
        held.swap_remove(index).free::<Mine>();
    }
    assert_all_returned::<Mine>();
}

#[test]
fn the_programs_heap_works_by_itself() {
    let blocks: Vec<_> = (1..=MAX_SMALL)
        .map(|n| (n, allocate(n, 8).unwrap()))
        .collect();
    assert!(statistics().live_blocks >= blocks.len() as u64);
    assert!(statistics().arenas >= 1);
    for (size, block) in blocks {
        let usable = block_size(block.as_ptr()).unwrap();
        assert!(usable >= size && usable < size + 16);
        // SAFETY: the block has the class's size; freed as documented, by its class.
        unsafe {
            block.write_bytes(1, usable);
            free(block, usable, 1);
        }
    }
    release_unused();
    let local = 1_u64;
    assert_eq!(block_size((&raw const local).cast()), None);
    assert_eq!(block_size(std::ptr::null()), None);
    assert!(get_arena_allocator().same(&ArenaAllocator::default()));
    set_arena_allocator(get_arena_allocator());
}

#[test]
fn a_block_goes_round_a_magazine_and_a_few_are_fetched_first() {
    heap!(Mine);
    let first = Held::new::<Mine>(64, 16, 1).unwrap();
    let address = first.ptr;
    assert_eq!(Mine::central().statistics().cached_blocks, 3);
    first.free::<Mine>();
    assert_eq!(Mine::central().statistics().cached_blocks, 4);
    let second = Held::new::<Mine>(64, 16, 2).unwrap();
    assert_eq!(second.ptr, address);
    second.free::<Mine>();
    let many: Vec<_> = (0..1000)
        .map(|i| Held::new::<Mine>(512, 1, i as u8).unwrap())
        .collect();
    many.into_iter().for_each(Held::free::<Mine>);
    let cached = Mine::central().statistics().cached_blocks;
    assert!((16..=36).contains(&cached), "{cached} blocks");
    assert_all_returned::<Mine>();
}

#[test]
fn empty_arenas_go_back_and_one_is_kept() {
    heap!(Mine);
    let source = install::<Mine>(Source::new(0, 0));
    let mut held: Vec<_> = (0..5 * 496)
        .map(|i| Held::new::<Mine>(512, 64, i as u8).unwrap())
        .collect();
    let arenas = Mine::central().statistics().arenas;
    assert_eq!((arenas, source.live()), (5, 5));
    held.drain(..).for_each(Held::free::<Mine>);
    flush::<Mine>();
    assert_eq!(source.live(), 1);
    let statistics = Mine::central().statistics();
    assert_eq!((statistics.arenas, statistics.cached_blocks), (1, 0));
    assert_eq!(statistics.arenas_allocated_total, 5);
    assert_eq!(statistics.arenas_freed_total, 4);
    // The one that is kept serves: no arena is made and none goes, a hundred times.
    for _ in 0..100 {
        Held::new::<Mine>(16, 1, 0).unwrap().free::<Mine>();
        flush::<Mine>();
    }
    assert_eq!(source.calls.load(Ordering::Relaxed), 5);
    assert_all_returned::<Mine>();
    assert_eq!(source.live(), 0);
}

#[test]
fn fuller_arenas_are_used_first_so_that_emptier_ones_can_go() {
    heap!(Mine);
    let source = install::<Mine>(Source::new(0, 0));
    let mut held: Vec<_> = (0..4 * 496)
        .map(|i| Held::new::<Mine>(512, 64, i as u8).unwrap())
        .collect();
    // Three quarters of everything go, by pages: arenas keep 31, 16, 8 and 1 pages or so.
    let mut arenas: Vec<_> = source.live.lock().unwrap().keys().copied().collect();
    arenas.reverse();
    let keep = [31, 16, 8, 1];
    let mut i = 0;
    while i < held.len() {
        let (address, _) = held[i].range();
        let of = arenas
            .iter()
            .position(|base| (*base..base + ARENA_SIZE).contains(&address));
        let of = of.unwrap();
        if (address - arenas[of]) / 8192 >= keep[of] {
            held.swap_remove(i).free::<Mine>();
        } else {
            i += 1;
        }
    }
    flush::<Mine>();
    assert_eq!(source.live(), 4);
    // New blocks fill the holes of the fuller ones; the emptiest goes when its last page does.
    let mut new: Vec<_> = (0..15 * 16)
        .map(|i| Held::new::<Mine>(512, 64, i as u8).unwrap())
        .collect();
    let emptiest = arenas[3]..arenas[3] + ARENA_SIZE;
    let there = new.iter().filter(|held| emptiest.contains(&held.range().0));
    // At most what the one page that it still had could give.
    assert!(there.count() <= 16);
    new.append(&mut held);
    new.into_iter().for_each(Held::free::<Mine>);
    assert_all_returned::<Mine>();
    assert_eq!(source.live(), 0);
}

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

#[test]
fn blocks_go_back_on_other_threads() {
    heap!(Mine);
    let (give, take) = mpsc::sync_channel::<Vec<Held>>(4);
    let consumer = thread::spawn(move || {
        for batch in take {
            batch.into_iter().for_each(Held::free::<Mine>);
        }
    });
    let producers: Vec<_> = (0..3)
        .map(|t: usize| {
            let give = give.clone();
            thread::spawn(move || {
                for round in 0..60 {
                    let batch = (0..200).map(|i| {
                        let n = (t + round) * 31 + i;
                        Held::new::<Mine>(1 + n % 512, [1, 32, 64][n % 3], n as u8).unwrap()
                    });
                    give.send(batch.collect()).unwrap();
                }
            })
        })
        .collect();
    drop(give);
    producers.into_iter().for_each(|t| t.join().unwrap());
    consumer.join().unwrap();
    assert_eq!(
        Mine::central().statistics().cached_blocks,
        0,
        "threads have ended"
    );
    assert_all_returned::<Mine>();
}

#[test]
fn the_statistics_are_exact_across_quiet_threads() {
    heap!(Mine);
    let (done, wait) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let held: Vec<_> = (0..100)
            .map(|_| Held::new::<Mine>(64, 1, 3).unwrap())
            .collect();
        let freed = Held::new::<Mine>(64, 1, 4).unwrap();
        freed.free::<Mine>();
        done.send(()).unwrap();
        gate.recv().unwrap();
        held.into_iter().for_each(Held::free::<Mine>);
    });
    wait.recv().unwrap();
    let statistics = Mine::central().statistics();
    assert_eq!((statistics.live_blocks, statistics.live_bytes), (100, 6400));
    assert!(statistics.cached_blocks >= 1);
    go.send(()).unwrap();
    other.join().unwrap();
    let statistics = Mine::central().statistics();
    assert_eq!((statistics.live_blocks, statistics.cached_blocks), (0, 0));
    assert_eq!(statistics.arenas, 1);
    assert_all_returned::<Mine>();
}

#[test]
fn a_threads_end_flushes_its_magazines_and_others_destructors_may_allocate() {
    heap!(Mine);

    /// Allocates and frees when the thread ends.
    struct AtEnd(Vec<Held>);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            for i in 0..500 {
                self.0.push(Held::new::<Mine>(1 + i, 1, i as u8).unwrap());
            }
            self.0.drain(..).for_each(Held::free::<Mine>);
        }
    }
    thread_local! {
        static BEFORE: RefCell<AtEnd> = const { RefCell::new(AtEnd(Vec::new())) };
        static AFTER: RefCell<AtEnd> = const { RefCell::new(AtEnd(Vec::new())) };
        static ONLY: RefCell<AtEnd> = const { RefCell::new(AtEnd(Vec::new())) };
    }
    thread::spawn(|| {
        // Registered before and after the heap's own destructor: one of them runs after it.
        BEFORE.with(|_| ());
        let kept = Held::new::<Mine>(100, 1, 1).unwrap();
        AFTER.with(|after| after.borrow_mut().0.push(kept));
        let freed: Vec<_> = (0..40)
            .map(|_| Held::new::<Mine>(100, 1, 1).unwrap())
            .collect();
        freed.into_iter().for_each(Held::free::<Mine>);
        assert!(Mine::central().statistics().cached_blocks >= 40);
    })
    .join()
    .unwrap();
    // A thread that uses the heap in a destructor only.
    thread::spawn(|| ONLY.with(|_| ())).join().unwrap();
    assert_eq!(Mine::central().statistics().cached_blocks, 0);
    assert_all_returned::<Mine>();
}

#[test]
fn a_thread_may_free_without_ever_having_allocated() {
    heap!(Mine);
    let held: Vec<_> = (0..100)
        .map(|i| Held::new::<Mine>(256, 1, i as u8).unwrap())
        .collect();
    thread::spawn(move || {
        let mut held = held.into_iter();
        held.next().unwrap().free::<Mine>();
        assert!(Mine::central().statistics().cached_blocks >= 1);
        held.for_each(Held::free::<Mine>);
    })
    .join()
    .unwrap();
    assert_all_returned::<Mine>();
}

/// A linear congruential generator: Knuth's constants.
fn random(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

#[test]
fn allocators_are_replaced_while_threads_allocate() {
    heap!(Mine);
    let stop = Arc::new(AtomicBool::new(false));
    let exchange: Arc<Mutex<Vec<Held>>> = Arc::default();
    let workers: Vec<_> = (0..4)
        .map(|t| {
            let (stop, exchange) = (Arc::clone(&stop), Arc::clone(&exchange));
            thread::spawn(move || {
                let mut state = t;
                let mut held = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..random(&mut state) % 2000 {
                        let (size, fill) = (1 + random(&mut state) % 512, state as u8);
                        held.push(Held::new::<Mine>(size, 1, fill).unwrap());
                    }
                    // Some are left for others.
                    std::mem::swap(&mut held, &mut exchange.lock().unwrap());
                    held.drain(..).for_each(Held::free::<Mine>);
                    if random(&mut state) % 4 == 0 {
                        Mine::release_unused();
                    }
                }
            })
        })
        .collect();
    let mut sources = Vec::new();
    for round in 0..200 {
        if round % 3 == 0 {
            Mine::central().set_arena_allocator(ArenaAllocator::MAPPED);
        } else {
            sources.push(install::<Mine>(Source::new(round % 11, round % 7 * 16)));
        }
        // Any address may be asked about while arenas come and go.
        for address in 0..1000_usize {
            let stale = sources.last().map_or(0, |source| {
                let live = source.live.lock().unwrap();
                live.keys().next().copied().unwrap_or_default()
            });
            let answer = block_size(std::ptr::without_provenance(stale + address * 257));
            assert!(answer.is_none_or(|size| size % 16 == 0 && size <= 512));
        }
        thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    workers.into_iter().for_each(|t| t.join().unwrap());
    exchange
        .lock()
        .unwrap()
        .drain(..)
        .for_each(Held::free::<Mine>);
    Mine::central().set_arena_allocator(ArenaAllocator::MAPPED);
    assert_all_returned::<Mine>();
    for source in sources {
        assert_eq!((source.live(), Arc::strong_count(&source)), (0, 1));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Allocate {
        size: usize,
        shift: u32,
        count: usize,
    },
    Free {
        at: usize,
        count: usize,
    },
    /// Everything at addresses with this remainder: empties pages here and there.
    FreeEvery {
        nth: usize,
    },
    Release,
    Replace {
        shift: usize,
    },
    /// The next arena is refused.
    Refuse,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..=512_usize, 0..=6_u32, 1..200_usize)
            .prop_map(|(size, shift, count)| Step::Allocate { size, shift, count }),
        6 => (any::<usize>(), 1..300_usize).prop_map(|(at, count)| Step::Free { at, count }),
        1 => (1..9_usize).prop_map(|nth| Step::FreeEvery { nth }),
        1 => Just(Step::Release),
        1 => (0..9000_usize).prop_map(|shift| Step::Replace { shift }),
        1 => Just(Step::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_keep_blocks_apart_and_return_all(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        heap!(Mine);
        let refuse = Arc::new(AtomicBool::new(false));
        let mut sources = vec![install::<Mine>(Source::new(0, 16))];
        let mut held: Vec<Held> = Vec::new();
        let mut ranges = BTreeMap::new();
        let mut release = |held: Held, ranges: &mut BTreeMap<usize, usize>| {
            ranges.remove(&held.range().0);
            held.free::<Mine>();
        };
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Allocate { size, shift, count } => for _ in 0..count {
                    let before = Mine::central().statistics().live_blocks;
                    let Some(block) = Held::new::<Mine>(size, 1 << shift, number as u8) else {
                        prop_assert_eq!(Mine::central().statistics().live_blocks, before);
                        continue;
                    };
                    let (start, size) = block.range();
                    let below = ranges.range(..start + size).next_back();
                    prop_assert!(below.is_none_or(|(other, size)| other + size <= start));
                    ranges.insert(start, size);
                    held.push(block);
                },
                Step::Free { at, count } => for _ in 0..count.min(held.len()) {
                    release(held.swap_remove(at % held.len()), &mut ranges);
                },
                Step::FreeEvery { nth } => {
                    let (go, stay) = held.into_iter().partition(|block: &Held| block.range().0 / 8192 % nth == 0);
                    held = stay;
                    let go: Vec<Held> = go;
                    go.into_iter().for_each(|block| release(block, &mut ranges));
                }
                Step::Release => Mine::release_unused(),
                Step::Replace { shift } => {
                    let mut source = Source::new(10, shift);
                    let refuse = Arc::clone(&refuse);
                    source.refuse = Box::new(move |_| refuse.swap(false, Ordering::Relaxed));
                    sources.push(install::<Mine>(source));
                }
                Step::Refuse => refuse.store(true, Ordering::Relaxed),
            }
            let statistics = Mine::central().statistics();
            prop_assert_eq!(statistics.live_blocks, held.len() as u64);
            prop_assert_eq!(statistics.live_bytes, ranges.values().sum::<usize>() as u64);
            let live: usize = sources.iter().map(|source| source.live()).sum();
            prop_assert_eq!(statistics.arenas, live as u64);
        }
        held.into_iter().for_each(|block| release(block, &mut ranges));
        assert_all_returned::<Mine>();
        prop_assert!(sources.iter().all(|source| source.live() == 0));
    }
}

/// Prints nanoseconds for one allocation and its free, ours and mimalloc's.
///
/// `cargo test --release -p offheap --lib small_object_speed -- --ignored --nocapture`
#[test]
#[ignore = "prints figures"]
fn small_object_speed() {
    use libmimalloc_sys::{mi_free, mi_malloc};
    use std::hint::black_box;
    use std::time::Instant;

    fn ours(size: usize) -> NonNull<u8> {
        allocate(black_box(size), 8).unwrap()
    }
    fn ours_free(block: NonNull<u8>, size: usize) {
        // SAFETY: from `ours` with the same size.
        unsafe { free(block, black_box(size), 8) }
    }
    fn theirs(size: usize) -> NonNull<u8> {
        // SAFETY: mimalloc takes any size.
        NonNull::new(unsafe { mi_malloc(black_box(size)) }.cast()).unwrap()
    }
    fn theirs_free(block: NonNull<u8>, _size: usize) {
        // SAFETY: from `theirs`.
        unsafe { mi_free(block.as_ptr().cast()) }
    }

    /// Nanoseconds for a pair: the median of nine rounds.
    fn measure(
        size: usize,
        live: usize,
        make: impl Fn(usize) -> NonNull<u8>,
        end: impl Fn(NonNull<u8>, usize),
    ) -> f64 {
        let mut blocks = vec![NonNull::<u8>::dangling(); live];
        let rounds = 4_000_000 / live;
        let mut times: Vec<f64> = (0..9)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..rounds {
                    for slot in &mut blocks {
                        *slot = black_box(make(size));
                    }
                    for slot in &blocks {
                        end(black_box(*slot), size);
                    }
                }
                start.elapsed().as_nanos() as f64 / (rounds * live) as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[4]
    }

    /// The mean over threads that start together.
    fn on_threads(count: usize, work: impl Fn() -> f64 + Sync) -> f64 {
        let start = std::sync::Barrier::new(count);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        work()
                    })
                })
                .collect();
            let total: f64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
            total / count as f64
        })
    }

    println!("ns for allocate + free; `live` blocks are allocated, then freed");
    println!("threads  live  size    ours  mimalloc");
    for threads in [1, 2] {
        for live in [1, 100, 10_000] {
            for size in [16, 64, 256, 512] {
                let a = on_threads(threads, || measure(size, live, ours, ours_free));
                let b = on_threads(threads, || measure(size, live, theirs, theirs_free));
                println!("{threads:>7}  {live:>5} {size:>4}  {a:>6.2}  {b:>8.2}");
            }
        }
    }
}

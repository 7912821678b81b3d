//! Several threads, their ends, and allocators that are replaced meanwhile.

use super::super::arena_allocator::ArenaAllocator;
use super::super::block_size;
use super::super::heap::{Heap, heap};
use super::{Held, Source, assert_all_returned, install};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

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
                    if random(&mut state).is_multiple_of(4) {
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

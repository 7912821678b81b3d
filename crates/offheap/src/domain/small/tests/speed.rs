//! Figures beside mimalloc's.

use super::super::{allocate, free};
use std::ptr::NonNull;
use std::thread;

/// Prints nanoseconds for one allocation and its free, ours and mimalloc's.
///
/// `cargo test --release -p offheap --lib small_object_speed -- --ignored --nocapture`. With
/// `SMALL_OBJECT_SPEED=2,100,64` only ours, on 2 threads, with 100 live blocks of 64 bytes.
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

    /// Nanoseconds for a pair: the best of nine rounds.
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
        times[0]
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

    // One line only, for a profiler: threads, live blocks, size.
    if let Ok(only) = std::env::var("SMALL_OBJECT_SPEED") {
        let n: Vec<usize> = only.split(',').map(|n| n.parse().unwrap()).collect();
        println!(
            "{}",
            on_threads(n[0], || measure(n[2], n[1], ours, ours_free))
        );
        return;
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

//! What counting costs: a block allocated and freed, through pools of several kinds and by mimalloc
//! itself, in turns in one process. The least of some rounds, in nanoseconds for a pair; one JSON line
//! each.
//!
//! ```text
//! cargo run --release -p offheap --example bench_counting [threads]
//! ```

use libmimalloc_sys as mi;
use offheap::{Alignment, MemoryPool, Pool, mimalloc_memory_pool};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::{Arc, Barrier};
use std::time::Instant;

const ROUNDS: usize = 25;
const PAIRS: usize = 200_000;
const ALIGNMENT: Alignment = Alignment::DEFAULT;

trait Pairs: Send + Sync {
    fn name(&self) -> &'static str;
    /// `blocks` blocks of `size` bytes are allocated and freed, until there were `PAIRS` pairs.
    fn run(&self, size: usize, blocks: usize);
}

struct Raw;
struct Concrete(&'static str, Pool);
struct Dynamic(&'static str, Arc<dyn MemoryPool>);

macro_rules! pairs {
    ($blocks:expr, $allocate:expr, $free:expr) => {{
        if $blocks == 1 {
            for _ in 0..PAIRS {
                $free(black_box($allocate()));
            }
        } else {
            let mut live: Vec<NonNull<u8>> = Vec::with_capacity($blocks);
            for _ in 0..PAIRS / $blocks {
                for _ in 0..$blocks {
                    live.push(black_box($allocate()));
                }
                for block in live.drain(..) {
                    $free(block);
                }
            }
        }
    }};
}

impl Pairs for Raw {
    fn name(&self) -> &'static str {
        "raw mi_malloc_aligned"
    }

    fn run(&self, size: usize, blocks: usize) {
        pairs!(
            blocks,
            // SAFETY: any size may be asked for; 64 is a power of two.
            || NonNull::new(unsafe { mi::mi_malloc_aligned(size, 64) }.cast::<u8>()).unwrap(),
            // SAFETY: a live block.
            |block: NonNull<u8>| unsafe { mi::mi_free(block.as_ptr().cast()) }
        );
    }
}

impl Pairs for Concrete {
    fn name(&self) -> &'static str {
        self.0
    }

    fn run(&self, size: usize, blocks: usize) {
        let pool = &self.1;
        pairs!(
            blocks,
            || pool.allocate(size, ALIGNMENT).unwrap(),
            // SAFETY: a live block of the pool's.
            |block| unsafe { pool.free(block, size, ALIGNMENT) }
        );
    }
}

impl Pairs for Dynamic {
    fn name(&self) -> &'static str {
        self.0
    }

    fn run(&self, size: usize, blocks: usize) {
        let pool = black_box(&self.1);
        pairs!(
            blocks,
            || pool.allocate(size, ALIGNMENT).unwrap(),
            // SAFETY: a live block of the pool's.
            |block| unsafe { pool.free(block, size, ALIGNMENT) }
        );
    }
}

fn main() {
    let threads: usize = std::env::args()
        .nth(1)
        .map_or(1, |arg| arg.parse().expect("a number of threads"));
    let base = mimalloc_memory_pool().expect("mimalloc is compiled in");
    let limit = base.limit(1 << 40);
    let three = base.limit(1 << 40).proxy().limit(1 << 39);
    let subjects: Vec<Arc<dyn Pairs>> = vec![
        Arc::new(Raw),
        Arc::new(Concrete("base", base.clone())),
        Arc::new(Concrete("limit", limit.clone())),
        Arc::new(Concrete("limit of proxy of limit", three)),
        Arc::new(Dynamic("dyn base", Arc::new(base.clone()))),
        Arc::new(Dynamic("dyn limit", Arc::new(limit))),
    ];
    for (size, blocks) in [(64, 1), (64, 100), (4096, 1)] {
        let mut best = vec![f64::INFINITY; subjects.len()];
        for _ in 0..ROUNDS {
            for (best, subject) in best.iter_mut().zip(&subjects) {
                let barrier = Barrier::new(threads);
                let slowest = std::thread::scope(|scope| {
                    let runs: Vec<_> = (0..threads)
                        .map(|_| {
                            scope.spawn(|| {
                                // So that no block is alone in its page, where mimalloc frees more
                                // slowly.
                                // SAFETY: any size may be asked for; 64 is a power of two.
                                let stays = unsafe { mi::mi_malloc_aligned(size, 64) };
                                subject.run(size, blocks);
                                barrier.wait();
                                let start = Instant::now();
                                subject.run(size, blocks);
                                let took = start.elapsed().as_secs_f64();
                                // SAFETY: made above, and nobody uses it.
                                unsafe { mi::mi_free(stays) };
                                took * 1e9 / PAIRS as f64
                            })
                        })
                        .collect();
                    runs.into_iter()
                        .map(|run| run.join().expect("the run ends"))
                        .fold(0.0, f64::max)
                });
                *best = best.min(slowest);
            }
        }
        for (nanoseconds, subject) in best.iter().zip(&subjects) {
            println!(
                "{{\"name\":\"{}\",\"threads\":{threads},\"size\":{size},\"blocks\":{blocks},\"ns\":{nanoseconds:.2},\"ratio\":{:.2}}}",
                subject.name(),
                nanoseconds / best[0]
            );
        }
    }
}

//! What an operation costs as there are more threads, more live blocks, larger blocks.

use super::figure::Figure;
use super::measure::{Extra, Plan, timed, timed_threads};
use super::memory::{Memory, with_memory};
use super::page::touch;
use super::process::available_memory;
use super::random::Random;
use std::hint::black_box;

/// The name that is printed, and the memory's.
const MEMORIES: [(&str, &str); 5] = [
    ("offheap", "offheap-mimalloc"),
    ("offheap-limit", "offheap-limit"),
    ("raw-mimalloc", "mimalloc"),
    ("raw-jemalloc", "jemalloc"),
    ("posix_memalign", "posix_memalign"),
];

/// Runs a body for each memory in turns, and prints what it says: nanoseconds an operation, by the
/// wall's clock and by the thread's.
fn compare(
    work: &str,
    size: usize,
    threads: usize,
    rounds: usize,
    body: impl Fn(&str) -> Option<(f64, f64)>,
) {
    let mut samples = vec![(Vec::new(), Vec::new()); MEMORIES.len()];
    for _ in 0..rounds {
        for ((_, name), (walls, cpus)) in MEMORIES.iter().zip(&mut samples) {
            if let Some((wall, cpu)) = body(name) {
                walls.push(wall);
                cpus.push(cpu);
            }
        }
    }
    for ((peer, _), (wall, cpu)) in MEMORIES.iter().zip(&samples) {
        if wall.is_empty() {
            continue;
        }
        Figure {
            peer,
            work,
            size,
            threads,
            wall,
            cpu,
            peak_mib: None,
        }
        .print();
    }
}

/// Sixteen blocks of 64 bytes allocated, then freed, `n` / 16 times.
fn batches<M: Memory>(memory: &M, n: usize) {
    let mut blocks = [std::ptr::null_mut(); 16];
    for _ in 0..n / blocks.len() {
        for block in &mut blocks {
            *block = memory.allocate(64);
        }
        black_box(&blocks);
        for block in blocks {
            // SAFETY: allocated above.
            unsafe { memory.free(block, 64) };
        }
    }
}

fn threads(plan: &Plan) {
    let n = if plan.quick { 50_000 } else { 500_000 };
    for threads in 1..=8_usize {
        if plan.quick && !threads.is_power_of_two() {
            continue;
        }
        compare("scaling-threads", 64, threads, plan.rounds.min(9), |name| {
            let (wall, cpu) = with_memory!(name, memory => {
                timed_threads(threads, &|| batches(memory, n / 8), &|| batches(memory, n))
            })?;
            Some((wall / n as f64, cpu / n as f64))
        });
    }
}

/// With `live` blocks of 64 bytes: random ones are freed and allocated anew, a pair each time.
fn replace<M: Memory>(memory: &M, live: usize, n: usize) -> (f64, f64) {
    let mut random = Random::new(live as u64);
    let mut blocks: Vec<*mut u8> = (0..live).map(|_| memory.allocate(64)).collect();
    let (wall, cpu) = timed(|| {
        for _ in 0..n {
            let block = &mut blocks[random.below(live)];
            // SAFETY: a live block of the memory.
            unsafe {
                memory.free(*block, 64);
                *block = memory.allocate(64);
                block.write_volatile(1);
            }
        }
    });
    for block in blocks {
        // SAFETY: a live block of the memory.
        unsafe { memory.free(block, 64) };
    }
    (wall / n as f64, cpu / n as f64)
}

fn live_blocks(plan: &Plan) {
    let (n, most) = if plan.quick {
        (100_000, 1_000_000)
    } else {
        (1_000_000, 10_000_000)
    };
    let mut live = 10;
    while live <= most {
        let rounds = if live >= 1_000_000 {
            3
        } else {
            plan.rounds.min(7)
        };
        compare(
            "scaling-live",
            live,
            1,
            rounds,
            |name| with_memory!(name, memory => replace(memory, live, n)),
        );
        live *= 10;
    }
}

/// `n` blocks of a size, one after the other; `touching` writes a byte a page.
fn sized<M: Memory>(memory: &M, size: usize, n: usize, touching: bool) -> (f64, f64) {
    let (wall, cpu) = timed(|| {
        for _ in 0..n {
            let block = memory.allocate(size);
            // SAFETY: the block has so many bytes, and is freed once.
            unsafe {
                if touching {
                    touch(block, 0, size);
                }
                memory.free(black_box(block), size);
            }
        }
    });
    (wall / n as f64, cpu / n as f64)
}

fn sizes(plan: &Plan) {
    const MOST: usize = 8 << 30;
    let available = available_memory();
    for touching in [false, true] {
        let mut size = 64;
        while size <= MOST {
            // The allocator may keep what another one freed a moment ago.
            if touching && size > available / 2 {
                eprintln!("scaling: {size} bytes are not touched: {available} are available");
                break;
            }
            if touching && plan.quick && size > 256 << 20 {
                break;
            }
            let n = (if touching { 64 << 20 } else { 4 << 30 } / size).clamp(1, 20_000);
            let n = if touching { n } else { n.max(200) };
            let rounds = if !touching || size < 1 << 30 {
                plan.rounds.min(5)
            } else {
                1
            };
            let work = if touching {
                "scaling-touched"
            } else {
                "scaling-size"
            };
            compare(
                work,
                size,
                1,
                rounds,
                |name| with_memory!(name, memory => sized(memory, size, n, touching)),
            );
            size *= 8;
        }
    }
}

pub(crate) fn scaling(plan: &Plan, _: &[Extra]) {
    threads(plan);
    live_blocks(plan);
    sizes(plan);
}

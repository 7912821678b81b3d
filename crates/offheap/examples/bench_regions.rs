//! Measures large blocks beside the allocators' own, in one process, and prints a JSON object a
//! line: `{"peer","work","size","threads","ns"}`, `ns` per operation (for growth: the whole of it).
//!
//! ```text
//! cargo run --release --example bench_regions -- [pairs|grow|grow-small|replace]… [--quick]
//! ```
//!
//! The peer `limit` of the growth rows is a reservation that is kept: touching it again is all that
//! is left to do. Peers named `plain-…` are the same pools without offheap's large blocks. The lower
//! quartile of the rounds is reported, and the rounds of all peers take turns.

use offheap::pool::memory_pool_named_with;
use offheap::{Alignment, Pool, PoolOptions, supported_memory_backends};
use std::cell::RefCell;
use std::hint::black_box;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const ALIGNMENT: Alignment = Alignment::DEFAULT;

struct Entry<'a> {
    peer: String,
    /// Runs once and says how long the part that counts took.
    round: Box<dyn FnMut() -> Duration + 'a>,
}

fn compare(work: &str, size: usize, operations: usize, rounds: usize, mut entries: Vec<Entry<'_>>) {
    let mut times = vec![Vec::new(); entries.len()];
    for round in 0..=rounds {
        for (times, entry) in times.iter_mut().zip(&mut entries) {
            let time = (entry.round)();
            // The first round warms everything up.
            if round != 0 {
                times.push(time);
            }
        }
    }
    for (times, entry) in times.iter_mut().zip(&entries) {
        times.sort();
        let ns = times[times.len() / 4].as_secs_f64() * 1e9 / operations as f64;
        println!(
            "{{\"peer\":\"{}\",\"work\":\"{work}\",\"size\":{size},\"threads\":1,\"ns\":{ns:.1}}}",
            entry.peer
        );
    }
}

/// The backends as they are, and without large blocks of ours.
fn pools() -> Vec<(String, Pool)> {
    let usual = supported_memory_backends()
        .into_iter()
        .map(|name| (name.to_owned(), PoolOptions::DEFAULT, name));
    let plain = supported_memory_backends()
        .into_iter()
        .filter(|name| *name != "mapped")
        .map(|name| {
            (
                format!("plain-{name}"),
                PoolOptions::DEFAULT.without_large_blocks(),
                name,
            )
        });
    usual
        .chain(plain)
        .map(|(peer, options, name)| (peer, memory_pool_named_with(name, &options).unwrap()))
        .collect()
}

fn touch(block: NonNull<u8>, range: std::ops::Range<usize>) {
    for at in range.step_by(4096) {
        // SAFETY: the callers' range is the block's.
        unsafe { block.add(at).write_volatile(1) };
    }
}

fn pairs(quick: bool) {
    let n = if quick { 2_000 } else { 20_000 };
    for size in [MIB, 3 * MIB, 16 * MIB, 64 * MIB] {
        let entries = pools()
            .into_iter()
            .map(|(peer, pool)| Entry {
                peer,
                round: Box::new(move || {
                    let begin = Instant::now();
                    for _ in 0..n {
                        let block = pool.allocate(size, ALIGNMENT).unwrap();
                        black_box(block);
                        // SAFETY: the block just allocated.
                        unsafe { pool.free(block, size, ALIGNMENT) };
                    }
                    begin.elapsed()
                }),
            })
            .collect();
        compare("allocate-free", size, n, 5, entries);
    }
}

/// Grows a block in steps, touching every page as it comes, and frees it.
fn grow_once(pool: &Pool, from: usize, to: usize, step: fn(usize) -> usize) -> Duration {
    let begin = Instant::now();
    let mut size = from;
    let mut block = pool.allocate(size, ALIGNMENT).unwrap();
    touch(block, 0..size);
    while size < to {
        let new = step(size).min(to);
        // SAFETY: the block has `size` bytes and is the one of the line before.
        block = unsafe { pool.reallocate(block, size, new, ALIGNMENT) }.unwrap();
        touch(block, size..new);
        size = new;
    }
    // SAFETY: as above.
    unsafe { pool.free(block, size, ALIGNMENT) };
    begin.elapsed()
}

fn double(n: usize) -> usize {
    n * 2
}

fn quarter(n: usize) -> usize {
    (n + n / 4 + 63) & !63
}

/// What is grown: the row's name, from, to, the step, and how often in a round.
type Growth = (&'static str, usize, usize, fn(usize) -> usize, u32);

/// From below the threshold to somewhat above it.
fn grow_small(quick: bool) {
    grow_warm(
        if quick { 9 } else { 25 },
        &[
            ("grow-double-small", 64 * KIB, 4 * MIB, double, 100),
            ("grow-double-middle", 64 * KIB, 16 * MIB, double, 25),
        ],
    );
}

fn grow(quick: bool) {
    let rounds = if quick { 3 } else { 9 };
    grow_warm(
        rounds,
        &[
            ("grow-double", MIB, 1024 * MIB, double, 1),
            ("grow-quarter", MIB, 256 * MIB, quarter, 1),
        ],
    );
    let entries = pools()
        .into_iter()
        .map(|(peer, pool)| Entry {
            peer,
            round: Box::new(move || {
                pool.release_unused();
                grow_once(&pool, MIB, 1024 * MIB, double)
            }),
        })
        .collect();
    compare("grow-double-cold", 1024 * MIB, 1, rounds, entries);
}

fn grow_warm(rounds: usize, growths: &[Growth]) {
    for &(work, from, to, step, repeat) in growths {
        let mut entries: Vec<_> = pools()
            .into_iter()
            .map(|(peer, pool)| Entry {
                peer,
                round: Box::new(move || {
                    // The peers before may have taken longer than memory is kept.
                    grow_once(&pool, from, to, step);
                    (0..repeat).map(|_| grow_once(&pool, from, to, step)).sum()
                }),
            })
            .collect();
        let kept = memory_pool_named_with("mapped", &PoolOptions::DEFAULT).unwrap();
        let block = RefCell::new(None);
        entries.push(Entry {
            peer: "limit".to_owned(),
            round: Box::new(move || {
                // The other peers' blocks would not fit beside it for ever: per round, then.
                let mut block = block.borrow_mut();
                let block = block.get_or_insert_with(|| kept.allocate(to, ALIGNMENT).unwrap());
                touch(*block, 0..to);
                let begin = Instant::now();
                for _ in 0..repeat {
                    touch(*block, 0..to);
                }
                begin.elapsed()
            }),
        });
        compare(work, to, repeat as usize, rounds, entries);
    }
}

/// A sequence that is the same in every run.
struct Luck(u64);

impl Luck {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize % n
    }
}

/// Some live blocks of random sizes, of which one after the other is replaced; `touched` bytes of
/// each are touched.
fn replace_once(
    pool: &Pool,
    n: usize,
    live: usize,
    sizes: std::ops::Range<usize>,
    touched: usize,
) -> Duration {
    let mut luck = Luck(42);
    let mut blocks: Vec<Option<(NonNull<u8>, usize)>> = vec![None; live];
    let begin = Instant::now();
    for _ in 0..n {
        let place = &mut blocks[luck.below(live)];
        if let Some((block, size)) = place.take() {
            // SAFETY: a block of the line below, freed once.
            unsafe { pool.free(block, size, ALIGNMENT) };
        }
        let size = sizes.start + luck.below(sizes.len());
        let block = pool.allocate(size, ALIGNMENT).unwrap();
        touch(block, 0..size.min(touched));
        *place = Some((block, size));
    }
    let time = begin.elapsed();
    for (block, size) in blocks.into_iter().flatten() {
        // SAFETY: as above.
        unsafe { pool.free(block, size, ALIGNMENT) };
    }
    time
}

fn replace(quick: bool) {
    let n = if quick { 500 } else { 4_000 };
    for (work, live, least, most) in [
        ("replace-64", 64, MIB, 8 * MIB),
        ("replace-20", 20, 5 * MIB, 25 * MIB),
    ] {
        for (touches, touched) in [("", 64 * KIB), ("-touched", usize::MAX)] {
            let entries = pools()
                .into_iter()
                .map(|(peer, pool)| Entry {
                    peer,
                    round: Box::new(move || {
                        replace_once(&pool, n / 5, live, least..most, touched);
                        replace_once(&pool, n, live, least..most, touched)
                    }),
                })
                .collect();
            compare(&format!("{work}{touches}"), most, n, 5, entries);
        }
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted = |name: &str| {
        let named = arguments
            .iter()
            .filter(|argument| !argument.starts_with("--"));
        named.clone().count() == 0 || named.clone().any(|argument| argument == name)
    };
    if wanted("pairs") {
        pairs(quick);
    }
    if wanted("grow") {
        grow(quick);
    }
    if wanted("grow-small") {
        grow_small(quick);
    }
    if wanted("replace") {
        replace(quick);
    }
}

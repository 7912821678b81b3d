//! Measures the core beside its peers, in one process, and prints a JSON object a line:
//! `{"peer","work","size","threads","ns"}`, `ns` per operation (per value or bit for the builders).
//!
//! ```text
//! cargo run --release --example bench_core -- [pools|buffers|builders]… [--quick]
//! cargo run --release --example bench_core -- cold-builder [VALUES]
//! cargo run --release --example bench_core -- rss BACKEND BLOCK_BYTES
//! ```
//!
//! The names of the works are those of the Arrow C++ peer (`shared/peers/arrow-cpp/bench.cc`), so
//! that lines can be joined. Each figure is the best of some rounds, and the rounds of all peers
//! take turns. Ratios within a run count, not times across machines.

use offheap::pool::memory_pool_named;
use offheap::{
    Alignment, BitmapBuilder, Buffer, BufferBuilder, MemoryPool, MutableBuffer, Pool,
    TypedBufferBuilder, UninitBuffer, default_memory_pool, supported_memory_backends,
};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// One peer doing one work, as often as asked.
struct Entry<'a> {
    peer: &'static str,
    body: Box<dyn Fn(usize) + Sync + 'a>,
}

fn entry<'a>(peer: &'static str, body: impl Fn(usize) + Sync + 'a) -> Entry<'a> {
    Entry {
        peer,
        body: Box::new(body),
    }
}

fn report(peer: &str, work: &str, size: usize, threads: usize, ns: f64) {
    println!(
        "{{\"peer\":\"{peer}\",\"work\":\"{work}\",\"size\":{size},\"threads\":{threads},\"ns\":{ns:.2}}}"
    );
}

/// Nanoseconds an operation, of `threads` threads that each do `n`.
fn time(threads: usize, n: usize, body: &(dyn Fn(usize) + Sync)) -> f64 {
    let start = Barrier::new(threads);
    let slowest = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    // A thread's first allocations set its caches up.
                    body(n / 10 + 1);
                    start.wait();
                    let begin = Instant::now();
                    body(n);
                    begin.elapsed()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .max()
    });
    slowest.unwrap_or_default().as_secs_f64() * 1e9 / n as f64
}

/// Runs the entries in turns and reports each one's best round.
fn compare(
    work: &str,
    size: usize,
    threads: usize,
    n: usize,
    rounds: usize,
    entries: &[Entry<'_>],
) {
    let mut best = vec![f64::INFINITY; entries.len()];
    for _ in 0..rounds {
        for (best, entry) in best.iter_mut().zip(entries) {
            *best = best.min(time(threads, n, &entry.body));
        }
    }
    for (best, entry) in best.iter().zip(entries) {
        report(entry.peer, work, size, threads, *best);
    }
}

fn allocate_free(pool: &Pool, size: usize, n: usize) {
    for _ in 0..n {
        let block = pool.allocate(size, Alignment::DEFAULT).unwrap();
        black_box(block);
        // SAFETY: the block just allocated.
        unsafe { pool.free(block, size, Alignment::DEFAULT) };
    }
}

fn allocate_free_dyn(pool: &dyn MemoryPool, size: usize, n: usize) {
    for _ in 0..n {
        let block = pool.allocate(size, Alignment::DEFAULT).unwrap();
        black_box(block);
        // SAFETY: the block just allocated.
        unsafe { pool.free(block, size, Alignment::DEFAULT) };
    }
}

/// The backend's own calls, as Arrow C++ makes them.
fn raw(backend: &str, size: usize) -> Option<Entry<'static>> {
    use libmimalloc_sys as mi;
    let body: Box<dyn Fn(usize) + Sync> = match backend {
        "mimalloc" => Box::new(move |n| {
            for _ in 0..n {
                // SAFETY: any size may be asked for; the block is freed once.
                unsafe { mi::mi_free(black_box(mi::mi_malloc(size))) };
            }
        }),
        "system" => Box::new(move |n| {
            for _ in 0..n {
                // SAFETY: any size may be asked for; the block is freed once.
                unsafe { libc::free(black_box(libc::malloc(size))) };
            }
        }),
        _ => return None,
    };
    Some(Entry { peer: "raw", body })
}

/// The system's aligned call, which Arrow C++ and arrow-rs make.
fn posix_memalign(n: usize, size: usize) {
    for _ in 0..n {
        let mut block = std::ptr::null_mut();
        // SAFETY: 64 is a power of two; the block is freed once.
        unsafe {
            assert_eq!(libc::posix_memalign(&raw mut block, 64, size), 0);
            libc::free(black_box(block));
        }
    }
}

fn pools(quick: bool) {
    let rounds = if quick { 3 } else { 7 };
    for threads in [1, 2] {
        for backend in supported_memory_backends() {
            for size in [64, 4096, 64 << 10, 1 << 20, 16 << 20] {
                let n = if size > 100_000 { 5_000 } else { 200_000 };
                let base = memory_pool_named(backend).unwrap();
                let custom = Pool::custom(base.clone());
                let limit = base.limit(1 << 40);
                let levels = base.limit(1 << 42).proxy().limit(1 << 40);
                let mut entries = vec![
                    entry("offheap", |n| allocate_free(&base, size, n)),
                    entry("offheap-dyn", |n| {
                        allocate_free_dyn(black_box(&base), size, n)
                    }),
                    entry("offheap-limit", |n| allocate_free(&limit, size, n)),
                    entry("offheap-3-levels", |n| allocate_free(&levels, size, n)),
                    entry("offheap-custom", |n| allocate_free(&custom, size, n)),
                ];
                entries.extend(raw(backend, size));
                if backend == "system" {
                    entries.push(entry("posix_memalign", move |n| posix_memalign(n, size)));
                }
                let work = format!("allocate-free {backend}");
                compare(&work, size, threads, n, rounds, &entries);
            }
        }
    }
}

fn buffers(quick: bool) {
    let rounds = if quick { 3 } else { 7 };
    let pool = default_memory_pool();
    let limit = pool.limit(1 << 40);
    for size in [64, 4096, 1 << 20] {
        let allocate = |pool: &Pool, n: usize| {
            for _ in 0..n {
                drop(black_box(UninitBuffer::allocate(
                    size,
                    Alignment::DEFAULT,
                    pool,
                )));
            }
        };
        let n = if size > 100_000 { 20_000 } else { 300_000 };
        compare(
            "allocate-buffer-drop",
            size,
            1,
            n,
            rounds,
            &[
                entry("offheap", |n| allocate(&pool, n)),
                entry("offheap-limit", |n| allocate(&limit, n)),
                entry("arrow-rs", |n| {
                    for _ in 0..n {
                        drop(black_box(arrow_buffer::MutableBuffer::with_capacity(size)));
                    }
                }),
                entry("bytes", |n| {
                    for _ in 0..n {
                        drop(black_box(bytes::BytesMut::with_capacity(size)));
                    }
                }),
                entry("vec", |n| {
                    for _ in 0..n {
                        drop(black_box(Vec::<u8>::with_capacity(size)));
                    }
                }),
            ],
        );
    }
    let whole = MutableBuffer::zeroed(4096, &pool).unwrap().freeze();
    let arrow = arrow_buffer::Buffer::from_vec(vec![0_u8; 4096]);
    let bytes = bytes::Bytes::from(vec![0_u8; 4096]);
    // A second handle: some types keep the first one's fast path.
    let (_arrow, _bytes, arc) = (arrow.clone(), bytes.clone(), Arc::new([0_u8; 4096]));
    compare(
        "slice-drop",
        128,
        1,
        2_000_000,
        rounds,
        &[
            entry("offheap", |n| {
                for _ in 0..n {
                    drop(black_box(black_box(&whole).slice(64, 128)));
                }
            }),
            entry("offheap-borrowed", |n| {
                for _ in 0..n {
                    black_box(black_box(&whole).get(64..192));
                }
            }),
            entry("arc-clone", |n| {
                for _ in 0..n {
                    drop(black_box(Arc::clone(black_box(&arc))));
                }
            }),
            entry("arrow-rs", |n| {
                for _ in 0..n {
                    drop(black_box(black_box(&arrow).slice_with_length(64, 128)));
                }
            }),
            entry("bytes", |n| {
                for _ in 0..n {
                    drop(black_box(black_box(&bytes).slice(64..192)));
                }
            }),
        ],
    );
    drop::<Buffer>(whole);
}

/// Nanoseconds a value of one build from empty to finished.
fn build(values: usize, body: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    body();
    begin.elapsed().as_secs_f64() * 1e9 / values as f64
}

fn append_int64(pool: &Pool, n: usize) -> f64 {
    build(n, || {
        let mut builder = TypedBufferBuilder::<i64>::new(pool);
        for i in 0..n {
            builder.append((i & 1) as i64).unwrap();
        }
        black_box(builder.finish(true).unwrap());
    })
}

fn append_bool(pool: &Pool, n: usize) -> f64 {
    build(n, || {
        let mut builder = BitmapBuilder::new(pool);
        for i in 0..n {
            builder.append(i & 1 != 0).unwrap();
        }
        black_box(builder.finish(true).unwrap());
    })
}

/// Bits that a branch predictor cannot guess.
fn random_bools(n: usize) -> Vec<bool> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 40 & 1 != 0
    };
    (0..n).map(|_| next()).collect()
}

fn builders(quick: bool) {
    let n = if quick { 1_000_000 } else { 10_000_000 };
    let pool = default_memory_pool();
    let bools = random_bools(n);
    type Build<'a> = (&'static str, &'static str, usize, Box<dyn Fn() -> f64 + 'a>);
    let works: Vec<Build<'_>> = vec![
        (
            "offheap",
            "append-int64",
            8,
            Box::new(|| append_int64(&pool, n)),
        ),
        (
            "arrow-rs",
            "append-int64",
            8,
            Box::new(|| {
                build(n, || {
                    let mut builder = arrow_buffer::BufferBuilder::<i64>::new(0);
                    for i in 0..n {
                        builder.append((i & 1) as i64);
                    }
                    black_box(builder.finish());
                })
            }),
        ),
        (
            "vec",
            "append-int64",
            8,
            Box::new(|| {
                build(n, || {
                    let mut values = Vec::<i64>::new();
                    for i in 0..n {
                        values.push((i & 1) as i64);
                    }
                    black_box(values);
                })
            }),
        ),
        (
            "offheap",
            "append-bool",
            1,
            Box::new(|| append_bool(&pool, n)),
        ),
        (
            "arrow-rs",
            "append-bool",
            1,
            Box::new(|| {
                build(n, || {
                    let mut builder = arrow_buffer::BooleanBufferBuilder::new(0);
                    for i in 0..n {
                        builder.append(i & 1 != 0);
                    }
                    black_box(builder.finish());
                })
            }),
        ),
        (
            "offheap-random",
            "append-bool",
            1,
            Box::new(|| {
                build(n, || {
                    let mut builder = BitmapBuilder::new(&pool);
                    for bit in &bools {
                        builder.append(*bit).unwrap();
                    }
                    black_box(builder.finish(true).unwrap());
                })
            }),
        ),
        (
            "offheap-bulk",
            "append-bool",
            1,
            Box::new(|| {
                build(n, || {
                    let mut builder = BitmapBuilder::new(&pool);
                    builder.append_values(&bools).unwrap();
                    black_box(builder.finish(true).unwrap());
                })
            }),
        ),
    ];
    // Round by round, so that every peer meets the machine in every mood: the first round apart.
    let mut warm = vec![f64::INFINITY; works.len()];
    for round in 0..if quick { 4 } else { 6 } {
        for (warm, (peer, work, size, body)) in warm.iter_mut().zip(&works) {
            let ns = body();
            if round == 0 {
                report(peer, &format!("{work} first"), *size, 1, ns);
            } else {
                *warm = warm.min(ns);
            }
        }
    }
    for (warm, (peer, work, size, _)) in warm.iter().zip(&works) {
        report(peer, &format!("{work} warm"), *size, 1, *warm);
    }
    let total = if quick { 32 << 20 } else { 256 << 20 };
    let chunk = [0_u8; 704];
    for size in [8, 700] {
        let count = total / size;
        let ns = (0..3).map(|_| {
            build(count, || {
                let mut builder = BufferBuilder::new(&pool);
                for _ in 0..count {
                    builder.append(black_box(&chunk[..size])).unwrap();
                }
                black_box(builder.len());
            })
        });
        report(
            "offheap",
            "append-bytes",
            size,
            1,
            ns.fold(f64::INFINITY, f64::min),
        );
        let ns = (0..3).map(|_| {
            build(count, || {
                let mut builder = Vec::new();
                for _ in 0..count {
                    builder.extend_from_slice(black_box(&chunk[..size]));
                }
                black_box(builder.len());
            })
        });
        report(
            "vec",
            "append-bytes",
            size,
            1,
            ns.fold(f64::INFINITY, f64::min),
        );
    }
}

/// Resident memory in MiB; NaN where it is unknown.
fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<f64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(f64::NAN, |pages| pages * 4096.0 / f64::from(1 << 20))
}

fn rss(backend: &str, block: usize) {
    let pool = memory_pool_named(backend).unwrap();
    let mut blocks: Vec<NonNull<u8>> = Vec::with_capacity((512 << 20) / block);
    let before = resident_mib();
    for _ in 0..blocks.capacity() {
        let ptr = pool.allocate(block, Alignment::DEFAULT).unwrap();
        // SAFETY: a new block of `block` bytes.
        unsafe { ptr.write_bytes(1, block) };
        blocks.push(ptr);
    }
    let full = resident_mib();
    for ptr in blocks {
        // SAFETY: allocated above, freed once.
        unsafe { pool.free(ptr, block, Alignment::DEFAULT) };
    }
    let freed = resident_mib();
    std::thread::sleep(Duration::from_millis(2500));
    let idle = resident_mib();
    pool.release_unused();
    println!(
        "{{\"peer\":\"offheap\",\"work\":\"rss {backend}\",\"size\":{block},\"before\":{before:.1},\"full\":{full:.1},\"freed\":{freed:.1},\"idle\":{idle:.1},\"released\":{:.1}}}",
        resident_mib()
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let quick = arguments.contains(&"--quick");
    let works: Vec<&str> = arguments
        .iter()
        .copied()
        .filter(|work| *work != "--quick")
        .collect();
    match works[..] {
        ["cold-builder", ref rest @ ..] => {
            let n = rest
                .first()
                .and_then(|n| n.parse().ok())
                .unwrap_or(10_000_000);
            report(
                "offheap",
                "append-int64 cold",
                8,
                1,
                append_int64(&default_memory_pool(), n),
            );
        }
        ["rss", backend, block] => rss(backend, block.parse().expect("the block's size in bytes")),
        _ => {
            let wanted = |work: &str| works.is_empty() || works.contains(&work);
            if let Some(unknown) = works
                .iter()
                .find(|work| !["pools", "buffers", "builders"].contains(work))
            {
                eprintln!(
                    "unknown work '{unknown}': pools, buffers, builders, cold-builder or rss"
                );
                std::process::exit(2);
            }
            if wanted("pools") {
                pools(quick);
            }
            if wanted("buffers") {
                buffers(quick);
            }
            if wanted("builders") {
                builders(quick);
            }
        }
    }
}

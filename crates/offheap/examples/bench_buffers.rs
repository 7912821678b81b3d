//! Measures buffers and builders beside their peers, in turns in one process, and prints a JSON
//! object a line: `{"peer","work","ns","ratio"}`, `ns` per operation (value, bit, write), `ratio` to
//! the row's first peer. Lower quartile of the rounds.
//!
//! ```text
//! cargo run --release --example bench_buffers -- [buffers|bits|values|bytes]… [--quick]
//! ```

use offheap::{
    Alignment, BitmapBuilder, BufferBuilder, MutableBuffer, Pool, TypedBufferBuilder, UninitBuffer,
    default_memory_pool,
};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

struct Entry<'a> {
    peer: &'static str,
    /// Does as many operations and says how long they took, in seconds.
    body: Box<dyn Fn(usize) -> f64 + 'a>,
}

fn timed(body: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    body();
    begin.elapsed().as_secs_f64()
}

/// An operation that is repeated.
fn each<'a>(peer: &'static str, body: impl Fn() + 'a) -> Entry<'a> {
    Entry {
        peer,
        body: Box::new(move |n| {
            timed(|| {
                for _ in 0..n {
                    body();
                }
            })
        }),
    }
}

/// A build of `n` things.
fn whole<'a>(peer: &'static str, body: impl Fn(usize) + 'a) -> Entry<'a> {
    Entry {
        peer,
        body: Box::new(move |n| timed(|| body(n))),
    }
}

fn compare(work: &str, n: usize, rounds: usize, entries: &[Entry<'_>]) {
    let mut figures = vec![Vec::new(); entries.len()];
    for entry in entries {
        (entry.body)(n / 10 + 1);
    }
    for _ in 0..rounds {
        for (figures, entry) in figures.iter_mut().zip(entries) {
            figures.push((entry.body)(n) * 1e9 / n as f64);
        }
    }
    let mut first = f64::NAN;
    for (figures, entry) in figures.iter_mut().zip(entries) {
        figures.sort_by(f64::total_cmp);
        let ns = figures[figures.len() / 4];
        if first.is_nan() {
            first = ns;
        }
        let peer = entry.peer;
        println!(
            "{{\"peer\":\"{peer}\",\"work\":\"{work}\",\"ns\":{ns:.2},\"best\":{:.2},\"ratio\":{:.2}}}",
            figures[0],
            ns / first
        );
    }
}

fn pair(pool: &Pool, size: usize) {
    let block = pool.allocate(size, Alignment::DEFAULT).unwrap();
    black_box(block);
    // SAFETY: the block just allocated.
    unsafe { pool.free(block, size, Alignment::DEFAULT) };
}

fn raw(size: usize) {
    // SAFETY: any size may be asked for, and the block is freed once.
    unsafe {
        let block = libmimalloc_sys::mi_malloc(size);
        black_box(block);
        libmimalloc_sys::mi_free(block);
    }
}

fn buffers(quick: bool) {
    let rounds = if quick { 7 } else { 21 };
    let pool = default_memory_pool();
    let limit = pool.limit(1 << 40);
    // Other blocks live in the same pages: a lone block is a case of its own.
    let _others: Vec<_> = (0..100)
        .map(|_| UninitBuffer::allocate(4096, Alignment::DEFAULT, &pool))
        .collect();
    for size in [64, 4096] {
        compare(
            &format!("buffer {size}"),
            200_000,
            rounds,
            &[
                each("raw pair", || raw(size)),
                each("pool pair", || pair(&pool, size)),
                each("buffer", || {
                    drop(black_box(UninitBuffer::allocate(
                        size,
                        Alignment::DEFAULT,
                        &pool,
                    )));
                }),
                each("buffer of a limit", || {
                    drop(black_box(UninitBuffer::allocate(
                        size,
                        Alignment::DEFAULT,
                        &limit,
                    )));
                }),
                each("zeroed", || {
                    drop(black_box(MutableBuffer::zeroed(size, &pool)));
                }),
                each("arrow-rs", || {
                    drop(black_box(arrow_buffer::MutableBuffer::with_capacity(size)));
                }),
                each("arrow-rs, zeroed", || {
                    drop(black_box(arrow_buffer::MutableBuffer::from_len_zeroed(
                        size,
                    )));
                }),
            ],
        );
    }
    let buffer = MutableBuffer::zeroed(4096, &pool).unwrap().freeze();
    let arrow = arrow_buffer::Buffer::from_vec(vec![0_u8; 4096]);
    let arc = Arc::new([0_u8; 4096]);
    let _second = (arrow.clone(), Arc::clone(&arc));
    compare(
        "slice",
        500_000,
        rounds,
        &[
            each("Arc clone and drop", || {
                drop(black_box(Arc::clone(black_box(&arc))));
            }),
            each("slice", || {
                drop(black_box(black_box(&buffer).slice(64, 128)));
            }),
            each("clone", || drop(black_box(black_box(&buffer).clone()))),
            each("borrowed", || {
                black_box(black_box(&buffer).get(64..192));
            }),
            each("arrow-rs", || {
                drop(black_box(black_box(&arrow).slice_with_length(64, 128)));
            }),
        ],
    );
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

fn raw_bits(bits: impl Iterator<Item = bool>, n: usize) {
    let mut words = Vec::<u64>::with_capacity(n / 64 + 1);
    let (mut word, mut len, mut ones) = (0_u64, 0_usize, 0);
    for bit in bits {
        word |= u64::from(bit) << (len % 64);
        len += 1;
        if len.is_multiple_of(64) {
            words.push(word);
            ones += word.count_ones();
            word = 0;
        }
    }
    black_box((words, word, ones));
}

fn bits(quick: bool) {
    let n = if quick { 1_000_000 } else { 10_000_000 };
    let rounds = if quick { 5 } else { 9 };
    let pool = default_memory_pool();
    let bools = random_bools(n);
    let bools = &bools[..];
    compare(
        "append bool, regular",
        n,
        rounds,
        &[
            whole("raw loop", |n| raw_bits((0..n).map(|i| i & 1 != 0), n)),
            whole("offheap", |n| {
                let mut builder = BitmapBuilder::new(&pool);
                for i in 0..n {
                    builder.append(i & 1 != 0).unwrap();
                }
                black_box(builder.finish(true).unwrap());
            }),
            whole("arrow-rs", |n| {
                let mut builder = arrow_buffer::BooleanBufferBuilder::new(0);
                for i in 0..n {
                    builder.append(i & 1 != 0);
                }
                black_box(builder.finish());
            }),
        ],
    );
    compare(
        "append bool, random",
        n,
        rounds,
        &[
            whole("raw loop", |n| raw_bits(bools[..n].iter().copied(), n)),
            whole("offheap", |n| {
                let mut builder = BitmapBuilder::new(&pool);
                for bit in &bools[..n] {
                    builder.append(*bit).unwrap();
                }
                black_box(builder.finish(true).unwrap());
            }),
            whole("offheap, builder reloaded", |n| {
                let mut builder = BitmapBuilder::new(&pool);
                for bit in &bools[..n] {
                    black_box(&mut builder).append(*bit).unwrap();
                }
                black_box(builder.finish(true).unwrap());
            }),
            whole("offheap, bulk", |n| {
                let mut builder = BitmapBuilder::new(&pool);
                builder.append_values(&bools[..n]).unwrap();
                black_box(builder.finish(true).unwrap());
            }),
            whole("arrow-rs", |n| {
                let mut builder = arrow_buffer::BooleanBufferBuilder::new(0);
                for bit in &bools[..n] {
                    builder.append(*bit);
                }
                black_box(builder.finish());
            }),
            whole("offheap, function", |n| {
                let mut builder = BitmapBuilder::new(&pool);
                builder.append_from_fn(n, |i| bools[i]).unwrap();
                black_box(builder.finish(true).unwrap());
            }),
            whole("arrow-rs, function", |n| {
                black_box(arrow_buffer::MutableBuffer::collect_bool(n, |i| bools[i]));
            }),
            whole("arrow-rs, bulk", |n| {
                let mut builder = arrow_buffer::BooleanBufferBuilder::new(0);
                builder.append_slice(&bools[..n]);
                black_box(builder.finish());
            }),
        ],
    );
}

fn values(quick: bool) {
    let n = if quick { 1_000_000 } else { 10_000_000 };
    let rounds = if quick { 5 } else { 9 };
    let pool = default_memory_pool();
    compare(
        "append int64",
        n,
        rounds,
        &[
            whole("vec, exact", |n| {
                let mut values = Vec::<i64>::with_capacity(n);
                for i in 0..n {
                    values.push((i & 1) as i64);
                }
                black_box(values);
            }),
            whole("vec", |n| {
                let mut values = Vec::<i64>::new();
                for i in 0..n {
                    values.push((i & 1) as i64);
                }
                black_box(values);
            }),
            whole("offheap", |n| {
                let mut builder = TypedBufferBuilder::<i64>::new(&pool);
                for i in 0..n {
                    builder.append((i & 1) as i64).unwrap();
                }
                black_box(builder.finish(true).unwrap());
            }),
            whole("offheap, reserved", |n| {
                let mut builder = TypedBufferBuilder::<i64>::with_capacity(n, &pool).unwrap();
                for i in 0..n {
                    builder.append((i & 1) as i64).unwrap();
                }
                black_box(builder.finish(true).unwrap());
            }),
            whole("offheap, builder reloaded", |n| {
                let mut builder = TypedBufferBuilder::<i64>::new(&pool);
                for i in 0..n {
                    black_box(&mut builder).append((i & 1) as i64).unwrap();
                }
                black_box(builder.finish(true).unwrap());
            }),
            whole("offheap, iterator", |n| {
                let mut builder = TypedBufferBuilder::<i64>::new(&pool);
                builder.append_iter((0..n).map(|i| (i & 1) as i64)).unwrap();
                black_box(builder.finish(true).unwrap());
            }),
            whole("offheap, function", |n| {
                let mut builder = TypedBufferBuilder::<i64>::new(&pool);
                builder.append_from_fn(n, |i| (i & 1) as i64).unwrap();
                black_box(builder.finish(true).unwrap());
            }),
            whole("arrow-rs", |n| {
                let mut builder = arrow_buffer::BufferBuilder::<i64>::new(0);
                for i in 0..n {
                    builder.append((i & 1) as i64);
                }
                black_box(builder.finish());
            }),
        ],
    );
}

fn bytes(quick: bool) {
    let rounds = if quick { 5 } else { 9 };
    let pool = default_memory_pool();
    let total = if quick { 32 << 20 } else { 256 << 20 };
    let chunk = vec![7_u8; 1_500_000];
    let chunk = &chunk[..];
    for size in [8, 700, 1_500_000] {
        compare(
            &format!("append bytes {size}"),
            total / size,
            rounds,
            &[
                whole("vec", |n| {
                    let mut builder = Vec::new();
                    for _ in 0..n {
                        builder.extend_from_slice(black_box(&chunk[..size]));
                    }
                    black_box(builder.len());
                }),
                whole("offheap", |n| {
                    let mut builder = BufferBuilder::new(&pool);
                    for _ in 0..n {
                        builder.append(black_box(&chunk[..size])).unwrap();
                    }
                    black_box(builder.len());
                }),
                whole("arrow-rs", |n| {
                    let mut builder = arrow_buffer::MutableBuffer::new(0);
                    for _ in 0..n {
                        builder.extend_from_slice(black_box(&chunk[..size]));
                    }
                    black_box(builder.len());
                }),
            ],
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    type Work = (&'static str, fn(bool));
    let works: [Work; 4] = [
        ("buffers", buffers),
        ("bits", bits),
        ("values", values),
        ("bytes", bytes),
    ];
    let wanted: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| *argument != "--quick")
        .collect();
    for unknown in &wanted {
        if !works.iter().any(|(name, _)| name == unknown) {
            eprintln!("unknown work '{unknown}': buffers, bits, values or bytes");
            std::process::exit(2);
        }
    }
    for (name, work) in works {
        if wanted.is_empty() || wanted.contains(&name) {
            work(quick);
        }
    }
}

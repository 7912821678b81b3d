//! Ten million values appended one by one to a builder that starts empty.

use super::figure::Figure;
use super::measure::{Extra, Plan, timed};
use super::random::Random;
use offheap::{BitmapBuilder, BufferBuilder, Pool, TypedBufferBuilder, default_memory_pool};
use std::hint::black_box;

fn append_int64(pool: &Pool, n: usize) {
    let mut builder = TypedBufferBuilder::<i64>::new(pool);
    for i in 0..n {
        builder.append((i & 1) as i64).unwrap();
    }
    black_box(builder.finish(true).unwrap());
}

fn append_int64_arrow(n: usize) {
    let mut builder = arrow_buffer::BufferBuilder::<i64>::new(0);
    for i in 0..n {
        builder.append((i & 1) as i64);
    }
    black_box(builder.finish());
}

fn append_int64_vec(n: usize) {
    let mut values = Vec::<i64>::new();
    for i in 0..n {
        values.push((i & 1) as i64);
    }
    black_box(values);
}

fn append_bool(pool: &Pool, n: usize) {
    let mut builder = BitmapBuilder::new(pool);
    for i in 0..n {
        builder.append(i & 1 != 0).unwrap();
    }
    black_box(builder.finish(true).unwrap());
}

fn append_bool_arrow(n: usize) {
    let mut builder = arrow_buffer::BooleanBufferBuilder::new(0);
    for i in 0..n {
        builder.append(i & 1 != 0);
    }
    black_box(builder.finish());
}

/// One build in a process that did nothing before; false for a peer that is none.
pub(crate) fn cold(peer: &str, n: usize, extra: &[Extra]) -> bool {
    let (wall, cpu) = match peer {
        "offheap" => timed(|| append_int64(&default_memory_pool(), n)),
        "arrow-rs" => timed(|| append_int64_arrow(n)),
        "vec" => timed(|| append_int64_vec(n)),
        _ => match extra.iter().find(|extra| extra.peer == peer) {
            Some(extra) => timed(|| (extra.append_int64)(n)),
            None => return false,
        },
    };
    Figure {
        peer,
        work: "append-int64 cold",
        size: 8,
        threads: 1,
        wall: &[wall / n as f64],
        cpu: &[cpu / n as f64],
        peak_mib: None,
    }
    .print();
    true
}

struct Build<'a> {
    peer: &'static str,
    work: &'static str,
    size: usize,
    /// Values appended.
    n: usize,
    body: Box<dyn Fn(usize) + 'a>,
}

/// Runs all builds once to warm up, then in turns.
fn compare(plan: &Plan, rounds: usize, builds: &[Build<'_>]) {
    let mut samples = vec![(Vec::new(), Vec::new()); builds.len()];
    for _ in 0..rounds {
        for (build, (walls, cpus)) in builds.iter().zip(&mut samples) {
            let Build { n, body, .. } = build;
            // Its memory may have been given back in the turns of the others: warm means that it
            // was there a moment ago.
            if !plan.quick || walls.is_empty() {
                body(*n);
            }
            let (wall, cpu) = timed(|| body(*n));
            walls.push(wall / *n as f64);
            cpus.push(cpu / *n as f64);
        }
    }
    for (build, (wall, cpu)) in builds.iter().zip(&samples) {
        Figure {
            peer: build.peer,
            work: build.work,
            size: build.size,
            threads: 1,
            wall,
            cpu,
            peak_mib: None,
        }
        .print();
    }
}

pub(crate) fn builders(plan: &Plan, extra: &[Extra]) {
    let n = if plan.quick { 1_000_000 } else { 10_000_000 };
    let pool = &default_memory_pool();
    let mut random = Random::new(1);
    // Bits that a branch predictor cannot guess.
    let bools: Vec<bool> = (0..n).map(|_| random.next() >> 40 & 1 != 0).collect();
    let bools = &bools;
    let mut builds: Vec<Build<'_>> = Vec::new();
    let mut add = |peer, work, size, body: Box<dyn Fn(usize)>| {
        builds.push(Build {
            peer,
            work,
            size,
            n,
            body,
        });
    };
    let int64 = "append-int64 warm";
    let pool_of_int64 = pool.clone();
    add(
        "offheap",
        int64,
        8,
        Box::new(move |n| append_int64(&pool_of_int64, n)),
    );
    add("arrow-rs", int64, 8, Box::new(append_int64_arrow));
    add("vec", int64, 8, Box::new(append_int64_vec));
    let bool = "append-bool warm";
    let pool_of_bool = pool.clone();
    add(
        "offheap",
        bool,
        1,
        Box::new(move |n| append_bool(&pool_of_bool, n)),
    );
    add("arrow-rs", bool, 1, Box::new(append_bool_arrow));
    for peer in extra {
        add(peer.peer, int64, 8, Box::new(peer.append_int64));
        add(peer.peer, bool, 1, Box::new(peer.append_bool));
    }
    builds.push(Build {
        peer: "offheap-random",
        work: bool,
        size: 1,
        n,
        body: Box::new(move |_| {
            let mut builder = BitmapBuilder::new(pool);
            for bit in bools {
                builder.append(*bit).unwrap();
            }
            black_box(builder.finish(true).unwrap());
        }),
    });
    builds.push(Build {
        peer: "offheap-bulk",
        work: bool,
        size: 1,
        n,
        body: Box::new(move |_| {
            let mut builder = BitmapBuilder::new(pool);
            builder.append_values(bools).unwrap();
            black_box(builder.finish(true).unwrap());
        }),
    });
    compare(plan, if plan.quick { 5 } else { 9 }, &builds);
    bytes(plan, pool);
}

/// A quarter of a gigabyte in pieces of 8 and of 700 bytes.
fn bytes(plan: &Plan, pool: &Pool) {
    let total = if plan.quick { 32 << 20 } else { 256 << 20 };
    let chunk = &[0_u8; 704];
    let builds = [8, 700].map(|size| {
        let ours: Box<dyn Fn(usize)> = Box::new(move |count| {
            let mut builder = BufferBuilder::new(pool);
            for _ in 0..count {
                builder.append(black_box(&chunk[..size])).unwrap();
            }
            black_box(builder.len());
        });
        let vec: Box<dyn Fn(usize)> = Box::new(move |count| {
            let mut builder = Vec::new();
            for _ in 0..count {
                builder.extend_from_slice(black_box(&chunk[..size]));
            }
            black_box(builder.len());
        });
        [("offheap", ours), ("vec", vec)].map(|(peer, body)| Build {
            peer,
            work: "append-bytes",
            size,
            n: total / size,
            body,
        })
    });
    let builds: Vec<Build<'_>> = builds.into_iter().flatten().collect();
    compare(plan, if plan.quick { 3 } else { 5 }, &builds);
}

//! What hooks cost: off, and each of them on. Prints a JSON object a line: `{"work","ns"}`, of an
//! allocation and its free.
//!
//! Built with the feature `hooks` and without it (`npm run bench:hooks` does both and lets the two
//! programs take turns, each round in a process of its own), the works `pool …`, `limit …` and `buffer …` show what hooks cost that
//! nobody installed: at most 1.05 times. What to measure
//! comes on stdin: `off`, `on`.

use offheap::{Alignment, MutableBuffer, Pool, UninitBuffer, default_memory_pool};
use std::hint::black_box;
use std::io::BufRead;
use std::time::Instant;

/// Nanoseconds for one `body`, the least of five short runs.
fn time(n: u32, body: impl Fn()) -> f64 {
    let run = || {
        let begin = Instant::now();
        for _ in 0..n {
            body();
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(n)
    };
    run();
    (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn pair(pool: &Pool, size: usize) {
    if let Ok(block) = pool.allocate(black_box(size), Alignment::DEFAULT) {
        // SAFETY: the block just allocated, which nobody else knows.
        unsafe { pool.free(black_box(block), size, Alignment::DEFAULT) };
    }
}

fn report(work: &str, ns: f64) {
    println!("{{\"work\":\"{work}\",\"ns\":{ns:.2}}}");
}

fn off() {
    let pool = default_memory_pool();
    let limit = pool.limit(1 << 40);
    for size in [64, 4096] {
        report(&format!("pool {size}"), time(200_000, || pair(&pool, size)));
        report(
            &format!("limit {size}"),
            time(200_000, || pair(&limit, size)),
        );
        report(
            &format!("buffer {size}"),
            time(200_000, || {
                black_box(UninitBuffer::allocate(size, Alignment::DEFAULT, &pool).is_ok());
            }),
        );
    }
    let frozen = MutableBuffer::zeroed(4096, &pool).map(MutableBuffer::freeze);
    if let Ok(frozen) = frozen {
        report(
            "slice",
            time(200_000, || drop(black_box(frozen.slice(0, 64)))),
        );
    }
}

#[cfg(feature = "hooks")]
fn on() {
    use offheap::{
        DebugOptions, Domain, Failing, FailingOptions, Hook, LogFormat, LogSink, TrackOptions,
    };
    use std::sync::Arc;

    #[derive(Debug)]
    struct Nothing;
    impl Hook for Nothing {}

    let pool = default_memory_pool();
    let one = |name: &str, pool: &Pool| {
        report(&format!("{name} 64"), time(20_000, || pair(pool, 64)));
    };
    one("hook", &pool.hook(Arc::new(Nothing)));
    one(
        "three hooks",
        &pool
            .hook(Arc::new(Nothing))
            .hook(Arc::new(Nothing))
            .hook(Arc::new(Nothing)),
    );
    for depth in [0, 16] {
        let mut options = TrackOptions::default();
        options.stack_depth = depth;
        one(&format!("track, {depth} frames"), &pool.track(options));
    }
    for stack_depth in [0, 16] {
        let options = DebugOptions {
            stack_depth,
            ..DebugOptions::default()
        };
        one(
            &format!("debug, {stack_depth} frames"),
            &pool.debug(options),
        );
    }
    let never = FailingOptions {
        after: Some(u64::MAX),
        ..Default::default()
    };
    if let Ok(failing) = Failing::new(never) {
        one("failing, not yet", &pool.hook(failing));
    }
    one("scoped statistics", &pool.scoped_statistics());
    let nowhere = LogSink::Writer(Box::new(std::io::sink()));
    if let Ok(logged) = pool.log(LogFormat::Text, nowhere) {
        one("log, text to nowhere", &logged);
    }
    for domain in Domain::ALL {
        report(
            &format!("domain {domain} 64"),
            time(20_000, || {
                let block = black_box(domain.malloc(64));
                // SAFETY: the block just allocated.
                unsafe { domain.free(block) };
            }),
        );
    }
}

fn main() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "off" => off(),
            #[cfg(feature = "hooks")]
            "on" => on(),
            other => eprintln!("nothing is called '{other}' here"),
        }
    }
}

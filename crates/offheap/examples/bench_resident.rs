//! Measures how much memory stays with the process after 512 MiB were written and freed, and prints a
//! JSON object a line: MiB over the start right after the free, 2.5 s later, and after
//! `release_unused()` of the main thread.
//!
//! ```text
//! cargo run --release --example bench_resident -- [BACKEND]… [--quick]
//! cargo run --release --example bench_resident -- one BACKEND BLOCK_BYTES THREADS idle|ended LIVE
//! ```
//!
//! Each case runs in a process of its own. `LIVE` is how many blocks of 1024 stay alive. Threads that
//! have freed either end or stay, asleep; with one thread it is the main thread. Nobody calls anything
//! while the 2.5 s pass. Linux only: elsewhere the figures are 0.

use offheap::pool::memory_pool_named;
use offheap::{Alignment, Pool, supported_memory_backends};
use std::process::Command;
use std::ptr::NonNull;
use std::sync::{Arc, Barrier};
use std::time::Duration;

const TOTAL: usize = 512 << 20;
const PAGE: usize = 4096;
/// Of so many blocks, some stay alive.
const OUT_OF: usize = 1024;

/// Resident memory of this process in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<f64>()
                .ok()
        });
    kib.unwrap_or(0.0) / 1024.0
}

/// Blocks of one thread's, as addresses.
struct Blocks {
    pool: Pool,
    size: usize,
    addresses: Vec<NonNull<u8>>,
}

// SAFETY: the addresses are blocks of the pool's, which any thread may free.
unsafe impl Send for Blocks {}

impl Blocks {
    fn written(pool: &Pool, size: usize, count: usize) -> Self {
        let addresses = (0..count)
            .map(|_| {
                let block = pool.allocate(size, Alignment::DEFAULT).unwrap();
                for page in (0..size).step_by(PAGE) {
                    // SAFETY: inside of the block just allocated.
                    unsafe { block.add(page).write(1) };
                }
                block
            })
            .collect();
        Self {
            pool: pool.clone(),
            size,
            addresses,
        }
    }

    /// Frees all but the first `live` of each 1024.
    fn free_but(&mut self, live: usize) {
        let mut index = 0;
        self.addresses.retain(|block| {
            let stays = index % OUT_OF < live;
            index += 1;
            if !stays {
                // SAFETY: a live block of the pool's, forgotten here.
                unsafe { self.pool.free(*block, self.size, Alignment::DEFAULT) };
            }
            stays
        });
    }
}

fn one(backend: &str, size: usize, threads: usize, ends: bool, live: usize) {
    let pool = memory_pool_named(backend).unwrap();
    // What the lists of addresses take is there before the start.
    let count = TOTAL / size / threads;
    let mut kept: Vec<Blocks> = Vec::with_capacity(threads);
    let start = resident();
    let full;
    if threads == 1 {
        let mut blocks = Blocks::written(&pool, size, count);
        full = resident() - start;
        blocks.free_but(live);
        blocks.addresses.shrink_to_fit();
        kept.push(blocks);
    } else {
        let written = Arc::new(Barrier::new(threads + 1));
        let (sender, receiver) = std::sync::mpsc::channel();
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (pool, written, sender) = (pool.clone(), Arc::clone(&written), sender.clone());
                std::thread::spawn(move || {
                    let mut blocks = Blocks::written(&pool, size, count);
                    written.wait();
                    written.wait();
                    blocks.free_but(live);
                    blocks.addresses.shrink_to_fit();
                    sender.send(blocks).unwrap();
                    if !ends {
                        std::thread::sleep(Duration::from_secs(60));
                    }
                })
            })
            .collect();
        written.wait();
        full = resident() - start;
        written.wait();
        kept.extend(receiver.iter().take(threads));
        if ends {
            workers
                .into_iter()
                .for_each(|worker| worker.join().unwrap());
        }
    }
    let freed = resident() - start;
    std::thread::sleep(Duration::from_millis(2500));
    let later = resident() - start;
    pool.release_unused();
    let released = resident() - start;
    let threads_are = if ends { "ended" } else { "idle" };
    println!(
        "{{\"work\":\"resident\",\"backend\":\"{backend}\",\"size\":{size},\"threads\":{threads},\"threads_are\":\"{threads_are}\",\
         \"live_of_1024\":{live},\"full_mib\":{full:.1},\"after_free_mib\":{freed:.1},\"after_2500_ms_mib\":{later:.1},\"after_release_mib\":{released:.1}}}"
    );
    std::process::exit(0);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["one", backend, size, threads, are, live] = words[..] {
        let number = |text: &str| text.parse().expect("a number");
        one(
            backend,
            number(size),
            number(threads),
            are == "ended",
            number(live),
        );
    }
    let is_quick = words.contains(&"--quick");
    let asked: Vec<&str> = words
        .into_iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let program = std::env::current_exe().unwrap();
    let threads: &[(usize, &str)] = if is_quick {
        &[(1, "idle")]
    } else {
        &[(1, "idle"), (4, "ended"), (4, "idle")]
    };
    for backend in supported_memory_backends() {
        if !asked.is_empty() && !asked.contains(&backend) {
            continue;
        }
        for size in [4 << 10, 64 << 10, 4 << 20] {
            for (threads, are) in threads {
                for live in [0, 1] {
                    // A block of 1024 must be one of the thread's.
                    if live != 0 && TOTAL / size / threads < OUT_OF {
                        continue;
                    }
                    let (size, threads) = (size.to_string(), threads.to_string());
                    let status = Command::new(&program)
                        .args(["one", backend, &size, &threads, are, &live.to_string()])
                        .status()
                        .unwrap();
                    assert!(
                        status.success(),
                        "{backend} {size} {threads} {live}: {status}"
                    );
                }
            }
        }
    }
}

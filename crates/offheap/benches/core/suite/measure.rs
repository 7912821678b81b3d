//! How works are timed: contenders in turns, each sample some tenths of a millisecond.

use super::figure::Figure;
use std::sync::Barrier;
use std::time::Instant;

/// How long it may take.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    /// Samples of each contender.
    pub(crate) rounds: usize,
    /// What a sample takes at least, in nanoseconds.
    sample: f64,
}

impl Plan {
    pub(crate) fn new(quick: bool) -> Self {
        Self {
            quick,
            rounds: if quick { 9 } else { 25 },
            sample: if quick { 200e3 } else { 600e3 },
        }
    }
}

/// A peer that only some builds have. The functions do `n` operations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extra {
    pub(crate) peer: &'static str,
    /// Allocates a buffer of so many bytes and drops it.
    pub(crate) allocate: fn(size: usize, n: usize),
    /// Slices 128 bytes at 64 of a buffer of 4 KiB that has another handle, and drops the slice.
    pub(crate) slice: fn(n: usize),
    /// Appends `n` values to a builder that starts empty, and finishes it.
    pub append_int64: fn(n: usize),
    pub(crate) append_bool: fn(n: usize),
}

/// One peer doing one work, as often as asked.
pub(crate) struct Entry<'a> {
    peer: &'static str,
    body: Box<dyn Fn(usize) + Sync + 'a>,
}

pub(crate) fn entry<'a>(peer: &'static str, body: impl Fn(usize) + Sync + 'a) -> Entry<'a> {
    Entry {
        peer,
        body: Box::new(body),
    }
}

/// The processor time of this thread, in nanoseconds.
pub(crate) fn thread_time() -> f64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the struct that it is given.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    assert_eq!(failed, 0, "the thread's clock");
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Nanoseconds by the wall's clock and by the thread's, of `body`.
pub(crate) fn timed(body: impl FnOnce()) -> (f64, f64) {
    let (start, cpu) = (Instant::now(), thread_time());
    body();
    let wall = start.elapsed().as_secs_f64() * 1e9;
    (wall, thread_time() - cpu)
}

/// The same for `threads` threads that do it at once: the slowest one's wall time, and the mean of
/// their own times. `warm` runs first, on each.
pub(crate) fn timed_threads(
    threads: usize,
    warm: &(dyn Fn() + Sync),
    body: &(dyn Fn() + Sync),
) -> (f64, f64) {
    if threads == 1 {
        warm();
        return timed(body);
    }
    let barrier = Barrier::new(threads);
    let times: Vec<(f64, f64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    // A thread's first allocations set its caches up.
                    warm();
                    barrier.wait();
                    timed(body)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    let wall = times.iter().map(|(wall, _)| *wall).fold(0.0, f64::max);
    let cpu = times.iter().map(|(_, cpu)| *cpu).sum::<f64>() / threads as f64;
    (wall, cpu)
}

impl Plan {
    /// How many operations take as long as a sample should.
    fn operations(&self, body: &dyn Fn(usize)) -> usize {
        let mut n = 16;
        loop {
            // The faster of two: the first call sets an allocator up, and with too few operations the
            // clocks themselves would be measured.
            let wall = timed(|| body(n)).0.min(timed(|| body(n)).0);
            if wall >= self.sample || n >= 1 << 22 {
                return n;
            }
            n = (n as f64 * (1.2 * self.sample / wall.max(1.0)).clamp(1.5, 8.0)) as usize;
        }
    }

    /// Runs the entries in turns and prints each one's samples.
    pub(crate) fn compare(&self, work: &str, size: usize, threads: usize, entries: &[Entry<'_>]) {
        let operations: Vec<usize> = entries
            .iter()
            .map(|entry| self.operations(&entry.body))
            .collect();
        let mut samples = vec![(Vec::new(), Vec::new()); entries.len()];
        for round in 0..self.rounds {
            for turn in 0..entries.len() {
                let index = (turn + round) % entries.len();
                let (body, n) = (&entries[index].body, operations[index]);
                let (wall, cpu) = timed_threads(threads, &|| body(n / 8 + 1), &|| body(n));
                samples[index].0.push(wall / n as f64);
                samples[index].1.push(cpu / n as f64);
            }
        }
        for (entry, (wall, cpu)) in entries.iter().zip(&samples) {
            Figure {
                peer: entry.peer,
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
}

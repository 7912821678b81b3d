//! Several threads on one pool, each with a stream of its own.

use super::{BASE, GIB, Live, Random, sizes};
use crate::counting::CountingStreams;
use crate::rmm_list::RmmPool;
use offheap_cuda::sub_allocator::simulated::SimulatedUpstream;
use offheap_cuda::sub_allocator::{StreamId, SubAllocator, SubAllocatorOptions};
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Instant;

/// Blocks that each thread has at all times.
const LIVE: usize = 1000;

/// A pool that all threads use at once.
trait Shared: Sync {
    fn allocate(&self, size: u64, stream: StreamId) -> u64;
    fn free(&self, address: u64, size: u64, stream: StreamId);
}

type Ours = SubAllocator<Arc<SimulatedUpstream>, CountingStreams>;

impl Shared for Ours {
    fn allocate(&self, size: u64, stream: StreamId) -> u64 {
        SubAllocator::allocate(self, size, stream).unwrap()
    }

    fn free(&self, address: u64, size: u64, stream: StreamId) {
        SubAllocator::free(self, address, size, stream).unwrap();
    }
}

impl Shared for RmmPool<CountingStreams> {
    fn allocate(&self, size: u64, stream: StreamId) -> u64 {
        RmmPool::allocate(self, size, stream).unwrap()
    }

    fn free(&self, address: u64, size: u64, stream: StreamId) {
        RmmPool::free(self, address, size, stream);
    }
}

/// A pool for each thread: what the machine gives where nothing is waited for.
struct Separate(Vec<Ours>);

impl Separate {
    fn of(&self, stream: StreamId) -> &Ours {
        &self.0[stream.0 as usize]
    }
}

impl Shared for Separate {
    fn allocate(&self, size: u64, stream: StreamId) -> u64 {
        Shared::allocate(self.of(stream), size, stream)
    }

    fn free(&self, address: u64, size: u64, stream: StreamId) {
        Shared::free(self.of(stream), address, size, stream);
    }
}

fn ours(capacity: u64) -> Ours {
    let upstream = Arc::new(SimulatedUpstream::new(capacity, BASE));
    let options = SubAllocatorOptions::new().initial(capacity);
    SubAllocator::new(upstream, CountingStreams::default(), options).unwrap()
}

fn made(peer: &str, threads: u64) -> Box<dyn Shared> {
    match peer {
        "separate" => Box::new(Separate((0..threads).map(|_| ours(64 * GIB)).collect())),
        "offheap" => Box::new(ours(256 * GIB)),
        "rmm-list" => {
            let upstream = Arc::new(SimulatedUpstream::new(256 * GIB, BASE));
            Box::new(RmmPool::new(
                upstream,
                CountingStreams::default(),
                256 * GIB,
            ))
        }
        other => panic!("no peer called {other}"),
    }
}

/// One thread's work: frees and allocates in turn, `pairs` times, between two meetings of all threads. Seconds.
fn work(pool: &dyn Shared, thread: u64, pairs: u64, meeting: &Barrier) -> f64 {
    let (sizes, stream) = (sizes("256B-1MiB"), StreamId(thread));
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (thread << 32));
    let size_of = |random: &mut Random| sizes[random.below(4096) as usize];
    let mut live: Vec<Live> = (0..LIVE)
        .map(|_| {
            let size = size_of(&mut random);
            let address = pool.allocate(size, stream);
            Live { address, size }
        })
        .collect();
    let mut replace = |pairs: u64| {
        for _ in 0..pairs {
            let at = random.below(LIVE as u64) as usize;
            pool.free(live[at].address, live[at].size, stream);
            let size = size_of(&mut random);
            let address = black_box(pool.allocate(size, stream));
            live[at] = Live { address, size };
        }
    };
    replace(2 * LIVE as u64);
    meeting.wait();
    let begin = Instant::now();
    replace(pairs);
    meeting.wait();
    let seconds = begin.elapsed().as_secs_f64();
    for block in &live {
        pool.free(block.address, block.size, stream);
    }
    seconds
}

/// Wall time for each of all threads' operations, in nanoseconds.
fn measure(peer: &str, threads: u64, pairs: u64) -> f64 {
    let (pool, meeting) = (made(peer, threads), Barrier::new(threads as usize));
    let slowest = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (pool, meeting) = (&*pool, &meeting);
                scope.spawn(move || work(pool, thread, pairs, meeting))
            })
            .collect();
        let seconds = running.into_iter().map(|thread| thread.join().unwrap());
        seconds.fold(0.0, f64::max)
    });
    slowest * 1e9 / (2 * pairs * threads) as f64
}

/// One, two and four threads. The best of the rounds, since what else the machine does comes and goes.
pub(crate) fn contended(quick: bool) {
    const PEERS: [&str; 3] = ["separate", "offheap", "rmm-list"];
    const THREADS: [u64; 3] = [1, 2, 4];
    let rounds = if quick { 1 } else { 9 };
    let mut best = [[f64::INFINITY; THREADS.len()]; PEERS.len()];
    for _ in 0..rounds {
        for (peer, best) in PEERS.iter().zip(&mut best) {
            let pairs = if *peer == "rmm-list" { 30_000 } else { 600_000 };
            let pairs = if quick { pairs / 10 } else { pairs };
            for (threads, best) in THREADS.iter().zip(best) {
                *best = best.min(measure(peer, *threads, pairs));
            }
        }
    }
    for (peer, figures) in PEERS.iter().zip(best) {
        for (threads, ns) in THREADS.iter().zip(figures) {
            println!(
                "{{\"bench\":\"threads\",\"threads\":{threads},\"live\":{},\"peer\":\"{peer}\",\"ns\":{ns:.1},\"to1\":{:.2}}}",
                LIVE as u64 * threads,
                ns / figures[0]
            );
        }
    }
}

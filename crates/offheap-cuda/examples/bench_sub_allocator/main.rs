//! Measures the sub-allocating pool's logic beside a port of RMM's pool, both over a simulated
//! device, in one process. Prints a JSON object a line.
//!
//! ```text
//! cargo run --release -p offheap-cuda --example bench_sub_allocator -- [live|random|streams|threads|order]… [--quick]
//! ```
//!
//! - `live`: blocks of a kind are freed and allocated in turn at random while so many are live.
//!   `ns` is the time of one operation, an allocation or a free: the lower quartile of a run's
//!   batches, and the best run of five (of RMM's port beyond 1,000 blocks: the only one); `extent` is how far into one large
//!   chunk the pool ever got, as a multiple of the bytes that were live at most.
//! - `random`: RMM's `random_allocations` (73 % allocations, sizes of 1 byte up to a maximum, 16,000
//!   MiB at most in use), with its own generator.
//! - `streams`: as `live`, on several streams in turn; and RMM's `multi_stream_allocations`, a block
//!   of 8 bytes for each kernel. `waits` and `records` are calls of the driver.
//! - `threads`: as `live`, of one, two and four threads with a stream each and 1,000 blocks each. `ns` is wall time for each
//!   operation of all threads; `separate` is a pool for each thread.
//! - `order`: whether memory of one stream that another took is waited for by a third.
//!
//! `harness` is the same loop over a pool that only counts up; `offheap-best-fit` has no slabs,
//! `offheap-slabs` has them for all blocks of up to 1 MiB; `rmm-list` is the port of RMM's pool.

mod contended;
mod counting;
mod rmm_list;

use counting::CountingStreams;
use offheap_cuda::sub_allocator::simulated::{SimulatedStreams, SimulatedUpstream};
use offheap_cuda::sub_allocator::{StreamId, SubAllocator, SubAllocatorOptions};
use rmm_list::RmmPool;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Where the simulated memory starts.
const BASE: u64 = GIB;

trait Peer {
    fn allocate(&mut self, size: u64, stream: StreamId) -> Option<u64>;
    fn free(&mut self, address: u64, size: u64, stream: StreamId);
}

struct Harness(u64);

impl Peer for Harness {
    fn allocate(&mut self, size: u64, _stream: StreamId) -> Option<u64> {
        self.0 += size;
        Some(black_box(self.0))
    }

    fn free(&mut self, address: u64, _size: u64, _stream: StreamId) {
        black_box(address);
    }
}

impl Peer for RmmPool<CountingStreams> {
    fn allocate(&mut self, size: u64, stream: StreamId) -> Option<u64> {
        RmmPool::allocate(self, size, stream)
    }

    fn free(&mut self, address: u64, size: u64, stream: StreamId) {
        RmmPool::free(self, address, size, stream);
    }
}

impl Peer for SubAllocator<Arc<SimulatedUpstream>, CountingStreams> {
    fn allocate(&mut self, size: u64, stream: StreamId) -> Option<u64> {
        SubAllocator::allocate(self, size, stream).ok()
    }

    fn free(&mut self, address: u64, size: u64, stream: StreamId) {
        SubAllocator::free(self, address, size, stream).unwrap();
    }
}

const PEERS: [&str; 5] = [
    "harness",
    "offheap",
    "offheap-best-fit",
    "offheap-slabs",
    "rmm-list",
];

/// A pool over one large chunk.
fn peer(name: &str, capacity: u64, initial: u64) -> (Box<dyn Peer>, CountingStreams) {
    let streams = CountingStreams::default();
    let upstream = Arc::new(SimulatedUpstream::new(capacity, BASE));
    let options = SubAllocatorOptions::new().initial(initial);
    let peer: Box<dyn Peer> = match name {
        "harness" => Box::new(Harness(0)),
        "rmm-list" => Box::new(RmmPool::new(upstream, streams.clone(), initial)),
        "offheap" => Box::new(SubAllocator::new(upstream, streams.clone(), options).unwrap()),
        // No slabs, and slabs for all they can hold.
        _ => {
            let limit = if name == "offheap-slabs" { MIB } else { 0 };
            let options = options.small_limit(limit);
            Box::new(SubAllocator::new(upstream, streams.clone(), options).unwrap())
        }
    };
    (peer, streams)
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// Sizes of a kind, drawn beforehand.
fn sizes(kind: &str) -> Vec<u64> {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    (0..4096)
        .map(|_| match kind {
            // Log-uniform.
            "256B-1MiB" => {
                let octave = 256 << random.below(12);
                octave + random.below(octave)
            }
            "1B-1MiB" => 1 + random.below(MIB),
            "1B-8MiB" => 1 + random.below(8 * MIB),
            other => panic!("no sizes called {other}"),
        })
        .collect()
}

#[derive(Clone, Copy)]
struct Live {
    address: u64,
    size: u64,
}

struct Steady {
    ns: f64,
    operations: u64,
    extent: f64,
    /// Times that each block was replaced before.
    replaced: f64,
}

/// How long to warm up at most, and to measure.
#[derive(Clone, Copy)]
struct Times {
    warm_up: Duration,
    measure: Duration,
}

impl Times {
    fn new(quick: bool) -> Self {
        let (warm_up, measure) = if quick { (300, 200) } else { (12_000, 400) };
        Self {
            warm_up: Duration::from_millis(warm_up),
            measure: Duration::from_millis(measure),
        }
    }
}

/// Frees and allocates in turn with `count` blocks live. At first every block is replaced twice or
/// so, as far as there is time: free blocks are few and large at the beginning.
fn steady(peer: &mut dyn Peer, kind: &str, count: usize, streams: u64, times: Times) -> Steady {
    let sizes = sizes(kind);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut bytes, mut end) = (0, 0);
    // A block belongs to the stream of its place.
    let mut live: Vec<Live> = (0..count)
        .map(|at| {
            let size = sizes[random.below(4096) as usize];
            let address = peer.allocate(size, StreamId(at as u64 % streams)).unwrap();
            bytes += size;
            end = end.max(address + size);
            Live { address, size }
        })
        .collect();
    let mut peak = bytes;
    let mut victim = (0, live[0]);
    let mut pairs = |peer: &mut dyn Peer, amount: u64| {
        let begin = Instant::now();
        for _ in 0..amount {
            // The next block is looked up early, so that the look-up's cost is not the pool's.
            let at = random.below(count as u64) as usize;
            let next = (at, black_box(live[at]));
            let (at, old) = victim;
            let stream = StreamId(at as u64 % streams);
            peer.free(old.address, old.size, stream);
            let size = sizes[random.below(4096) as usize];
            let address = peer.allocate(size, stream).unwrap();
            live[at] = Live { address, size };
            bytes = bytes - old.size + size;
            peak = peak.max(bytes);
            end = end.max(address + size);
            victim = if next.0 == at { (at, live[at]) } else { next };
        }
        begin.elapsed().as_secs_f64() * 1e9 / (2 * amount) as f64
    };
    let begin = Instant::now();
    let mut warmed = 0;
    while warmed < 2 * count as u64 && begin.elapsed() < times.warm_up {
        pairs(peer, 256);
        warmed += 256;
    }
    let mut batches = Vec::new();
    let begin = Instant::now();
    while batches.len() < 8 || begin.elapsed() < times.measure {
        batches.push(pairs(peer, 1024));
    }
    let operations = batches.len() as u64 * 2048;
    for (at, block) in live.iter().enumerate() {
        peer.free(block.address, block.size, StreamId(at as u64 % streams));
    }
    batches.sort_by(f64::total_cmp);
    Steady {
        ns: batches[batches.len() / 4],
        operations,
        extent: (end - BASE) as f64 / peak as f64,
        replaced: warmed as f64 / count as f64,
    }
}

fn live(quick: bool) {
    const COUNTS: [usize; 4] = [100, 1000, 10_000, 100_000];
    let times = Times::new(quick);
    let rounds = if quick { 1 } else { 5 };
    for kind in ["256B-1MiB", "1B-1MiB", "1B-8MiB"] {
        // Rounds far apart, since what else the machine does comes and goes; the best of them.
        let mut best: Vec<Option<Steady>> =
            PEERS.iter().flat_map(|_| COUNTS.map(|_| None)).collect();
        for round in 0..rounds {
            for (at, best) in best.iter_mut().enumerate() {
                let (name, count) = (PEERS[at / COUNTS.len()], COUNTS[at % COUNTS.len()]);
                if round > 0 && name == "rmm-list" && count > 1000 {
                    continue;
                }
                let (mut peer, _) = peer(name, 1023 * GIB, 1023 * GIB);
                let result = steady(&mut *peer, kind, count, 1, times);
                if best.as_ref().is_none_or(|best| result.ns < best.ns) {
                    *best = Some(result);
                }
            }
        }
        for (at, result) in best.iter().enumerate() {
            let (name, count) = (PEERS[at / COUNTS.len()], COUNTS[at % COUNTS.len()]);
            let first = &best[at / COUNTS.len() * COUNTS.len()];
            let (Some(result), Some(first)) = (result, first) else {
                continue;
            };
            let extent = match name {
                "harness" => String::from("null"),
                _ => format!("{:.3}", result.extent),
            };
            println!(
                "{{\"bench\":\"live\",\"sizes\":\"{kind}\",\"peer\":\"{name}\",\"live\":{count},\"ns\":{:.1},\"to100\":{:.2},\"extent\":{extent},\"replaced\":{:.2},\"operations\":{}}}",
                result.ns,
                result.ns / first.ns,
                result.replaced,
                result.operations
            );
        }
    }
}

/// RMM's `random_allocation_free`. Nanoseconds per operation, operations, most blocks live.
fn random_allocations(peer: &mut dyn Peer, count: u64, max_size: u64) -> (f64, u64, usize) {
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    let max_usage = 16_000 * MIB;
    let mut live: Vec<Live> = Vec::new();
    let (mut allocations, mut bytes, mut operations, mut most) = (0, 0, 0, 0);
    let stream = StreamId(0);
    let begin = Instant::now();
    for _ in 0..count * 2 {
        let size = 1 + random.below(max_size);
        let chance = random.below(100);
        let allocates =
            live.is_empty() || (chance < 73 && allocations < count && bytes + size < max_usage);
        let address = if allocates {
            peer.allocate(size, stream)
        } else {
            None
        };
        if let Some(address) = address {
            live.push(Live { address, size });
            most = most.max(live.len());
            allocations += 1;
            bytes += size;
            operations += 1;
        } else if !live.is_empty() {
            let block = live.swap_remove(random.below(live.len() as u64) as usize);
            peer.free(block.address, block.size, stream);
            bytes -= block.size;
            operations += 1;
        }
    }
    let ns = begin.elapsed().as_secs_f64() * 1e9 / operations as f64;
    for block in live {
        peer.free(block.address, block.size, stream);
    }
    (ns, operations, most)
}

fn random(quick: bool) {
    let rounds = if quick { 1 } else { 3 };
    for count in [1000, 10_000, 100_000] {
        for max_mib in [1, 4, 64, 1024, 4096] {
            for name in PEERS {
                let mut figures = Vec::new();
                let mut last = (0.0, 0, 0);
                let begin = Instant::now();
                while figures.len() < rounds
                    && (figures.is_empty() || begin.elapsed().as_secs() < 5)
                {
                    // As RMM: half of the device, here of 80 GiB, at first.
                    let (mut peer, _) = peer(name, 80 * GIB, 40 * GIB);
                    last = random_allocations(&mut *peer, count, max_mib * MIB);
                    figures.push(last.0);
                }
                figures.sort_by(f64::total_cmp);
                println!(
                    "{{\"bench\":\"random\",\"allocations\":{count},\"max_mib\":{max_mib},\"peer\":\"{name}\",\"ns\":{:.1},\"operations\":{},\"most_live\":{}}}",
                    figures[figures.len() / 4],
                    last.1,
                    last.2
                );
            }
        }
    }
}

fn streams(quick: bool) {
    let times = Times::new(quick);
    for count in [1, 4, 16] {
        for name in PEERS {
            let (mut peer, calls) = peer(name, 1023 * GIB, 1023 * GIB);
            let result = steady(&mut *peer, "256B-1MiB", 10_000, count, times);
            println!(
                "{{\"bench\":\"streams\",\"streams\":{count},\"live\":10000,\"peer\":\"{name}\",\"ns\":{:.1},\"operations\":{},\"waits\":{},\"records\":{}}}",
                result.ns,
                result.operations,
                calls.waits.load(Relaxed),
                calls.records.load(Relaxed)
            );
        }
    }
    let kernels = if quick { 100_000 } else { 2_000_000 };
    for count in [1, 2, 4] {
        for name in ["harness", "offheap", "rmm-list"] {
            for prewarmed in [false, true] {
                let (mut peer, calls) = peer(name, 80 * GIB, 40 * GIB);
                if prewarmed {
                    // As RMM: a block for each stream at once, then all freed.
                    let blocks: Vec<_> = (0..count)
                        .map(|stream| peer.allocate(8, StreamId(stream)).unwrap())
                        .collect();
                    for (stream, address) in (0..count).zip(blocks) {
                        peer.free(address, 8, StreamId(stream));
                    }
                }
                let begin = Instant::now();
                let before = calls.waits.load(Relaxed);
                for kernel in 0..kernels {
                    let stream = StreamId(kernel % count);
                    let address = peer.allocate(8, stream).unwrap();
                    peer.free(address, 8, stream);
                }
                let ns = begin.elapsed().as_secs_f64() * 1e9 / (2 * kernels) as f64;
                println!(
                    "{{\"bench\":\"kernels\",\"streams\":{count},\"prewarmed\":{prewarmed},\"peer\":\"{name}\",\"ns\":{ns:.1},\"kernels\":{kernels},\"waits\":{},\"records\":{}}}",
                    calls.waits.load(Relaxed) - before,
                    calls.records.load(Relaxed)
                );
            }
        }
    }
}

/// Whether a third stream waits for the first one's work on memory that the second one joined to its
/// own, in virtual time. RMM gives the wait to the second stream, but does not record that stream's
/// event again, and the third waits for that event.
fn order() {
    let streams = Arc::new(SimulatedStreams::new());
    let [a, b, c] = [1, 2, 3].map(StreamId);
    let kib = 1024;
    let upstream = || Arc::new(SimulatedUpstream::new(8 * kib, BASE));
    let rmm = RmmPool::new(upstream(), streams.clone(), 8 * kib);
    let options = SubAllocatorOptions::new().initial(8 * kib).small_limit(0);
    let ours = SubAllocator::new(upstream(), streams.clone(), options).unwrap();
    type Allocate<'a> = Box<dyn Fn(u64, StreamId) -> u64 + 'a>;
    type Free<'a> = Box<dyn Fn(u64, u64, StreamId) + 'a>;
    let peers: [(&str, Allocate<'_>, Free<'_>); 2] = [
        (
            "offheap-best-fit",
            Box::new(|size, stream| ours.allocate(size, stream).unwrap()),
            Box::new(|address, size, stream| ours.free(address, size, stream).unwrap()),
        ),
        (
            "rmm-list",
            Box::new(|size, stream| rmm.allocate(size, stream).unwrap()),
            Box::new(|address, size, stream| rmm.free(address, size, stream)),
        ),
    ];
    for (name, allocate, free) in peers {
        // Free A, used, free A, free B: B joins the last two.
        let [first, _used, third, fourth] = [a, a, a, b].map(|stream| allocate(2 * kib, stream));
        let work = streams.launch(a);
        streams.launch(b);
        free(fourth, 2 * kib, b);
        free(first, 2 * kib, a);
        free(third, 2 * kib, a);
        allocate(4 * kib, b);
        let again = allocate(2 * kib, c);
        println!(
            "{{\"bench\":\"order\",\"peer\":\"{name}\",\"same_memory\":{},\"ordered\":{}}}",
            again == first,
            streams.is_ordered(c, a, work)
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let chosen = |name: &str| {
        let mut named = arguments
            .iter()
            .filter(|argument| !argument.starts_with("--"));
        arguments.iter().all(|argument| argument.starts_with("--")) || named.any(|a| a == name)
    };
    if chosen("live") {
        live(quick);
    }
    if chosen("random") {
        random(quick);
    }
    if chosen("streams") {
        streams(quick);
    }
    if chosen("threads") {
        contended::contended(quick);
    }
    if chosen("order") {
        order();
    }
}

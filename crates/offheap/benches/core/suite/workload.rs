//! Workloads that stress allocators, made anew from their descriptions: those of mimalloc-bench (Daan
//! Leijen's collection) and Arrow's memory pool benchmark. Each runs in a process of its own, so that the
//! peak of resident memory is its own.

use super::figure::Figure;
use super::measure::{Plan, timed_threads};
use super::memory::{Memory, with_memory};
use super::page::{PAGE, touch};
use super::process::peak_mib;
use super::random::Random;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

/// A block on its way between threads.
#[derive(Debug, Clone, Copy)]
struct Held {
    block: *mut u8,
    size: usize,
}

// SAFETY: blocks may be freed by any thread.
unsafe impl Send for Held {}

impl Held {
    /// A new block whose first byte is written.
    fn new<M: Memory>(memory: &M, size: usize) -> Self {
        let block = memory.allocate(size);
        // SAFETY: no size is zero.
        unsafe { block.write_volatile(1) };
        Self { block, size }
    }

    fn free<M: Memory>(self, memory: &M) {
        // SAFETY: made by `new` of the same memory; whoever frees it has dropped its copy.
        unsafe { memory.free(self.block, self.size) };
    }
}

/// larson: each thread replaces random ones of its blocks, then *bleeds*: hands them all to a new
/// thread that goes on, and ends.
fn larson<M: Memory>(memory: &M, seed: u64, scale: usize) -> usize {
    const SLOTS: usize = 1000;
    const REPLACED: usize = 20_000;
    let mut random = Random::new(seed);
    let mut slots: Vec<Held> = (0..SLOTS)
        .map(|_| Held::new(memory, random.between(8, 1000)))
        .collect();
    let generations = 4 * scale;
    for _ in 0..generations {
        let taken = std::mem::take(&mut slots);
        let mut next = random.clone();
        let generation = move || {
            let mut slots = taken;
            for _ in 0..REPLACED {
                let slot = &mut slots[next.below(SLOTS)];
                slot.free(memory);
                *slot = Held::new(memory, next.between(8, 1000));
            }
            (slots, next)
        };
        (slots, random) = std::thread::scope(|scope| scope.spawn(generation).join().unwrap());
    }
    slots.into_iter().for_each(|held| held.free(memory));
    generations * REPLACED
}

/// A bounded queue of batches.
#[derive(Debug, Default)]
struct Queue {
    batches: Mutex<Vec<Vec<Held>>>,
    changed: Condvar,
}

impl Queue {
    const BOUND: usize = 64;

    fn push(&self, batch: Vec<Held>) {
        let mut batches = self.batches.lock().unwrap();
        while batches.len() >= Self::BOUND {
            batches = self.changed.wait(batches).unwrap();
        }
        batches.push(batch);
        self.changed.notify_all();
    }

    fn pop(&self) -> Vec<Held> {
        let mut batches = self.batches.lock().unwrap();
        loop {
            if let Some(batch) = batches.pop() {
                self.changed.notify_all();
                return batch;
            }
            batches = self.changed.wait(batches).unwrap();
        }
    }
}

/// xmalloc-test: half of the threads allocate batches of 120 small blocks, the others free them.
fn xmalloc<M: Memory>(memory: &M, seed: u64, index: usize, queue: &Queue, scale: usize) -> usize {
    const BATCH: usize = 120;
    let batches = 1500 * scale;
    if index % 2 == 1 {
        for _ in 0..batches {
            queue.pop().into_iter().for_each(|held| held.free(memory));
        }
        // Counted by those who allocate.
        return 0;
    }
    let mut random = Random::new(seed);
    for _ in 0..batches {
        let sizes = (0..BATCH).map(|_| 16 << random.below(6));
        queue.push(sizes.map(|size| Held::new(memory, size)).collect());
    }
    batches * BATCH
}

/// The sizes of rptest: all alike likely, small ones likelier in proportion, or in powers of two.
fn mixed_size(random: &mut Random) -> usize {
    match random.below(3) {
        0 => random.between(16, 16 << 10),
        1 => 16 + random.below(16 << 10).min(random.below(16 << 10)),
        _ => random.between(1, 2) * (16 << random.below(12)),
    }
}

/// Blocks that one thread leaves and another one takes.
const EXCHANGED: usize = 256;

/// rptest: sizes of three distributions, random lifetimes, and one free in eight is another
/// thread's.
fn rptest<M: Memory>(
    memory: &M,
    seed: u64,
    exchange: &[Mutex<Option<Held>>],
    scale: usize,
) -> usize {
    const SLOTS: usize = 2000;
    let mut random = Random::new(seed);
    let mut slots: Vec<Option<Held>> = vec![None; SLOTS];
    let replaced = 30_000 * scale;
    for _ in 0..replaced {
        let slot = random.below(SLOTS);
        let new = Held::new(memory, mixed_size(&mut random));
        let mut old = slots[slot].replace(new);
        if random.below(8) == 0 {
            let mut place = exchange[random.below(EXCHANGED)].lock().unwrap();
            std::mem::swap(&mut *place, &mut old);
        }
        if let Some(old) = old {
            old.free(memory);
        }
    }
    slots
        .into_iter()
        .flatten()
        .for_each(|held| held.free(memory));
    replaced
}

/// malloc-large: twenty live blocks of 5 to 25 MiB, all their pages written, random ones replaced.
fn malloc_large<M: Memory>(memory: &M, seed: u64, scale: usize) -> usize {
    let mut random = Random::new(seed);
    let mut new = |memory: &M| {
        let size = random.between(5 << 20, 25 << 20);
        let held = Held::new(memory, size);
        // SAFETY: the block has so many bytes.
        unsafe { touch(held.block, 0, size) };
        (held, random.below(20))
    };
    let mut slots: Vec<Held> = (0..20).map(|_| new(memory).0).collect();
    let replaced = 4 * scale;
    for _ in 0..replaced {
        let (held, slot) = new(memory);
        std::mem::replace(&mut slots[slot], held).free(memory);
    }
    slots.into_iter().for_each(|held| held.free(memory));
    replaced
}

/// Grows from 64 KiB to 4 MiB by doubling, new pages written, again and again.
fn grow_doubling<M: Memory>(memory: &M, scale: usize) -> usize {
    let grown = 20 * scale;
    for _ in 0..grown {
        let mut size = 64 << 10;
        let mut block = memory.allocate(size);
        // SAFETY: the block has so many bytes all along, and is freed once.
        unsafe {
            touch(block, 0, size);
            while size < 4 << 20 {
                block = memory.reallocate(block, size, 2 * size);
                touch(block, size, 2 * size);
                size *= 2;
            }
            memory.free(block, size);
        }
    }
    grown
}

/// Arrow's AllocateDeallocate and AllocateTouchDeallocate, over its sizes.
fn allocate_deallocate<M: Memory>(memory: &M, touching: bool, scale: usize) -> usize {
    const SIZES: [usize; 4] = [PAGE, 64 << 10, 1 << 20, 16 << 20];
    let rounds = if touching { 4 * scale } else { 1000 * scale };
    for _ in 0..rounds {
        for size in SIZES {
            let block = memory.allocate(size);
            // SAFETY: the block has so many bytes, and is freed once.
            unsafe {
                if touching {
                    touch(block, 0, size);
                }
                memory.free(std::hint::black_box(block), size);
            }
        }
    }
    rounds * SIZES.len()
}

const WORKLOADS: [&str; 7] = [
    "larson",
    "xmalloc",
    "rptest",
    "malloc-large",
    "grow-doubling",
    "allocate-deallocate",
    "allocate-touch-deallocate",
];

/// What a thread does; the number of operations.
fn one<M: Memory>(name: &str, memory: &M, index: usize, shared: &Shared, scale: usize) -> usize {
    let seed = index as u64 + 1;
    match name {
        "larson" => larson(memory, seed, scale),
        "xmalloc" => xmalloc(memory, seed, index, &shared.queue, scale),
        "rptest" => rptest(memory, seed, &shared.exchange, scale),
        "malloc-large" => malloc_large(memory, seed, scale),
        "grow-doubling" => grow_doubling(memory, scale),
        "allocate-deallocate" => allocate_deallocate(memory, false, scale),
        _ => allocate_deallocate(memory, true, scale),
    }
}

/// What the threads of a workload share.
struct Shared {
    queue: Queue,
    exchange: Vec<Mutex<Option<Held>>>,
}

/// Runs a workload on some threads and prints nanoseconds an operation of a thread, and the peak of
/// resident memory over what an idle process has.
pub(crate) fn workload(
    name: &str,
    contender: &str,
    threads: usize,
    plan: &Plan,
) -> Result<(), String> {
    if !WORKLOADS.contains(&name) {
        return Err(format!("no workload '{name}': {}", WORKLOADS.join(", ")));
    }
    if name == "xmalloc" && threads % 2 == 1 {
        return Err("xmalloc has pairs of threads".to_owned());
    }
    let scale = if plan.quick { 1 } else { 10 };
    let shared = Shared {
        queue: Queue::default(),
        exchange: (0..EXCHANGED).map(|_| Mutex::new(None)).collect(),
    };
    let (next, operations) = (AtomicUsize::new(0), AtomicU64::new(0));
    let before = peak_mib();
    let ran = with_memory!(contender, memory => {
        let times = timed_threads(threads, &|| (), &|| {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let done = one(name, memory, index, &shared, scale);
            operations.fetch_add(done as u64, Ordering::Relaxed);
        });
        let peak = peak_mib();
        for place in &shared.exchange {
            if let Some(held) = place.lock().unwrap().take() {
                held.free(memory);
            }
        }
        (times, peak)
    });
    let Some(((wall, cpu), peak)) = ran else {
        return Err(format!("no contender '{contender}'"));
    };
    let each = operations.load(Ordering::Relaxed) as f64 / threads as f64;
    Figure {
        peer: contender,
        work: name,
        size: 0,
        threads,
        wall: &[wall / each],
        cpu: &[cpu / each],
        peak_mib: Some(peak - before),
    }
    .print();
    Ok(())
}

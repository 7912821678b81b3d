//! No more addresses, mappings or memory: each refusal is an error, leaves everything as it was, and
//! everything works again when there is room. Each test is a process of its own.

use crate::alone::alone;
use crate::stamped::Stamped;
use offheap::pool::memory_pool_named;
use offheap::{Alignment, Error, Pool, Statistics, supported_memory_backends};
use std::ptr;

const MIB: usize = 1 << 20;

fn counters(pool: &Pool) -> Statistics {
    let mut counters = pool.statistics();
    counters.backend = Default::default();
    counters
}

/// Whether it worked; else memory was out, and the counters are as before.
fn had<T>(pool: &Pool, before: &Statistics, result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(error.is_out_of_memory(), "{error:?}");
            assert_eq!(error.code(), "ERR_OFFHEAP_OUT_OF_MEMORY");
            assert_eq!(&counters(pool), before);
            None
        }
    }
}

/// What was refused while little was left.
#[derive(Debug, Default, Clone, Copy)]
struct Refused {
    allocations: usize,
    growths: usize,
}

/// Takes all there is in blocks of so many bytes, at most 1000, then grows, shrinks and frees them,
/// and takes again.
fn exhaust(pool: &Pool, size: usize) -> Refused {
    let mut refused = Refused::default();
    let mut blocks: Vec<Stamped> = Vec::with_capacity(1000);
    let take = |blocks: &mut Vec<Stamped>, refused: &mut Refused| {
        while blocks.len() < 1000 {
            let zeroed = blocks.len().is_multiple_of(2);
            let seed = blocks.len() as u64;
            let before = counters(pool);
            let made = Stamped::new(pool, size, Alignment::DEFAULT, zeroed, seed);
            let Some(block) = had(pool, &before, made) else {
                refused.allocations += 1;
                break;
            };
            blocks.push(block);
        }
    };
    let grow = |blocks: &mut Vec<Stamped>, refused: &mut Refused, to: usize| {
        for block in blocks {
            let before = counters(pool);
            if had(pool, &before, block.resize(pool, to)).is_none() {
                refused.growths += 1;
            }
        }
    };
    take(&mut blocks, &mut refused);
    // Past what is there, by moving and in place.
    grow(&mut blocks, &mut refused, 2 * size);
    grow(&mut blocks, &mut refused, 9 * size);
    // Room again, in the middle of everything.
    for at in (0..blocks.len()).rev().step_by(2) {
        blocks.swap_remove(at).free(pool);
    }
    grow(&mut blocks, &mut refused, 3 * size);
    // A shrink that need not move is never refused.
    for block in &mut blocks {
        block.resize(pool, size - size / 4).unwrap();
    }
    take(&mut blocks, &mut refused);
    for block in &blocks {
        block.check(block.size);
    }
    for block in blocks {
        block.free(pool);
    }
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    refused
}

/// Everything works.
fn works(pool: &Pool) {
    let mut blocks: Vec<_> = (0..6)
        .map(|seed| Stamped::new(pool, 3 * MIB, Alignment::DEFAULT, true, seed).unwrap())
        .collect();
    for factor in [6, 20, 60, 10] {
        for block in &mut blocks {
            block.resize(pool, factor * MIB).unwrap();
        }
    }
    blocks.into_iter().for_each(|block| block.free(pool));
    pool.release_unused();
}

/// Pools whose large blocks are regions.
fn pools() -> Vec<Pool> {
    supported_memory_backends()
        .into_iter()
        .map(|name| memory_pool_named(name).unwrap().proxy())
        .collect()
}

/// A field of /proc/self/status in bytes.
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        << 10
}

/// Sanitizers take their shadows from the same address space, terabytes, and end the process when
/// they have no more.
fn has_shadows() -> bool {
    status("VmSize:") > 1 << 40
}

/// Runs `body` with `room` bytes beyond what the process uses of a resource.
fn with_limit(resource: libc::__rlimit_resource_t, used: usize, room: usize, body: impl FnOnce()) {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the out-pointer is an rlimit.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut old) }, 0);
    let new = libc::rlimit {
        rlim_cur: (used + room) as libc::rlim_t,
        rlim_max: old.rlim_max,
    };
    // SAFETY: rlimits of ours.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const new) }, 0);
    body();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const old) }, 0);
}

#[test]
fn no_more_addresses() {
    alone("exhaustion::no_more_addresses", || {
        if has_shadows() {
            return;
        }
        for pool in pools() {
            works(&pool);
            for (room, size) in [(50, 2), (64, 4), (120, 5), (300, 7), (2, 4)] {
                let used = status("VmSize:");
                with_limit(libc::RLIMIT_AS, used, room * MIB, || {
                    let refused = exhaust(&pool, size * MIB);
                    assert!(refused.allocations > 0, "{refused:?} of {room} MiB");
                    assert!(room < 2 * size || refused.growths > 0, "{refused:?}");
                    pool.release_unused();
                });
                works(&pool);
            }
        }
    });
}

/// RLIMIT_DATA counts what is private and writable, as strict overcommit does, touched or not.
#[test]
fn no_more_writable_memory() {
    alone("exhaustion::no_more_writable_memory", || {
        if has_shadows() {
            return;
        }
        for pool in pools() {
            works(&pool);
            for (room, size) in [(50, 2), (64, 4), (300, 7)] {
                let used = status("VmData:");
                with_limit(libc::RLIMIT_DATA, used, room * MIB, || {
                    let refused = exhaust(&pool, size * MIB);
                    assert!(
                        refused.allocations > 0 && refused.growths > 0,
                        "{refused:?}"
                    );
                    pool.release_unused();
                });
                works(&pool);
            }
        }
    });
}

/// Uses up the mappings that the process may have, but for some.
struct Mappings {
    start: *mut u8,
    pages: usize,
    /// Pages `0, 2, …` before this one are accessible: a mapping each, and one between two.
    parted: usize,
}

impl Mappings {
    const PAGE: usize = 4096;

    fn all() -> Option<Self> {
        let max = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
        let max: usize = max.trim().parse().ok()?;
        // More would take minutes, and a GiB of the kernel's.
        if max > 300_000 {
            return None;
        }
        let pages = max + 1000;
        // SAFETY: a fresh mapping touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                pages * Self::PAGE,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        let mut this = Self {
            start: start.cast(),
            pages,
            parted: 0,
        };
        this.take();
        Some(this)
    }

    fn protect(&self, page: usize, protection: i32) -> bool {
        // SAFETY: a page of the mapping, which nobody reads or writes.
        unsafe {
            libc::mprotect(
                self.start.add(page * Self::PAGE).cast(),
                Self::PAGE,
                protection,
            ) == 0
        }
    }

    /// Takes all that are left.
    fn take(&mut self) {
        while self.parted + 2 < self.pages && self.protect(self.parted, libc::PROT_READ) {
            self.parted += 2;
        }
        assert!(
            self.parted + 2 < self.pages,
            "the system refuses no mapping"
        );
    }

    /// Gives some back.
    fn give(&mut self, mappings: usize) {
        for _ in 0..mappings.div_ceil(2) {
            self.parted -= 2;
            assert!(self.protect(self.parted, libc::PROT_NONE));
        }
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, which nobody uses.
        unsafe { libc::munmap(self.start.cast(), self.pages * Self::PAGE) };
    }
}

#[test]
fn no_more_mappings() {
    alone("exhaustion::no_more_mappings", || {
        if has_shadows() {
            return;
        }
        let pools = pools();
        // Whatever an allocator makes at its first block is made now.
        pools.iter().for_each(works);
        for pool in &pools {
            let held: Vec<_> = (0..8)
                .map(|seed| Stamped::new(pool, 5 * MIB, Alignment::DEFAULT, false, seed).unwrap())
                .collect();
            let Some(mut mappings) = Mappings::all() else {
                return;
            };
            let mut refusals = 0;
            for left in [0, 2, 4, 6, 8, 10, 14, 20, 40] {
                mappings.give(left);
                let counted = counters(pool);
                let mut blocks = Vec::with_capacity(200);
                for seed in 0..40 {
                    let size = (1 + seed as usize % 7) * MIB + seed as usize * 4096;
                    let before = counters(pool);
                    let made = Stamped::new(pool, size, Alignment::DEFAULT, seed % 2 == 0, seed);
                    match had(pool, &before, made) {
                        Some(block) => blocks.push(block),
                        None => refusals += 1,
                    }
                }
                for factor in [2, 5, 1, 3] {
                    for (at, block) in blocks.iter_mut().enumerate() {
                        let before = counters(pool);
                        let size = (1 + at % 5) * factor * MIB;
                        if had(pool, &before, block.resize(pool, size)).is_none() {
                            refusals += 1;
                        }
                    }
                    // Holes, and what is around them is used again.
                    if let Some(block) = blocks.pop() {
                        block.free(pool);
                    }
                    pool.release_unused();
                }
                blocks.into_iter().for_each(|block| block.free(pool));
                held.iter().for_each(|block| block.check(block.size));
                assert_eq!(pool.bytes_allocated(), counted.bytes_allocated);
                assert_eq!(pool.live_allocations(), counted.live_allocations);
                mappings.take();
            }
            assert!(refusals > 0, "{}", pool.backend_name());
            drop(mappings);
            works(pool);
            held.into_iter().for_each(|block| block.free(pool));
            pool.release_unused();
            assert_eq!(pool.backend_statistics().cached, Some(0));
        }
    });
}

/// More than the machine has is refused at once, as the system's own allocator does, and not at the
/// first touch, by the end of the process.
#[test]
fn more_than_the_machine_has() {
    let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    if mode.trim() == "1" {
        return;
    }
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib = |field: &str| -> usize {
        let line = machine
            .lines()
            .find(|line| line.starts_with(field))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let all = (kib("MemTotal:") + kib("SwapTotal:")) << 10;
    for pool in pools() {
        let mut block = Stamped::new(&pool, 2 * MIB, Alignment::DEFAULT, true, 1).unwrap();
        let before = counters(&pool);
        for size in [all + 64 * MIB, 2 * all, 1 << 45, 1 << 47] {
            let alignment = Alignment::DEFAULT;
            let made = pool.allocate(size, alignment);
            assert!(had(&pool, &before, made).is_none(), "{size}");
            let made = pool.allocate_zeroed(size, alignment);
            assert!(had(&pool, &before, made).is_none(), "{size} zeroed");
            // SAFETY: the block is live, with its size and alignment.
            let grown = unsafe { pool.reallocate(block.block, block.size, size, alignment) };
            assert!(had(&pool, &before, grown).is_none(), "to {size}");
        }
        block.resize(&pool, 3 * MIB).unwrap();
        block.free(&pool);
    }
}

/// jemalloc makes an arena at a thread's first call, and does not survive that it cannot.
#[test]
fn giving_back_from_a_new_thread_when_nothing_is_left() {
    let name = "exhaustion::giving_back_from_a_new_thread_when_nothing_is_left";
    alone(name, || {
        if has_shadows() {
            return;
        }
        let pools = pools();
        pools.iter().for_each(works);
        let limits = [(libc::RLIMIT_AS, "VmSize:"), (libc::RLIMIT_DATA, "VmData:")];
        for (limit, used) in limits {
            for room in [0, 128 << 10, MIB, 3 * MIB, 5 * MIB, 7 * MIB, 20 * MIB] {
                let step = std::sync::Barrier::new(2);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        // Its stack and the C library's arena are there before the limit is.
                        drop(vec![1_u8; 1000]);
                        step.wait();
                        step.wait();
                        pools.iter().for_each(Pool::release_unused);
                        step.wait();
                    });
                    step.wait();
                    with_limit(limit, status(used), room, || {
                        step.wait();
                        step.wait();
                    });
                });
            }
        }
        pools.iter().for_each(works);
    });
}

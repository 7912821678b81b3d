//! Large blocks on several threads at once, handed from one to another.

use crate::stamped::Stamped;
use crate::{cases, turn};
use offheap::pool::memory_pool_named;
use offheap::{Alignment, Pool, supported_memory_backends};
use std::sync::Mutex;

const THREADS: u64 = 4;
const LIMIT: u64 = 96 << 20;

/// A small generator of random numbers: each thread's program is its seed's.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn size(&mut self) -> usize {
        let most = [1 << 16, 3 << 20, 3 << 20, 6 << 20, 20 << 20][self.below(5) as usize];
        1 + self.below(most) as usize
    }
}

/// Blocks that any thread may take, in as many places as there are threads.
type Shared = [Mutex<Option<Stamped>>];

fn program(pool: &Pool, shared: &Shared, seed: u64, steps: u64) {
    let mut random = Random(seed | 1);
    let mut own: Vec<Stamped> = Vec::new();
    for step in 0..steps {
        match random.below(12) {
            0..=3 => {
                let alignment = Alignment::new(1 << (6 + random.below(2) * 15)).unwrap();
                let zeroed = random.below(2) == 0;
                let tag = seed.wrapping_mul(1000) + step;
                match Stamped::new(pool, random.size(), alignment, zeroed, tag) {
                    Ok(block) => own.push(block),
                    Err(error) => assert!(error.is_out_of_memory(), "{error:?}"),
                }
            }
            4..=7 if !own.is_empty() => {
                let at = random.below(own.len() as u64) as usize;
                let size = if random.below(2) == 0 {
                    (2 * own[at].size).min(24 << 20)
                } else {
                    random.size()
                };
                if let Err(error) = own[at].resize(pool, size) {
                    assert!(error.is_out_of_memory(), "{error:?}");
                }
            }
            8 | 9 if !own.is_empty() => {
                let at = random.below(own.len() as u64) as usize;
                own.swap_remove(at).free(pool);
            }
            10 => {
                let place = random.below(shared.len() as u64) as usize;
                let given = own.pop();
                let taken = std::mem::replace(&mut *shared[place].lock().unwrap(), given);
                own.extend(taken);
            }
            11 if random.below(4) == 0 => pool.release_unused(),
            _ => {}
        }
        // More than its share would let no other thread have anything.
        while own.iter().map(|block| block.size as u64).sum::<u64>() > LIMIT / THREADS {
            own.pop().unwrap().free(pool);
        }
    }
    for block in own {
        block.free(pool);
    }
}

#[test]
fn threads_share_regions_and_every_block_keeps_its_bytes() {
    let _turn = turn();
    let steps = 40 * u64::from(cases()).min(50);
    for backend in supported_memory_backends() {
        let pool = memory_pool_named(backend).unwrap().limit(LIMIT);
        let shared: Vec<_> = (0..THREADS).map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (pool, shared) = (pool.clone(), &shared);
                scope.spawn(move || program(&pool, shared, 0x9E37_79B9 * (thread + 1), steps));
            }
        });
        for place in shared {
            if let Some(block) = place.into_inner().unwrap() {
                block.free(&pool);
            }
        }
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
        assert_eq!(pool.available(), Some(LIMIT));
        assert!(pool.peak_bytes() <= LIMIT);
        pool.release_unused();
        let now = pool.backend_statistics();
        assert_eq!(now.cached, Some(0), "{backend}");
        if backend == "mapped" {
            assert_eq!(now.usable, Some(0));
        }
    }
}

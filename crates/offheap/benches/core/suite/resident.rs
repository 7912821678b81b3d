//! What stays resident when 512 MiB were written and freed.

use super::memory::pool_of;
use super::process::resident_mib;
use offheap::{Alignment, Pool};
use std::ptr::NonNull;
use std::sync::Barrier;
use std::time::Duration;

const TOTAL: usize = 512 << 20;
/// As long as Arrow C++'s program waits.
const IDLE: Duration = Duration::from_millis(2500);

/// Writes `total` bytes in blocks, waits until all threads have, frees all but every `live_every`th
/// block (none stays when it is 0), and waits until nobody needs the threads any more.
fn fill_and_free(
    pool: &Pool,
    total: usize,
    block: usize,
    live_every: usize,
    [full, freed, done]: [&Barrier; 3],
) {
    let blocks: Vec<NonNull<u8>> = (0..total / block)
        .map(|_| {
            let ptr = pool.allocate(block, Alignment::DEFAULT).unwrap();
            // SAFETY: a new block of so many bytes.
            unsafe { ptr.write_bytes(1, block) };
            ptr
        })
        .collect();
    full.wait();
    full.wait();
    let lives = |index: usize| live_every != 0 && index.is_multiple_of(live_every);
    let free = |which: &dyn Fn(usize) -> bool| {
        for (index, ptr) in blocks.iter().enumerate() {
            if which(index) {
                // SAFETY: allocated above; no block is in both calls.
                unsafe { pool.free(*ptr, block, Alignment::DEFAULT) };
            }
        }
    };
    free(&|index| !lives(index));
    freed.wait();
    // The threads stay, as those of a program would.
    done.wait();
    free(&lives);
}

pub(crate) fn resident(backend: &str, block: usize, live_every: usize, threads: usize) {
    let pool = &pool_of(backend).expect("a backend of this build");
    let barriers = [0; 3].map(|_| Barrier::new(threads + 1));
    let [full, freed, done] = &barriers;
    let before = resident_mib();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                fill_and_free(
                    pool,
                    TOTAL / threads,
                    block,
                    live_every,
                    [full, freed, done],
                );
            });
        }
        full.wait();
        let at_most = resident_mib();
        full.wait();
        freed.wait();
        let after = resident_mib();
        std::thread::sleep(IDLE);
        let idle = resident_mib();
        pool.release_unused();
        let released = resident_mib();
        println!(
            "{{\"peer\":\"offheap\",\"work\":\"rss {backend}\",\"size\":{block},\"threads\":{threads},\"live_every\":{live_every},\"before\":{before:.1},\"full\":{at_most:.1},\"freed\":{after:.1},\"idle\":{idle:.1},\"released\":{released:.1}}}"
        );
        done.wait();
    });
}

//! A program over the C library's allocator, limited from its first line on. One test alone: who
//! allocates beside it while nothing is left would abort.

use offheap::{PoolGlobalAlloc, system_memory_pool};
use std::sync::Barrier;

#[global_allocator]
static GLOBAL: PoolGlobalAlloc = PoolGlobalAlloc::system();

const LIMIT: u64 = 64 << 20;

#[test]
fn the_limit_holds_for_all_threads_together() {
    GLOBAL.install(&system_memory_pool().limit(LIMIT)).unwrap();
    assert_eq!(GLOBAL.pool().backend_name(), "system");
    assert_eq!(GLOBAL.pool().limit_bytes(), Some(LIMIT));
    for _ in 0..100 {
        let mut words: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
        words.sort();
        assert_eq!(words.concat().len(), 2890);
    }
    let barrier = Barrier::new(4);
    let blocks = std::thread::scope(|scope| {
        let take_all = || {
            let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(100);
            // A thread that starts needs memory.
            barrier.wait();
            loop {
                let mut block = Vec::new();
                if block.try_reserve_exact(1 << 20).is_err() {
                    return blocks;
                }
                blocks.push(block);
            }
        };
        [(); 4]
            .map(|()| scope.spawn(take_all))
            .map(|thread| thread.join().unwrap())
    });
    let taken: usize = blocks.iter().map(Vec::len).sum();
    // What the harness and the threads hold is less than a block.
    assert_eq!(taken, 63);
    drop(blocks);
    let now = GLOBAL.statistics();
    assert!(
        now.peak_bytes <= LIMIT && now.peak_bytes > 63 << 20,
        "{now:?}"
    );
    assert!(now.bytes_allocated < 1 << 20, "{now:?}");
}

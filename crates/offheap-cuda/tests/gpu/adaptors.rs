//! Limits and adaptors over a GPU's pools: RMM's limiting, statistics, tracking and failing cases, on every kind of
//! manager. Names in capitals are of RMM's tests.

use crate::support::managers;
use offheap::{
    Alignment, Block, FailingOptions, LogFormat, LogSink, MemoryManager, Pool, TrackOptions,
};
use offheap_cuda::CudaMemoryManager;
use std::io::Write;
use std::sync::{Arc, Mutex};

const MIB: usize = 1 << 20;

fn block(size: usize, manager: &CudaMemoryManager) -> offheap::Result<Block> {
    manager.allocate(size, Alignment::DEFAULT, false)
}

/// Every manager over an adaptor of its pool.
fn over(adapt: impl Fn(&Pool) -> Pool) -> Vec<(&'static str, CudaMemoryManager)> {
    managers()
        .into_iter()
        .map(|(name, manager)| {
            let adapted = adapt(manager.cuda_pool());
            let over = manager.with_pool(&adapted).unwrap();
            assert_eq!(over.cuda_pool(), &adapted);
            assert_eq!(over.stream(), manager.stream());
            (name, over)
        })
        .collect()
}

fn code<T: std::fmt::Debug>(result: offheap::Result<T>) -> &'static str {
    result.unwrap_err().code()
}

/// `TooBig`, `UnderLimitDueToFrees`, `OverLimit`.
#[test]
fn limits_are_exact_on_a_gpu() {
    for (name, manager) in over(|pool| pool.limit(10 * MIB as u64)) {
        let pool = manager.cuda_pool();
        assert_eq!(
            code(block(10 * MIB + 1, &manager)),
            "ERR_OFFHEAP_OUT_OF_MEMORY"
        );
        assert_eq!(pool.num_allocations(), 0, "{name}");
        let first = block(4 * MIB, &manager).unwrap();
        let second = block(5 * MIB, &manager).unwrap();
        assert_eq!(pool.available(), Some(MIB as u64), "{name}");
        drop(first);
        let third = block(5 * MIB, &manager).unwrap();
        assert_eq!(pool.available(), Some(0), "{name}");
        assert_eq!(code(block(1, &manager)), "ERR_OFFHEAP_OUT_OF_MEMORY");
        drop((second, third));
        assert_eq!(
            (pool.bytes_allocated(), pool.peak_bytes()),
            (0, 10 * MIB as u64),
            "{name}"
        );
        // Nested: both hold, and the inner one's refusal is not seen by the outer.
        let nested = manager.with_pool(&pool.limit(MIB as u64)).unwrap();
        assert_eq!(code(block(2 * MIB, &nested)), "ERR_OFFHEAP_OUT_OF_MEMORY");
        assert_eq!(pool.peak_bytes(), 10 * MIB as u64);
    }
}

/// `Empty`, `AllFreed`, `PeakAllocations`, of the statistics.
#[test]
fn figures_and_scopes_of_a_gpu() {
    for (name, manager) in over(Pool::scoped_statistics) {
        let pool = manager.cuda_pool();
        let scopes = pool.scopes().unwrap();
        let (kept, counted) = scopes
            .measure(|| {
                let blocks: Vec<Block> = (0..10).map(|_| block(MIB, &manager).unwrap()).collect();
                drop(blocks);
                block(1000, &manager).unwrap()
            })
            .unwrap();
        let ten = 10 * MIB as i64;
        assert_eq!(
            (counted.bytes.value, counted.bytes.peak, counted.bytes.total),
            (1000, ten, ten + 1000),
            "{name}"
        );
        assert_eq!(counted.allocations.total, 11, "{name}");
        drop(kept);
        let now = pool.statistics();
        assert_eq!(
            (now.bytes_allocated, now.live_allocations),
            (0, 0),
            "{name}"
        );
        assert_eq!(
            (now.peak_bytes, now.num_allocations),
            (ten as u64, 11),
            "{name}"
        );
    }
}

/// `AllocationsLeft`, `AllFreed`, of the tracking adaptor.
#[test]
fn what_is_alive_on_a_gpu_is_listed() {
    for (name, manager) in over(|pool| pool.track(TrackOptions::default())) {
        let tracker = manager.cuda_pool().tracker().unwrap();
        let mut blocks: Vec<Block> = (0..10).map(|_| block(MIB, &manager).unwrap()).collect();
        assert_eq!(
            (tracker.live_count(), tracker.live_bytes()),
            (10, 10 * MIB as u64),
            "{name}"
        );
        blocks.truncate(5);
        let report = manager.cuda_pool().leak_report();
        assert_eq!(
            (report.bytes, tracker.live().len()),
            (5 * MIB as u64, 5),
            "{name}"
        );
        drop(blocks);
        assert_eq!(tracker.live_count(), 0, "{name}");
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// RMM's log of a GPU's pool, for its replay.
#[test]
fn requests_of_a_gpu_are_logged() {
    for (name, manager) in managers() {
        let lines = Lines::default();
        let sink = LogSink::Writer(Box::new(lines.clone()));
        let logged = manager.cuda_pool().log(LogFormat::RmmCsv, sink).unwrap();
        let over = manager.with_pool(&logged).unwrap();
        drop(block(1000, &over).unwrap());
        drop((logged, over));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let actions: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(',').nth(2))
            .collect();
        assert_eq!(actions, ["Action", "allocate", "free"], "{name}: {text}");
    }
}

/// Injected failures leave everything as it was.
#[test]
fn injected_failures_on_a_gpu() {
    let options = FailingOptions {
        after: Some(2),
        count: Some(1),
        ..FailingOptions::default()
    };
    for (name, manager) in over(|pool| pool.failing(options.clone()).unwrap()) {
        let pool = manager.cuda_pool();
        let mut blocks = vec![block(100, &manager).unwrap(), block(100, &manager).unwrap()];
        assert_eq!(
            code(block(100, &manager)),
            "ERR_OFFHEAP_OUT_OF_MEMORY",
            "{name}"
        );
        assert_eq!(pool.live_allocations(), 2, "{name}");
        blocks.push(block(100, &manager).unwrap());
        drop(blocks);
        assert_eq!(pool.live_allocations(), 0, "{name}");
    }
}

//! The pools under test, step by step beside the model.

use crate::model::{LIMITS, Model, Step};
use crate::stamped::Stamped;
use offheap::pool::memory_pool_named;
use offheap::{Alignment, Error, Pool, supported_memory_backends};
use proptest_state_machine::StateMachineTest;
use std::collections::BTreeMap;
use std::sync::MutexGuard;

#[derive(Debug)]
pub(crate) struct System {
    pools: [Pool; 2],
    blocks: BTreeMap<usize, (usize, Stamped)>,
    _turn: MutexGuard<'static, ()>,
}

/// Whether it worked. Nothing else than memory may be out.
fn done(result: Result<(), Error>) -> bool {
    result.map_or_else(
        |error| {
            assert!(error.is_out_of_memory(), "{error:?}");
            false
        },
        |()| true,
    )
}

impl System {
    fn step(&mut self, step: Step) -> bool {
        match step {
            Step::Allocate {
                id,
                pool,
                size,
                shift,
                zeroed,
            } => {
                let alignment = Alignment::new(1 << shift).unwrap();
                let seed = id as u64 + 1;
                let made = Stamped::new(&self.pools[pool], size, alignment, zeroed, seed);
                return done(made.map(|block| {
                    self.blocks.insert(id, (pool, block));
                }));
            }
            Step::Resize { id, size } => {
                let (pool, block) = self.blocks.get_mut(&id).unwrap();
                return done(block.resize(&self.pools[*pool], size));
            }
            Step::Free { id } => {
                if let Some((pool, block)) = self.blocks.remove(&id) {
                    block.free(&self.pools[pool]);
                }
            }
            Step::ReleaseUnused => {
                self.pools[0].release_unused();
                assert_eq!(self.pools[0].backend_statistics().cached, Some(0));
            }
            Step::ResetPeak { pool } => self.pools[pool].reset_peak(),
        }
        true
    }
}

impl StateMachineTest for System {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(model: &Model) -> Self {
        let turn = crate::turn();
        let backend = supported_memory_backends()[model.backend];
        let outer = memory_pool_named(backend).unwrap().limit(LIMITS[0]);
        let inner = outer.limit(LIMITS[1]);
        Self {
            pools: [outer, inner],
            blocks: BTreeMap::new(),
            _turn: turn,
        }
    }

    fn apply(mut state: Self, model: &Model, step: Step) -> Self {
        let named = format!("{step:?}");
        assert_eq!(state.step(step), model.done, "{named}");
        state
    }

    fn check_invariants(state: &Self, model: &Model) {
        for (pool, expected) in state.pools.iter().zip(&model.counters) {
            let found = crate::model::Counters {
                bytes: pool.bytes_allocated(),
                peak: pool.peak_bytes(),
                total: pool.total_bytes_allocated(),
                allocations: pool.num_allocations(),
                live: pool.live_allocations(),
            };
            assert_eq!(&found, expected, "{}", pool.name());
        }
        assert_eq!(state.blocks.len(), model.blocks.len());
        for ((id, (pool, block)), (of, expected)) in state.blocks.iter().zip(&model.blocks) {
            assert_eq!((id, *pool, block.size), (of, expected.pool, expected.size));
            block.glance();
        }
        let mut ranges: Vec<_> = state
            .blocks
            .values()
            .map(|(_, block)| block.padded_range())
            .collect();
        ranges.sort_by_key(|range| range.start);
        for pair in ranges.windows(2) {
            assert!(pair[0].end <= pair[1].start, "{pair:?} overlap");
        }
        // What `mapped` tells is exact, and the process has no other block of it.
        if state.pools[0].backend_name() == "mapped" {
            let usable = state.pools[0].backend_statistics().usable;
            let held: u64 = ranges.iter().map(|range| range.len() as u64).sum();
            assert!(usable >= Some(held), "{usable:?} for {held}");
        }
    }

    fn teardown(mut state: Self, _model: Model) {
        for (pool, block) in std::mem::take(&mut state.blocks).into_values() {
            block.free(&state.pools[pool]);
        }
        for (pool, limit) in state.pools.iter().zip(LIMITS) {
            assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
            assert_eq!(pool.available(), Some(limit));
        }
        state.pools[0].release_unused();
        let now = state.pools[0].backend_statistics();
        assert_eq!(now.cached, Some(0));
        if state.pools[0].backend_name() == "mapped" {
            assert_eq!((now.usable, now.resident), (Some(0), Some(0)));
        }
    }
}

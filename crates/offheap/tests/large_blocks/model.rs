//! What a program does with large blocks, and what should come of it.

use offheap::supported_memory_backends;
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;
use std::collections::BTreeMap;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The limits of the outer pool and of the inner one.
pub(crate) const LIMITS: [u64; 2] = [256 << 20, 96 << 20];

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Allocate {
        id: usize,
        pool: usize,
        size: usize,
        shift: u32,
        zeroed: bool,
    },
    Resize {
        id: usize,
        size: usize,
    },
    Free {
        id: usize,
    },
    ReleaseUnused,
    ResetPeak {
        pool: usize,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) bytes: u64,
    pub(crate) peak: u64,
    pub(crate) total: u64,
    pub(crate) allocations: u64,
    pub(crate) live: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) pool: usize,
    pub(crate) size: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) backend: usize,
    /// The outer pool and the inner one, whose bytes are also the outer's.
    pub(crate) counters: [Counters; 2],
    pub(crate) blocks: BTreeMap<usize, Block>,
    /// Whether the last step was done; else memory was out.
    pub(crate) done: bool,
    next: usize,
}

impl Model {
    fn add(&mut self, pool: usize, bytes: u64, allocation: bool) -> bool {
        let fits = |level: usize| self.counters[level].bytes + bytes <= LIMITS[level];
        if !(0..=pool).all(fits) {
            return false;
        }
        for counters in &mut self.counters[..=pool] {
            counters.bytes += bytes;
            counters.peak = counters.peak.max(counters.bytes);
            counters.total += bytes;
            counters.allocations += 1;
            counters.live += u64::from(allocation);
        }
        true
    }

    fn take(&mut self, pool: usize, bytes: u64, free: bool) {
        for counters in &mut self.counters[..=pool] {
            counters.bytes -= bytes;
            counters.live -= u64::from(free);
        }
    }

    fn step(&mut self, step: &Step) -> bool {
        match *step {
            Step::Allocate { id, pool, size, .. } => {
                if !self.add(pool, size as u64, true) {
                    return false;
                }
                self.blocks.insert(id, Block { pool, size });
                self.next = self.next.max(id + 1);
            }
            Step::Resize { id, size } => {
                let Block { pool, size: old } = self.blocks[&id];
                if size > old {
                    if !self.add(pool, (size - old) as u64, false) {
                        return false;
                    }
                } else {
                    self.take(pool, (old - size) as u64, false);
                }
                self.blocks.insert(id, Block { pool, size });
            }
            Step::Free { id } => {
                if let Some(Block { pool, size }) = self.blocks.remove(&id) {
                    self.take(pool, size as u64, true);
                }
            }
            Step::ReleaseUnused => {}
            Step::ResetPeak { pool } => {
                let counters = &mut self.counters[pool];
                counters.peak = counters.bytes;
            }
        }
        true
    }
}

/// Sizes around the threshold, around units of 2 MiB and their steps of 64 KiB, and far above.
fn sizes() -> impl Strategy<Value = usize> {
    let edges = select(vec![
        64 * KIB,
        MIB / 2,
        MIB - 4096,
        MIB,
        MIB + 64 * KIB,
        3 * MIB / 2,
        2 * MIB,
        2 * MIB + 64 * KIB,
        4 * MIB,
        16 * MIB,
        18 * MIB,
    ]);
    let near = (edges, -65_isize..=65).prop_map(|(edge, off)| edge.wrapping_add_signed(off));
    prop_oneof![
        6 => near,
        2 => 1..64 * KIB,
        3 => 64 * KIB..MIB,
        6 => MIB..8 * MIB,
        2 => 8 * MIB..24 * MIB,
        1 => 24 * MIB..64 * MIB,
    ]
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        (0..supported_memory_backends().len())
            .prop_map(|backend| Self {
                backend,
                counters: Default::default(),
                blocks: BTreeMap::new(),
                done: true,
                next: 0,
            })
            .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Step> {
        let id = state.next;
        // Any power of two up to 4 MiB, the usual ones most often.
        let shift = prop_oneof![4 => Just(6_u32), 1 => 0..13_u32, 1 => 13..23_u32];
        let allocate = (0..2_usize, sizes(), shift, any::<bool>()).prop_map(
            move |(pool, size, shift, zeroed)| Step::Allocate {
                id,
                pool,
                size,
                shift,
                zeroed,
            },
        );
        let mut choices = vec![
            (6, allocate.boxed()),
            (1, Just(Step::ReleaseUnused).boxed()),
            (
                1,
                (0..2_usize)
                    .prop_map(|pool| Step::ResetPeak { pool })
                    .boxed(),
            ),
        ];
        let ids: Vec<usize> = state.blocks.keys().copied().collect();
        if !ids.is_empty() {
            let resize = (select(ids.clone()), sizes());
            let resize = resize.prop_map(|(id, size)| Step::Resize { id, size });
            choices.push((9, resize.boxed()));
            // As builders grow, so that growth in place, by joining and by moving all happen.
            let sizes: Vec<(usize, usize)> = state
                .blocks
                .iter()
                .map(|(id, block)| (*id, (2 * block.size).min(64 * MIB)))
                .collect();
            let double = select(sizes).prop_map(|(id, size)| Step::Resize { id, size });
            choices.push((6, double.boxed()));
            choices.push((5, select(ids).prop_map(|id| Step::Free { id }).boxed()));
        }
        prop::strategy::Union::new_weighted(choices).boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        match *step {
            Step::Allocate { id, .. } => !state.blocks.contains_key(&id),
            Step::Resize { id, .. } | Step::Free { id } => state.blocks.contains_key(&id),
            Step::ReleaseUnused | Step::ResetPeak { .. } => true,
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        state.done = state.step(step);
        state
    }
}

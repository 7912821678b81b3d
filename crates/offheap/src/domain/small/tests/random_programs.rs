//! Random programs: no overlap, contents kept, exact figures, all arenas returned.

use super::super::heap::{Heap, heap};
use super::{Held, Source, assert_all_returned, install};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Clone)]
enum Step {
    Allocate {
        size: usize,
        shift: u32,
        count: usize,
    },
    Free {
        at: usize,
        count: usize,
    },
    /// Everything at addresses with this remainder: empties pages here and there.
    FreeEvery {
        nth: usize,
    },
    Release,
    Replace {
        shift: usize,
    },
    /// The next arena is refused.
    Refuse,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..=512_usize, 0..=6_u32, 1..200_usize)
            .prop_map(|(size, shift, count)| Step::Allocate { size, shift, count }),
        6 => (any::<usize>(), 1..300_usize).prop_map(|(at, count)| Step::Free { at, count }),
        1 => (1..9_usize).prop_map(|nth| Step::FreeEvery { nth }),
        1 => Just(Step::Release),
        1 => (0..9000_usize).prop_map(|shift| Step::Replace { shift }),
        1 => Just(Step::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_keep_blocks_apart_and_return_all(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        heap!(Mine);
        let refuse = Arc::new(AtomicBool::new(false));
        let mut sources = vec![install::<Mine>(Source::new(0, 16))];
        let mut held: Vec<Held> = Vec::new();
        let mut ranges = BTreeMap::new();
        let release = |held: Held, ranges: &mut BTreeMap<usize, usize>| {
            ranges.remove(&held.range().0);
            held.free::<Mine>();
        };
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Allocate { size, shift, count } => for _ in 0..count {
                    let before = Mine::central().statistics().live_blocks;
                    let Some(block) = Held::new::<Mine>(size, 1 << shift, number as u8) else {
                        prop_assert_eq!(Mine::central().statistics().live_blocks, before);
                        continue;
                    };
                    let (start, size) = block.range();
                    let below = ranges.range(..start + size).next_back();
                    prop_assert!(below.is_none_or(|(other, size)| other + size <= start));
                    ranges.insert(start, size);
                    held.push(block);
                },
                Step::Free { at, count } => for _ in 0..count.min(held.len()) {
                    release(held.swap_remove(at % held.len()), &mut ranges);
                },
                Step::FreeEvery { nth } => {
                    let (go, stay): (Vec<_>, Vec<_>) = held
                        .into_iter()
                        .partition(|block| (block.range().0 / 8192).is_multiple_of(nth));
                    held = stay;
                    go.into_iter().for_each(|block| release(block, &mut ranges));
                }
                Step::Release => Mine::release_unused(),
                Step::Replace { shift } => {
                    let mut source = Source::new(10, shift);
                    let refuse = Arc::clone(&refuse);
                    source.refuse = Box::new(move |_| refuse.swap(false, Ordering::Relaxed));
                    sources.push(install::<Mine>(source));
                }
                Step::Refuse => refuse.store(true, Ordering::Relaxed),
            }
            let statistics = Mine::central().statistics();
            prop_assert_eq!(statistics.live_blocks, held.len() as u64);
            prop_assert_eq!(statistics.live_bytes, ranges.values().sum::<usize>() as u64);
            let live: usize = sources.iter().map(|source| source.live()).sum();
            prop_assert_eq!(statistics.arenas, live as u64);
        }
        held.into_iter().for_each(|block| release(block, &mut ranges));
        assert_all_returned::<Mine>();
        prop_assert!(sources.iter().all(|source| source.live() == 0));
    }
}

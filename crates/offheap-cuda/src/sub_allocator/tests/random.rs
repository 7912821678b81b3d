//! Random workloads over many streams, beside a model.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Allocate {
        size: u64,
        alignment: u64,
        stream: u64,
    },
    Free {
        at: usize,
        stream: Option<u64>,
    },
    Record {
        at: usize,
        stream: u64,
    },
    Launch {
        stream: u64,
    },
    Run {
        stream: u64,
        amount: u64,
    },
    Retire {
        stream: u64,
    },
    Prewarm {
        stream: u64,
        bytes: u64,
    },
    Trim {
        keep: u64,
    },
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 1..2000u64,
        3 => 1..100_000u64,
        2 => 1..MIB,
        2 => 1..(5 * MIB),
        1 => Just(0),
    ]
}

fn step(streams: u64) -> impl Strategy<Value = Step> {
    let stream = 0..streams;
    prop_oneof![
        12 => (size(), prop_oneof![8 => Just(1), 1 => Just(4096), 1 => Just(MIB)], stream.clone())
            .prop_map(|(size, alignment, stream)| Step::Allocate { size, alignment, stream }),
        8 => (any::<usize>(), prop_oneof![6 => Just(None), 1 => stream.clone().prop_map(Some)])
            .prop_map(|(at, stream)| Step::Free { at, stream }),
        2 => (any::<usize>(), stream.clone()).prop_map(|(at, stream)| Step::Record { at, stream }),
        6 => stream.clone().prop_map(|stream| Step::Launch { stream }),
        3 => (stream.clone(), 1..5u64).prop_map(|(stream, amount)| Step::Run { stream, amount }),
        1 => stream.clone().prop_map(|stream| Step::Retire { stream }),
        1 => (stream, 0..MIB).prop_map(|(stream, bytes)| Step::Prewarm { stream, bytes }),
        1 => (0..64 * MIB).prop_map(|keep| Step::Trim { keep }),
    ]
}

#[derive(Debug)]
struct Live {
    address: u64,
    size: u64,
    stream: StreamId,
    users: Vec<StreamId>,
}

/// Who used which bytes last: start to end, with a stream and its work.
#[derive(Default)]
struct Past {
    uses: BTreeMap<u64, (u64, Vec<(StreamId, u64)>)>,
}

impl Past {
    /// Notes a use, and forgets what it covers: whoever gets those bytes is ordered after it.
    fn note(&mut self, address: u64, end: u64, users: Vec<(StreamId, u64)>) {
        let overlapping: Vec<_> = self.overlapping(address, end);
        for start in overlapping {
            let Some((stop, users)) = self.uses.remove(&start) else {
                continue;
            };
            if start < address {
                self.uses.insert(start, (address, users.clone()));
            }
            if stop > end {
                self.uses.insert(end, (stop, users));
            }
        }
        self.uses.insert(address, (end, users));
    }

    fn overlapping(&self, address: u64, end: u64) -> Vec<u64> {
        let before = self
            .uses
            .range(..address)
            .next_back()
            .filter(|(_, (stop, _))| *stop > address)
            .map(|(&start, _)| start);
        before
            .into_iter()
            .chain(self.uses.range(address..end).map(|(&start, _)| start))
            .collect()
    }
}

struct Model {
    rig: Rig,
    live: Vec<Live>,
    past: Past,
    /// The stream that a number stands for now; a retired one is replaced.
    names: Vec<StreamId>,
    next: u64,
    requested: (u64, u64),
    blocks: (u64, u64),
}

impl Model {
    fn new(options: SubAllocatorOptions, capacity: u64, streams: u64) -> Self {
        Self {
            rig: rig(capacity, options),
            live: Vec::new(),
            past: Past::default(),
            names: (0..streams).map(StreamId).collect(),
            next: streams,
            requested: (0, 0),
            blocks: (0, 0),
        }
    }

    fn name(&self, stream: u64) -> StreamId {
        self.names[stream as usize]
    }

    fn step(&mut self, step: &Step) {
        let Rig {
            pool,
            upstream,
            streams,
        } = &self.rig;
        match *step {
            Step::Allocate {
                size,
                alignment,
                stream,
            } => {
                let stream = self.name(stream);
                let result = pool.allocate_aligned(size, alignment, stream);
                let address = match result {
                    Ok(address) => address,
                    Err(error) => {
                        assert!(error.is_out_of_memory(), "{error}");
                        return;
                    }
                };
                if size == 0 {
                    assert_eq!(address, 0);
                    return;
                }
                assert_eq!(address % alignment.max(256), 0);
                let end = address + size;
                assert!(
                    upstream
                        .chunks()
                        .iter()
                        .any(|&(chunk, bytes)| chunk <= address && end <= chunk + bytes),
                    "inside of a chunk"
                );
                for other in &self.live {
                    assert!(end <= other.address || other.address + other.size <= address);
                }
                for start in self.past.overlapping(address, end) {
                    for &(other, work) in &self.past.uses[&start].1 {
                        assert!(
                            streams.is_ordered(stream, other, work),
                            "{stream:?} got memory before {other:?} was done with it"
                        );
                    }
                }
                self.requested.0 += size;
                self.requested.1 = self.requested.1.max(self.requested.0);
                self.blocks.0 += 1;
                self.blocks.1 = self.blocks.1.max(self.blocks.0);
                // The block is used at once.
                let work = streams.launch(stream);
                self.past.note(address, end, vec![(stream, work)]);
                self.live.push(Live {
                    address,
                    size,
                    stream,
                    users: Vec::new(),
                });
            }
            Step::Free { at, stream } => {
                if self.live.is_empty() {
                    return;
                }
                let at = at % self.live.len();
                let block = self.live.swap_remove(at);
                let stream = stream.map_or(block.stream, |stream| self.name(stream));
                if stream != block.stream {
                    // The caller must order the streams itself.
                    let mut event = crate::sub_allocator::Streams::create_event(streams).unwrap();
                    let recorded =
                        crate::sub_allocator::Streams::record(streams, &mut event, block.stream);
                    match recorded {
                        Ok(()) => {
                            crate::sub_allocator::Streams::wait(streams, stream, &event).unwrap();
                        }
                        Err(_) => {
                            crate::sub_allocator::Streams::synchronize_device(streams).unwrap();
                        }
                    }
                }
                // Everyone uses it to the last.
                let users = std::iter::once(&stream)
                    .chain(&block.users)
                    .map(|&user| (user, streams.launch(user)))
                    .collect();
                pool.free(block.address, block.size, stream).unwrap();
                assert!(pool.free(block.address, block.size, stream).is_err());
                self.past
                    .note(block.address, block.address + block.size, users);
                self.requested.0 -= block.size;
                self.blocks.0 -= 1;
            }
            Step::Record { at, stream } => {
                if self.live.is_empty() {
                    return;
                }
                let at = at % self.live.len();
                let stream = self.name(stream);
                let block = &mut self.live[at];
                pool.record_stream(block.address, block.size, stream)
                    .unwrap();
                block.users.push(stream);
            }
            Step::Launch { stream } => {
                streams.launch(self.name(stream));
            }
            Step::Run { stream, amount } => streams.run(self.name(stream), amount),
            Step::Retire { stream } => {
                let old = self.name(stream);
                pool.retire_stream(old).unwrap();
                streams.destroy(old);
                self.names[stream as usize] = StreamId(self.next);
                self.next += 1;
            }
            Step::Prewarm { stream, bytes } => {
                let result = pool.prewarm(self.name(stream), bytes);
                assert!(result.is_ok_and_oom());
            }
            Step::Trim { keep } => {
                let before = upstream.bytes();
                let released = pool.trim(keep).unwrap();
                assert_eq!(before - upstream.bytes(), released);
                assert!(released == 0 || upstream.bytes() >= keep);
            }
        }
    }

    fn check(&self) {
        let Rig { pool, upstream, .. } = &self.rig;
        pool.check();
        let statistics = pool.statistics();
        assert_eq!(
            (statistics.requested.current, statistics.requested.peak),
            self.requested
        );
        assert_eq!(
            (statistics.blocks.current, statistics.blocks.peak),
            self.blocks
        );
        assert_eq!(statistics.reserved.current, upstream.bytes());
        let calls = statistics.chunks.total
            + statistics.upstream_refusals
            + (statistics.chunks.total - statistics.chunks.current);
        assert_eq!(calls, upstream.calls());
        assert!(statistics.requested.current <= statistics.allocated.current);
        assert!(statistics.allocated.current <= statistics.reserved.current);
    }

    /// Frees all: every chunk is one free block again, and every stream can get any of them.
    fn finish(mut self) {
        while !self.live.is_empty() {
            self.step(&Step::Free {
                at: 0,
                stream: None,
            });
        }
        self.check();
        let Rig {
            pool,
            upstream,
            streams,
        } = &self.rig;
        crate::sub_allocator::Streams::synchronize_device(streams).unwrap();
        // Slabs and small chunks aside, each chunk can be had as a whole by a new stream.
        let chunks = upstream.chunks();
        let stream = StreamId(u64::MAX - 1);
        let mut sizes: Vec<_> = chunks.iter().map(|&(_, size)| size).collect();
        sizes.retain(|&size| size > MIB);
        sizes.sort_unstable();
        let blocks: Vec<_> = sizes
            .iter()
            .rev()
            .map(|&size| (pool.allocate(size, stream).unwrap(), size))
            .collect();
        assert_eq!(upstream.chunks(), chunks, "nothing had to be asked for");
        pool.check();
        for (address, size) in blocks {
            pool.free(address, size, stream).unwrap();
        }
        assert_eq!(
            pool.trim(0).unwrap(),
            chunks.iter().map(|chunk| chunk.1).sum()
        );
        pool.check();
        assert_eq!(upstream.bytes(), 0);
    }
}

trait OkOrOutOfMemory {
    fn is_ok_and_oom(&self) -> bool;
}

impl OkOrOutOfMemory for offheap::Result<()> {
    fn is_ok_and_oom(&self) -> bool {
        self.as_ref()
            .err()
            .is_none_or(offheap::Error::is_out_of_memory)
    }
}

fn options() -> impl Strategy<Value = SubAllocatorOptions> {
    (
        prop_oneof![Just(0), Just(64 * KIB), Just(MIB)],
        prop_oneof![Just(256), Just(2 * MIB)],
        prop_oneof![Just(None), Just(Some(24 * MIB))],
        prop_oneof![Just(0), Just(4 * MIB)],
    )
        .prop_map(|(small, growth, maximum, initial)| {
            let options = SubAllocatorOptions::new()
                .small_limit(small)
                .minimum_growth(growth)
                .initial(initial);
            match maximum {
                Some(maximum) => options.maximum(maximum),
                None => options,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// No overlap, alignment, exact counters, order between streams, whole chunks at the end.
    #[test]
    fn blocks_are_apart_in_space_and_time(
        options in options(),
        steps in prop::collection::vec(step(5), 1..250),
    ) {
        let mut model = Model::new(options, 64 * MIB, 5);
        for (number, step) in steps.iter().enumerate() {
            model.step(step);
            if number % 8 == 0 {
                model.check();
            }
        }
        model.check();
        model.finish();
    }
}

//! What a program should do.

use crate::program::{Id, Outcome, Step};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) bytes: u64,
    pub(crate) peak: u64,
    pub(crate) total: u64,
    pub(crate) allocations: u64,
    pub(crate) live: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct PoolModel {
    parent: Option<usize>,
    limit: Option<u64>,
    pub(crate) counters: Counters,
}

/// Memory that one or more things share.
#[derive(Debug, Clone)]
struct Block {
    pool: usize,
    counted: usize,
    references: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum Thing {
    /// A block straight from a pool.
    Raw {
        pool: usize,
        shift: u32,
        bytes: Vec<u8>,
    },
    Mutable {
        block: Id,
        offset: usize,
        bytes: Vec<u8>,
    },
    Frozen {
        block: Id,
        offset: usize,
        bytes: Vec<u8>,
    },
    Resizable {
        block: Id,
        bytes: Vec<u8>,
    },
    Builder {
        block: Option<Id>,
        pool: usize,
        capacity: usize,
        bytes: Vec<u8>,
    },
    Bits {
        block: Option<Id>,
        pool: usize,
        capacity: usize,
        bits: Vec<bool>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) backend: usize,
    pub(crate) pools: Vec<PoolModel>,
    pub(crate) things: BTreeMap<Id, Thing>,
    blocks: BTreeMap<Id, Block>,
    pub(crate) outcome: Outcome,
    /// A number that no thing has had.
    pub(crate) next: Id,
}

fn round(size: usize) -> usize {
    size.next_multiple_of(64)
}

/// `n` bits that depend on `seed` and the place.
pub(crate) fn bits_of(seed: u64, n: usize) -> Vec<bool> {
    (0..n as u64)
        .map(|i| (seed ^ i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63 != 0)
        .collect()
}

impl Model {
    /// One pool over a backend, and nothing else.
    pub(crate) fn new(backend: usize) -> Self {
        Self {
            backend,
            pools: vec![PoolModel {
                parent: None,
                limit: None,
                counters: Counters::default(),
            }],
            things: BTreeMap::new(),
            blocks: BTreeMap::new(),
            outcome: Outcome::Done,
            next: 0,
        }
    }

    fn chain(&self, pool: usize) -> Vec<usize> {
        std::iter::successors(Some(pool), |pool| self.pools[*pool].parent).collect()
    }

    fn available(&self, pool: usize) -> Option<u64> {
        let left = |pool: usize| {
            let pool = &self.pools[pool];
            pool.limit.map(|limit| limit - pool.counters.bytes)
        };
        self.chain(pool).into_iter().filter_map(left).min()
    }

    /// Adds `n` bytes in an allocation or a growth, if every limit has room for them.
    fn add(&mut self, pool: usize, n: usize, allocation: bool) -> bool {
        let n = n as u64;
        if self.available(pool).is_some_and(|available| n > available) {
            return false;
        }
        for pool in self.chain(pool) {
            let counters = &mut self.pools[pool].counters;
            counters.bytes += n;
            counters.peak = counters.peak.max(counters.bytes);
            counters.total += n;
            counters.allocations += 1;
            counters.live += u64::from(allocation);
        }
        true
    }

    fn take(&mut self, pool: usize, n: usize, free: bool) {
        for pool in self.chain(pool) {
            let counters = &mut self.pools[pool].counters;
            counters.bytes -= n as u64;
            counters.live -= u64::from(free);
        }
    }

    /// From one size to another, of memory that is there.
    fn change(&mut self, pool: usize, old: usize, new: usize) -> bool {
        if new > old {
            return self.add(pool, new - old, false);
        }
        self.take(pool, old - new, false);
        true
    }

    fn new_block(&mut self, pool: usize, size: usize) -> Option<Id> {
        self.add(pool, size, true).then(|| {
            let id = self.blocks.last_key_value().map_or(0, |(id, _)| id + 1);
            self.blocks.insert(
                id,
                Block {
                    pool,
                    counted: size,
                    references: 1,
                },
            );
            id
        })
    }

    fn resize_block(&mut self, id: Id, size: usize) -> bool {
        let Block { pool, counted, .. } = self.blocks[&id];
        let done = self.change(pool, counted, size);
        if done {
            self.blocks.get_mut(&id).unwrap().counted = size;
        }
        done
    }

    fn retain(&mut self, id: Id) {
        self.blocks.get_mut(&id).unwrap().references += 1;
    }

    fn release(&mut self, id: Id) {
        let block = self.blocks.get_mut(&id).unwrap();
        block.references -= 1;
        if block.references == 0 {
            let Block { pool, counted, .. } = *block;
            self.blocks.remove(&id);
            self.take(pool, counted, true);
        }
    }

    fn is_alone(&self, id: Id) -> bool {
        self.blocks[&id].references == 1
    }

    /// A builder's capacity: the block is made by the first one.
    fn set_capacity(&mut self, builder: &mut Growing, capacity: usize) -> bool {
        let done = match builder.block {
            Some(block) => self.resize_block(block, capacity),
            None => {
                builder.block = self.new_block(builder.pool, capacity);
                builder.block.is_some()
            }
        };
        if done {
            builder.capacity = capacity;
        }
        done
    }

    /// As appends grow: by doubling, near a limit by half of what is left, at last exactly.
    fn ensure(&mut self, builder: &mut Growing, need: usize) -> bool {
        if need <= builder.capacity {
            return true;
        }
        let doubled = need.max(2 * builder.capacity);
        if self.set_capacity(builder, round(doubled)) {
            return true;
        }
        // Only a limit refuses here.
        let left = self.available(builder.pool).unwrap();
        let less = round(need.max(builder.capacity + (left / 2) as usize));
        (less < doubled && self.set_capacity(builder, less)) || self.set_capacity(builder, need)
    }

    /// As reserves and resizes: rounded up, or exactly.
    fn fit(&mut self, builder: &mut Growing, capacity: usize) -> bool {
        self.set_capacity(builder, round(capacity)) || self.set_capacity(builder, capacity)
    }

    /// A finish with so many bytes: the block, and what came of it.
    fn settle(&mut self, builder: &mut Growing, size: usize, shrink: bool) -> Outcome {
        if size > builder.capacity {
            return Outcome::OutOfRange;
        }
        if (builder.block.is_none() || (shrink && size != builder.capacity))
            && !self.set_capacity(builder, size)
        {
            return Outcome::OutOfMemory;
        }
        Outcome::Done
    }

    fn bytes_mut(&mut self, id: Id) -> &mut Vec<u8> {
        match self.things.get_mut(&id).unwrap() {
            Thing::Raw { bytes, .. }
            | Thing::Mutable { bytes, .. }
            | Thing::Frozen { bytes, .. }
            | Thing::Resizable { bytes, .. }
            | Thing::Builder { bytes, .. } => bytes,
            Thing::Bits { .. } => unreachable!("bits have no bytes"),
        }
    }

    fn bytes(&self, id: Id) -> &[u8] {
        match &self.things[&id] {
            Thing::Raw { bytes, .. }
            | Thing::Mutable { bytes, .. }
            | Thing::Frozen { bytes, .. }
            | Thing::Resizable { bytes, .. }
            | Thing::Builder { bytes, .. } => bytes,
            Thing::Bits { .. } => unreachable!("bits have no bytes"),
        }
    }

    fn allocate(&mut self, id: Id, pool: usize, bytes: Vec<u8>) -> Outcome {
        match self.new_block(pool, bytes.len()) {
            Some(block) => {
                self.things.insert(
                    id,
                    Thing::Mutable {
                        block,
                        offset: 0,
                        bytes,
                    },
                );
                Outcome::Done
            }
            None => Outcome::OutOfMemory,
        }
    }

    /// A builder out of its thing, to be put back by [`put_builder`](Self::put_builder).
    fn builder(&self, id: Id) -> Growing {
        match self.things[&id] {
            Thing::Builder {
                block,
                pool,
                capacity,
                ..
            }
            | Thing::Bits {
                block,
                pool,
                capacity,
                ..
            } => Growing {
                block,
                pool,
                capacity,
            },
            _ => unreachable!("no builder"),
        }
    }

    fn put_builder(&mut self, id: Id, growing: Growing) {
        match self.things.get_mut(&id).unwrap() {
            Thing::Builder {
                block, capacity, ..
            }
            | Thing::Bits {
                block, capacity, ..
            } => {
                (*block, *capacity) = (growing.block, growing.capacity);
            }
            _ => unreachable!("no builder"),
        }
    }

    /// Does one step, and says what comes of it.
    pub(crate) fn step(&mut self, step: &Step) -> Outcome {
        let memory = |done: bool| {
            if done {
                Outcome::Done
            } else {
                Outcome::OutOfMemory
            }
        };
        match *step {
            Step::Limit { parent, bytes } => {
                let (parent, limit) = (Some(parent), Some(bytes));
                self.pools.push(PoolModel {
                    parent,
                    limit,
                    counters: Counters::default(),
                });
            }
            Step::Proxy { parent } => {
                let (parent, limit) = (Some(parent), None);
                self.pools.push(PoolModel {
                    parent,
                    limit,
                    counters: Counters::default(),
                });
            }
            Step::ResetPeak { pool } => {
                let counters = &mut self.pools[pool].counters;
                counters.peak = counters.bytes;
            }
            Step::Raw {
                id,
                pool,
                size,
                shift,
                fill,
            } => {
                if !self.add(pool, size, true) {
                    return Outcome::OutOfMemory;
                }
                self.things.insert(
                    id,
                    Thing::Raw {
                        pool,
                        shift,
                        bytes: vec![fill; size],
                    },
                );
            }
            Step::ReallocateRaw { id, size } => {
                let Thing::Raw {
                    pool, ref bytes, ..
                } = self.things[&id]
                else {
                    unreachable!()
                };
                let old = bytes.len();
                if !self.change(pool, old, size) {
                    return Outcome::OutOfMemory;
                }
                // The program writes this into what is new.
                self.bytes_mut(id).resize(size, 0xEE);
            }
            Step::Zeroed { id, pool, size, .. } => return self.allocate(id, pool, vec![0; size]),
            Step::Copy {
                id,
                pool,
                size,
                fill,
            } => {
                return self.allocate(id, pool, vec![fill; size]);
            }
            Step::Write { id, at, fill } => {
                let bytes = self.bytes_mut(id);
                let at = at.min(bytes.len());
                bytes[at..].fill(fill);
            }
            Step::Split { id, back, at } => {
                let Some(Thing::Mutable {
                    block,
                    offset,
                    mut bytes,
                }) = self.things.remove(&id)
                else {
                    unreachable!()
                };
                if at > bytes.len() {
                    self.release(block);
                    return Outcome::OutOfRange;
                }
                let rest = bytes.split_off(at);
                self.things.insert(
                    id,
                    Thing::Mutable {
                        block,
                        offset,
                        bytes,
                    },
                );
                let offset = offset + at;
                self.things.insert(
                    back,
                    Thing::Mutable {
                        block,
                        offset,
                        bytes: rest,
                    },
                );
                self.retain(block);
            }
            Step::Freeze { id } => match self.things.remove(&id).unwrap() {
                Thing::Mutable {
                    block,
                    offset,
                    bytes,
                } => {
                    self.things.insert(
                        id,
                        Thing::Frozen {
                            block,
                            offset,
                            bytes,
                        },
                    );
                }
                Thing::Resizable { block, bytes } => {
                    self.things.insert(
                        id,
                        Thing::Frozen {
                            block,
                            offset: 0,
                            bytes,
                        },
                    );
                }
                _ => unreachable!(),
            },
            Step::Thaw { id } => {
                let Thing::Frozen {
                    block,
                    offset,
                    ref bytes,
                } = self.things[&id]
                else {
                    unreachable!()
                };
                if offset != 0 || !self.is_alone(block) {
                    return Outcome::Unchanged;
                }
                let bytes = bytes.clone();
                self.things.insert(
                    id,
                    Thing::Mutable {
                        block,
                        offset,
                        bytes,
                    },
                );
            }
            Step::Slice {
                id,
                slice,
                offset: at,
                length,
            } => {
                let Thing::Frozen {
                    block,
                    offset,
                    ref bytes,
                } = self.things[&id]
                else {
                    unreachable!()
                };
                let Some(bytes) = at.checked_add(length).and_then(|end| bytes.get(at..end)) else {
                    return Outcome::OutOfRange;
                };
                let bytes = bytes.to_vec();
                let offset = offset + at;
                self.things.insert(
                    slice,
                    Thing::Frozen {
                        block,
                        offset,
                        bytes,
                    },
                );
                self.retain(block);
            }
            Step::CopySlice {
                id,
                copy,
                pool,
                offset,
                length,
            } => {
                let end = offset.checked_add(length);
                let Some(bytes) = end.and_then(|end| self.bytes(id).get(offset..end)) else {
                    return Outcome::OutOfRange;
                };
                return self.allocate(copy, pool, bytes.to_vec());
            }
            Step::Concat { ids, whole, pool } => {
                let bytes = ids.map(|id| self.bytes(id).to_vec()).concat();
                let Some(block) = self.new_block(pool, bytes.len()) else {
                    return Outcome::OutOfMemory;
                };
                self.things.insert(
                    whole,
                    Thing::Frozen {
                        block,
                        offset: 0,
                        bytes,
                    },
                );
            }
            Step::Resizable { id } => {
                let Thing::Mutable {
                    block,
                    offset,
                    ref bytes,
                } = self.things[&id]
                else {
                    unreachable!()
                };
                if offset != 0 || !self.is_alone(block) {
                    return Outcome::Unchanged;
                }
                let bytes = bytes.clone();
                self.things.insert(id, Thing::Resizable { block, bytes });
            }
            Step::Resize { id, size, shrink } => {
                let Thing::Resizable { block, ref bytes } = self.things[&id] else {
                    unreachable!()
                };
                let counted = self.blocks[&block].counted;
                let shrinks = shrink && size <= bytes.len() && size != counted;
                if (size > counted || shrinks) && !self.resize_block(block, size) {
                    return Outcome::OutOfMemory;
                }
                self.bytes_mut(id).resize(size, 0);
            }
            Step::Reserve { id, capacity } => {
                let Thing::Resizable { block, .. } = self.things[&id] else {
                    unreachable!()
                };
                if capacity > self.blocks[&block].counted {
                    return memory(self.resize_block(block, capacity));
                }
            }
            Step::Builder { id, pool } => {
                let bytes = Vec::new();
                self.things.insert(
                    id,
                    Thing::Builder {
                        block: None,
                        pool,
                        capacity: 0,
                        bytes,
                    },
                );
            }
            Step::Continue { id } => {
                let Some(Thing::Resizable { block, bytes }) = self.things.remove(&id) else {
                    unreachable!()
                };
                let Block { pool, counted, .. } = self.blocks[&block];
                let (block, capacity) = (Some(block), counted);
                self.things.insert(
                    id,
                    Thing::Builder {
                        block,
                        pool,
                        capacity,
                        bytes,
                    },
                );
            }
            Step::Append { id, n, fill, .. } => {
                let mut growing = self.builder(id);
                let len = self.bytes(id).len();
                let done = self.ensure(&mut growing, len + n);
                self.put_builder(id, growing);
                if done {
                    self.bytes_mut(id).resize(len + n, fill);
                }
                return memory(done);
            }
            Step::BuilderReserve { id, n } => {
                let mut growing = self.builder(id);
                let need = self.bytes(id).len() + n;
                let done = need <= growing.capacity || self.fit(&mut growing, need);
                self.put_builder(id, growing);
                return memory(done);
            }
            Step::BuilderResize {
                id,
                capacity,
                shrink,
            } => {
                if capacity < self.bytes(id).len() {
                    return Outcome::InvalidArgument;
                }
                let mut growing = self.builder(id);
                let changes =
                    capacity > growing.capacity || (shrink && round(capacity) < growing.capacity);
                let done = !changes || self.fit(&mut growing, capacity);
                self.put_builder(id, growing);
                return memory(done);
            }
            Step::Rewind { id, position } => {
                if position > self.bytes(id).len() {
                    return Outcome::OutOfRange;
                }
                self.bytes_mut(id).truncate(position);
            }
            Step::Finish {
                id,
                length,
                shrink,
                into,
            } => {
                let mut growing = self.builder(id);
                let mut bytes = self.bytes(id).to_vec();
                let length = length.unwrap_or(bytes.len());
                let outcome = self.settle(&mut growing, length, shrink);
                if outcome != Outcome::Done {
                    return outcome;
                }
                bytes.resize(length, 0);
                let block = growing.block.unwrap();
                self.things.insert(
                    into,
                    Thing::Mutable {
                        block,
                        offset: 0,
                        bytes,
                    },
                );
                self.put_builder(
                    id,
                    Growing {
                        block: None,
                        pool: growing.pool,
                        capacity: 0,
                    },
                );
                self.bytes_mut(id).clear();
            }
            Step::Bits { id, pool } => {
                let bits = Vec::new();
                self.things.insert(
                    id,
                    Thing::Bits {
                        block: None,
                        pool,
                        capacity: 0,
                        bits,
                    },
                );
            }
            Step::AppendBits { id, n, seed } => {
                let mut growing = self.builder(id);
                let Thing::Bits { ref bits, .. } = self.things[&id] else {
                    unreachable!()
                };
                let words = (bits.len() + n).div_ceil(64);
                let done = self.ensure(&mut growing, words * 8);
                self.put_builder(id, growing);
                let Some(Thing::Bits { bits, .. }) = self.things.get_mut(&id) else {
                    unreachable!()
                };
                if done {
                    bits.extend(bits_of(seed, n));
                }
                return memory(done);
            }
            Step::FinishBits { id, shrink, into } => {
                let mut growing = self.builder(id);
                let Some(Thing::Bits { bits, .. }) = self.things.get_mut(&id) else {
                    unreachable!()
                };
                let bits = std::mem::take(bits);
                let mut bytes = vec![0; bits.len().div_ceil(8)];
                for (i, bit) in bits.iter().enumerate() {
                    bytes[i / 8] |= u8::from(*bit) << (i % 8);
                }
                let outcome = self.settle(&mut growing, bytes.len(), shrink);
                assert_eq!(outcome, Outcome::Done, "no bytes, or fewer than there are");
                let block = growing.block.unwrap();
                self.things.insert(
                    into,
                    Thing::Mutable {
                        block,
                        offset: 0,
                        bytes,
                    },
                );
                self.put_builder(
                    id,
                    Growing {
                        block: None,
                        pool: growing.pool,
                        capacity: 0,
                    },
                );
            }
            Step::Drop { id } => match self.things.remove(&id).unwrap() {
                Thing::Raw { pool, bytes, .. } => self.take(pool, bytes.len(), true),
                Thing::Mutable { block, .. }
                | Thing::Frozen { block, .. }
                | Thing::Resizable { block, .. } => self.release(block),
                Thing::Builder { block, .. } | Thing::Bits { block, .. } => {
                    if let Some(block) = block {
                        self.release(block);
                    }
                }
            },
        }
        Outcome::Done
    }
}

/// The part of a builder that grows.
#[derive(Clone, Copy)]
struct Growing {
    block: Option<Id>,
    pool: usize,
    capacity: usize,
}

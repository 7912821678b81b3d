//! RMM's `pool_memory_resource` as it stands (26.08), to compare with: a list in the order of
//! addresses per stream, searched from its head for each allocation and each free.

use offheap_cuda::sub_allocator::simulated::SimulatedUpstream;
use offheap_cuda::sub_allocator::{StreamId, Streams, Upstream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    address: u64,
    size: u64,
    is_head: bool,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct Block {
    address: u64,
    size: u64,
    is_head: bool,
}

/// `coalescing_free_list`: a doubly linked list, with its nodes in one vector, which is kinder to
/// the cache than `std::list`.
struct List {
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    head: u32,
    tail: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            vacant: Vec::new(),
            head: NONE,
            tail: NONE,
        }
    }
}

impl List {
    fn insert(&mut self, block: Block) {
        let mut next = self.head;
        while next != NONE && self.nodes[next as usize].address <= block.address {
            next = self.nodes[next as usize].next;
        }
        let previous = match next {
            NONE => self.tail,
            next => self.nodes[next as usize].previous,
        };
        let merges_previous = previous != NONE && {
            let node = self.nodes[previous as usize];
            node.address + node.size == block.address && !block.is_head
        };
        let merges_next = next != NONE && {
            let node = self.nodes[next as usize];
            block.address + block.size == node.address && !node.is_head
        };
        match (merges_previous, merges_next) {
            (true, true) => {
                let size = self.nodes[next as usize].size;
                self.nodes[previous as usize].size += block.size + size;
                self.erase(next);
            }
            (true, false) => self.nodes[previous as usize].size += block.size,
            (false, true) => {
                let node = &mut self.nodes[next as usize];
                node.address = block.address;
                node.size += block.size;
                node.is_head = block.is_head;
            }
            (false, false) => self.link(block, previous, next),
        }
    }

    fn link(&mut self, block: Block, previous: u32, next: u32) {
        let node = Node {
            address: block.address,
            size: block.size,
            is_head: block.is_head,
            previous,
            next,
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        match previous {
            NONE => self.head = index,
            previous => self.nodes[previous as usize].next = index,
        }
        match next {
            NONE => self.tail = index,
            next => self.nodes[next as usize].previous = index,
        }
    }

    fn erase(&mut self, index: u32) {
        let Node { previous, next, .. } = self.nodes[index as usize];
        match previous {
            NONE => self.head = next,
            previous => self.nodes[previous as usize].next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => self.nodes[next as usize].previous = previous,
        }
        self.vacant.push(index);
    }

    /// The best fit, the first of equals.
    fn take(&mut self, size: u64) -> Option<Block> {
        let (mut best, mut best_size) = (NONE, u64::MAX);
        let mut index = self.head;
        while index != NONE {
            let node = &self.nodes[index as usize];
            if node.size >= size && node.size < best_size {
                (best, best_size) = (index, node.size);
            }
            index = node.next;
        }
        if best == NONE {
            return None;
        }
        let node = self.nodes[best as usize];
        self.erase(best);
        Some(Block {
            address: node.address,
            size: node.size,
            is_head: node.is_head,
        })
    }

    fn drain(&mut self) -> Vec<Block> {
        let mut blocks = Vec::new();
        while self.head != NONE {
            let node = self.nodes[self.head as usize];
            self.erase(self.head);
            blocks.push(Block {
                address: node.address,
                size: node.size,
                is_head: node.is_head,
            });
        }
        blocks
    }
}

struct State<S: Streams> {
    lists: BTreeMap<StreamId, List>,
    events: BTreeMap<StreamId, S::Event>,
    chunks: BTreeSet<u64>,
    reserved: u64,
}

/// The pool, without a maximum.
pub(crate) struct RmmPool<S: Streams> {
    upstream: Arc<SimulatedUpstream>,
    streams: S,
    state: Mutex<State<S>>,
}

impl<S: Streams> RmmPool<S> {
    pub(crate) fn new(upstream: Arc<SimulatedUpstream>, streams: S, initial: u64) -> Self {
        let pool = Self {
            upstream,
            streams,
            state: Mutex::new(State {
                lists: BTreeMap::new(),
                events: BTreeMap::new(),
                chunks: BTreeSet::new(),
                reserved: 0,
            }),
        };
        if initial > 0 {
            let mut state = pool.state.lock().unwrap();
            let block = pool.chunk(&mut state, initial, initial).unwrap();
            state.lists.entry(StreamId(0)).or_default().insert(block);
        }
        pool
    }

    fn chunk(&self, state: &mut State<S>, mut ask: u64, minimum: u64) -> Option<Block> {
        loop {
            match self.upstream.allocate_chunk(ask) {
                Ok(address) => {
                    state.chunks.insert(address);
                    state.reserved += ask;
                    return Some(Block {
                        address,
                        size: ask,
                        is_head: true,
                    });
                }
                Err(_) if ask == minimum => return None,
                Err(_) => ask = (ask / 2).max(minimum),
            }
        }
    }

    pub(crate) fn allocate(&self, size: u64, stream: StreamId) -> Option<u64> {
        let size = size.next_multiple_of(256);
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        state
            .events
            .entry(stream)
            .or_insert_with(|| self.streams.create_event().unwrap());
        let found = state.lists.entry(stream).or_default().take(size);
        if let Some(block) = found {
            return Some(cut(state.lists.get_mut(&stream).unwrap(), block, size));
        }
        for (&other, list) in &mut state.lists {
            if other != stream
                && let Some(block) = list.take(size)
            {
                if let Some(event) = state.events.get(&other) {
                    self.streams.wait(stream, event).unwrap();
                }
                return Some(cut(list, block, size));
            }
        }
        let others: Vec<_> = state.lists.keys().copied().collect();
        for other in others.into_iter().filter(|&other| other != stream) {
            if let Some(event) = state.events.get(&other) {
                self.streams.wait(stream, event).unwrap();
            }
            let blocks = state.lists.remove(&other).unwrap().drain();
            let own = state.lists.get_mut(&stream).unwrap();
            for block in blocks {
                own.insert(block);
            }
            if let Some(block) = own.take(size) {
                return Some(cut(own, block, size));
            }
        }
        let ask = size.max(state.reserved);
        let block = self.chunk(state, ask, size)?;
        Some(cut(state.lists.get_mut(&stream).unwrap(), block, size))
    }

    pub(crate) fn free(&self, address: u64, size: u64, stream: StreamId) {
        let size = size.next_multiple_of(256);
        let mut state = self.state.lock().unwrap();
        let is_head = state.chunks.contains(&address);
        let event = state.events.get_mut(&stream).unwrap();
        self.streams.record(event, stream).unwrap();
        state.lists.entry(stream).or_default().insert(Block {
            address,
            size,
            is_head,
        });
    }
}

fn cut(list: &mut List, block: Block, size: u64) -> u64 {
    if block.size > size {
        list.insert(Block {
            address: block.address + size,
            size: block.size - size,
            is_head: false,
        });
    }
    block.address
}

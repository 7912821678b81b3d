//! The state of a sub-allocating pool, under its lock, and the two calls that change it.

use super::address_table::AddressTable;
use super::arena::Arena;
use super::blocks::{Block, Blocks, State};
use super::options::{GRANULARITY, SubAllocatorOptions};
use super::pending::Pending;
use super::size_class::{SizeClass, granules};
use super::slabs::Slabs;
use super::statistics::{OutOfMemoryReport, SubAllocatorStatistics};
use super::streams::{StreamId, Streams};
use super::upstream::Upstream;
use offheap::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet, VecDeque};

/// Streams whose arenas are found without the map.
pub(super) const RECENT: usize = 16;

/// A chunk from upstream, by its first block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) first: u32,
}

/// Where a live block is recorded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Slot { slab: u32, slot: u32 },
    Block { index: u32 },
}

pub(super) struct Core<U, S: Streams> {
    pub(super) options: SubAllocatorOptions,
    pub(super) upstream: U,
    pub(super) streams: S,
    pub(super) chunks: Vec<Chunk>,
    pub(super) blocks: Blocks,
    /// The blocks handed out that are not slots.
    pub(super) live: AddressTable,
    pub(super) slabs: Slabs,
    pub(super) arenas: Vec<Arena<S::Event>>,
    pub(super) by_stream: HashMap<StreamId, u16>,
    /// The streams asked for last, by the low bits of their numbers, which the driver counts up.
    pub(super) recent: [Option<(StreamId, u16)>; RECENT],
    /// Blocks freed that other streams still use, by the stream that is waited for next.
    pub(super) pending: Vec<(StreamId, VecDeque<Pending<S::Event>>)>,
    /// Slots among them.
    pub(super) pending_slots: HashSet<(u32, u32)>,
    /// Other streams that use a live block.
    pub(super) users: HashMap<u64, Vec<StreamId>>,
    /// Events to use again.
    pub(super) events: Vec<S::Event>,
    pub(super) statistics: SubAllocatorStatistics,
    pub(super) report: Option<OutOfMemoryReport>,
}

impl<U: Upstream, S: Streams> Core<U, S> {
    pub(super) fn new(options: SubAllocatorOptions, upstream: U, streams: S) -> Self {
        Self {
            options,
            upstream,
            streams,
            chunks: Vec::new(),
            blocks: Blocks::default(),
            live: AddressTable::default(),
            slabs: Slabs::default(),
            arenas: Vec::new(),
            by_stream: HashMap::new(),
            recent: [None; RECENT],
            pending: Vec::new(),
            pending_slots: HashSet::new(),
            users: HashMap::new(),
            events: Vec::new(),
            statistics: SubAllocatorStatistics::default(),
            report: None,
        }
    }

    /// `alignment` is a power of two.
    pub(super) fn allocate(&mut self, size: u64, alignment: u64, stream: StreamId) -> Result<u64> {
        if size == 0 {
            return Ok(0);
        }
        let align = u32::try_from((alignment / GRANULARITY).max(1)).ok();
        let (Some(wanted), Some(align)) = (granules(size), align) else {
            return Err(self.out_of_memory(size, None));
        };
        let arena = self.arena_of(stream)?;
        self.poll();
        let (address, allocated) = if size <= self.options.small_limit && align == 1 {
            let class = SizeClass::of(wanted);
            match self.take_slot(arena, class) {
                Some(address) => (address, class.size()),
                None => self.allocate_small(size, wanted, class, arena)?,
            }
        } else {
            self.allocate_general(size, wanted, align, arena)?
        };
        self.statistics.requested.add(size);
        self.statistics.allocated.add(allocated);
        self.statistics.blocks.add(1);
        Ok(address)
    }

    /// Marks a block as handed out; its address and size.
    pub(super) fn hand_out(&mut self, index: u32, size: u64) -> (u64, u64) {
        let block = self.blocks.get_mut(index);
        block.state = State::Used;
        block.slack = (block.bytes() - size) as u8;
        let Block { address, .. } = *block;
        let bytes = block.bytes();
        self.live.insert(address, index);
        (address, bytes)
    }

    pub(super) fn free(&mut self, address: u64, size: u64, stream: StreamId) -> Result<()> {
        if size == 0 {
            return Ok(());
        }
        let place = self.find(address, size)?;
        let arena = self.arena_of(stream)?;
        self.poll();
        let owner = match place {
            Place::Slot { slab, .. } => self.slabs.get(slab).arena,
            Place::Block { .. } => arena,
        };
        // A slot goes back to its slab, whose stream must not use it before this one is done.
        let mut users = match self.users.get(&address) {
            Some(users) => users.clone(),
            None => Vec::new(),
        };
        users.retain(|&user| user != stream);
        if owner != arena {
            users.push(stream);
        }
        let events = self.record_all(&users)?;
        if owner == arena
            && let Err(error) = self.note_free(arena)
        {
            self.events
                .extend(events.into_iter().map(|(_, event)| event));
            return Err(error);
        }

        // Nothing fails from here on.
        if !self.users.is_empty() {
            self.users.remove(&address);
        }
        let (requested, allocated) = match place {
            Place::Slot { slab, .. } => (size, self.slabs.get(slab).class().size()),
            Place::Block { index } => {
                self.live.remove(address, |other| other == index);
                let block = self.blocks.get_mut(index);
                let requested = block.bytes() - u64::from(block.slack);
                block.arena = arena;
                (requested, block.bytes())
            }
        };
        self.statistics.requested.subtract(requested);
        self.statistics.allocated.subtract(allocated);
        self.statistics.blocks.subtract(1);
        if events.is_empty() {
            self.put_back(place);
        } else {
            self.defer(place, owner, events);
        }
        Ok(())
    }

    /// Whether the block stays what it is with another size, which is then noted.
    pub(super) fn resize(&mut self, address: u64, old_size: u64, new_size: u64) -> Result<bool> {
        if old_size == 0 || new_size == 0 {
            return Ok(old_size == new_size);
        }
        let place = self.find(address, old_size)?;
        let (Some(wanted), limit) = (granules(new_size), self.options.small_limit) else {
            return Ok(false);
        };
        let old = match place {
            Place::Slot { slab, .. } => {
                let class = self.slabs.get(slab).class();
                if new_size > limit || SizeClass::of(wanted) != class {
                    return Ok(false);
                }
                old_size
            }
            Place::Block { index } => {
                let block = self.blocks.get_mut(index);
                if wanted != block.size {
                    return Ok(false);
                }
                let old = block.bytes() - u64::from(block.slack);
                block.slack = (block.bytes() - new_size) as u8;
                old
            }
        };
        self.statistics.requested.subtract(old);
        self.statistics.requested.add(new_size);
        Ok(true)
    }

    /// Finds a live block.
    pub(super) fn find(&self, address: u64, size: u64) -> Result<Place> {
        if size <= self.options.small_limit
            && let Some(wanted) = granules(size)
            && let Some(slab) = self.slabs.find(address, SizeClass::of(wanted))
            && let Some(slot) = self.slabs.get(slab).used_slot(address)
            && !self.is_pending_slot(slab, slot)
        {
            return Ok(Place::Slot { slab, slot });
        }
        if let Some(index) = self
            .live
            .find(address, |index| self.blocks.get(index).address == address)
            && granules(size) == Some(self.blocks.get(index).size)
        {
            return Ok(Place::Block { index });
        }
        Err(Error::new(ErrorKind::Corruption {
            what: format!(
                "pool '{}' has no live block of {size} bytes at {address:#x}",
                self.options.name
            ),
        }))
    }

    /// Makes a block that nobody uses any more free.
    pub(super) fn put_back(&mut self, place: Place) {
        match place {
            Place::Slot { slab, slot } => self.put_slot(slab, slot),
            Place::Block { index } => self.insert_free(index),
        }
    }

    /// Lets `stream` use a block of another stream: it is not used again before the work given to
    /// `stream` until the free is complete.
    pub(super) fn record_stream(
        &mut self,
        address: u64,
        size: u64,
        stream: StreamId,
    ) -> Result<()> {
        if size == 0 {
            return Ok(());
        }
        self.find(address, size)?;
        let users = self.users.entry(address).or_default();
        if !users.contains(&stream) {
            users.push(stream);
        }
        Ok(())
    }

    /// The error of a request that found nothing. A driver that has failed says so itself: no memory that anybody
    /// frees would help.
    #[cold]
    pub(super) fn out_of_memory(&mut self, requested: u64, upstream: Option<Error>) -> Error {
        let upstream = match upstream {
            Some(error) if matches!(error.kind(), ErrorKind::DeviceUnavailable { .. }) => {
                return error;
            }
            other => other,
        };
        let report = OutOfMemoryReport {
            requested,
            allocated: self.statistics.allocated.current,
            reserved: self.statistics.reserved.current,
            maximum: self.options.maximum,
            largest_free: self.largest_free(),
            upstream: upstream.map(|error| error.to_string()),
        };
        let error = Error::new(ErrorKind::OutOfMemory {
            requested,
            limit: report.maximum,
            allocated: report.allocated,
            pool: format!(
                "{} ({} bytes reserved, largest free block {} bytes)",
                self.options.name, report.reserved, report.largest_free
            ),
        });
        self.statistics.out_of_memory += 1;
        self.report = Some(report);
        error
    }

    pub(super) fn largest_free(&self) -> u64 {
        let largest = self.arenas.iter().map(|arena| arena.bins.largest());
        u64::from(largest.max().unwrap_or(0)) * GRANULARITY
    }

    /// The statistics: O(streams), and O(blocks of one bin) each for the largest free block.
    pub(super) fn statistics(&self) -> SubAllocatorStatistics {
        SubAllocatorStatistics {
            slabs: self.slabs.count() as u64,
            free_blocks: self
                .arenas
                .iter()
                .map(|arena| arena.bins.count() as u64)
                .sum(),
            largest_free: self.largest_free(),
            streams: self.by_stream.len() as u64,
            ..self.statistics
        }
    }
}

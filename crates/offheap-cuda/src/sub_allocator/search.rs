//! The search for a free block: own, another stream's, joined ones, a new chunk.

use super::blocks::{NONE, State};
use super::core::Core;
use super::options::GRANULARITY;
use super::size_class::SizeClass;
use super::streams::Streams;
use super::upstream::Upstream;
use offheap::Result;

/// Free blocks in a row, and the part of them that is wanted.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u32,
    last: u32,
    /// Where the wanted part starts.
    start: u64,
}

/// Where a block of `wanted` granules at a multiple of `align` can start in `[begin, end)`.
fn place(begin: u64, end: u64, wanted: u32, align: u32) -> Option<u64> {
    let start = begin.checked_next_multiple_of(u64::from(align) * GRANULARITY)?;
    let last = start.checked_add(u64::from(wanted) * GRANULARITY)?;
    (last <= end).then_some(start)
}

impl<U: Upstream, S: Streams> Core<U, S> {
    /// A block from the free blocks, or from upstream. `size` bytes are `wanted` granules.
    pub(super) fn allocate_general(
        &mut self,
        size: u64,
        wanted: u32,
        align: u32,
        arena: u16,
    ) -> Result<(u64, u64)> {
        if let Some(index) = self.take_own(arena, wanted, align) {
            return Ok(self.hand_out(index, size));
        }
        self.allocate_large(size, wanted, align, arena, None)
    }

    /// The rest of the search, where the own free blocks do not do: a small block (of `class`) may
    /// come from a slab.
    #[cold]
    pub(super) fn allocate_large(
        &mut self,
        size: u64,
        wanted: u32,
        align: u32,
        arena: u16,
        class: Option<SizeClass>,
    ) -> Result<(u64, u64)> {
        if let Some(index) = self.take_joined(arena, wanted, align)? {
            return Ok(self.hand_out(index, size));
        }
        let mut refusal = None;
        let needed = u64::from(wanted) * GRANULARITY;
        if self.options.maximum.is_some_and(|maximum| needed > maximum) {
            return Err(self.out_of_memory(size, None));
        }
        for is_last in [false, true] {
            match self.grow(arena, wanted, align) {
                Ok(()) => {
                    if let Some(class) = class
                        && let Some(found) = self.slot_of_new_slab(class, arena)
                    {
                        return Ok(found);
                    }
                    if let Some(index) = self.take_own(arena, wanted, align) {
                        return Ok(self.hand_out(index, size));
                    }
                }
                Err(error) => refusal = error.or(refusal),
            }
            if is_last {
                break;
            }
            // PyTorch's order: what is pending, what upstream may make better use of, again.
            self.finish_pending()?;
            if let Some(index) = self.take_own(arena, wanted, align) {
                return Ok(self.hand_out(index, size));
            }
            if let Some(index) = self.take_joined(arena, wanted, align)? {
                return Ok(self.hand_out(index, size));
            }
            if self.trim(0)? == 0 {
                break;
            }
        }
        if let Some(class) = class
            && let Some(found) = self.adopt_slab(class, arena, false)?
        {
            return Ok(found);
        }
        Err(self.out_of_memory(size, refusal))
    }

    /// A block of the arena's own free ones: no other stream is involved. O(1).
    pub(super) fn take_own(&mut self, arena: u16, wanted: u32, align: u32) -> Option<u32> {
        let (index, start) = self.fitting(arena, wanted, align)?;
        Some(self.carve_one(index, start, wanted))
    }

    /// A free block of another stream, which this one then waits for. O(streams).
    pub(super) fn steal(&mut self, arena: u16, wanted: u32, align: u32) -> Result<Option<u32>> {
        let Some((other, index, start)) = self.fitting_other(arena, wanted, align) else {
            return Ok(None);
        };
        self.wait_for(arena, other)?;
        self.statistics.stolen_blocks += 1;
        Ok(Some(self.carve_one(index, start, wanted)))
    }

    /// As [`steal`](Self::steal), for memory that the stream will not use as a whole, so that others
    /// may take parts of it before the stream has freed anything: its event must come after the wait.
    pub(super) fn steal_for_slab(
        &mut self,
        arena: u16,
        wanted: u32,
        align: u32,
    ) -> Result<Option<u32>> {
        let Some((other, index, start)) = self.fitting_other(arena, wanted, align) else {
            return Ok(None);
        };
        self.wait_for(arena, other)?;
        self.note_free(arena)?;
        self.statistics.stolen_blocks += 1;
        Ok(Some(self.carve_one(index, start, wanted)))
    }

    fn fitting_other(&self, arena: u16, wanted: u32, align: u32) -> Option<(u16, u32, u64)> {
        (0..self.arenas.len() as u16)
            .filter(|&other| other != arena)
            .find_map(|other| {
                self.fitting(other, wanted, align)
                    .map(|(index, start)| (other, index, start))
            })
    }

    /// A block from any stream's memory: own, with empty slabs made free, another stream's, free
    /// blocks of several streams joined.
    fn take_joined(&mut self, arena: u16, wanted: u32, align: u32) -> Result<Option<u32>> {
        if self.flush_spares(arena)
            && let Some(index) = self.take_own(arena, wanted, align)
        {
            return Ok(Some(index));
        }
        if let Some(index) = self.steal(arena, wanted, align)? {
            return Ok(Some(index));
        }
        let mut flushed = false;
        for other in 0..self.arenas.len() as u16 {
            flushed |= self.flush_spares(other);
        }
        if flushed && let Some(index) = self.steal(arena, wanted, align)? {
            return Ok(Some(index));
        }
        let Some(run) = self.find_run(wanted, align) else {
            return Ok(None);
        };
        let mut index = run.first;
        loop {
            self.wait_for(arena, self.blocks.get(index).arena)?;
            if index == run.last {
                break;
            }
            index = self.blocks.get(index).next;
        }
        self.statistics.merged_blocks += 1;
        Ok(Some(self.carve(run, wanted)))
    }

    /// The best of the arena's free blocks, and where in it the wanted part starts.
    fn fitting(&self, arena: u16, wanted: u32, align: u32) -> Option<(u32, u64)> {
        let bins = &self.arenas[usize::from(arena)].bins;
        let index = bins.find(&self.blocks, wanted)?;
        let block = self.blocks.get(index);
        if let Some(start) = place(block.address, block.end(), wanted, align) {
            return Some((index, start));
        }
        let index = bins.find(&self.blocks, wanted.checked_add(align - 1)?)?;
        let block = self.blocks.get(index);
        place(block.address, block.end(), wanted, align).map(|start| (index, start))
    }

    /// The shortest row of free blocks, whosever they are, that holds the wanted part. RMM merges
    /// all lists to find out; this waits only for the streams whose memory is taken. O(blocks), but
    /// only before the pool grows, and only where more than one stream has free memory.
    fn find_run(&self, wanted: u32, align: u32) -> Option<Run> {
        let total: u64 = self.arenas.iter().map(|arena| arena.bins.total()).sum();
        let owners = self.arenas.iter().filter(|arena| arena.bins.count() > 0);
        if total < u64::from(wanted) || owners.count() < 2 {
            return None;
        }
        let mut best: Option<(u64, Run)> = None;
        for chunk in &self.chunks {
            let mut index = chunk.first;
            while index != NONE {
                let first = index;
                let mut last = NONE;
                while index != NONE && self.blocks.get(index).state == State::Free {
                    last = index;
                    index = self.blocks.get(index).next;
                }
                if last == NONE {
                    index = self.blocks.get(index).next;
                    continue;
                }
                let (begin, end) = (self.blocks.get(first).address, self.blocks.get(last).end());
                if let Some(start) = place(begin, end, wanted, align)
                    && best.is_none_or(|(size, _)| end - begin < size)
                {
                    best = Some((end - begin, Run { first, last, start }));
                }
            }
        }
        best.map(|(_, run)| self.shortened(run, wanted))
    }

    /// The run without the blocks that the wanted part does not touch.
    fn shortened(&self, mut run: Run, wanted: u32) -> Run {
        while self.blocks.get(run.first).end() <= run.start {
            run.first = self.blocks.get(run.first).next;
        }
        let end = run.start + u64::from(wanted) * GRANULARITY;
        while self.blocks.get(run.last).address >= end {
            run.last = self.blocks.get(run.last).previous;
        }
        run
    }

    fn carve_one(&mut self, index: u32, start: u64, wanted: u32) -> u32 {
        self.carve(
            Run {
                first: index,
                last: index,
                start,
            },
            wanted,
        )
    }

    /// Takes the wanted part out of the run. What is left before and behind it stays with the
    /// streams that it belonged to.
    fn carve(&mut self, run: Run, wanted: u32) -> u32 {
        let Run { first, last, start } = run;
        let mut index = first;
        loop {
            let block = *self.blocks.get(index);
            self.arenas[usize::from(block.arena)]
                .bins
                .remove(&mut self.blocks, index);
            if index == last {
                break;
            }
            index = block.next;
        }
        let behind = self.blocks.get(last).end() - start - u64::from(wanted) * GRANULARITY;
        if behind > 0 {
            let size = self.blocks.get(last).size - (behind / GRANULARITY) as u32;
            let rest = self.blocks.split(last, size);
            self.insert_bin(rest);
        }
        let mut taken = first;
        let before = ((start - self.blocks.get(first).address) / GRANULARITY) as u32;
        if before > 0 {
            taken = self.blocks.split(first, before);
            self.insert_bin(first);
        }
        while self.blocks.get(taken).size < wanted {
            self.blocks.absorb_next(taken);
        }
        self.blocks.get_mut(taken).state = State::Used;
        taken
    }

    /// Makes a block free, joined with free neighbours of the same stream.
    pub(super) fn insert_free(&mut self, mut index: u32) {
        let block = *self.blocks.get(index);
        let is_free = |core: &Self, other: u32| {
            other != NONE && {
                let other = core.blocks.get(other);
                other.state == State::Free && other.arena == block.arena
            }
        };
        if is_free(self, block.next) {
            self.remove_bin(block.next);
            self.blocks.absorb_next(index);
        }
        if is_free(self, block.previous) {
            self.remove_bin(block.previous);
            index = block.previous;
            self.blocks.absorb_next(index);
        }
        self.insert_bin(index);
    }

    fn insert_bin(&mut self, index: u32) {
        let block = self.blocks.get_mut(index);
        block.state = State::Free;
        let arena = usize::from(block.arena);
        self.arenas[arena].bins.insert(&mut self.blocks, index);
    }

    pub(super) fn remove_bin(&mut self, index: u32) {
        let arena = usize::from(self.blocks.get(index).arena);
        self.arenas[arena].bins.remove(&mut self.blocks, index);
    }
}

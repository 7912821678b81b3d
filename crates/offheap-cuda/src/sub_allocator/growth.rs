//! Chunks: taken from upstream, given back to it.

use super::arena::Arena;
use super::blocks::{NONE, State};
use super::core::{Chunk, Core};
use super::options::{GRANULARITY, MAX_BLOCK};
use super::streams::{StreamId, Streams};
use super::upstream::Upstream;
use offheap::{Error, Result};

impl<U: Upstream, S: Streams> Core<U, S> {
    /// Takes a chunk that holds an aligned block of `wanted` granules. Asks for as much as the pool
    /// has, or for half of what is left of the maximum; where upstream refuses, for half of that,
    /// down to what is wanted (RMM).
    pub(super) fn grow(
        &mut self,
        arena: u16,
        wanted: u32,
        align: u32,
    ) -> Result<(), Option<Error>> {
        let reserved = self.statistics.reserved.current;
        let left = match self.options.maximum {
            Some(maximum) => maximum - reserved,
            None => u64::MAX,
        };
        let largest = left.min(MAX_BLOCK);
        // What upstream gives may be no better aligned than it must be.
        let minimum = (u64::from(wanted) + u64::from(align) - 1) * GRANULARITY;
        if minimum > largest {
            return Err(None);
        }
        let ask = match self.options.maximum {
            Some(_) => left / 2 / GRANULARITY * GRANULARITY,
            None => reserved,
        };
        let ask = ask.max(self.options.minimum_growth).min(largest);
        self.take_chunk(arena, minimum, ask.max(minimum))
    }

    /// The initial chunk. It belongs to the first stream that comes, which has nothing to wait for.
    pub(super) fn take_initial(&mut self) -> Result<()> {
        let initial = self.options.initial;
        if initial == 0 {
            return Ok(());
        }
        let mut arena = Arena::new(StreamId(u64::MAX));
        arena.is_retired = true;
        self.arenas.push(arena);
        self.take_chunk(0, initial, initial)
            .map_err(|error| self.out_of_memory(initial, error))
    }

    /// Takes a chunk of `ask` bytes, or of less, down to `minimum`.
    pub(super) fn take_chunk(
        &mut self,
        arena: u16,
        minimum: u64,
        mut ask: u64,
    ) -> Result<(), Option<Error>> {
        let address = loop {
            match self.upstream.allocate_chunk(ask) {
                Ok(address) => break address,
                Err(error) => {
                    self.statistics.upstream_refusals += 1;
                    if ask == minimum {
                        return Err(Some(error));
                    }
                    ask = (ask / 2 / GRANULARITY * GRANULARITY).max(minimum);
                }
            }
        };
        if address == 0
            || !address.is_multiple_of(GRANULARITY)
            || address.checked_add(ask).is_none()
        {
            let error = Error::not_supported(format!(
                "a chunk of {ask} bytes at {address:#x}: chunks start at multiples of 256"
            ));
            return Err(Some(match self.upstream.free_chunk(address, ask) {
                Ok(()) => error,
                Err(other) => other,
            }));
        }
        let first = self
            .blocks
            .insert_chunk(address, (ask / GRANULARITY) as u32, arena);
        self.chunks.push(Chunk {
            address,
            size: ask,
            first,
        });
        self.statistics.reserved.add(ask);
        self.statistics.chunks.add(1);
        self.insert_free(first);
        Ok(())
    }

    /// Gives free chunks back, the newest first, as long as `keep` bytes stay. Waits for the streams
    /// that used them. The bytes given back. O(blocks).
    pub(super) fn trim(&mut self, keep: u64) -> Result<u64> {
        self.poll();
        for arena in 0..self.arenas.len() as u16 {
            self.flush_spares(arena);
        }
        let before = self.statistics.reserved.current;
        let mut at = self.chunks.len();
        while at > 0 {
            at -= 1;
            let chunk = self.chunks[at];
            let stays = self.statistics.reserved.current - chunk.size;
            if stays < keep || !self.is_free(chunk) {
                continue;
            }
            let mut index = chunk.first;
            while index != NONE {
                self.synchronize(usize::from(self.blocks.get(index).arena))?;
                index = self.blocks.get(index).next;
            }
            self.upstream.free_chunk(chunk.address, chunk.size)?;
            let mut index = chunk.first;
            while index != NONE {
                let next = self.blocks.get(index).next;
                self.remove_bin(index);
                self.blocks.remove(index);
                index = next;
            }
            self.chunks.swap_remove(at);
            self.statistics.reserved.subtract(chunk.size);
            self.statistics.chunks.subtract(1);
        }
        Ok(before - self.statistics.reserved.current)
    }

    fn is_free(&self, chunk: Chunk) -> bool {
        let mut index = chunk.first;
        while index != NONE {
            let block = self.blocks.get(index);
            if block.state != State::Free {
                return false;
            }
            index = block.next;
        }
        true
    }

    /// Gives the arena a free block of at least `bytes`, from upstream if it has none.
    pub(super) fn prewarm(&mut self, arena: u16, bytes: u64) -> Result<()> {
        let Some(wanted) = super::size_class::granules(bytes) else {
            return Err(self.out_of_memory(bytes, None));
        };
        let bins = &self.arenas[usize::from(arena)].bins;
        if wanted == 0 || bins.find(&self.blocks, wanted).is_some() {
            return Ok(());
        }
        self.grow(arena, wanted, 1)
            .map_err(|error| self.out_of_memory(bytes, error))
    }

    /// Gives all chunks back, live or not, after all that was freed is complete.
    pub(super) fn release(&mut self) {
        // Nobody could be told, and upstream is what decides whether the memory is leaked.
        let _ = self.finish_pending();
        for arena in 0..self.arenas.len() {
            let _ = self.synchronize(arena);
        }
        for chunk in self.chunks.drain(..) {
            let _ = self.upstream.free_chunk(chunk.address, chunk.size);
        }
    }
}

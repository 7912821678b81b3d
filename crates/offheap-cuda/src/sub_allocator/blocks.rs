//! Records of blocks, and the chain of neighbours in each chunk.

use super::options::GRANULARITY;

/// No record.
pub(super) const NONE: u32 = u32::MAX;

/// What a block is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In the bins of its arena.
    Free,
    /// Handed out.
    Used,
    /// Cut into the slots of a slab.
    Slab,
    /// Freed, but other streams still use it.
    Pending,
    /// A record without a block.
    Vacant,
}

/// One block: half a cache line, two neighbours' records often in one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) address: u64,
    /// In granules, never 0.
    pub(super) size: u32,
    /// The neighbours in the same chunk.
    pub(super) previous: u32,
    pub(super) next: u32,
    /// The neighbours in the same bin.
    pub(super) bin_previous: u32,
    pub(super) bin_next: u32,
    /// Whose bins a free block is in.
    pub(super) arena: u16,
    pub(super) state: State,
    /// Bytes of the last granule that were not asked for.
    pub(super) slack: u8,
}

impl Block {
    pub(super) fn end(&self) -> u64 {
        self.address + u64::from(self.size) * GRANULARITY
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.size) * GRANULARITY
    }
}

/// All blocks, by index. Blocks are split and merged in O(1); the record with the lower address is
/// the one that stays, so the first record of a chunk is the same for ever.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    records: Vec<Block>,
    vacant: Vec<u32>,
}

impl Blocks {
    /// The only block of a new chunk.
    pub(super) fn insert_chunk(&mut self, address: u64, size: u32, arena: u16) -> u32 {
        self.insert(Block {
            address,
            size,
            previous: NONE,
            next: NONE,
            bin_previous: NONE,
            bin_next: NONE,
            arena,
            state: State::Used,
            slack: 0,
        })
    }

    fn insert(&mut self, block: Block) -> u32 {
        match self.vacant.pop() {
            Some(index) => {
                self.records[index as usize] = block;
                index
            }
            None => {
                self.records.push(block);
                (self.records.len() - 1) as u32
            }
        }
    }

    pub(super) fn get(&self, index: u32) -> &Block {
        &self.records[index as usize]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Block {
        &mut self.records[index as usize]
    }

    /// Cuts the block after `size` granules, fewer than it has; the rest is a new block of the same
    /// arena.
    pub(super) fn split(&mut self, index: u32, size: u32) -> u32 {
        let block = *self.get(index);
        debug_assert!(0 < size && size < block.size);
        let rest = self.insert(Block {
            address: block.address + u64::from(size) * GRANULARITY,
            size: block.size - size,
            previous: index,
            ..block
        });
        if block.next != NONE {
            self.get_mut(block.next).previous = rest;
        }
        let first = self.get_mut(index);
        first.size = size;
        first.next = rest;
        rest
    }

    /// Adds the next block to this one.
    pub(super) fn absorb_next(&mut self, index: u32) {
        let absorbed = self.get(index).next;
        let Block { size, next, .. } = *self.get(absorbed);
        if next != NONE {
            self.get_mut(next).previous = index;
        }
        let block = self.get_mut(index);
        block.size += size;
        block.next = next;
        self.remove(absorbed);
    }

    /// Forgets a record that is in no chain any more.
    pub(super) fn remove(&mut self, index: u32) {
        self.get_mut(index).state = State::Vacant;
        self.vacant.push(index);
    }

    /// Blocks of all states.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.records.len() - self.vacant.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_half_a_cache_line() {
        assert_eq!(size_of::<Block>(), 32);
    }

    /// RMM's arena tests: BlockSplit, BlockMerge, BlockIsContiguousBefore.
    #[test]
    fn split_and_absorb_are_inverse() {
        let mut blocks = Blocks::default();
        let first = blocks.insert_chunk(1 << 20, 10, 3);
        let third = blocks.split(first, 6);
        let second = blocks.split(first, 2);
        let chain: Vec<_> = [first, second, third]
            .map(|index| {
                let block = blocks.get(index);
                (block.address - (1 << 20), block.size, block.arena)
            })
            .to_vec();
        assert_eq!(chain, [(0, 2, 3), (512, 4, 3), (1536, 4, 3)]);
        assert_eq!(blocks.get(first).end(), blocks.get(second).address);
        assert_eq!(blocks.get(third).previous, second);
        assert_eq!(blocks.get(second).previous, first);
        assert_eq!(blocks.get(third).next, NONE);

        blocks.absorb_next(first);
        assert_eq!(blocks.get(first).size, 6);
        assert_eq!(blocks.get(third).previous, first);
        blocks.absorb_next(first);
        assert_eq!((blocks.get(first).size, blocks.get(first).next), (10, NONE));
        assert_eq!(blocks.count(), 1);
        assert_eq!(blocks.get(second).state, State::Vacant);
        // Records are used again.
        let again = blocks.split(first, 1);
        assert!(again == second || again == third);
    }
}

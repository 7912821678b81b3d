//! The free blocks of one arena, by size.

use super::blocks::{Blocks, NONE};

/// Sizes below this have a bin each; above, as many bins a doubling.
const LINEAR: u32 = 32;
const LINEAR_BITS: u32 = 5;
const LEVELS: usize = (32 - LINEAR_BITS + 1) as usize;
/// Blocks of one bin that are looked at for the best of them.
const CANDIDATES: usize = 8;

/// Free blocks in bins of similar size: two levels of bitmaps find the next larger bin in O(1)
/// (TLSF), and a bin's blocks differ by a thirty-second at most, so the block found is nearly the
/// best fit; a few blocks of the bin are compared to get closer.
#[derive(Debug)]
pub(super) struct Bins {
    levels: u32,
    steps: [u32; LEVELS],
    heads: Box<[[u32; LINEAR as usize]; LEVELS]>,
    /// Granules of all blocks.
    total: u64,
    count: usize,
}

impl Default for Bins {
    fn default() -> Self {
        Self {
            levels: 0,
            steps: [0; LEVELS],
            heads: Box::new([[NONE; LINEAR as usize]; LEVELS]),
            total: 0,
            count: 0,
        }
    }
}

/// The bin of a size.
fn bin(size: u32) -> (usize, usize) {
    if size < LINEAR {
        return (0, size as usize);
    }
    let power = size.ilog2();
    let step = (size >> (power - LINEAR_BITS)) - LINEAR;
    ((power - LINEAR_BITS + 1) as usize, step as usize)
}

impl Bins {
    /// Puts a block first in its bin: memory used last is used again first.
    pub(super) fn insert(&mut self, blocks: &mut Blocks, index: u32) {
        let size = blocks.get(index).size;
        let (level, step) = bin(size);
        let head = self.heads[level][step];
        let block = blocks.get_mut(index);
        block.bin_previous = NONE;
        block.bin_next = head;
        if head != NONE {
            blocks.get_mut(head).bin_previous = index;
        }
        self.heads[level][step] = index;
        self.steps[level] |= 1 << step;
        self.levels |= 1 << level;
        self.total += u64::from(size);
        self.count += 1;
    }

    /// Takes a block out of its bin; its size is still what it was when it went in.
    pub(super) fn remove(&mut self, blocks: &mut Blocks, index: u32) {
        let block = *blocks.get(index);
        if block.bin_next != NONE {
            blocks.get_mut(block.bin_next).bin_previous = block.bin_previous;
        }
        if block.bin_previous != NONE {
            blocks.get_mut(block.bin_previous).bin_next = block.bin_next;
        } else {
            let (level, step) = bin(block.size);
            self.heads[level][step] = block.bin_next;
            if block.bin_next == NONE {
                self.steps[level] &= !(1 << step);
                if self.steps[level] == 0 {
                    self.levels &= !(1 << level);
                }
            }
        }
        self.total -= u64::from(block.size);
        self.count -= 1;
    }

    /// A block of at least `size` granules, nearly the smallest; it stays in its bin.
    pub(super) fn find(&self, blocks: &Blocks, size: u32) -> Option<u32> {
        let (level, step) = bin(size);
        // The size's own bin may hold smaller blocks, too; the next bins hold none.
        let own = self.heads[level][step];
        if own != NONE {
            let found = self.best(blocks, own, size, CANDIDATES);
            if found.is_some() {
                return found;
            }
        }
        match self.next_bin(level, step) {
            Some((level, step)) => self.best(blocks, self.heads[level][step], size, CANDIDATES),
            // The rest of the own bin is all there is.
            None if own != NONE => self.best(blocks, own, size, usize::MAX),
            None => None,
        }
    }

    fn next_bin(&self, level: usize, step: usize) -> Option<(usize, usize)> {
        let steps = self.steps[level] & (u32::MAX << step << 1);
        if steps != 0 {
            return Some((level, steps.trailing_zeros() as usize));
        }
        let levels = self.levels & (u32::MAX << level << 1);
        if levels == 0 {
            return None;
        }
        let level = levels.trailing_zeros() as usize;
        Some((level, self.steps[level].trailing_zeros() as usize))
    }

    /// The smallest of the bin's first `candidates` blocks that hold `size`.
    fn best(&self, blocks: &Blocks, head: u32, size: u32, candidates: usize) -> Option<u32> {
        let mut found = None;
        let mut smallest = u32::MAX;
        let mut index = head;
        for _ in 0..candidates {
            if index == NONE {
                break;
            }
            let block = blocks.get(index);
            if block.size == size {
                return Some(index);
            }
            if block.size > size && (block.size < smallest || found.is_none()) {
                found = Some(index);
                smallest = block.size;
            }
            index = block.bin_next;
        }
        found
    }

    /// The largest block, in granules: O(blocks of the last bin).
    pub(super) fn largest(&self, blocks: &Blocks) -> u32 {
        if self.levels == 0 {
            return 0;
        }
        let level = self.levels.ilog2() as usize;
        let step = self.steps[level].ilog2() as usize;
        let mut index = self.heads[level][step];
        let mut largest = 0;
        while index != NONE {
            let block = blocks.get(index);
            largest = largest.max(block.size);
            index = block.bin_next;
        }
        largest
    }

    /// Granules of all blocks.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(sizes: &[u32]) -> (Bins, Blocks, Vec<u32>) {
        let mut blocks = Blocks::default();
        let mut bins = Bins::default();
        let mut address = 0x100;
        let indexes = sizes
            .iter()
            .map(|&size| {
                let index = blocks.insert_chunk(address, size, 0);
                address = blocks.get(index).end();
                bins.insert(&mut blocks, index);
                index
            })
            .collect();
        (bins, blocks, indexes)
    }

    #[test]
    fn bins_are_in_the_order_of_sizes() {
        let mut last = (0, 0);
        for size in (1..5000).chain([1 << 20, (1 << 31) - 1, 1 << 31, u32::MAX]) {
            let (level, step) = bin(size);
            assert!((level, step) >= last, "{size}");
            assert!(level < LEVELS && step < LINEAR as usize);
            last = (level, step);
        }
    }

    #[test]
    fn the_best_of_few_is_found_and_removal_empties() {
        let (mut bins, mut blocks, indexes) = filled(&[100, 7, 5000, 101, 8]);
        assert_eq!(bins.find(&blocks, 101), Some(indexes[3]));
        assert_eq!(bins.find(&blocks, 6), Some(indexes[1]));
        assert_eq!(bins.find(&blocks, 9), Some(indexes[0]));
        assert_eq!(bins.find(&blocks, 102), Some(indexes[2]));
        assert_eq!(bins.find(&blocks, 5001), None);
        assert_eq!(
            (bins.largest(&blocks), bins.count(), bins.total()),
            (5000, 5, 5216)
        );
        for index in indexes {
            bins.remove(&mut blocks, index);
        }
        assert_eq!(
            (bins.largest(&blocks), bins.count(), bins.total()),
            (0, 0, 0)
        );
        assert_eq!(bins.levels, 0);
        assert_eq!(bins.find(&blocks, 1), None);
    }

    proptest! {
        /// A block is found exactly when there is one, and it is from the best one's bin where that
        /// bin is not longer than what is looked at.
        #[test]
        fn what_is_found_fits(sizes in prop::collection::vec(1u32..20_000, 1..200), size in 1u32..20_000) {
            let (bins, blocks, _) = filled(&sizes);
            let best = sizes.iter().copied().filter(|&other| other >= size).min();
            let found = bins.find(&blocks, size).map(|index| blocks.get(index).size);
            prop_assert_eq!(found.is_some(), best.is_some());
            if let (Some(found), Some(best)) = (found, best) {
                prop_assert!(found >= size);
                let crowd = sizes.iter().filter(|&&other| bin(other) == bin(best)).count();
                if crowd <= CANDIDATES {
                    prop_assert_eq!(found, best);
                }
            }
        }
    }
}

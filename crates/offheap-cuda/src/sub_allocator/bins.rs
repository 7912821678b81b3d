//! The free blocks of one arena, by size.

use super::blocks::Blocks;

/// Sizes below this have a bin each; above, as many bins a doubling.
const LINEAR: u32 = 32;
const LINEAR_BITS: u32 = 5;
const LEVELS: usize = (32 - LINEAR_BITS + 1) as usize;
/// Blocks of one bin that are looked at for the best of them: a cache line.
const CANDIDATES: usize = 8;

/// A free block: its size beside its index, so that blocks can be compared without their records.
#[derive(Debug, Clone, Copy)]
struct Entry {
    size: u32,
    index: u32,
}

/// Free blocks in bins of similar size: two levels of bitmaps find the next larger bin in O(1)
/// (TLSF), and a bin's blocks differ by a thirty-second at most, so the block found is nearly the
/// best fit; the blocks that came last, a cache line of them, are compared to get closer.
#[derive(Debug)]
pub(super) struct Bins {
    levels: u32,
    steps: [u32; LEVELS],
    bins: Box<[[Vec<Entry>; LINEAR as usize]; LEVELS]>,
    /// Granules of all blocks.
    total: u64,
    count: usize,
}

impl Default for Bins {
    fn default() -> Self {
        Self {
            levels: 0,
            steps: [0; LEVELS],
            bins: Box::new(std::array::from_fn(|_| std::array::from_fn(|_| Vec::new()))),
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
    /// Puts a block last in its bin, where it is found first: memory used last is used again.
    pub(super) fn insert(&mut self, blocks: &mut Blocks, index: u32) {
        let block = blocks.get_mut(index);
        let size = block.size;
        let (level, step) = bin(size);
        let bin = &mut self.bins[level][step];
        block.bin_at = bin.len() as u32;
        bin.push(Entry { size, index });
        self.steps[level] |= 1 << step;
        self.levels |= 1 << level;
        self.total += u64::from(size);
        self.count += 1;
    }

    /// Takes a block out of its bin; its size is still what it was when it went in.
    pub(super) fn remove(&mut self, blocks: &mut Blocks, index: u32) {
        let block = blocks.get(index);
        let (size, at) = (block.size, block.bin_at);
        let (level, step) = bin(size);
        let bin = &mut self.bins[level][step];
        debug_assert_eq!(bin[at as usize].index, index);
        bin.swap_remove(at as usize);
        if let Some(moved) = bin.get(at as usize) {
            blocks.get_mut(moved.index).bin_at = at;
        } else if bin.is_empty() {
            self.steps[level] &= !(1 << step);
            if self.steps[level] == 0 {
                self.levels &= !(1 << level);
            }
        }
        self.total -= u64::from(size);
        self.count -= 1;
    }

    /// A block of at least `size` granules, nearly the smallest; it stays in its bin.
    pub(super) fn find(&self, size: u32) -> Option<u32> {
        let (level, step) = bin(size);
        // The size's own bin may hold smaller blocks, too; the next bins hold none.
        let own = &self.bins[level][step];
        if let Some(found) = best(own, size, CANDIDATES) {
            return Some(found);
        }
        match self.next_bin(level, step) {
            Some((level, step)) => best(&self.bins[level][step], size, CANDIDATES),
            // The rest of the own bin is all there is.
            None => best(own, size, own.len()),
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

    /// The largest block, in granules: O(blocks of the last bin).
    pub(super) fn largest(&self) -> u32 {
        if self.levels == 0 {
            return 0;
        }
        let level = self.levels.ilog2() as usize;
        let step = self.steps[level].ilog2() as usize;
        let sizes = self.bins[level][step].iter().map(|entry| entry.size);
        sizes.max().unwrap_or(0)
    }

    /// Granules of all blocks.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }
}

/// The smallest of the bin's last `candidates` blocks that hold `size`.
fn best(bin: &[Entry], size: u32, candidates: usize) -> Option<u32> {
    let candidates = &bin[bin.len().saturating_sub(candidates)..];
    let fitting = candidates.iter().rev().filter(|entry| entry.size >= size);
    fitting
        .min_by_key(|entry| entry.size)
        .map(|entry| entry.index)
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
        assert_eq!(bins.find(101), Some(indexes[3]));
        assert_eq!(bins.find(6), Some(indexes[1]));
        assert_eq!(bins.find(9), Some(indexes[0]));
        assert_eq!(bins.find(102), Some(indexes[2]));
        assert_eq!(bins.find(5001), None);
        assert_eq!(
            (bins.largest(), bins.count(), bins.total()),
            (5000, 5, 5216)
        );
        for index in indexes {
            bins.remove(&mut blocks, index);
        }
        assert_eq!((bins.largest(), bins.count(), bins.total()), (0, 0, 0));
        assert_eq!(bins.levels, 0);
        assert_eq!(bins.find(1), None);
    }

    proptest! {
        /// A block is found exactly when there is one, and it is from the best one's bin where that
        /// bin is not longer than what is looked at.
        #[test]
        fn what_is_found_fits(
            sizes in prop_oneof![
                prop::collection::vec(1u32..20_000, 1..200),
                // One bin.
                prop::collection::vec(16_384u32..16_400, 1..60),
            ],
            size in prop_oneof![1u32..20_000, 16_384u32..16_400],
        ) {
            let (bins, blocks, _) = filled(&sizes);
            let best = sizes.iter().copied().filter(|&other| other >= size).min();
            let found = bins.find(size).map(|index| blocks.get(index).size);
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

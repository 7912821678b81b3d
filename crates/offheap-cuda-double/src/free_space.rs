//! Free ranges of an address space: best fit, neighbours merged.

use std::collections::{BTreeMap, BTreeSet};

/// Ranges that are free, by address and by size: every operation is O(log n) in their number.
#[derive(Debug, Default)]
pub(crate) struct FreeSpace {
    by_address: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
}

impl FreeSpace {
    /// Takes `size` bytes out of the smallest range that holds them, the lowest of equals.
    pub(crate) fn allocate(&mut self, size: u64) -> Option<u64> {
        let &(length, address) = self.by_size.range((size, 0)..).next()?;
        self.remove(address, length);
        if length > size {
            self.insert(address + size, length - size);
        }
        Some(address)
    }

    /// Gives a range back and merges it with its neighbours. The range must not overlap a free one.
    pub(crate) fn release(&mut self, address: u64, size: u64) {
        let (mut start, mut length) = (address, size);
        if let Some((&previous, &previous_length)) = self.by_address.range(..address).next_back() {
            debug_assert!(
                previous + previous_length <= address,
                "a range is released twice"
            );
            if previous + previous_length == address {
                self.remove(previous, previous_length);
                start = previous;
                length += previous_length;
            }
        }
        if let Some((&next, &next_length)) = self.by_address.range(address..).next() {
            debug_assert!(address + size <= next, "a range is released twice");
            if address + size == next {
                self.remove(next, next_length);
                length += next_length;
            }
        }
        self.insert(start, length);
    }

    /// Takes exactly this range out, if all of it is free.
    pub(crate) fn take(&mut self, address: u64, size: u64) -> bool {
        let Some((&start, &length)) = self.by_address.range(..=address).next_back() else {
            return false;
        };
        if start + length < address + size {
            return false;
        }
        self.remove(start, length);
        if start < address {
            self.insert(start, address - start);
        }
        if address + size < start + length {
            self.insert(address + size, start + length - address - size);
        }
        true
    }

    fn insert(&mut self, address: u64, size: u64) {
        self.by_address.insert(address, size);
        self.by_size.insert((size, address));
    }

    fn remove(&mut self, address: u64, size: u64) {
        self.by_address.remove(&address);
        self.by_size.remove(&(size, address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_fit_then_lowest() {
        let mut space = FreeSpace::default();
        space.release(0, 4096);
        space.release(8192, 1024);
        space.release(16384, 1024);
        assert_eq!(space.allocate(1024), Some(8192));
        assert_eq!(space.allocate(1024), Some(16384));
        assert_eq!(space.allocate(1024), Some(0));
        assert_eq!(space.allocate(4096), None);
    }

    #[test]
    fn neighbours_merge() {
        let mut space = FreeSpace::default();
        space.release(0, 512);
        space.release(1024, 512);
        space.release(512, 512);
        assert_eq!(space.by_address.len(), 1);
        assert_eq!(space.allocate(1536), Some(0));
    }

    #[test]
    fn a_range_is_taken_out_of_the_middle() {
        let mut space = FreeSpace::default();
        space.release(0, 4096);
        assert!(space.take(1024, 1024));
        assert!(!space.take(512, 1024));
        assert_eq!(space.allocate(2048), Some(2048));
        assert_eq!(space.allocate(1024), Some(0));
        assert_eq!(space.allocate(1), None);
    }
}

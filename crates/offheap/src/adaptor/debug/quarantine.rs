//! Freed blocks that are held back for a while.

use super::guarded::Guarded;
use crate::domain::Unhooked;
use allocator_api2::vec::Vec;

/// The most blocks that are held back, whatever their size: each has a record of some 200 bytes.
const MAX_BLOCKS: usize = 65_536;

/// A queue of freed blocks, the oldest first, bounded in bytes and in number. Its memory is the C
/// library's.
pub(super) struct Quarantine {
    /// Those before `first` have left.
    blocks: Vec<Guarded, Unhooked>,
    first: usize,
    bytes: usize,
    max_bytes: usize,
}

// SAFETY: the addresses are used by who takes a block out, which then is the only one.
unsafe impl Send for Quarantine {}

impl Quarantine {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            blocks: Vec::new_in(Unhooked),
            first: 0,
            bytes: 0,
            max_bytes,
        }
    }

    /// Takes a block in; gives it back when it alone is more than the bound, or there is no memory.
    pub(super) fn push(&mut self, block: Guarded) -> Result<(), Guarded> {
        if block.extent.total > self.max_bytes {
            return Err(block);
        }
        // Only when that makes room for as many again: each block is then moved once on average.
        if self.blocks.len() == self.blocks.capacity() && self.first > self.blocks.len() / 2 {
            self.blocks.drain(..self.first);
            self.first = 0;
        }
        if self.blocks.try_reserve(1).is_err() {
            return Err(block);
        }
        self.bytes += block.extent.total;
        self.blocks.push(block);
        Ok(())
    }

    /// The oldest block, when there is more than the bounds.
    pub(super) fn pop_excess(&mut self) -> Option<Guarded> {
        let many = self.blocks.len() - self.first > MAX_BLOCKS;
        if many || self.bytes > self.max_bytes {
            self.pop()
        } else {
            None
        }
    }

    /// The oldest block.
    pub(super) fn pop(&mut self) -> Option<Guarded> {
        let block = *self.blocks.get(self.first)?;
        self.first += 1;
        self.bytes -= block.extent.total;
        if self.first == self.blocks.len() {
            self.blocks.clear();
            self.first = 0;
        }
        Some(block)
    }

    /// Bytes and blocks that are held back.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.bytes, self.blocks.len() - self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::super::guarded::Extent;
    use super::*;
    use crate::alignment::Alignment;
    use std::ptr::NonNull;

    fn block(serial: u64, size: usize) -> Guarded {
        Guarded {
            start: NonNull::dangling(),
            size,
            extent: Extent::of(size, Alignment::DEFAULT).unwrap(),
            serial,
            letter: b'm',
        }
    }

    #[test]
    fn the_oldest_leave_first_and_the_bounds_hold() {
        let mut quarantine = Quarantine::new(1000 * 192);
        let mut out = 0;
        for serial in 0..10_000 {
            assert!(quarantine.push(block(serial, 64)).is_ok());
            while let Some(left) = quarantine.pop_excess() {
                assert_eq!(left.serial, out);
                out += 1;
            }
            assert!(quarantine.held().0 <= 1000 * 192);
        }
        assert_eq!(out, 9000);
        assert_eq!(quarantine.held(), (1000 * 192, 1000));
        assert!(quarantine.blocks.capacity() < 5000);
        assert!(quarantine.push(block(0, 1000 * 192)).is_err());
        while quarantine.pop().is_some() {
            out += 1;
        }
        assert_eq!((out, quarantine.held()), (10_000, (0, 0)));
    }

    #[test]
    fn many_small_blocks_are_bounded_too() {
        let mut quarantine = Quarantine::new(usize::MAX / 2);
        for serial in 0..=MAX_BLOCKS as u64 {
            assert!(quarantine.pop_excess().is_none());
            assert!(quarantine.push(block(serial, 1)).is_ok());
        }
        assert_eq!(quarantine.pop_excess().map(|block| block.serial), Some(0));
        assert!(quarantine.pop_excess().is_none());
    }
}

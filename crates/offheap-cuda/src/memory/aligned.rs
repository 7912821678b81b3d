//! Alignments beyond what the driver gives by itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What the driver's blocks are multiples of: "suitably aligned for any kind of variable", in all
/// versions 256 at least.
pub(super) const USUAL: usize = 256;

/// The blocks that begin behind what the driver gave, by their addresses.
#[derive(Debug, Default)]
pub(super) struct Aligned(Mutex<HashMap<u64, u64>>);

impl Aligned {
    /// Bytes to ask for so that a block of `size` at a multiple of `alignment` is in them; `None` when there
    /// is no such number.
    pub(super) fn bytes_for(size: usize, alignment: usize) -> Option<usize> {
        if alignment <= USUAL {
            Some(size)
        } else {
            size.checked_add(alignment - USUAL)
        }
    }

    /// Where the block begins in what the driver gave at `base`.
    pub(super) fn place(&self, base: u64, alignment: usize) -> u64 {
        let start = base.next_multiple_of(alignment as u64);
        self.put(start, base);
        start
    }

    /// Notes that the block at `start` begins behind `base`.
    pub(super) fn put(&self, start: u64, base: u64) {
        if start != base {
            let mut bases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            bases.insert(start, base);
        }
    }

    /// What the driver gave for the block at `start`, which ends now.
    pub(super) fn take(&self, start: u64, alignment: usize) -> u64 {
        if alignment <= USUAL {
            return start;
        }
        let mut bases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bases.remove(&start).unwrap_or(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_find_their_bases() {
        let aligned = Aligned::default();
        assert_eq!(Aligned::bytes_for(10, 64), Some(10));
        assert_eq!(Aligned::bytes_for(10, 4096), Some(10 + 4096 - 256));
        assert_eq!(Aligned::bytes_for(usize::MAX, 4096), None);
        let start = aligned.place(0x1100, 4096);
        assert_eq!(start, 0x2000);
        assert_eq!(aligned.take(start, 4096), 0x1100);
        assert_eq!(aligned.take(start, 4096), start, "taken once");
        aligned.put(start, 0x1100);
        assert_eq!(aligned.take(start, 4096), 0x1100);
        assert_eq!(aligned.take(aligned.place(0x3000, 4096), 4096), 0x3000);
    }
}

//! Sizes: granules of 256 bytes, and the classes of small blocks.

use super::options::{GRANULARITY, MAX_BLOCK};

/// The largest block that a slab can hold.
pub(super) const MAX_SMALL: u64 = 1 << 20;
/// Slots of a slab at most: as many as its bitmap has bits.
pub(super) const MAX_SLOTS: u64 = 256;
/// The smallest window that a slab lies in.
const MIN_WINDOW: u64 = 64 << 10;
/// A window has room for this many slots at least.
const MIN_SLOTS: u64 = 8;
/// Classes up to [`MAX_SMALL`]: the multiples of 256 up to 2 KiB, then eight a doubling.
pub(super) const CLASSES: usize = 8 + 9 * 8;

/// `bytes` in granules, rounded up; `None` where no block is that large.
pub(super) fn granules(bytes: u64) -> Option<u32> {
    if bytes > MAX_BLOCK {
        return None;
    }
    Some(bytes.div_ceil(GRANULARITY) as u32)
}

/// A class of equal small blocks, and the shape of the slabs that hold them.
///
/// Eight classes a doubling: a block is at most an eighth larger than asked for. jemalloc has four
/// (a quarter), but a slot of device memory costs more than an entry of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SizeClass(u8);

impl SizeClass {
    /// The smallest class whose blocks hold `granules`: 1 to 4096 of them.
    pub(super) fn of(granules: u32) -> Self {
        debug_assert!((1..=(MAX_SMALL / GRANULARITY) as u32).contains(&granules));
        let last = granules - 1;
        if last < 8 {
            return Self(last as u8);
        }
        let power = last.ilog2();
        let step = (last >> (power - 3)) & 7;
        Self(((power - 2) * 8 + step) as u8)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Size of a block, in bytes.
    pub(super) fn size(self) -> u64 {
        let (octave, step) = (u32::from(self.0) / 8, u64::from(self.0) % 8);
        let granules = match octave {
            0 => step + 1,
            octave => (8 + step + 1) << (octave - 1),
        };
        granules * GRANULARITY
    }

    /// The slab of this class that holds an address lies in the aligned window of this many bytes
    /// around it, and starts where the window starts. A power of two.
    pub(super) fn window(self) -> u64 {
        (self.size() * MIN_SLOTS)
            .next_power_of_two()
            .max(MIN_WINDOW)
    }

    /// Blocks of a slab.
    pub(super) fn slots(self) -> u32 {
        (self.window() / self.size()).min(MAX_SLOTS) as u32
    }

    /// Bytes of a slab: what the slots need, not the whole window.
    pub(super) fn slab(self) -> u64 {
        u64::from(self.slots()) * self.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_size_has_the_smallest_class_that_holds_it() {
        let largest = (MAX_SMALL / GRANULARITY) as u32;
        for granules in 1..=largest {
            let class = SizeClass::of(granules);
            let bytes = u64::from(granules) * GRANULARITY;
            assert!(class.index() < CLASSES);
            assert!(class.size() >= bytes, "{granules}: {}", class.size());
            assert!(class.size() <= (bytes + bytes / 8).max(bytes), "{granules}");
            if class.0 > 0 {
                assert!(SizeClass(class.0 - 1).size() < bytes, "{granules}");
            }
        }
        assert_eq!(SizeClass::of(largest).index(), CLASSES - 1);
        assert_eq!(SizeClass::of(largest).size(), MAX_SMALL);
    }

    #[test]
    fn slabs_fill_their_windows_but_for_less_than_a_slot() {
        for class in (0..CLASSES as u8).map(SizeClass) {
            let (slots, window) = (u64::from(class.slots()), class.window());
            assert!((MIN_SLOTS..=MAX_SLOTS).contains(&slots), "{class:?}");
            assert!(window.is_power_of_two() && class.slab() <= window);
            assert!(slots == MAX_SLOTS || window - class.slab() < class.size());
        }
    }

    #[test]
    fn granules_round_up_and_end() {
        assert_eq!(granules(0), Some(0));
        assert_eq!(granules(1), Some(1));
        assert_eq!(granules(257), Some(2));
        assert_eq!(granules(MAX_BLOCK), Some(u32::MAX));
        assert_eq!(granules(MAX_BLOCK + 1), None);
        assert_eq!(granules(u64::MAX), None);
    }
}

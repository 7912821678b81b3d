//! Size classes: the multiples of 16 up to 512.

/// The largest request, in bytes.
pub(crate) const MAX_SMALL: usize = 512;
/// The largest alignment of a request, in bytes.
pub(super) const MAX_SMALL_ALIGNMENT: usize = 64;
/// How many classes there are.
pub(super) const CLASSES: usize = MAX_SMALL / STEP;
/// An arena's size in bytes.
pub(super) const ARENA_SIZE: usize = 256 << 10;
/// A page's size in bytes, and its alignment.
///
/// At 4 KiB the worst class would waste 9 % of its pages (8 blocks of 464), at 16 KiB an arena that
/// does not start at a page's boundary loses 6 % of itself; here it is 5 % (18 blocks of 432) and
/// 3 %.
pub(super) const PAGE_SIZE: usize = 8 << 10;
/// The most pages in an arena: all of them when it starts at a page's boundary.
pub(super) const MAX_PAGES: usize = ARENA_SIZE / PAGE_SIZE;

const STEP: usize = 16;
/// Bounds of one thread's magazine.
const MAGAZINE_BLOCKS: usize = 256;
const BATCH_BLOCKS: u32 = 64;
const MAGAZINE_BYTES: usize = 16 << 10;

/// A size class; the number is below [`CLASSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// The class of a request; `None` when `size` is 0 or the request, rounded up to its
    /// alignment, has more than [`MAX_SMALL`] bytes. `alignment` is a power of two.
    #[inline]
    pub(super) fn of(size: usize, alignment: usize) -> Option<Self> {
        debug_assert!(alignment.is_power_of_two() && alignment <= MAX_SMALL_ALIGNMENT);
        let rounded = if alignment > STEP {
            size.wrapping_add(alignment - 1) & !(alignment - 1)
        } else {
            size
        };
        // Zero, also by wrapping, becomes a large number.
        let index = rounded.wrapping_sub(1) / STEP;
        #[expect(clippy::cast_possible_truncation, reason = "below CLASSES")]
        (index < CLASSES).then_some(Self(index as u8))
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES as u8).map(Self)
    }

    /// As a byte that is never 0.
    pub(super) fn tag(self) -> u8 {
        self.0 + 1
    }

    pub(super) fn from_tag(tag: u8) -> Option<Self> {
        (1..=CLASSES as u8).contains(&tag).then(|| Self(tag - 1))
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The size of its blocks in bytes.
    #[inline]
    pub(super) fn size(self) -> usize {
        (self.index() + 1) * STEP
    }

    /// How many blocks a page has.
    #[inline]
    pub(super) fn blocks_per_page(self) -> u32 {
        // A table, since a division would cost more than the list operations around it.
        const BLOCKS: [u32; CLASSES] = {
            let mut blocks = [0; CLASSES];
            let mut index = 0;
            while index < CLASSES {
                blocks[index] = (PAGE_SIZE / ((index + 1) * STEP)) as u32;
                index += 1;
            }
            blocks
        };
        BLOCKS[self.index()]
    }

    /// The most blocks that a thread's magazine holds.
    pub(super) fn magazine(self) -> u32 {
        MAGAZINE_BLOCKS.min(MAGAZINE_BYTES / self.size()) as u32
    }

    /// The most blocks that move between a magazine and the central lists at once.
    pub(super) fn batch(self) -> u32 {
        BATCH_BLOCKS.min(self.magazine() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_fits_its_requests_and_no_smaller_one_does() {
        for alignment in [1, 2, 4, 8, 16, 32, 64] {
            assert_eq!(Class::of(0, alignment), None);
            for size in 1..=MAX_SMALL {
                let class = Class::of(size, alignment).unwrap();
                assert!(class.size() >= size && class.size() - size < alignment.max(STEP));
                assert_eq!(class.size() % alignment, 0, "size {size} at {alignment}");
                assert_eq!(Class::from_tag(class.tag()), Some(class));
            }
            for size in [MAX_SMALL + 1, usize::MAX - 63, usize::MAX - 1, usize::MAX] {
                assert_eq!(
                    Class::of(size, alignment),
                    None,
                    "size {size} at {alignment}"
                );
            }
        }
    }

    #[test]
    fn pages_and_magazines_are_bounded_as_documented() {
        assert_eq!(Class::all().count(), 32);
        for class in Class::all() {
            let unused = PAGE_SIZE - class.blocks_per_page() as usize * class.size();
            assert!(
                unused * 19 < PAGE_SIZE,
                "{unused} bytes of a page of {}",
                class.size()
            );
            assert!(class.magazine() <= 256 && class.batch() <= 64);
            assert!(class.magazine() as usize * class.size() <= 16 << 10);
            assert!(class.batch() >= 16);
        }
        assert_eq!(Class::from_tag(0), None);
        assert_eq!(Class::from_tag(33), None);
    }
}

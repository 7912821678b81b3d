//! A block whose contents are looked after.

use offheap::{Alignment, Error, Pool};
use std::ptr::NonNull;

const PAGE: usize = 4096;

/// A block that says who it is at the first bytes and at the last byte of each page, so that a page
/// that is lost, moved to a wrong place or shared is noticed.
#[derive(Debug)]
pub(crate) struct Stamped {
    pub(crate) block: NonNull<u8>,
    pub(crate) size: usize,
    pub(crate) alignment: Alignment,
    pub(crate) seed: u64,
}

// SAFETY: the block is the value's own.
unsafe impl Send for Stamped {}

fn word(seed: u64, at: usize) -> u64 {
    (seed ^ at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

impl Stamped {
    /// A new block. Zeroed ones are read to the last byte.
    pub(crate) fn new(
        pool: &Pool,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
        seed: u64,
    ) -> Result<Self, Error> {
        let block = if zeroed {
            pool.allocate_zeroed(size, alignment)?
        } else {
            pool.allocate(size, alignment)?
        };
        assert!(alignment.is_aligned(block.addr().get()));
        assert_eq!(block.addr().get() % 64, 0);
        if zeroed {
            let padded = size.next_multiple_of(64);
            // SAFETY: a zeroed block of so many bytes, padding included, at a multiple of 64.
            let words =
                unsafe { std::slice::from_raw_parts(block.as_ptr().cast::<u64>(), padded / 8) };
            assert!(words.iter().all(|word| *word == 0), "{size} zeroed bytes");
        }
        let mut this = Self {
            block,
            size,
            alignment,
            seed,
        };
        this.stamp(0);
        Ok(this)
    }

    pub(crate) fn padded_range(&self) -> std::ops::Range<usize> {
        let start = self.block.addr().get();
        start..start + self.size.next_multiple_of(64)
    }

    /// Stamps the pages from the one of byte `from` on.
    pub(crate) fn stamp(&mut self, from: usize) {
        for page in (from / PAGE * PAGE..self.size).step_by(PAGE) {
            let end = (page + PAGE).min(self.size);
            let word = word(self.seed, page);
            // SAFETY: both places lie in the block; its start is a multiple of 64.
            unsafe {
                if page + 8 <= end {
                    self.block.add(page).cast::<u64>().write(word);
                }
                self.block.add(end - 1).write(word as u8);
            }
        }
    }

    fn check_page(&self, page: usize, kept: usize) {
        let word = word(self.seed, page);
        // SAFETY: both places lie in the block and were written by `stamp`.
        unsafe {
            // In the last page of all, the last byte may be one of the first eight.
            if page + 16 <= kept {
                let found = self.block.add(page).cast::<u64>().read();
                assert_eq!(found, word, "the first bytes at {page} of {}", self.size);
            }
            if page + PAGE <= kept {
                let found = self.block.add(page + PAGE - 1).read();
                assert_eq!(
                    found, word as u8,
                    "the last byte at {page} of {}",
                    self.size
                );
            }
        }
    }

    /// Reads every page of the first `kept` bytes.
    pub(crate) fn check(&self, kept: usize) {
        for page in (0..kept).step_by(PAGE) {
            self.check_page(page, kept);
        }
    }

    /// Reads some pages.
    pub(crate) fn glance(&self) {
        let pages = self.size.div_ceil(PAGE);
        for page in (0..pages).step_by(pages / 8 + 1) {
            self.check_page(page * PAGE, self.size);
        }
        if pages > 0 {
            self.check_page((pages - 1) * PAGE, self.size);
        }
    }

    /// Changes the size; the contents are right whether it works or not.
    pub(crate) fn resize(&mut self, pool: &Pool, size: usize) -> Result<(), Error> {
        // SAFETY: the block is live, with its size and alignment.
        match unsafe { pool.reallocate(self.block, self.size, size, self.alignment) } {
            Ok(block) => {
                assert!(self.alignment.is_aligned(block.addr().get()));
                let kept = size.min(self.size);
                (self.block, self.size) = (block, size);
                self.check(kept);
                self.stamp(kept);
                Ok(())
            }
            Err(error) => {
                self.check(self.size);
                Err(error)
            }
        }
    }

    /// Reads all of it and gives it back.
    pub(crate) fn free(self, pool: &Pool) {
        self.check(self.size);
        // SAFETY: the block is live, with its size and alignment.
        unsafe { pool.free(self.block, self.size, self.alignment) };
    }
}

//! Alignments as a type.

use crate::error::{Error, Result};
use std::num::NonZeroUsize;

/// A power of two.
///
/// Arrow checks the alignment in each backend, each in its own way; here a value that is no power
/// of two cannot reach one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alignment(NonZeroUsize);

/// The largest alignment that can be asked for: 4 GiB.
pub const MAX_ALIGNMENT: u64 = 1 << 32;

impl Alignment {
    /// 64 bytes: a cache line, an AVX-512 register, and what the Arrow format recommends.
    pub const DEFAULT: Self = Self(NonZeroUsize::new(64).unwrap());

    /// 16 bytes: what C's `malloc` promises where we build (`alignof(max_align_t)`).
    pub const MALLOC: Self = Self(NonZeroUsize::new(16).unwrap());

    /// Makes an alignment.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when `bytes` is no power of two or
    /// more than 4 GiB.
    #[inline]
    pub fn new(bytes: usize) -> Result<Self> {
        match NonZeroUsize::new(bytes) {
            Some(n) if n.is_power_of_two() && bytes as u64 <= MAX_ALIGNMENT => Ok(Self(n)),
            _ => Err(Error::invalid_argument(
                "alignment",
                bytes,
                "a power of two of at most 4 GiB",
            )),
        }
    }

    /// The alignment in bytes.
    #[inline]
    pub const fn get(self) -> usize {
        self.0.get()
    }

    /// Whether `address` is a multiple of this alignment.
    #[inline]
    pub const fn is_aligned(self, address: usize) -> bool {
        address & (self.get() - 1) == 0
    }
}

impl Default for Alignment {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl std::fmt::Display for Alignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// `size` rounded up to a multiple of 64, the unit in which every block is padded.
///
/// Returns `None` when the result, or the size itself, cannot be a Rust object's size.
#[inline]
pub(crate) const fn padded(size: usize) -> Option<usize> {
    if size > isize::MAX as usize - 63 {
        None
    } else {
        Some((size + 63) & !63)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_are_alignments() {
        for bytes in [0, 3, 48, 100, 63, 65, usize::MAX] {
            assert!(Alignment::new(bytes).is_err(), "{bytes}");
        }
        for shift in 0..=32 {
            assert_eq!(Alignment::new(1 << shift).unwrap().get(), 1 << shift);
        }
        assert!(Alignment::new(1 << 33).is_err());
        assert_eq!(Alignment::default().to_string(), "64");
    }

    #[test]
    fn padding_never_overflows() {
        assert_eq!(padded(0), Some(0));
        assert_eq!(padded(1), Some(64));
        assert_eq!(padded(64), Some(64));
        assert_eq!(
            padded(isize::MAX as usize - 63),
            Some(isize::MAX as usize - 63)
        );
        assert_eq!(padded(isize::MAX as usize - 62), None);
        assert_eq!(padded(usize::MAX), None);
    }
}

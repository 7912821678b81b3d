//! How a sub-allocating pool grows and what it treats as small.

use super::size_class::{MAX_SMALL, granules};
use offheap::{Error, Result};

/// Blocks of the pool start at multiples of this, and their sizes are rounded up to it: 256 bytes,
/// what CUDA promises for its own allocations and RMM uses.
pub const GRANULARITY: u64 = 256;

/// The largest chunk and the largest block: sizes are kept in 32 bits of granules.
pub const MAX_BLOCK: u64 = (u32::MAX as u64) * GRANULARITY;

/// Options of a [`SubAllocator`](super::SubAllocator).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAllocatorOptions {
    pub(super) name: String,
    pub(super) initial: u64,
    pub(super) maximum: Option<u64>,
    pub(super) minimum_growth: u64,
    pub(super) small_limit: u64,
}

impl Default for SubAllocatorOptions {
    fn default() -> Self {
        Self {
            name: String::from("sub-allocator"),
            initial: 0,
            maximum: None,
            minimum_growth: 2 << 20,
            small_limit: 32 << 10,
        }
    }
}

impl SubAllocatorOptions {
    /// No chunk at first, no maximum, chunks of 2 MiB at least, blocks of up to 32 KiB from slabs.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name in error messages.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Bytes to take from upstream when the pool is made: a multiple of 256. Default 0.
    #[must_use]
    pub fn initial(mut self, bytes: u64) -> Self {
        self.initial = bytes;
        self
    }

    /// Bytes that the pool may hold from upstream: a multiple of 256, not less than the initial
    /// ones. With a maximum the pool grows by `max(size, remaining / 2)`, without one it doubles.
    #[must_use]
    pub fn maximum(mut self, bytes: u64) -> Self {
        self.maximum = Some(bytes);
        self
    }

    /// The smallest chunk to ask upstream for, where the maximum and upstream allow it: a multiple
    /// of 256. Default 2 MiB, the granularity of device memory.
    #[must_use]
    pub fn minimum_growth(mut self, bytes: u64) -> Self {
        self.minimum_growth = bytes;
        self
    }

    /// Blocks of up to this many bytes come from slabs of equal blocks, at most 1 MiB; 0: none do.
    /// Their sizes are rounded up by an eighth at most. Default 32 KiB.
    ///
    /// Slabs are faster and do not slow down with the number of live blocks, but each class of sizes
    /// that a stream uses keeps one of 8 to 16 blocks or 64 KiB at least. Measured
    /// (`bench_sub_allocator`): up to 32 KiB they take no more memory than the best fit does, at 1 MiB
    /// 100 blocks of all sizes up to that took four to five times their bytes, 100,000 a tenth more.
    #[must_use]
    pub fn small_limit(mut self, bytes: u64) -> Self {
        self.small_limit = bytes;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let aligned = |argument, bytes: u64| {
            if bytes.is_multiple_of(GRANULARITY) && granules(bytes).is_some() {
                Ok(())
            } else {
                Err(Error::invalid_argument(
                    argument,
                    bytes,
                    "a multiple of 256 that is less than 1 TiB",
                ))
            }
        };
        aligned("initial", self.initial)?;
        aligned("minimumGrowth", self.minimum_growth)?;
        if let Some(maximum) = self.maximum {
            if !maximum.is_multiple_of(GRANULARITY) {
                return Err(Error::invalid_argument(
                    "maximum",
                    maximum,
                    "a multiple of 256",
                ));
            }
            if maximum < self.initial {
                return Err(Error::invalid_argument(
                    "maximum",
                    maximum,
                    "at least the initial size",
                ));
            }
        }
        if self.small_limit > MAX_SMALL {
            return Err(Error::invalid_argument(
                "smallLimit",
                self.small_limit,
                "at most 1048576",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RMM: ThrowMaxLessThanInitial, NonAlignedPoolSize, InitialAndMaxPoolSizeEqual.
    #[test]
    fn sizes_that_can_never_be_right_are_refused() {
        let new = SubAllocatorOptions::new;
        assert!(new().check().is_ok());
        assert!(new().initial(1024).maximum(256).check().is_err());
        assert!(new().initial(1_000_031).maximum(1_000_192).check().is_err());
        assert!(new().initial(1_000_192).maximum(1_000_200).check().is_err());
        assert!(new().initial(1_000_192).maximum(1_000_192).check().is_ok());
        assert!(new().minimum_growth(100).check().is_err());
        assert!(new().small_limit(MAX_SMALL + 1).check().is_err());
        assert!(new().initial(MAX_BLOCK + GRANULARITY).check().is_err());
    }
}

//! What an allocator must offer to be a backend, and the choice between those compiled in.
//!
//! A new backend is one file beside this one and one arm in each `match` below.

use crate::alignment::Alignment;
use crate::error::{Error, Result};
use std::ptr::NonNull;

#[cfg(feature = "jemalloc")]
use super::jemalloc::Jemalloc;
#[cfg(feature = "mimalloc")]
use super::mimalloc::Mimalloc;
use super::system::System;

/// An allocator. Sizes are never zero and always multiples of 64.
///
/// # Safety
/// - `allocate` returns null or a block of at least `size` bytes at a multiple of `alignment`;
/// - `reallocate` keeps the contents, and the old block when it returns null.
pub(crate) unsafe trait Allocator {
    /// The name that users know it by.
    const NAME: &'static str;

    /// A new block, all zero when `zeroed`; null when memory cannot be had.
    fn allocate(size: usize, alignment: Alignment, zeroed: bool) -> *mut u8;

    /// Changes a block's size, moving it if need be; null leaves the block as it was.
    ///
    /// # Safety
    /// - `ptr` came from this allocator with `old_size` and `alignment` and was not freed.
    unsafe fn reallocate(
        ptr: *mut u8,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> *mut u8;

    /// Gives a block back.
    ///
    /// # Safety
    /// - `ptr` came from this allocator with `size` and `alignment` and was not freed.
    unsafe fn free(ptr: *mut u8, size: usize, alignment: Alignment);

    /// Gives unused memory back to the system, as far as the allocator can.
    fn release_unused();

    /// Prints the allocator's own statistics to stderr.
    fn print_stats();

    /// What the allocator knows about itself.
    fn statistics() -> BackendStatistics;
}

/// What an allocator tells about all its memory, whoever asked for it. `None` is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendStatistics {
    /// Bytes in live blocks, rounding to size classes included.
    pub usable: Option<u64>,
    /// Bytes of physical memory that the allocator holds.
    pub resident: Option<u64>,
    /// Bytes held by the allocator beyond its live blocks, to serve the next request.
    pub retained: Option<u64>,
    /// Bytes lost inside partly used pages.
    pub fragmented: Option<u64>,
}

/// The backends by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    #[cfg(feature = "mimalloc")]
    Mimalloc,
    #[cfg(feature = "jemalloc")]
    Jemalloc,
    System,
}

/// Every backend of this build, the preferred one first.
pub(crate) const BACKENDS: &[Backend] = &[
    #[cfg(feature = "mimalloc")]
    Backend::Mimalloc,
    #[cfg(feature = "jemalloc")]
    Backend::Jemalloc,
    Backend::System,
];

/// Calls an [`Allocator`] function on the type behind a [`Backend`].
macro_rules! dispatch {
    ($backend:expr, $name:ident => $call:expr) => {
        match $backend {
            #[cfg(feature = "mimalloc")]
            Backend::Mimalloc => {
                type $name = Mimalloc;
                $call
            }
            #[cfg(feature = "jemalloc")]
            Backend::Jemalloc => {
                type $name = Jemalloc;
                $call
            }
            Backend::System => {
                type $name = System;
                $call
            }
        }
    };
}

impl Backend {
    pub(crate) const fn name(self) -> &'static str {
        dispatch!(self, A => A::NAME)
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        BACKENDS
            .iter()
            .copied()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| {
                if matches!(name, "mimalloc" | "jemalloc") {
                    Error::not_supported(format!("this build has no {name} backend"))
                } else {
                    Error::invalid_argument("backend", format_args!("'{name}'"), SUPPORTED)
                }
            })
    }

    #[inline]
    pub(crate) fn allocate(
        self,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Option<NonNull<u8>> {
        NonNull::new(dispatch!(self, A => A::allocate(size, alignment, zeroed)))
    }

    /// # Safety
    /// As [`Allocator::reallocate`].
    #[inline]
    pub(crate) unsafe fn reallocate(
        self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Option<NonNull<u8>> {
        NonNull::new(dispatch!(self, A => {
            // SAFETY: the caller keeps the contract, which is the same.
            unsafe { A::reallocate(ptr.as_ptr(), old_size, new_size, alignment) }
        }))
    }

    /// # Safety
    /// As [`Allocator::free`].
    #[inline]
    pub(crate) unsafe fn free(self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        dispatch!(self, A => {
            // SAFETY: the caller keeps the contract, which is the same.
            unsafe { A::free(ptr.as_ptr(), size, alignment) }
        });
    }

    pub(crate) fn release_unused(self) {
        dispatch!(self, A => A::release_unused());
    }

    pub(crate) fn print_stats(self) {
        dispatch!(self, A => A::print_stats());
    }

    pub(crate) fn statistics(self) -> BackendStatistics {
        dispatch!(self, A => A::statistics())
    }
}

/// The names of this build's backends, for messages.
pub(crate) const SUPPORTED: &str = match (cfg!(feature = "mimalloc"), cfg!(feature = "jemalloc")) {
    (true, true) => "one of 'mimalloc', 'jemalloc', 'system'",
    (true, false) => "one of 'mimalloc', 'system'",
    (false, true) => "one of 'jemalloc', 'system'",
    (false, false) => "'system'",
};

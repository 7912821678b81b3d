//! Whose unused memory it is.

use crate::pool::backend::Backend;

/// An allocator with memory of its own, whatever backends are over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Mimalloc,
    Jemalloc,
    System,
    Regions,
}

/// How many there are.
pub(super) const FAMILIES: usize = 4;

impl Family {
    pub(super) const ALL: [Self; FAMILIES] =
        [Self::Mimalloc, Self::Jemalloc, Self::System, Self::Regions];

    #[inline]
    pub(super) const fn of(backend: Backend) -> Self {
        match backend {
            #[cfg(feature = "mimalloc")]
            Backend::Mimalloc | Backend::PlainMimalloc => Self::Mimalloc,
            #[cfg(feature = "jemalloc")]
            Backend::Jemalloc | Backend::PlainJemalloc => Self::Jemalloc,
            Backend::System | Backend::PlainSystem => Self::System,
            Backend::Mapped => Self::Regions,
        }
    }
}

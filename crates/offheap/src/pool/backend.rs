//! What an allocator must offer to be a backend, and the choice between those compiled in.
//!
//! A new backend is one file beside this one and one arm in each `match` below.

use super::backend_count::BackendCount;
use crate::alignment::Alignment;
use crate::error::{Error, Result};
use std::io::Write;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

#[cfg(feature = "jemalloc")]
use super::jemalloc::Jemalloc;
use super::mapped::Mapped;
#[cfg(feature = "mimalloc")]
use super::mimalloc::Mimalloc;
use super::region::{self, THRESHOLD};
use super::system::System;
use super::trim;

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
///
/// Blocks of 1 MiB and more are [mapped by offheap](crate::pool::PoolOptions::large_blocks) for
/// every backend. The live ones are in the backend's `usable` and `resident`, where it tells those;
/// what was freed and waits for the next request is `cached` and in none of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendStatistics {
    /// Bytes in live blocks, rounding to size classes included.
    pub usable: Option<u64>,
    /// Bytes of physical memory that the allocator holds. Of large blocks it is the most that can be
    /// resident: all of their pages, touched or not.
    pub resident: Option<u64>,
    /// Bytes of freed large blocks that wait, resident, for the next request of any backend: one
    /// figure of the process, the same for each backend. It goes to zero within two seconds.
    pub cached: Option<u64>,
    /// Bytes held by the allocator beyond its live blocks, to serve the next request.
    pub retained: Option<u64>,
    /// Bytes lost inside partly used pages.
    pub fragmented: Option<u64>,
    /// Bytes that callers asked the allocator for, through whatever pools.
    pub requested: BackendCount,
    /// The history of `usable`.
    pub allocated: BackendCount,
    /// The history of `resident`: what a device's allocator took from the device.
    pub reserved: BackendCount,
}

impl BackendStatistics {
    /// The figures of an allocator that counts by itself, as those of devices do: bytes asked for, bytes of
    /// its live blocks, bytes that it holds. The other figures follow from these; sources of memory answer
    /// [`backend_statistics`](crate::MemoryPool::backend_statistics) with this.
    pub fn of_counts(
        requested: BackendCount,
        allocated: BackendCount,
        reserved: BackendCount,
    ) -> Self {
        let held = reserved.current.zip(allocated.current);
        Self {
            usable: allocated.current,
            resident: reserved.current,
            retained: held.map(|(reserved, used)| reserved.saturating_sub(used)),
            requested,
            allocated,
            reserved,
            ..Self::default()
        }
    }
}

/// The backends by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    #[cfg(feature = "mimalloc")]
    Mimalloc,
    #[cfg(feature = "jemalloc")]
    Jemalloc,
    System,
    Mapped,
    /// As `Mimalloc`, large blocks too.
    #[cfg(feature = "mimalloc")]
    PlainMimalloc,
    /// As `Jemalloc`, large blocks too.
    #[cfg(feature = "jemalloc")]
    PlainJemalloc,
    /// As `System`, large blocks too.
    PlainSystem,
}

/// Every backend of this build, the preferred one first.
pub(crate) const BACKENDS: &[Backend] = &[
    #[cfg(feature = "mimalloc")]
    Backend::Mimalloc,
    #[cfg(feature = "jemalloc")]
    Backend::Jemalloc,
    Backend::System,
    Backend::Mapped,
];

/// The backends that serve their large blocks themselves, for comparison.
pub(crate) const PLAIN_BACKENDS: &[Backend] = &[
    #[cfg(feature = "mimalloc")]
    Backend::PlainMimalloc,
    #[cfg(feature = "jemalloc")]
    Backend::PlainJemalloc,
    Backend::PlainSystem,
];

/// Bytes in live regions of each backend, multiples of 64.
static LARGE: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// Calls an [`Allocator`] function on the type behind a [`Backend`].
macro_rules! dispatch {
    ($backend:expr, $name:ident => $call:expr) => {
        match $backend {
            #[cfg(feature = "mimalloc")]
            Backend::Mimalloc | Backend::PlainMimalloc => {
                type $name = Mimalloc;
                $call
            }
            #[cfg(feature = "jemalloc")]
            Backend::Jemalloc | Backend::PlainJemalloc => {
                type $name = Jemalloc;
                $call
            }
            Backend::System | Backend::PlainSystem => {
                type $name = System;
                $call
            }
            Backend::Mapped => {
                type $name = Mapped;
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

    /// Tells [`trim`] of bytes that a thread took or, negative, gave back.
    pub(crate) const fn on_moved(self) -> fn(i64) {
        use super::trim::moved;
        match self {
            #[cfg(feature = "mimalloc")]
            Self::Mimalloc => |bytes| moved(Self::Mimalloc, bytes),
            #[cfg(feature = "jemalloc")]
            Self::Jemalloc => |bytes| moved(Self::Jemalloc, bytes),
            Self::System => |bytes| moved(Self::System, bytes),
            Self::Mapped => |bytes| moved(Self::Mapped, bytes),
            #[cfg(feature = "mimalloc")]
            Self::PlainMimalloc => |bytes| moved(Self::PlainMimalloc, bytes),
            #[cfg(feature = "jemalloc")]
            Self::PlainJemalloc => |bytes| moved(Self::PlainJemalloc, bytes),
            Self::PlainSystem => |bytes| moved(Self::PlainSystem, bytes),
        }
    }

    /// The same allocator without our large blocks. `mapped` has no other.
    pub(crate) const fn plain(self) -> Self {
        match self {
            #[cfg(feature = "mimalloc")]
            Self::Mimalloc | Self::PlainMimalloc => Self::PlainMimalloc,
            #[cfg(feature = "jemalloc")]
            Self::Jemalloc | Self::PlainJemalloc => Self::PlainJemalloc,
            Self::System | Self::PlainSystem => Self::PlainSystem,
            Self::Mapped => Self::Mapped,
        }
    }

    /// Whether blocks from [`THRESHOLD`] on are regions.
    fn uses_regions(self) -> bool {
        match self {
            Self::Mapped => true,
            Self::PlainSystem => false,
            #[cfg(feature = "mimalloc")]
            Self::PlainMimalloc => false,
            #[cfg(feature = "jemalloc")]
            Self::PlainJemalloc => false,
            _ => large_blocks_of_environment(),
        }
    }

    #[inline]
    pub(crate) fn allocate(
        self,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Option<NonNull<u8>> {
        if size >= THRESHOLD {
            return self.allocate_large(size, alignment, zeroed);
        }
        self.allocate_itself(size, alignment, zeroed)
    }

    #[inline]
    fn allocate_itself(
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
        if old_size.max(new_size) >= THRESHOLD {
            // SAFETY: the caller keeps the contract, which is the same.
            return unsafe { self.reallocate_large(ptr, old_size, new_size, alignment) };
        }
        // SAFETY: as above.
        unsafe { self.reallocate_itself(ptr, old_size, new_size, alignment) }
    }

    /// # Safety
    /// As [`Allocator::reallocate`].
    #[inline]
    unsafe fn reallocate_itself(
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
        if size >= THRESHOLD {
            // SAFETY: the caller keeps the contract, which is the same.
            return unsafe { self.free_large(ptr, size, alignment) };
        }
        // SAFETY: as above.
        unsafe { self.free_itself(ptr, size, alignment) }
    }

    /// # Safety
    /// As [`Allocator::free`].
    #[inline]
    unsafe fn free_itself(self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        dispatch!(self, A => {
            // SAFETY: the caller keeps the contract, which is the same.
            unsafe { A::free(ptr.as_ptr(), size, alignment) }
        });
    }

    #[cold]
    #[inline(never)]
    fn allocate_large(
        self,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Option<NonNull<u8>> {
        if !self.uses_regions() {
            return self.allocate_itself(size, alignment, zeroed);
        }
        let block = NonNull::new(region::allocate(size, alignment, zeroed))?;
        LARGE[self as usize].fetch_add(size as u64, Ordering::Relaxed);
        Some(block)
    }

    /// # Safety
    /// As [`Allocator::reallocate`].
    #[cold]
    #[inline(never)]
    unsafe fn reallocate_large(
        self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Option<NonNull<u8>> {
        if !self.uses_regions() {
            // SAFETY: the caller keeps the contract, which is the same.
            return unsafe { self.reallocate_itself(ptr, old_size, new_size, alignment) };
        }
        if old_size.min(new_size) >= THRESHOLD {
            // SAFETY: the caller keeps the contract; from the threshold on, a block is a region.
            let block = unsafe { region::reallocate(ptr.as_ptr(), old_size, new_size, alignment) };
            let block = NonNull::new(block)?;
            let large = &LARGE[self as usize];
            large.fetch_add(
                (new_size as u64).wrapping_sub(old_size as u64),
                Ordering::Relaxed,
            );
            return Some(block);
        }
        // From the allocator to a region, or back.
        let block = self.allocate(new_size, alignment, false)?;
        // SAFETY: both blocks have as many bytes, and a new block overlaps no live one.
        unsafe { block.copy_from_nonoverlapping(ptr, old_size.min(new_size)) };
        // SAFETY: the caller gives the old block up.
        unsafe { self.free(ptr, old_size, alignment) };
        Some(block)
    }

    /// # Safety
    /// As [`Allocator::free`].
    #[cold]
    #[inline(never)]
    unsafe fn free_large(self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        if !self.uses_regions() {
            // SAFETY: the caller keeps the contract, which is the same.
            return unsafe { self.free_itself(ptr, size, alignment) };
        }
        // SAFETY: the caller keeps the contract; from the threshold on, a block is a region.
        unsafe { region::free(ptr.as_ptr(), size, alignment) };
        LARGE[self as usize].fetch_sub(size as u64, Ordering::Relaxed);
        trim::freed(Self::Mapped, size);
    }

    /// Empties the cache of regions, too, which all backends share, and has other threads give back
    /// what only they can.
    pub(crate) fn release_unused(self) {
        region::release_unused();
        self.sweep();
        trim::release_unused(self);
    }

    /// Gives back what the allocator itself can from the calling thread.
    pub(crate) fn sweep(self) {
        dispatch!(self, A => A::release_unused());
    }

    pub(crate) fn print_stats(self) {
        dispatch!(self, A => A::print_stats());
        if self.uses_regions() {
            region::print_stats();
        }
    }

    pub(crate) fn statistics(self) -> BackendStatistics {
        let mut itself = dispatch!(self, A => A::statistics());
        if self.uses_regions() {
            let large = LARGE[self as usize].load(Ordering::Relaxed);
            itself.usable = itself.usable.map(|bytes| bytes + large);
            itself.resident = itself.resident.map(|bytes| bytes + large);
            itself.cached = Some(region::statistics().cached);
        }
        itself.allocated.current = itself.usable;
        itself.reserved.current = itself.resident;
        itself
    }
}

/// Whether `OFFHEAP_LARGE_BLOCKS` leaves the large blocks to us: `0` and `false` do not.
/// Read once, without allocating, and only from memory of C's: an allocator is asking.
fn large_blocks_of_environment() -> bool {
    const UNKNOWN: u8 = 0;
    const OURS: u8 = 1;
    const THEIRS: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);

    #[cold]
    fn find() -> u8 {
        // SAFETY: a C string. What C answers is null or a C string, which stays while nobody sets
        // the variable, as std asks of those who set one.
        let value = unsafe {
            let value = libc::getenv(c"OFFHEAP_LARGE_BLOCKS".as_ptr());
            if value.is_null() {
                return OURS;
            }
            std::ffi::CStr::from_ptr(value)
        };
        match value.to_bytes() {
            b"0" | b"false" => THEIRS,
            b"" | b"1" | b"true" => OURS,
            other => {
                let other = std::str::from_utf8(other).unwrap_or("?");
                drop(writeln!(
                    std::io::stderr(),
                    "offheap: unsupported value '{other}' of OFFHEAP_LARGE_BLOCKS (supported: 0, 1); using 1"
                ));
                OURS
            }
        }
    }
    let mut answer = ANSWER.load(Ordering::Relaxed);
    if answer == UNKNOWN {
        // Whoever was first decides: the environment may change, a block's home may not.
        let found = find();
        answer = match ANSWER.compare_exchange(UNKNOWN, found, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => found,
            Err(first) => first,
        };
    }
    answer == OURS
}

/// The names of this build's backends, for messages.
pub(crate) const SUPPORTED: &str = match (cfg!(feature = "mimalloc"), cfg!(feature = "jemalloc")) {
    (true, true) => "one of 'mimalloc', 'jemalloc', 'system', 'mapped'",
    (true, false) => "one of 'mimalloc', 'system', 'mapped'",
    (false, true) => "one of 'jemalloc', 'system', 'mapped'",
    (false, false) => "one of 'system', 'mapped'",
};

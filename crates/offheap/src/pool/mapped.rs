//! Pages of the system's for every block, and regions for large ones.

use super::backend::{Allocator, BackendStatistics};
use super::region;
use crate::alignment::Alignment;
use std::io::Write;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

/// No allocator at all: a small block is a mapping of its own, whole pages, given back when it is
/// freed.
#[derive(Debug)]
pub(crate) struct Mapped;

/// Bytes of the mappings of small blocks.
static SMALL: AtomicU64 = AtomicU64::new(0);

/// The bytes that are mapped for a block.
const fn whole_pages(size: usize, page: usize) -> Option<usize> {
    match size.checked_add(page - 1) {
        Some(sum) => Some(sum & !(page - 1)),
        None => None,
    }
}

// SAFETY: mappings start at multiples of the alignment asked for and of a page; `reallocate` copies
// before it frees.
unsafe impl Allocator for Mapped {
    const NAME: &'static str = "mapped";

    /// A fresh mapping is zero.
    fn allocate(size: usize, alignment: Alignment, _zeroed: bool) -> *mut u8 {
        let page = region::page_size();
        let Some(bytes) = whole_pages(size, page) else {
            return ptr::null_mut();
        };
        let Some(block) = region::reserve(bytes, alignment.get().max(page), true) else {
            return ptr::null_mut();
        };
        SMALL.fetch_add(bytes as u64, Ordering::Relaxed);
        block.as_ptr()
    }

    unsafe fn reallocate(
        block: *mut u8,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> *mut u8 {
        let page = region::page_size();
        let (old, new) = (whole_pages(old_size, page), whole_pages(new_size, page));
        if old == new {
            return block;
        }
        let target = Self::allocate(new_size, alignment, false);
        if !target.is_null() {
            // SAFETY: both blocks have as many bytes, and a new mapping overlaps no other.
            unsafe { ptr::copy_nonoverlapping(block, target, old_size.min(new_size)) };
            // SAFETY: the caller gives the old block up.
            unsafe { Self::free(block, old_size, alignment) };
        }
        target
    }

    unsafe fn free(block: *mut u8, size: usize, _alignment: Alignment) {
        let page = region::page_size();
        if let (Some(start), Some(bytes)) = (NonNull::new(block), whole_pages(size, page)) {
            // SAFETY: the caller's block is a mapping of `allocate`'s with that many bytes.
            unsafe { region::give_back(start, bytes) };
            SMALL.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }

    fn release_unused() {}

    fn print_stats() {
        let small = SMALL.load(Ordering::Relaxed);
        drop(writeln!(
            std::io::stderr(),
            "offheap mapped: {small} bytes in pages of small blocks"
        ));
    }

    fn statistics() -> BackendStatistics {
        let small = SMALL.load(Ordering::Relaxed);
        BackendStatistics {
            usable: Some(small),
            resident: Some(small),
            retained: Some(0),
            ..BackendStatistics::default()
        }
    }
}

//! The records of an arena and its pages, kept beside the memory.
//!
//! Records are made once and never freed (an arena that goes leaves its record to the next one), so
//! they are handed around as `&'static`. Their cells are each guarded by a lock:
//!
//! | fields | guarded by |
//! |---|---|
//! | a page's `free`, `used`, `fresh`, `taker`, `next`, `previous`, while it has a class | that class's lock |
//! | the same, and `start`, while the page is on the way between two owners | the thread that has it |
//! | an arena's cells | the lock of the arenas; while it is made or released, the thread that does |
//! | `class`, `base`, `first`, `pages` | atomics: read by any thread at any time |

use super::arena_allocator::ArenaAllocator;
use super::chain::{Chain, FreeBlock, link, next};
use super::class::{ARENA_SIZE, Class, MAX_PAGES, PAGE_SIZE};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// 8 KiB of blocks of one class.
pub(super) struct Page {
    /// [`Class::tag`], 0 while the page has none.
    class: AtomicU8,
    arena: Cell<Option<&'static Arena>>,
    start: Cell<*mut u8>,
    /// Blocks that came back.
    free: Cell<*mut FreeBlock>,
    /// Blocks that are out: with callers or in magazines.
    used: Cell<u32>,
    /// Blocks from here on were never out: carved lazily, so that memory is touched when it is
    /// needed.
    fresh: Cell<u32>,
    /// Who took blocks last: the address of a thread's magazines, only ever compared.
    pub(super) taker: Cell<usize>,
    /// Neighbours in the list of the class's pages with free blocks.
    pub(super) next: Cell<Option<&'static Page>>,
    pub(super) previous: Cell<Option<&'static Page>>,
}

/// 256 KiB from an arena allocator.
pub(super) struct Arena {
    base: AtomicUsize,
    first: AtomicUsize,
    pages: AtomicUsize,
    memory: Cell<*mut u8>,
    allocator: Cell<Option<ArenaAllocator>>,
    /// A bit for each page without a class.
    free: Cell<u32>,
    /// Neighbours in a list of arenas.
    pub(super) next: Cell<Option<&'static Arena>>,
    pub(super) previous: Cell<Option<&'static Arena>>,
    page_records: [Page; MAX_PAGES],
}

const _: () = assert!(MAX_PAGES <= u32::BITS as usize);
const _: () = assert!(align_of::<Arena>() <= 16, "calloc's alignment");

// SAFETY: the table above says who may touch which cell; what others read are atomics.
unsafe impl Sync for Arena {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    const fn new() -> Self {
        Self {
            class: AtomicU8::new(0),
            arena: Cell::new(None),
            start: Cell::new(ptr::null_mut()),
            free: Cell::new(ptr::null_mut()),
            used: Cell::new(0),
            fresh: Cell::new(0),
            taker: Cell::new(0),
            next: Cell::new(None),
            previous: Cell::new(None),
        }
    }

    pub(super) fn class(&self) -> Option<Class> {
        Class::from_tag(self.class.load(Ordering::Relaxed))
    }

    /// Makes a page without a class one of `class`.
    pub(super) fn assign(&self, class: Class) {
        debug_assert!(self.used.get() == 0 && self.class().is_none());
        self.free.set(ptr::null_mut());
        self.fresh.set(0);
        self.class.store(class.tag(), Ordering::Relaxed);
    }

    /// Takes the class from a page with no block out.
    pub(super) fn retire(&self) {
        debug_assert_eq!(self.used.get(), 0);
        self.class.store(0, Ordering::Relaxed);
    }

    pub(super) fn arena(&self) -> Option<&'static Arena> {
        self.arena.get()
    }

    /// Whether `address` is in the page.
    pub(super) fn holds(&self, address: usize) -> bool {
        address.wrapping_sub(self.start.get().addr()) < PAGE_SIZE
    }

    /// Whether all blocks are back.
    pub(super) fn is_unused(&self) -> bool {
        self.used.get() == 0
    }

    /// Whether no block is left.
    pub(super) fn is_exhausted(&self, class: Class) -> bool {
        self.used.get() == class.blocks_per_page()
    }

    /// Moves up to `want` blocks to `chain`. The page's class is `class`.
    pub(super) fn take(&self, class: Class, want: u32, chain: &mut Chain) {
        let mut taken = 0;
        let mut free = self.free.get();
        while taken < want {
            let Some(block) = NonNull::new(free) else {
                break;
            };
            // SAFETY: the page's list has free blocks only; the class's lock makes them ours.
            free = unsafe { next(free) };
            // SAFETY: a block of the page, off its list now.
            unsafe { chain.push(block.cast()) };
            taken += 1;
        }
        self.free.set(free);
        let fresh = self.fresh.get();
        let carve = (want - taken).min(class.blocks_per_page() - fresh);
        // The lowest address comes out of the chain first: callers then walk upwards.
        for index in (fresh..fresh + carve).rev() {
            // SAFETY: `index` is less than blocks_per_page, so the block lies in the page, which
            // is part of the arena's allocation, and not at null.
            let block = unsafe {
                NonNull::new_unchecked(self.start.get().add(index as usize * class.size()))
            };
            // SAFETY: a block of at least 16 bytes at a multiple of 16 that was never out.
            unsafe { chain.push(block) };
        }
        self.fresh.set(fresh + carve);
        self.used.set(self.used.get() + taken + carve);
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// - `block` is a block of this page that nobody uses any more.
    pub(super) unsafe fn put(&self, block: NonNull<u8>) {
        // SAFETY: a block of at least 16 bytes, nobody's now.
        self.free.set(unsafe { link(block, self.free.get()) });
        self.used.set(self.used.get() - 1);
    }
}

impl Arena {
    /// A record of no arena, from the C library's malloc.
    pub(super) fn new_record() -> Option<&'static Self> {
        // SAFETY: calloc takes any size.
        let record = unsafe { libc::calloc(1, size_of::<Self>()) }.cast::<Self>();
        let record = NonNull::new(record)?;
        let empty = Self {
            base: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            pages: AtomicUsize::new(0),
            memory: Cell::new(ptr::null_mut()),
            allocator: Cell::new(None),
            free: Cell::new(0),
            next: Cell::new(None),
            previous: Cell::new(None),
            page_records: [const { Page::new() }; MAX_PAGES],
        };
        // SAFETY: the block has the size and calloc's alignment, which suffices (see above).
        unsafe { record.write(empty) };
        // SAFETY: initialised, and never freed.
        Some(unsafe { record.as_ref() })
    }

    /// Makes the record that of `memory`, with all pages free.
    ///
    /// # Safety
    /// - `memory` has [`ARENA_SIZE`] bytes, which are now the arena's, from `allocator`;
    /// - the record is the calling thread's alone, and that of no arena.
    pub(super) unsafe fn adopt(&'static self, memory: NonNull<u8>, allocator: ArenaAllocator) {
        let base = memory.addr().get();
        let lost = base.wrapping_neg() & (PAGE_SIZE - 1);
        let pages = (ARENA_SIZE - lost) / PAGE_SIZE;
        for (index, page) in self.page_records.iter().take(pages).enumerate() {
            // SAFETY: the first `pages` pages after the lost bytes lie in the memory.
            let start = unsafe { memory.add(lost + index * PAGE_SIZE) };
            page.start.set(start.as_ptr());
            page.arena.set(Some(self));
            page.used.set(0);
        }
        self.memory.set(memory.as_ptr());
        self.allocator.set(Some(allocator));
        // Bits 0 to pages − 1; at least one page, since a page is less than half an arena.
        self.free.set(u32::MAX >> (u32::BITS as usize - pages));
        self.first.store(base.wrapping_add(lost), Ordering::Relaxed);
        self.pages.store(pages, Ordering::Relaxed);
        self.base.store(base, Ordering::Relaxed);
    }

    /// Undoes [`adopt`](Self::adopt): the memory and whom to give it to.
    ///
    /// The record is the calling thread's alone, and no block is out.
    pub(super) fn abandon(&self) -> Option<(NonNull<u8>, ArenaAllocator)> {
        self.pages.store(0, Ordering::Relaxed);
        self.base.store(0, Ordering::Relaxed);
        let memory = NonNull::new(self.memory.replace(ptr::null_mut()))?;
        Some((memory, self.allocator.take()?))
    }

    /// The address of the memory; 0 without one.
    pub(super) fn base(&self) -> usize {
        self.base.load(Ordering::Relaxed)
    }

    /// The page at `address`, if that is in a page of this arena.
    pub(super) fn page_at(&'static self, address: usize) -> Option<&'static Page> {
        let offset = address.wrapping_sub(self.first.load(Ordering::Relaxed));
        let index = offset / PAGE_SIZE;
        if index >= self.pages.load(Ordering::Relaxed) {
            return None;
        }
        self.page_records.get(index)
    }

    pub(super) fn free_pages(&self) -> u32 {
        self.free.get().count_ones()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free_pages() as usize == self.pages.load(Ordering::Relaxed)
    }

    /// A page without a class, the one with the lowest address.
    pub(super) fn take_page(&'static self) -> Option<&'static Page> {
        let free = self.free.get();
        let page = self.page_records.get(free.trailing_zeros() as usize)?;
        self.free.set(free & (free - 1));
        Some(page)
    }

    /// Takes a page of this arena back.
    pub(super) fn put_page(&'static self, page: &'static Page) {
        let offset = page.start.get().addr() - self.first.load(Ordering::Relaxed);
        let bit = 1 << (offset / PAGE_SIZE);
        debug_assert_eq!(self.free.get() & bit, 0);
        self.free.set(self.free.get() | bit);
    }
}

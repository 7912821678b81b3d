//! The arenas that have free pages, fullest first.

use super::arena::{Arena, Page};
use super::class::{ARENA_SIZE, MAX_PAGES};
use super::statistics::SmallObjectStatistics;

/// Which pages are free. Behind the lock of the arenas.
///
/// A page is always taken from the arena with the fewest free ones, so that the emptiest arenas
/// get the chance to become empty (as CPython's `usable_arenas` does).
pub(super) struct Arenas {
    /// Arenas with `i` free pages at place `i`, without full and without empty ones.
    by_free_pages: [Option<&'static Arena>; MAX_PAGES],
    /// The empty arena that is kept, so that a program at an arena's edge does not map and unmap
    /// one in turns.
    empty: Option<&'static Arena>,
    /// Records of no arena.
    records: Option<&'static Arena>,
    allocated: u64,
    freed: u64,
}

impl Arenas {
    pub(super) const fn new() -> Self {
        Self {
            by_free_pages: [None; MAX_PAGES],
            empty: None,
            records: None,
            allocated: 0,
            freed: 0,
        }
    }

    pub(super) fn take_record(&mut self) -> Option<&'static Arena> {
        let record = self.records?;
        self.records = record.next.take();
        Some(record)
    }

    pub(super) fn put_record(&mut self, record: &'static Arena) {
        record.next.set(self.records);
        self.records = Some(record);
    }

    fn link(&mut self, arena: &'static Arena) {
        // Full and empty arenas are in no list; others have 1 to MAX_PAGES − 1 free pages.
        let free = arena.free_pages() as usize;
        if free == 0 {
            return;
        }
        let head = &mut self.by_free_pages[free];
        if let Some(next) = *head {
            next.previous.set(Some(arena));
        }
        arena.next.set(*head);
        arena.previous.set(None);
        *head = Some(arena);
    }

    fn unlink(&mut self, arena: &'static Arena) {
        let free = arena.free_pages() as usize;
        if free == 0 {
            return;
        }
        let (next, previous) = (arena.next.take(), arena.previous.take());
        match previous {
            Some(previous) => previous.next.set(next),
            None => self.by_free_pages[free] = next,
        }
        if let Some(next) = next {
            next.previous.set(previous);
        }
    }

    /// A page without a class, if any arena has one.
    pub(super) fn take_page(&mut self) -> Option<&'static Page> {
        let arena = match self.by_free_pages.iter().find_map(|arena| *arena) {
            Some(arena) => {
                self.unlink(arena);
                arena
            }
            None => self.empty.take()?,
        };
        let page = arena.take_page();
        self.link(arena);
        page
    }

    /// Takes a page without a class back: an arena that is empty now and not kept.
    #[must_use = "the arena is in no list any more"]
    pub(super) fn put_page(&mut self, page: &'static Page) -> Option<&'static Arena> {
        let arena = page.arena()?;
        self.unlink(arena);
        arena.put_page(page);
        if arena.is_empty() {
            return self.keep_or_release(arena);
        }
        self.link(arena);
        None
    }

    /// Takes a new arena, all of whose pages are free, and gives out a page: of an older arena if
    /// one has got a free page meanwhile. The second is an arena to be released.
    pub(super) fn add(
        &mut self,
        arena: &'static Arena,
    ) -> (Option<&'static Page>, Option<&'static Arena>) {
        self.allocated += 1;
        if let Some(page) = self.take_page() {
            return (Some(page), self.keep_or_release(arena));
        }
        let page = arena.take_page();
        self.link(arena);
        (page, None)
    }

    fn keep_or_release(&mut self, arena: &'static Arena) -> Option<&'static Arena> {
        if self.empty.is_none() {
            self.empty = Some(arena);
            return None;
        }
        self.freed += 1;
        Some(arena)
    }

    /// The empty arena that was kept, to be released.
    #[must_use = "the arena is in no list any more"]
    pub(super) fn take_empty(&mut self) -> Option<&'static Arena> {
        let arena = self.empty.take()?;
        self.freed += 1;
        Some(arena)
    }

    pub(super) fn count(&self, statistics: &mut SmallObjectStatistics) {
        statistics.arenas = self.allocated - self.freed;
        statistics.arena_bytes = statistics.arenas * ARENA_SIZE as u64;
        statistics.arenas_allocated_total = self.allocated;
        statistics.arenas_freed_total = self.freed;
    }
}

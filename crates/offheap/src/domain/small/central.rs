//! What the threads share: the pages of each class, and the arenas.

use super::arena::{Arena, Page};
use super::arena_allocator::ArenaAllocator;
use super::arenas::Arenas;
use super::chain::Chain;
use super::class::{ARENA_SIZE, CLASSES, Class};
use super::magazines::Roster;
use super::registry;
use super::statistics::SmallObjectStatistics;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. Nothing under these locks can panic half-way, so a poisoned one is as good as another.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pages of one class that have free blocks, and how many blocks are out of all its pages.
struct ClassPages {
    partial: Option<&'static Page>,
    used: u64,
}

/// How many pages are looked at for one of the thread's own.
const LOOK: usize = 4;

impl ClassPages {
    /// A page with free blocks: rather one that `taker` took from last than one whose blocks lie
    /// in another processor's cache. Without this two threads that allocate and free a hundred
    /// blocks in turns pass them to each other all the time.
    fn pick(&self, taker: usize) -> Option<&'static Page> {
        std::iter::successors(self.partial, |page| page.next.get())
            .take(LOOK)
            .find(|page| page.taker.get() == taker)
            .or(self.partial)
    }

    fn link(&mut self, page: &'static Page) {
        if let Some(next) = self.partial {
            next.previous.set(Some(page));
        }
        page.next.set(self.partial);
        page.previous.set(None);
        self.partial = Some(page);
    }

    fn unlink(&mut self, page: &'static Page) {
        let (next, previous) = (page.next.take(), page.previous.take());
        match previous {
            Some(previous) => previous.next.set(next),
            None => self.partial = next,
        }
        if let Some(next) = next {
            next.previous.set(previous);
        }
    }
}

/// Two lines of the cache, as neighbours are fetched in pairs.
#[repr(align(128))]
struct Line(Mutex<ClassPages>);

/// The shared part of a heap of small objects.
pub(super) struct Central {
    classes: [Line; CLASSES],
    arenas: Mutex<Arenas>,
    allocator: Mutex<ArenaAllocator>,
    /// Every thread's magazines, for the statistics.
    pub(super) roster: Mutex<Roster>,
}

impl Central {
    pub(super) const fn new() -> Self {
        const EMPTY: ClassPages = ClassPages {
            partial: None,
            used: 0,
        };
        Self {
            classes: [const { Line(Mutex::new(EMPTY)) }; CLASSES],
            arenas: Mutex::new(Arenas::new()),
            allocator: Mutex::new(ArenaAllocator::MAPPED),
            roster: Mutex::new(Roster::new()),
        }
    }

    pub(super) fn arena_allocator(&self) -> ArenaAllocator {
        lock(&self.allocator).clone()
    }

    /// Returns the old one, for the caller to drop: that may run a program's code.
    pub(super) fn set_arena_allocator(&self, allocator: ArenaAllocator) -> ArenaAllocator {
        std::mem::replace(&mut *lock(&self.allocator), allocator)
    }

    fn class(&self, class: Class) -> MutexGuard<'_, ClassPages> {
        lock(&self.classes[class.index()].0)
    }

    /// Up to `want` blocks; none when no page is left and `page`, a page of [`grow`](Self::grow)'s,
    /// is `None`.
    ///
    /// One page without a class is taken at most, and none while there are blocks without.
    pub(super) fn take(
        &self,
        class: Class,
        want: u32,
        taker: usize,
        page: Option<&'static Page>,
    ) -> Chain {
        let mut chain = Chain::new();
        let mut pages = self.class(class);
        if let Some(page) = page {
            page.assign(class);
            pages.link(page);
        }
        while chain.len() < want {
            let page = match pages.pick(taker) {
                Some(page) => page,
                None if chain.len() > 0 => break,
                None => {
                    let Some(page) = lock(&self.arenas).take_page() else {
                        break;
                    };
                    page.assign(class);
                    pages.link(page);
                    page
                }
            };
            page.taker.set(taker);
            page.take(class, want - chain.len(), &mut chain);
            if page.is_exhausted(class) {
                pages.unlink(page);
            }
        }
        pages.used += u64::from(chain.len());
        chain
    }

    /// Takes blocks of `class` back; gives arenas back that are empty now.
    ///
    /// A block that is no block of this class is left alone (and reported where debug assertions
    /// are on): the check is not on the hot path and keeps the lists sound.
    ///
    /// # Safety
    /// - the chain's blocks came from [`take`](Self::take) of this heap with the same class.
    pub(super) unsafe fn give(&self, class: Class, mut chain: Chain) {
        // Linked by `next`, as such an arena is in no list.
        let mut emptied: Option<&'static Arena> = None;
        let mut pages = self.class(class);
        let mut last: Option<&'static Page> = None;
        while let Some(block) = chain.pop() {
            let address = block.addr().get();
            let page = match last.filter(|page| page.holds(address)) {
                Some(page) => page,
                None => match registry::page_at(address) {
                    Some(page) if page.class() == Some(class) => page,
                    _ => {
                        debug_assert!(false, "{address:#x} is no block of {}", class.size());
                        continue;
                    }
                },
            };
            let was_exhausted = page.is_exhausted(class);
            // SAFETY: the block came from a page of this class, and this is the one it is in.
            unsafe { page.put(block) };
            pages.used -= 1;
            last = Some(page);
            if page.is_unused() {
                if !was_exhausted {
                    pages.unlink(page);
                }
                page.retire();
                last = None;
                let empty = lock(&self.arenas).put_page(page);
                if let Some(arena) = empty {
                    arena.next.set(emptied);
                    emptied = Some(arena);
                }
            } else if was_exhausted {
                pages.link(page);
            }
        }
        drop(pages);
        while let Some(arena) = emptied {
            emptied = arena.next.take();
            self.release(arena);
        }
    }

    /// A page without a class from a new arena of `allocator`'s, or from an older arena that has
    /// got a free page meanwhile; `None` when there is no memory, and then nothing has changed.
    pub(super) fn grow(&self, allocator: ArenaAllocator) -> Option<&'static Page> {
        let Some(arena) = self.new_arena(allocator) else {
            return lock(&self.arenas).take_page();
        };
        let (page, surplus) = lock(&self.arenas).add(arena);
        if let Some(surplus) = surplus {
            self.release(surplus);
        }
        page
    }

    /// An arena that is in the registry and in no list. No lock is held: the allocator may use
    /// this heap.
    fn new_arena(&self, allocator: ArenaAllocator) -> Option<&'static Arena> {
        let record = lock(&self.arenas).take_record();
        let Some(record) = record.or_else(Arena::new_record) else {
            allocator.discard();
            return None;
        };
        let Some(memory) = allocator.allocate(ARENA_SIZE) else {
            allocator.discard();
            lock(&self.arenas).put_record(record);
            return None;
        };
        // SAFETY: the allocator gave ARENA_SIZE bytes; the record is no list's, so it is ours.
        unsafe { record.adopt(memory, allocator) };
        if registry::insert(record) {
            return Some(record);
        }
        self.dissolve(record);
        None
    }

    /// Gives an arena back that is in no list and has no block out.
    fn release(&self, arena: &'static Arena) {
        registry::remove(arena);
        self.dissolve(arena);
    }

    fn dissolve(&self, arena: &'static Arena) {
        if let Some((memory, allocator)) = arena.abandon() {
            // SAFETY: the memory is of this allocator; it left the registry and the lists with no
            // block out, so nobody uses it.
            unsafe { allocator.free(memory, ARENA_SIZE) };
            allocator.discard();
        }
        lock(&self.arenas).put_record(arena);
    }

    /// Gives the empty arena back that is kept.
    pub(super) fn release_empty(&self) {
        let empty = lock(&self.arenas).take_empty();
        if let Some(arena) = empty {
            self.release(arena);
        }
    }

    pub(super) fn statistics(&self) -> SmallObjectStatistics {
        let mut statistics = SmallObjectStatistics::default();
        let roster = lock(&self.roster);
        for class in Class::all() {
            let cached = roster.cached(class);
            let live = self.class(class).used.saturating_sub(cached);
            statistics.cached_blocks += cached;
            statistics.live_blocks += live;
            statistics.live_bytes += live * class.size() as u64;
        }
        drop(roster);
        lock(&self.arenas).count(&mut statistics);
        statistics
    }
}

#[cfg(test)]
mod tests {
    use super::super::class::PAGE_SIZE;
    use super::*;
    use std::ptr::NonNull;

    fn taken(mut chain: Chain) -> Vec<NonNull<u8>> {
        std::iter::from_fn(|| chain.pop()).collect()
    }

    fn page(block: &NonNull<u8>) -> usize {
        block.addr().get() / PAGE_SIZE
    }

    #[test]
    fn a_taker_gets_blocks_of_its_own_pages_first() {
        static CENTRAL: Central = Central::new();
        let class = Class::of(512, 1).unwrap();
        let fresh = CENTRAL.grow(ArenaAllocator::MAPPED);
        let mut blocks = [
            taken(CENTRAL.take(class, 16, 1, fresh)),
            taken(CENTRAL.take(class, 16, 2, None)),
        ];
        let pages = [page(&blocks[0][0]), page(&blocks[1][0])];
        assert_ne!(pages[0], pages[1]);
        for (blocks, page_of) in blocks.iter().zip(pages) {
            assert!(blocks.len() == 16 && blocks.iter().all(|block| page(block) == page_of));
        }
        // Half of each back, the first page's first: it is the second in the list then.
        for blocks in &mut blocks {
            let mut chain = Chain::new();
            for block in blocks.drain(..8) {
                // SAFETY: taken above, used by nobody.
                unsafe { chain.push(block) };
            }
            // SAFETY: as above, with their class.
            unsafe { CENTRAL.give(class, chain) };
        }
        for taker in [1, 2] {
            let again = taken(CENTRAL.take(class, 4, taker, None));
            assert!(again.iter().all(|block| page(block) == pages[taker - 1]));
            blocks[taker - 1].extend(again);
        }
        // Whoever has no page takes what is there rather than a page of its own.
        let other = taken(CENTRAL.take(class, 16, 3, None));
        assert_eq!(other.len(), 8);
        let mut chain = Chain::new();
        for block in blocks.into_iter().flatten().chain(other) {
            // SAFETY: taken above, used by nobody.
            unsafe { chain.push(block) };
        }
        // SAFETY: as above.
        unsafe { CENTRAL.give(class, chain) };
        assert_eq!(CENTRAL.statistics().live_blocks, 0);
        CENTRAL.release_empty();
        assert_eq!(CENTRAL.statistics().arenas, 0);
    }
}

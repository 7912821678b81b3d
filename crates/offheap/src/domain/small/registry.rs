//! From an address to the arena that it is in, without a lock.
//!
//! A map keyed by the address's 256 KiB region holds the arena that *starts* there: two arenas
//! cannot, since they would overlap. An address is in the arena that starts in its own region or in
//! the one before (CPython's arena map keeps two offsets a region instead).
//!
//! ```text
//!   address, low 57 bits:  13 bits     13 bits       13 bits       18 bits
//!                          ROOT[…] ─▶ middle[…] ─▶ leaf[…] ─▶ Arena
//!                          static     64 KiB       64 KiB, for each 2 GiB of addresses used
//! ```
//!
//! Higher bits (the tags of ARM's pointers) are left out of the key and compared with the rest of
//! the address afterwards. Nodes come from the C library and are never freed.

use super::arena::{Arena, Page};
use super::class::ARENA_SIZE;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

const LEVEL_BITS: u32 = 13;
const FANOUT: usize = 1 << LEVEL_BITS;
const KEYS: u64 = 1 << (3 * LEVEL_BITS);

/// Pointers to the next level's nodes, or to arenas. All zero is an empty node.
struct Node<T>([AtomicPtr<T>; FANOUT]);
type Leaf = Node<Arena>;
type Middle = Node<Leaf>;

static ROOT: Node<Middle> = Node([const { AtomicPtr::new(ptr::null_mut()) }; FANOUT]);

const fn key(address: usize) -> u64 {
    (address as u64 >> ARENA_SIZE.trailing_zeros()) & (KEYS - 1)
}

/// The place of `key` in a node `level` levels above the leaves.
const fn slot(key: u64, level: u32) -> usize {
    (key >> (level * LEVEL_BITS)) as usize & (FANOUT - 1)
}

impl<T> Node<Node<T>> {
    fn child(&'static self, key: u64, level: u32) -> Option<&'static Node<T>> {
        let child = self.0[slot(key, level)].load(Ordering::Acquire);
        // SAFETY: null or a node that `child_or_new` published, which is never freed.
        unsafe { child.as_ref() }
    }

    /// As [`child`](Self::child), made when it is missing; `None` without memory for it.
    fn child_or_new(&'static self, key: u64, level: u32) -> Option<&'static Node<T>> {
        if let Some(child) = self.child(key, level) {
            return Some(child);
        }
        // SAFETY: calloc takes any size.
        let new = unsafe { libc::calloc(1, size_of::<Node<T>>()) }.cast::<Node<T>>();
        let new = NonNull::new(new)?;
        // All bytes zero are null pointers, so the node is empty.
        let published = self.0[slot(key, level)].compare_exchange(
            ptr::null_mut(),
            new.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match published {
            // SAFETY: initialised above, and never freed from now on.
            Ok(_) => Some(unsafe { new.as_ref() }),
            Err(other) => {
                // SAFETY: calloc's block, which nobody has seen.
                unsafe { libc::free(new.as_ptr().cast()) };
                // SAFETY: another thread's node, published, never freed.
                unsafe { other.as_ref() }
            }
        }
    }
}

fn arena_starting_in(key: u64) -> Option<&'static Arena> {
    let leaf = ROOT.child(key, 2)?.child(key, 1)?;
    // SAFETY: null or an arena's record, which is never freed.
    unsafe { leaf.0[slot(key, 0)].load(Ordering::Acquire).as_ref() }
}

/// Makes an arena's addresses known; `false` without memory for the map's nodes.
pub(super) fn insert(arena: &'static Arena) -> bool {
    let key = key(arena.base());
    let Some(leaf) = ROOT
        .child_or_new(key, 2)
        .and_then(|middle| middle.child_or_new(key, 1))
    else {
        return false;
    };
    leaf.0[slot(key, 0)].store(ptr::from_ref(arena).cast_mut(), Ordering::Release);
    true
}

/// Makes them unknown again. The memory is still the arena's.
pub(super) fn remove(arena: &'static Arena) {
    let key = key(arena.base());
    if let Some(leaf) = ROOT.child(key, 2).and_then(|middle| middle.child(key, 1)) {
        leaf.0[slot(key, 0)].store(ptr::null_mut(), Ordering::Release);
    }
}

/// The page that `address`, which may be anything, is in.
///
/// Right for every address of a live block. For others the answer may be of a moment ago, but
/// nothing is read besides records.
pub(super) fn page_at(address: usize) -> Option<&'static Page> {
    let own = key(address);
    [own, own.wrapping_sub(1) & (KEYS - 1)]
        .into_iter()
        .filter_map(arena_starting_in)
        .find(|arena| address.wrapping_sub(arena.base()) < ARENA_SIZE)?
        .page_at(address)
}

#[cfg(test)]
mod tests {
    use super::super::arena_allocator::ArenaAllocator;
    use super::super::class::{Class, PAGE_SIZE};
    use super::*;
    use std::sync::OnceLock;

    #[test]
    fn addresses_inside_are_found_and_those_around_are_not() {
        // A leak checker is to see that records are kept.
        static RECORD: OnceLock<&Arena> = OnceLock::new();
        let arena = *RECORD.get_or_init(|| Arena::new_record().unwrap());
        // Arenas at all kinds of distances from a region's start.
        for offset in [0, 16, 10, PAGE_SIZE - 16, PAGE_SIZE, ARENA_SIZE / 2 + 4096] {
            let block = ArenaAllocator::MAPPED.allocate(3 * ARENA_SIZE).unwrap();
            let region = block.addr().get().next_multiple_of(ARENA_SIZE) - block.addr().get();
            // SAFETY: less than two arenas into the block of three.
            let memory = unsafe { block.add(region + offset) };
            let base = memory.addr().get();
            // SAFETY: an arena's bytes are left; the record is this test's, and of no arena now.
            unsafe { arena.adopt(memory, ArenaAllocator::MAPPED) };
            assert!(page_at(base + PAGE_SIZE).is_none());
            assert!(insert(arena));
            let first = base.next_multiple_of(PAGE_SIZE);
            let pages = (base + ARENA_SIZE - first) / PAGE_SIZE;
            assert_eq!(pages, if base == first { 32 } else { 31 });
            for address in [
                base.wrapping_sub(1),
                base + ARENA_SIZE,
                base + ARENA_SIZE + 4096,
            ] {
                assert!(
                    page_at(address).is_none(),
                    "{address:#x} of an arena at {base:#x}"
                );
            }
            if base != first {
                assert!(page_at(base).is_none() && page_at(first - 1).is_none());
                assert!(page_at(first + pages * PAGE_SIZE).is_none());
            }
            for index in 0..pages {
                let start = first + index * PAGE_SIZE;
                let page = page_at(start).unwrap();
                assert!(page.holds(start) && !page.holds(start - 1));
                assert!(ptr::eq(page, page_at(start + PAGE_SIZE - 1).unwrap()));
                assert_eq!(page.class(), None::<Class>);
            }
            remove(arena);
            assert!(page_at(first).is_none() && page_at(first + PAGE_SIZE).is_none());
            let (memory, allocator) = arena.abandon().unwrap();
            assert!(memory.addr().get() == base && allocator.same(&ArenaAllocator::MAPPED));
            // SAFETY: the block of three arenas, of which nothing is used any more.
            unsafe { ArenaAllocator::MAPPED.free(block, 3 * ARENA_SIZE) };
        }
    }

    #[test]
    fn no_address_is_too_odd() {
        let local = 0_u8;
        let boxed = Box::new(0_u8);
        let mut addresses = vec![
            0,
            1,
            4096,
            usize::MAX,
            usize::MAX / 2,
            ARENA_SIZE,
            ARENA_SIZE - 1,
        ];
        addresses.extend((0..usize::BITS).map(|bit| 1_usize << bit));
        addresses.extend((0..usize::BITS).map(|bit| !(1_usize << bit)));
        addresses.push(ptr::from_ref(&local).addr());
        addresses.push(ptr::from_ref(&*boxed).addr());
        addresses.push(page_at as fn(usize) -> _ as usize);
        for address in addresses {
            assert!(page_at(address).is_none(), "{address:#x}");
        }
    }
}

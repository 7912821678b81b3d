//! The heap of small objects that the object domain uses, and what makes one.

use super::arena_allocator::ArenaAllocator;
use super::central::Central;
use super::chain::Chain;
use super::class::Class;
use super::magazines::Magazines;
use super::registry;
use super::statistics::SmallObjectStatistics;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// A heap: a [`Central`] and each thread's [`Magazines`] for it. Made by [`heap!`], once for the
/// program and once for each test that wants figures of its own.
pub(super) trait Heap: 'static {
    fn central() -> &'static Central;

    /// The calling thread's magazines; there for as long as the thread is.
    fn with<R>(call: impl FnOnce(&Magazines) -> R) -> R;

    /// Sees to it that the thread's end flushes its magazines; `false` when it is too late.
    fn arm() -> bool;

    #[inline]
    fn allocate(size: usize, alignment: usize) -> Option<NonNull<u8>> {
        let class = Class::of(size, alignment)?;
        Self::with(|magazines| match magazines.pop(class) {
            Some(block) => Some(block),
            None => Self::refill(magazines, class),
        })
    }

    /// # Safety
    /// - `ptr` came from `allocate` of this heap with the same size and alignment, from any thread,
    ///   and nobody uses it any more.
    #[inline]
    unsafe fn free(ptr: NonNull<u8>, size: usize, alignment: usize) {
        let Some(class) = Class::of(size, alignment) else {
            debug_assert!(false, "{size} bytes at {alignment} are not small");
            return;
        };
        Self::with(|magazines| {
            // SAFETY: the caller's promise; the same arithmetic gave the class then.
            if !unsafe { magazines.push(class, ptr) } {
                // SAFETY: as above.
                unsafe { Self::flush_and_free(magazines, class, ptr) };
            }
        });
    }

    #[cold]
    #[inline(never)]
    fn refill(magazines: &Magazines, class: Class) -> Option<NonNull<u8>> {
        let central = Self::central();
        magazines.open(central, Self::arm);
        let want = magazines.next_batch(class);
        let taker = std::ptr::from_ref(magazines).addr();
        let mut chain = central.take(class, want, taker, None);
        if chain.len() == 0 {
            let page = magazines.while_growing(|nested| {
                // An arena allocator that uses this heap while it makes an arena would ask itself
                // for an arena for ever.
                central.grow(if nested {
                    ArenaAllocator::MAPPED
                } else {
                    central.arena_allocator()
                })
            })?;
            chain = central.take(class, want, taker, Some(page));
        }
        let block = chain.pop();
        if chain.len() > 0
            && let Err(chain) = magazines.fill(class, chain)
        {
            // SAFETY: blocks that were taken just now.
            unsafe { central.give(class, chain) };
        }
        block
    }

    /// # Safety
    /// As [`free`](Self::free), for the same class.
    #[cold]
    #[inline(never)]
    unsafe fn flush_and_free(magazines: &Magazines, class: Class, ptr: NonNull<u8>) {
        let central = Self::central();
        magazines.open(central, Self::arm);
        // None when the thread has just been armed: then there is room.
        let mut chain = Chain::new();
        // SAFETY: the caller's promise.
        if !unsafe { magazines.push(class, ptr) } {
            chain = magazines.drain(class, class.batch());
            // SAFETY: the caller's promise. False when the thread keeps no blocks.
            if !unsafe { magazines.push(class, ptr) } {
                // SAFETY: a block of at least 16 bytes that is nobody's any more.
                unsafe { chain.push(ptr) };
            }
        }
        if chain.len() > 0 {
            // SAFETY: blocks of this class, out of the magazine or the caller's.
            unsafe { central.give(class, chain) };
        }
    }

    /// Gives the calling thread's free blocks and the empty arena back.
    fn release_unused() {
        Self::with(|magazines| magazines.flush(Self::central()));
        Self::central().release_empty();
    }
}

/// What a thread's end drops: flushes the thread's magazines of a heap.
pub(super) struct Closer<H: Heap>(PhantomData<H>);

impl<H: Heap> Closer<H> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<H: Heap> Drop for Closer<H> {
    fn drop(&mut self) {
        H::with(|magazines| magazines.close(H::central()));
    }
}

/// A [`Heap`] with its statics.
macro_rules! heap {
    ($(#[$attribute:meta])* $visibility:vis $name:ident) => {
        $(#[$attribute])*
        $visibility struct $name;

        impl $crate::domain::small::heap::Heap for $name {
            #[inline]
            fn central() -> &'static $crate::domain::small::central::Central {
                static CENTRAL: $crate::domain::small::central::Central =
                    $crate::domain::small::central::Central::new();
                &CENTRAL
            }

            #[inline]
            fn with<R>(
                call: impl FnOnce(&$crate::domain::small::magazines::Magazines) -> R,
            ) -> R {
                // Without a destructor, so that there is nothing to check and nothing to be gone.
                thread_local! {
                    static MAGAZINES: $crate::domain::small::magazines::Magazines =
                        const { $crate::domain::small::magazines::Magazines::new() };
                }
                MAGAZINES.with(call)
            }

            fn arm() -> bool {
                thread_local! {
                    static CLOSER: $crate::domain::small::heap::Closer<$name> =
                        const { $crate::domain::small::heap::Closer::new() };
                }
                CLOSER.try_with(|_| ()).is_ok()
            }
        }
    };
}
#[cfg(test)]
pub(super) use heap;

heap!(
    /// The program's heap of small objects.
    ObjectHeap
);

/// A block of at least `size` bytes, 1 to [`MAX_SMALL`](super::MAX_SMALL), at a multiple of
/// `alignment` (a power of two up to 64) and of 16, uninitialised. A few nanoseconds; every 4 to 64
/// blocks a short lock.
///
/// `None` when the arena allocator has no memory, and also for sizes that are not small.
#[inline]
pub(crate) fn allocate(size: usize, alignment: usize) -> Option<NonNull<u8>> {
    ObjectHeap::allocate(size, alignment)
}

/// Gives a block back, on any thread.
///
/// # Safety
/// - `ptr` came from [`allocate`] with a size and an alignment of the same size class (the same two
///   will do, and so will [`block_size`] with alignment 1), and nobody uses it any more.
#[inline]
pub(crate) unsafe fn free(ptr: NonNull<u8>, size: usize, alignment: usize) {
    // SAFETY: the caller's promise.
    unsafe { ObjectHeap::free(ptr, size, alignment) }
}

/// The size of the blocks where `ptr` points, if that is in a page of small objects: a multiple of
/// 16 up to 512, all of it usable.
///
/// Reads no memory at `ptr`, which may be anything; takes no lock. The right answer for every live
/// block, and `None` for every live block of another allocator. Addresses inside of a block, and in
/// free ones, answer as their page does.
pub(crate) fn block_size(ptr: *const u8) -> Option<usize> {
    registry::page_at(ptr.addr())?.class().map(Class::size)
}

/// Gives the free blocks of the calling thread's magazines back to their pages, and the empty arena
/// to its allocator.
///
/// Magazines of other threads stay: a thread's blocks go back when it frees more, or ends.
pub(crate) fn release_unused() {
    ObjectHeap::release_unused();
}

/// What the small-object allocator holds now. Walks all threads' magazines: some microseconds.
pub(crate) fn statistics() -> SmallObjectStatistics {
    ObjectHeap::central().statistics()
}

/// What makes and frees the arenas of the object domain (PEP 445's
/// `PyObject_GetArenaAllocator`).
pub fn get_arena_allocator() -> ArenaAllocator {
    ObjectHeap::central().arena_allocator()
}

/// Replaces what makes the arenas of the object domain from now on (PEP 445's
/// `PyObject_SetArenaAllocator`). Arenas that exist are freed by who made them.
///
/// At any time, while other threads allocate, too.
pub fn set_arena_allocator(allocator: ArenaAllocator) {
    drop(ObjectHeap::central().set_arena_allocator(allocator));
}

//! The allocator as a whole. Each test has a heap of its own, so its figures are exact whatever
//! other tests do.

mod arena_allocators;
mod behaviour;
mod random_programs;
mod speed;
mod threads;

use super::arena_allocator::{ArenaAllocator, ArenaSource};
use super::block_size;
use super::class::{ARENA_SIZE, Class};
use super::heap::Heap;
use super::statistics::SmallObjectStatistics;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A block with its contents, which are checked when it goes.
pub(super) struct Held {
    pub(super) ptr: NonNull<u8>,
    size: usize,
    alignment: usize,
    fill: u8,
}

// SAFETY: a block is its holder's alone, on any thread.
unsafe impl Send for Held {}

impl Held {
    pub(super) fn new<H: Heap>(size: usize, alignment: usize, fill: u8) -> Option<Self> {
        let ptr = H::allocate(size, alignment)?;
        assert_eq!(ptr.addr().get() % alignment.max(16), 0);
        let class = Class::of(size, alignment).unwrap();
        assert_eq!(block_size(ptr.as_ptr()), Some(class.size()));
        // SAFETY: a block of the class's size, all of which is usable.
        unsafe { ptr.write_bytes(fill, class.size()) };
        Some(Self {
            ptr,
            size,
            alignment,
            fill,
        })
    }

    pub(super) fn range(&self) -> (usize, usize) {
        let size = Class::of(self.size, self.alignment).unwrap().size();
        (self.ptr.addr().get(), size)
    }

    #[track_caller]
    pub(super) fn check(&self) {
        let (_, size) = self.range();
        // SAFETY: the block is live and was written.
        let bytes = unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), size) };
        assert!(bytes.iter().all(|b| *b == self.fill), "{:?}", self.range());
    }

    #[track_caller]
    pub(super) fn free<H: Heap>(self) {
        self.check();
        // SAFETY: `new` got the block with these.
        unsafe { H::free(self.ptr, self.size, self.alignment) };
    }
}

pub(super) fn flush<H: Heap>() {
    H::with(|magazines| magazines.flush(H::central()));
}

/// Asserts that nothing is left but what `release_unused` gives back.
#[track_caller]
pub(super) fn assert_all_returned<H: Heap>() {
    let before = H::central().statistics();
    assert_eq!(
        (before.live_blocks, before.live_bytes),
        (0, 0),
        "{before:?}"
    );
    H::release_unused();
    let after = H::central().statistics();
    let expected = SmallObjectStatistics {
        arenas_allocated_total: after.arenas_allocated_total,
        arenas_freed_total: after.arenas_allocated_total,
        ..SmallObjectStatistics::default()
    };
    assert_eq!(after, expected);
}

pub(super) type Hook = Box<dyn Fn(&Source) + Send + Sync>;

/// An arena source over the C library's malloc that checks what comes back.
pub(super) struct Source {
    padding: usize,
    shift: usize,
    pub(super) calls: AtomicU64,
    pub(super) live: Arc<Mutex<BTreeMap<usize, usize>>>,
    pub(super) refuse: Box<dyn Fn(u64) -> bool + Send + Sync>,
    pub(super) on_free: Hook,
}

impl Source {
    pub(super) fn new(padding: usize, shift: usize) -> Self {
        Self {
            padding,
            shift,
            calls: AtomicU64::new(0),
            live: Arc::default(),
            refuse: Box::new(|_| false),
            on_free: Box::new(|_| ()),
        }
    }

    pub(super) fn live(&self) -> usize {
        self.live.lock().unwrap().len()
    }
}

pub(super) struct SharedSource(Arc<Source>);

pub(super) const PAD: u8 = 0xA5;

// SAFETY: malloc's bytes, `shift` in, nobody else's until `free`.
unsafe impl ArenaSource for SharedSource {
    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        assert_eq!(size, ARENA_SIZE);
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if (self.0.refuse)(call) {
            return None;
        }
        let whole = self.0.shift + size + self.0.padding;
        // SAFETY: malloc takes any size.
        let block = NonNull::new(unsafe { libc::malloc(whole) }.cast::<u8>()).unwrap();
        // SAFETY: the block has `whole` bytes.
        let arena = unsafe {
            block.write_bytes(PAD, whole);
            block.add(self.0.shift)
        };
        let mut live = self.0.live.lock().unwrap();
        assert_eq!(live.insert(arena.addr().get(), size), None);
        Some(arena)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize) {
        let found = self.0.live.lock().unwrap().remove(&ptr.addr().get());
        assert_eq!(found, Some(size), "an arena of another allocator");
        // SAFETY: `allocate` made the block like that.
        let (before, after) = unsafe {
            (
                std::slice::from_raw_parts(ptr.as_ptr().sub(self.0.shift), self.0.shift),
                std::slice::from_raw_parts(ptr.as_ptr().add(size), self.0.padding),
            )
        };
        assert!(before.iter().chain(after).all(|b| *b == PAD));
        // SAFETY: malloc's block.
        unsafe { libc::free(ptr.as_ptr().sub(self.0.shift).cast()) };
        (self.0.on_free)(&self.0);
    }
}

pub(super) fn install<H: Heap>(source: Source) -> Arc<Source> {
    let source = Arc::new(source);
    let allocator = ArenaAllocator::from_source(SharedSource(Arc::clone(&source)));
    H::central().set_arena_allocator(allocator);
    source
}

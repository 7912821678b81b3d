//! A thread's own free blocks.

use super::central::{Central, lock};
use super::chain::{Chain, FreeBlock, link, next};
use super::class::{CLASSES, Class};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

/// Blocks of the first refill; each one doubles, up to [`Class::batch`], so that a thread with
/// three objects does not occupy dozens of blocks.
const FIRST_BATCH: u32 = 4;

/// Free blocks of one class.
struct Magazine {
    head: Cell<*mut FreeBlock>,
    /// How many more blocks fit. 0 until the thread's end is provided for, and after it, so that
    /// the fast paths need not ask. Written by its thread only, read by the statistics.
    room: AtomicU32,
    batch: Cell<u32>,
}

impl Magazine {
    const fn new() -> Self {
        Self {
            head: Cell::new(ptr::null_mut()),
            room: AtomicU32::new(0),
            batch: Cell::new(FIRST_BATCH),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The thread has not used the heap yet.
    New,
    /// The thread's end is being provided for; that may allocate.
    Arming,
    /// Blocks may be kept: they are flushed when the thread ends.
    Armed,
    /// The thread has ended as far as we are concerned, though destructors of its thread-locals
    /// may still run.
    Closed,
}

/// One thread's magazines for one heap. Has no destructor itself, so it is there, with no check,
/// as long as the thread is.
pub(super) struct Magazines {
    magazines: [Magazine; CLASSES],
    state: Cell<State>,
    /// Whether this thread is inside of an arena allocator.
    growing: Cell<bool>,
    /// Neighbours in the roster; under its lock.
    next: Cell<*const Magazines>,
    previous: Cell<*const Magazines>,
}

/// The magazines of all threads that are armed.
pub(super) struct Roster {
    first: *const Magazines,
}

// SAFETY: magazines leave the roster before their thread ends, and others read their atomics only.
unsafe impl Send for Roster {}

impl Magazines {
    pub(super) const fn new() -> Self {
        Self {
            magazines: [const { Magazine::new() }; CLASSES],
            state: Cell::new(State::New),
            growing: Cell::new(false),
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
        }
    }

    /// A block of the magazine's.
    #[inline]
    pub(super) fn pop(&self, class: Class) -> Option<NonNull<u8>> {
        let magazine = &self.magazines[class.index()];
        let block = NonNull::new(magazine.head.get())?;
        // SAFETY: a magazine has free blocks only, and they are this thread's.
        magazine.head.set(unsafe { next(block.as_ptr()) });
        // One thread writes, so this need not be one step.
        let room = magazine.room.load(Ordering::Relaxed);
        magazine.room.store(room + 1, Ordering::Relaxed);
        Some(block.cast())
    }

    /// Keeps a block if there is room.
    ///
    /// # Safety
    /// - `block` is a block of this heap and class that nobody uses any more.
    #[inline]
    pub(super) unsafe fn push(&self, class: Class, block: NonNull<u8>) -> bool {
        let magazine = &self.magazines[class.index()];
        let room = magazine.room.load(Ordering::Relaxed);
        if room == 0 {
            return false;
        }
        // SAFETY: the block has at least 16 bytes and is nobody's.
        magazine
            .head
            .set(unsafe { link(block, magazine.head.get()) });
        magazine.room.store(room - 1, Ordering::Relaxed);
        true
    }

    /// Lets blocks be kept from now on, if `arm` can provide for the thread's end.
    pub(super) fn open(&self, central: &'static Central, arm: impl FnOnce() -> bool) {
        if self.state.get() != State::New {
            return;
        }
        self.state.set(State::Arming);
        if !arm() {
            self.state.set(State::Closed);
            return;
        }
        for class in Class::all() {
            let magazine = &self.magazines[class.index()];
            magazine.room.store(class.magazine(), Ordering::Relaxed);
        }
        lock(&central.roster).add(self);
        self.state.set(State::Armed);
    }

    /// How many blocks to fetch for one allocation.
    pub(super) fn next_batch(&self, class: Class) -> u32 {
        if self.state.get() != State::Armed {
            return 1;
        }
        let magazine = &self.magazines[class.index()];
        let batch = magazine.batch.get();
        magazine.batch.set((batch * 2).min(class.batch()));
        batch
    }

    /// Puts a batch into an empty magazine; gives it back when the magazine is not empty (an arena
    /// allocator on this thread has filled it meanwhile) or keeps no blocks.
    pub(super) fn fill(&self, class: Class, chain: Chain) -> Result<(), Chain> {
        let magazine = &self.magazines[class.index()];
        let room = magazine.room.load(Ordering::Relaxed);
        if !magazine.head.get().is_null() || room < chain.len() {
            return Err(chain);
        }
        let (head, len) = chain.into_raw();
        magazine.head.set(head);
        magazine.room.store(room - len, Ordering::Relaxed);
        Ok(())
    }

    /// Takes up to `count` blocks out, `count` not being 0.
    pub(super) fn drain(&self, class: Class, count: u32) -> Chain {
        let magazine = &self.magazines[class.index()];
        let head = magazine.head.get();
        let Some(mut last) = NonNull::new(head) else {
            return Chain::new();
        };
        let mut len = 1;
        // SAFETY: a magazine has free blocks only, and they are this thread's.
        let mut rest = unsafe { next(last.as_ptr()) };
        while len < count
            && let Some(block) = NonNull::new(rest)
        {
            last = block;
            len += 1;
            // SAFETY: as above.
            rest = unsafe { next(block.as_ptr()) };
        }
        // SAFETY: as above; the chain ends here.
        unsafe { link(last.cast(), ptr::null_mut()) };
        magazine.head.set(rest);
        let room = magazine.room.load(Ordering::Relaxed);
        magazine.room.store(room + len, Ordering::Relaxed);
        // SAFETY: `len` blocks, the last of which ends the list, and they left the magazine.
        unsafe { Chain::from_raw(head, len) }
    }

    /// Gives all blocks back.
    pub(super) fn flush(&self, central: &Central) {
        for class in Class::all() {
            let chain = self.drain(class, u32::MAX);
            if chain.len() > 0 {
                // SAFETY: blocks of the class's magazine.
                unsafe { central.give(class, chain) };
            }
        }
    }

    /// The thread ends: gives all blocks back and keeps none from now on.
    pub(super) fn close(&self, central: &Central) {
        self.state.set(State::Closed);
        // First of all: the roster must not outlive the thread.
        lock(&central.roster).remove(self);
        let mut chains = [const { Chain::new() }; CLASSES];
        for class in Class::all() {
            let magazine = &self.magazines[class.index()];
            let head = magazine.head.replace(ptr::null_mut());
            let room = magazine.room.swap(0, Ordering::Relaxed);
            // SAFETY: an armed magazine holds what its room lacks, and they are ours to give.
            chains[class.index()] = unsafe { Chain::from_raw(head, class.magazine() - room) };
        }
        // Only now, with the magazines consistent: an arena allocator may allocate.
        for (class, chain) in Class::all().zip(chains) {
            if chain.len() > 0 {
                // SAFETY: blocks of the class's magazine.
                unsafe { central.give(class, chain) };
            }
        }
    }

    /// Runs `call`, which is told whether it is inside of an arena allocator of this thread already.
    pub(super) fn while_growing<R>(&self, call: impl FnOnce(bool) -> R) -> R {
        let nested = self.growing.replace(true);
        let result = call(nested);
        self.growing.set(nested);
        result
    }
}

impl Roster {
    pub(super) const fn new() -> Self {
        Self { first: ptr::null() }
    }

    fn add(&mut self, magazines: &Magazines) {
        // SAFETY: null or in the roster, so its thread lives; neighbours are under our lock.
        if let Some(next) = unsafe { self.first.as_ref() } {
            next.previous.set(magazines);
        }
        magazines.next.set(self.first);
        magazines.previous.set(ptr::null());
        self.first = magazines;
    }

    fn remove(&mut self, magazines: &Magazines) {
        let next = magazines.next.replace(ptr::null());
        let previous = magazines.previous.replace(ptr::null());
        // SAFETY: null or in the roster, so its thread lives; neighbours are under our lock.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.next.set(next),
            None => self.first = next,
        }
        // SAFETY: as above.
        if let Some(next) = unsafe { next.as_ref() } {
            next.previous.set(previous);
        }
    }

    /// Blocks of a class in all magazines.
    pub(super) fn cached(&self, class: Class) -> u64 {
        let mut cached = 0;
        let mut at = self.first;
        // SAFETY: null or in the roster, so its thread lives; only atomics and what is under our
        // lock are read.
        while let Some(magazines) = unsafe { at.as_ref() } {
            let room = magazines.magazines[class.index()]
                .room
                .load(Ordering::Relaxed);
            cached += u64::from(class.magazine() - room);
            at = magazines.next.get();
        }
        cached
    }
}

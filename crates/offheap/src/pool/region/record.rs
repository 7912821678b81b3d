//! What is known of one region.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A live region's record is its owner's; a cached one's belongs to the cache's lock. Only `state`
/// is read by others: a growing block asks what lies behind it.
#[repr(align(64))]
#[derive(Debug, Default)]
pub(super) struct Record {
    committed: AtomicUsize,
    reserved: AtomicUsize,
    state: AtomicU32,
    /// In the cache: the neighbours in the list of about the same size.
    pub(super) next: AtomicU32,
    pub(super) previous: AtomicU32,
    /// In the cache: the neighbours in the order of their ages.
    pub(super) newer: AtomicU32,
    pub(super) older: AtomicU32,
    freed_at: AtomicU64,
}

/// Bits of a record's state; zero stands for no region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State(pub(super) u32);

impl State {
    /// No region starts there.
    pub(super) const NONE: Self = Self(0);
    /// A block lives in it.
    pub(super) const LIVE: u32 = 1;
    /// It waits in the cache.
    pub(super) const CACHED: u32 = 2;
    /// Its tail cannot be touched before it is committed.
    pub(super) const GUARDED: u32 = 4;
    /// It is a mapping of its own, or more than one: moved, so that it merges with no neighbour.
    pub(super) const OWN: u32 = 8;

    pub(super) const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    pub(super) const fn with(self, bit: u32) -> Self {
        Self(self.0 | bit)
    }

    pub(super) const fn without(self, bit: u32) -> Self {
        Self(self.0 & !bit)
    }
}

impl Record {
    pub(super) fn committed(&self) -> usize {
        self.committed.load(Ordering::Relaxed)
    }

    pub(super) fn set_committed(&self, bytes: usize) {
        self.committed.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    pub(super) fn set_reserved(&self, bytes: usize) {
        self.reserved.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> State {
        State(self.state.load(Ordering::Relaxed))
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state.0, Ordering::Relaxed);
    }

    pub(super) fn freed_at(&self) -> u64 {
        self.freed_at.load(Ordering::Relaxed)
    }

    pub(super) fn set_freed_at(&self, millis: u64) {
        self.freed_at.store(millis, Ordering::Relaxed);
    }

    /// A region's extents.
    pub(super) fn set(&self, committed: usize, reserved: usize, state: State) {
        self.set_committed(committed);
        self.set_reserved(reserved);
        self.set_state(state);
    }
}

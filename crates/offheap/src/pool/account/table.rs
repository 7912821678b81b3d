//! The shards of all threads but the first.

use super::shard::Shard;
use crate::sync::{AtomicUsize, Ordering, SLOTS};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;

/// Slots that one thread may have, one after the other.
const PROBES: usize = if SLOTS < 8 { SLOTS } else { 8 };

const _: () = assert!(SLOTS.is_power_of_two());

/// The owners' keys are read by every thread, so they are on lines of their own: beside a shard that
/// is written all the time, they would cost each of them a miss.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct Table {
    keys: [AtomicUsize; SLOTS],
    shards: [Shard; SLOTS],
}

impl Table {
    fn new() -> Self {
        Self {
            keys: std::array::from_fn(|_| AtomicUsize::new(0)),
            shards: std::array::from_fn(|_| Shard::new()),
        }
    }

    /// A table in memory of the C library, which no pool serves: a pool may serve all others.
    pub(super) fn allocate() -> Option<NonNull<Self>> {
        // SAFETY: the layout's size is not zero.
        let table = NonNull::new(unsafe { System.alloc(Layout::new::<Self>()) })?.cast::<Self>();
        // SAFETY: fresh memory of this layout.
        unsafe { table.write(Self::new()) };
        Some(table)
    }

    /// # Safety
    /// - `table` came from [`allocate`](Self::allocate), and nobody uses it any more.
    pub(super) unsafe fn free(table: NonNull<Self>) {
        // SAFETY: the caller's promise.
        unsafe {
            table.drop_in_place();
            System.dealloc(table.as_ptr().cast(), Layout::new::<Self>());
        }
    }

    /// The slots that a thread may have. Fibonacci hashing: thread pointers differ in the middle.
    #[inline]
    fn probes(key: usize) -> impl Iterator<Item = usize> {
        let first = ((key >> 4) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
        (0..PROBES).map(move |i| (first as usize + i) & (SLOTS - 1))
    }

    /// The shard of the thread with this key.
    #[inline]
    pub(super) fn find(&self, key: usize) -> Option<&Shard> {
        Self::probes(key)
            .find(|slot| self.keys[*slot].load(Ordering::Relaxed) == key)
            .map(|slot| &self.shards[slot])
    }

    /// A free shard for the thread with this key. The account's lock is held.
    pub(super) fn claim(&self, key: usize) -> Option<&Shard> {
        let slot = Self::probes(key).find(|slot| self.keys[*slot].load(Ordering::Relaxed) == 0)?;
        self.keys[slot].store(key, Ordering::Relaxed);
        Some(&self.shards[slot])
    }

    /// Frees the slot of the thread with this key. The account's lock is held.
    pub(super) fn release(&self, key: usize) {
        if let Some(slot) =
            Self::probes(key).find(|slot| self.keys[*slot].load(Ordering::Relaxed) == key)
        {
            self.keys[slot].store(0, Ordering::Relaxed);
        }
    }

    /// The shards that have owners. The account's lock is held.
    pub(super) fn claimed(&self) -> impl Iterator<Item = &Shard> {
        self.keys
            .iter()
            .zip(&self.shards)
            .filter(|(key, _)| key.load(Ordering::Relaxed) != 0)
            .map(|(_, shard)| shard)
    }
}

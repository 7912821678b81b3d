//! What the callers of `free(ptr)` do not say: which pool a block came from, and its size.

use crate::alignment::{Alignment, padded};
use crate::pool::{Backend, Pool};
use allocator_api2::alloc::{AllocError, Allocator};
use hashbrown::HashMap;
use std::alloc::Layout;
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A block's entry.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) pool: Pool,
    pub(super) size: usize,
    pub(super) alignment: Alignment,
}

/// The table's own memory: the C library's, so that no hook, domain or `#[global_allocator]` is
/// asked while a shard is locked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unhooked;

fn alignment_of(layout: Layout) -> Alignment {
    Alignment::new(layout.align()).unwrap_or_default()
}

// SAFETY: blocks are the system backend's, as large and as aligned as the layout says; all values of
// the type are one allocator.
unsafe impl Allocator for Unhooked {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let size = padded(layout.size().max(1)).ok_or(AllocError)?;
        let block = Backend::System
            .allocate(size, alignment_of(layout), false)
            .ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
        let size = padded(layout.size().max(1)).unwrap_or(64);
        // SAFETY: the caller's block came from `allocate` with this layout.
        unsafe { Backend::System.free(ptr, size, alignment_of(layout)) };
    }
}

/// Addresses are spread by a multiplication (Fibonacci hashing; Knuth, TAOCP 3, 6.4).
#[derive(Debug, Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        let mixed = (self.0 ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }

    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A table by address that asks no hook for memory.
pub(crate) type AddressMap<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>, Unhooked>;

/// Who handed a block out, and its address.
type Key = (usize, usize);

const SHARDS: usize = 64;

/// The live blocks of every domain, in shards by address. Cost: a lock and a hash table's insert or
/// remove, some 25 ns each.
pub(super) struct Blocks {
    shards: [Mutex<AddressMap<Key, Entry>>; SHARDS],
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            shards: [const { Mutex::new(HashMap::with_hasher_in(BuildHasherDefault::new(), Unhooked)) };
                SHARDS],
        }
    }

    fn shard(&self, ptr: NonNull<u8>) -> MutexGuard<'_, AddressMap<Key, Entry>> {
        let mut hasher = AddressHasher::default();
        hasher.write_usize(ptr.addr().get() >> 4);
        self.shards[hasher.finish() as usize % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a block in. Gives the entry back when the table has no memory.
    pub(super) fn insert(&self, owner: usize, ptr: NonNull<u8>, entry: Entry) -> Result<(), Entry> {
        let mut shard = self.shard(ptr);
        if shard.try_reserve(1).is_err() {
            return Err(entry);
        }
        let old = shard.insert((owner, ptr.addr().get()), entry);
        drop(shard);
        // An allocator that gave out one address twice; the entry's pool may be the last handle.
        drop(old);
        Ok(())
    }

    /// Takes a block out.
    pub(super) fn remove(&self, owner: usize, ptr: NonNull<u8>) -> Option<Entry> {
        self.shard(ptr).remove(&(owner, ptr.addr().get()))
    }

    /// A block's size.
    pub(super) fn size(&self, owner: usize, ptr: NonNull<u8>) -> Option<usize> {
        self.shard(ptr)
            .get(&(owner, ptr.addr().get()))
            .map(|entry| entry.size)
    }
}

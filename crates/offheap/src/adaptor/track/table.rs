//! The live blocks, in shards by address.
//!
//! Nothing under a shard's lock calls a hook, a `#[global_allocator]` or a destructor: the tables'
//! memory is the C library's, and entries are dropped by the callers.

use crate::alignment::Alignment;
use crate::domain::{AddressHasher, AddressMap, Unhooked};
use crate::origin::Origin;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known of a live block.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) size: usize,
    pub(super) alignment: Alignment,
    pub(super) serial: u64,
    pub(super) origin: Origin,
    pub(super) parked: bool,
    pub(super) forgotten: bool,
}

/// How many blocks there are, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

#[derive(Debug)]
struct Shard {
    live: AddressMap<usize, Entry>,
    /// Blocks whose reallocation runs, by thread and old address: another thread may be given the
    /// old address before the call ends.
    moving: AddressMap<(u64, usize), Entry>,
    held: Held,
    parked: Held,
}

const SHARDS: usize = 64;

#[derive(Debug)]
pub(super) struct Table {
    shards: [Mutex<Shard>; SHARDS],
}

/// A copy of what is alive, in memory that no hook sees.
pub(super) type Copied = allocator_api2::vec::Vec<(usize, Entry), Unhooked>;

impl Shard {
    const fn new() -> Self {
        Self {
            live: AddressMap::with_hasher_in(BuildHasherDefault::new(), Unhooked),
            moving: AddressMap::with_hasher_in(BuildHasherDefault::new(), Unhooked),
            held: Held {
                blocks: 0,
                bytes: 0,
            },
            parked: Held {
                blocks: 0,
                bytes: 0,
            },
        }
    }

    fn sums(&mut self, parked: bool) -> &mut Held {
        if parked {
            &mut self.parked
        } else {
            &mut self.held
        }
    }

    fn count(&mut self, size: usize, parked: bool) {
        let held = self.sums(parked);
        held.blocks += 1;
        held.bytes += size as u64;
    }

    fn discount(&mut self, entry: &Entry) {
        let held = self.sums(entry.parked);
        held.blocks -= 1;
        held.bytes -= entry.size as u64;
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let live = self.live.iter().map(|(address, entry)| (*address, entry));
        let moving = self
            .moving
            .iter()
            .map(|((_, address), entry)| (*address, entry));
        live.chain(moving)
    }
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            shards: [const { Mutex::new(Shard::new()) }; SHARDS],
        }
    }

    fn shard(&self, address: usize) -> MutexGuard<'_, Shard> {
        let mut hasher = AddressHasher::default();
        hasher.write_usize(address >> 4);
        lock(&self.shards[hasher.finish() as usize % SHARDS])
    }

    /// Takes a block in; gives back the entry that it replaces, or its own when there is no memory.
    pub(super) fn insert(&self, address: usize, entry: Entry) -> Result<Option<Entry>, Entry> {
        let mut shard = self.shard(address);
        if shard.live.try_reserve(1).is_err() {
            return Err(entry);
        }
        shard.count(entry.size, entry.parked);
        let old = shard.live.insert(address, entry);
        if let Some(old) = &old {
            shard.discount(old);
        }
        Ok(old)
    }

    /// Takes a block out. One that this thread moves is found, too: its reallocation panicked.
    pub(super) fn remove(&self, address: usize, thread: u64) -> Option<Entry> {
        let mut shard = self.shard(address);
        let entry = shard
            .live
            .remove(&address)
            .or_else(|| shard.moving.remove(&(thread, address)))?;
        shard.discount(&entry);
        Some(entry)
    }

    /// Notes that `thread` reallocates the block. Gives its entry back when there is no memory for
    /// that, or nothing for a block that is not known; else the entry of an earlier move that never
    /// ended.
    pub(super) fn start_move(
        &self,
        address: usize,
        thread: u64,
    ) -> Result<Option<Entry>, Option<Entry>> {
        let mut shard = self.shard(address);
        let Some(entry) = shard.live.remove(&address) else {
            return Err(None);
        };
        if shard.moving.try_reserve(1).is_err() {
            shard.discount(&entry);
            return Err(Some(entry));
        }
        let old = shard.moving.insert((thread, address), entry);
        if let Some(old) = &old {
            shard.discount(old);
        }
        Ok(old)
    }

    /// Takes out the block whose reallocation ended.
    pub(super) fn end_move(&self, address: usize, thread: u64) -> Option<Entry> {
        let mut shard = self.shard(address);
        let entry = shard.moving.remove(&(thread, address))?;
        shard.discount(&entry);
        Some(entry)
    }

    /// Marks a block as parked. Whether it is known.
    pub(super) fn park(&self, address: usize) -> bool {
        let mut shard = self.shard(address);
        let Some(entry) = shard.live.get_mut(&address) else {
            return false;
        };
        let (size, was_parked) = (entry.size, std::mem::replace(&mut entry.parked, true));
        if !was_parked {
            shard.held.blocks -= 1;
            shard.held.bytes -= size as u64;
            shard.count(size, true);
        }
        true
    }

    /// Marks a block as forgotten. Whether it is known.
    pub(super) fn forget(&self, address: usize) -> bool {
        let mut shard = self.shard(address);
        match shard.live.get_mut(&address) {
            Some(entry) => {
                entry.forgotten = true;
                true
            }
            None => false,
        }
    }

    /// The block that `address` lies in. Its first byte is found at once, others by looking at all.
    pub(super) fn find(&self, address: usize) -> Option<(usize, Entry)> {
        let first = self.shard(address).live.get(&address).cloned();
        if let Some(entry) = first {
            return Some((address, entry));
        }
        self.shards.iter().find_map(|shard| {
            let shard = lock(shard);
            shard
                .blocks()
                .find(|(start, entry)| address.wrapping_sub(*start) < entry.size)
                .map(|(start, entry)| (start, entry.clone()))
        })
    }

    /// What is held and what is parked.
    pub(super) fn held(&self) -> (Held, Held) {
        let mut sums = (Held::default(), Held::default());
        for shard in &self.shards {
            let shard = lock(shard);
            for (sum, held) in [(&mut sums.0, shard.held), (&mut sums.1, shard.parked)] {
                sum.blocks += held.blocks;
                sum.bytes += held.bytes;
            }
        }
        sums
    }

    /// All blocks; those of shards that there is no memory to copy are left out.
    pub(super) fn copy(&self) -> Copied {
        let mut copy = Copied::new_in(Unhooked);
        for shard in &self.shards {
            let shard = lock(shard);
            if copy
                .try_reserve(shard.live.len() + shard.moving.len())
                .is_ok()
            {
                copy.extend(
                    shard
                        .blocks()
                        .map(|(address, entry)| (address, entry.clone())),
                );
            }
        }
        copy
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What is known of every block of every debug pool, apart from the memory that a stray pointer can
//! reach.
//!
//! A free looks here before it touches the block: a block that was freed already, that is another
//! pool's or nobody's is found without reading a byte of it. (CPython believes the header in front
//! of the block, and its report of a double free reads a size of 0xDDDD….)
//!
//! The table is one for all pools, so that a block given back to the wrong one is found. Its memory
//! is the C library's, and nothing under its locks asks for memory or gives any back.

use super::guarded::Guarded;
use crate::alignment::Alignment;
use crate::domain::{AddressHasher, AddressMap, Unhooked};
use crate::origin::Origin;
use hashbrown::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who a debug pool is, for reports that come after it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) name: Arc<str>,
    pub(super) letter: char,
}

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The user's.
    Live,
    /// Between two states: a free or a reallocation works on it.
    Busy,
    /// Freed, filled with 0xDB, in the quarantine.
    Dead,
    /// Freed and damaged: its memory is never used again.
    Lost,
}

/// A block.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) block: Guarded,
    pub(super) alignment: Alignment,
    pub(super) pool: Arc<Identity>,
    pub(super) state: State,
    /// The fingerprint of a block that nobody may write.
    pub(super) seal: Option<u64>,
    /// Whether the user is done with a live block, which was filled with `DEAD` then.
    pub(super) is_ended: bool,
    pub(super) allocated_at: Origin,
    pub(super) freed_at: Option<Origin>,
}

// SAFETY: the address in a record is used only by who holds the table's lock or has made the block
// `Busy`; everything else in it is Send.
unsafe impl Send for Record {}

impl Record {
    pub(super) fn is_of(&self, pool: &Arc<Identity>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }
}

type Shard = AddressMap<usize, Record>;

const SHARDS: usize = 64;

/// Every block of every debug pool, by the address of its user's first byte.
pub(super) static TABLE: Table = Table {
    shards: [const { Mutex::new(HashMap::with_hasher_in(BuildHasherDefault::new(), Unhooked)) };
        SHARDS],
};

/// See [`TABLE`].
pub(super) struct Table {
    shards: [Mutex<Shard>; SHARDS],
}

impl Table {
    fn shard(&self, address: usize) -> MutexGuard<'_, Shard> {
        let mut hasher = AddressHasher::default();
        // Nearly every block is at a multiple of 64.
        hasher.write_usize(address >> 6);
        self.shards[hasher.finish() as usize % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record in, and returns one that was there: of a block whose memory went without
    /// notice. The record comes back when there is no memory for it.
    #[expect(
        clippy::result_large_err,
        reason = "the caller drops it, without the lock"
    )]
    pub(super) fn insert(&self, record: Record) -> Result<Option<Record>, Record> {
        let address = record.block.start.addr().get();
        let mut shard = self.shard(address);
        if shard.try_reserve(1).is_err() {
            return Err(record);
        }
        Ok(shard.insert(address, record))
    }

    /// Calls `body` with the record of a block, locked. `body` asks for no memory, gives none back,
    /// and panics never.
    pub(super) fn with<T>(
        &self,
        block: NonNull<u8>,
        body: impl FnOnce(Option<&mut Record>) -> T,
    ) -> T {
        let address = block.addr().get();
        body(self.shard(address).get_mut(&address))
    }

    /// Takes a record out, if it is the one of this serial number.
    pub(super) fn remove(&self, block: NonNull<u8>, serial: u64) -> Option<Record> {
        let address = block.addr().get();
        let mut shard = self.shard(address);
        match shard.get(&address) {
            Some(record) if record.block.serial == serial => shard.remove(&address),
            _ => None,
        }
    }

    /// Calls `body` with every record, one shard after the other, each locked. As for
    /// [`with`](Self::with).
    pub(super) fn for_each(&self, mut body: impl FnMut(&Record)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().for_each(&mut body);
        }
    }

    /// Forgets every block of a pool: it is gone, so nobody can give them back.
    pub(super) fn forget(&self, pool: &Arc<Identity>) {
        for shard in &self.shards {
            loop {
                let mut found = [const { None }; 32];
                let mut locked = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let taken = locked.extract_if(|_, record| record.is_of(pool));
                let count = found
                    .iter_mut()
                    .zip(taken)
                    .map(|(f, r)| *f = Some(r))
                    .count();
                drop(locked);
                // Dropped without the lock: an origin's memory is the global allocator's.
                drop(found);
                if count < 32 {
                    break;
                }
            }
        }
    }

    /// The block that an address lies in, guards included. Looks at every record.
    pub(super) fn containing(&self, pointer: NonNull<u8>) -> Option<Record> {
        let address = pointer.addr().get();
        let mut found = None;
        self.for_each(|record| {
            let start = record.block.start.addr().get();
            let first = start - record.block.extent.front;
            let end = start + record.block.size + record.block.extent.tail;
            if found.is_none() && (first..end).contains(&address) {
                found = Some(record.clone());
            }
        });
        found
    }
}

//! The records of all regions, by address.
//!
//! ```text
//!   address: 48 bits = 13 (which leaf) + 14 (which record) + 21 (inside of 2 MiB)
//! ```
//!
//! A leaf is one mapping of a MiB, of which a page is touched for each 128 MiB of addresses in use.
//! A look-up is two loads and no lock.

use super::extent::UNIT;
use super::os;
use super::record::Record;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

const LEAF_BITS: u32 = 14;
const ROOT_BITS: u32 = 13;
const LEAF_BYTES: usize = size_of::<Record>() << LEAF_BITS;

/// The number of a region's first unit; zero, where nothing is ever mapped, stands for none.
pub(super) type Slot = u32;

/// The table.
#[derive(Debug)]
pub(super) struct Records {
    root: [AtomicPtr<Record>; 1 << ROOT_BITS],
}

/// Where a region starts.
pub(super) fn slot_of(address: usize) -> Slot {
    (address / UNIT) as Slot
}

/// The address of a slot.
pub(super) fn address_of(slot: Slot) -> usize {
    slot as usize * UNIT
}

impl Records {
    pub(super) const fn new() -> Self {
        Self {
            root: [const { AtomicPtr::new(ptr::null_mut()) }; 1 << ROOT_BITS],
        }
    }

    /// The record of what starts at `slot`, if any record near it was ever needed.
    #[inline]
    pub(super) fn get(&'static self, slot: Slot) -> Option<&'static Record> {
        let leaf = self.root.get(slot as usize >> LEAF_BITS)?;
        let leaf = leaf.load(Ordering::Acquire);
        if leaf.is_null() {
            return None;
        }
        let index = slot as usize & ((1 << LEAF_BITS) - 1);
        // SAFETY: a leaf has 2^14 records, zero bytes at first, which are valid ones, and stays.
        Some(unsafe { &*leaf.add(index) })
    }

    /// As [`get`](Self::get), with a new leaf if need be. `None` when there is no memory for one, or
    /// the address has more than 48 bits.
    pub(super) fn ensure(&'static self, slot: Slot) -> Option<&'static Record> {
        if let Some(record) = self.get(slot) {
            return Some(record);
        }
        let root = self.root.get(slot as usize >> LEAF_BITS)?;
        let leaf = os::reserve(LEAF_BYTES, os::page_size(), true)?;
        let fresh = leaf.as_ptr().cast();
        if root
            .compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // Another thread was first.
            // SAFETY: the mapping was made above and nobody knows it.
            unsafe { os::unmap(leaf, LEAF_BYTES) };
        }
        self.get(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static RECORDS: Records = Records::new();

    #[test]
    fn every_slot_has_a_record_of_its_own() {
        assert!(RECORDS.get(7).is_none());
        for slot in [1, 7, 8, (1 << 14) - 1, 1 << 14, (1 << 27) - 1] {
            RECORDS.ensure(slot).unwrap().set_reserved(slot as usize);
        }
        for slot in [1, 7, 8, (1 << 14) - 1, 1 << 14, (1 << 27) - 1] {
            assert_eq!(RECORDS.get(slot).unwrap().reserved(), slot as usize);
            assert_eq!(slot_of(address_of(slot)), slot);
        }
        assert!(RECORDS.get(1 << 27).is_none() && RECORDS.ensure(1 << 27).is_none());
    }
}

//! Records by address.

/// No entry.
const EMPTY: u64 = u64::MAX;
const FIRST: usize = 64;

/// A hash table from addresses to the indexes of records that hold those addresses. An entry is
/// eight bytes, half of the address's hash and the index: the address itself is in the record, which
/// is what the caller wants next anyway. A look-up is one cache line nearly always.
///
/// Linear probing, at most half full. The addresses come from the driver, not from an attacker.
#[derive(Debug)]
pub(super) struct AddressTable {
    entries: Box<[u64]>,
    count: usize,
}

impl Default for AddressTable {
    fn default() -> Self {
        Self {
            entries: vec![EMPTY; FIRST].into(),
            count: 0,
        }
    }
}

/// Fibonacci hashing: the low bits of addresses are all zero, the high ones of the product are not.
fn hash(address: u64) -> u32 {
    (address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

impl AddressTable {
    fn home(&self, hash: u32) -> usize {
        // The table has 2^6 to 2^32 entries.
        (hash >> (32 - self.entries.len().trailing_zeros())) as usize
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.entries.len() - 1)
    }

    fn position(&self, address: u64, is_at: impl Fn(u32) -> bool) -> Option<usize> {
        let hash = hash(address);
        let mut at = self.home(hash);
        loop {
            let entry = self.entries[at];
            if entry == EMPTY {
                return None;
            }
            if (entry >> 32) as u32 == hash && is_at(entry as u32) {
                return Some(at);
            }
            at = self.next(at);
        }
    }

    /// The index of the record at an address. `is_at` tells whether a record is.
    pub(super) fn find(&self, address: u64, is_at: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(address, is_at)
            .map(|at| self.entries[at] as u32)
    }

    /// Adds a record at an address that has none.
    pub(super) fn insert(&mut self, address: u64, index: u32) {
        if (self.count + 1) * 2 > self.entries.len() {
            let doubled = vec![EMPTY; self.entries.len() * 2].into();
            let entries = std::mem::replace(&mut self.entries, doubled);
            for entry in entries.into_iter().filter(|&entry| entry != EMPTY) {
                self.place(entry);
            }
        }
        self.place(u64::from(hash(address)) << 32 | u64::from(index));
        self.count += 1;
    }

    fn place(&mut self, entry: u64) {
        let mut at = self.home((entry >> 32) as u32);
        while self.entries[at] != EMPTY {
            at = self.next(at);
        }
        self.entries[at] = entry;
    }

    /// Removes the record at an address, if there is one.
    pub(super) fn remove(&mut self, address: u64, is_at: impl Fn(u32) -> bool) {
        let Some(mut hole) = self.position(address, is_at) else {
            return;
        };
        let mask = self.entries.len() - 1;
        let mut at = hole;
        loop {
            at = self.next(at);
            let entry = self.entries[at];
            if entry == EMPTY {
                break;
            }
            // An entry may move to the hole unless its home lies behind the hole.
            let home = self.home((entry >> 32) as u32);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = EMPTY;
        self.count -= 1;
    }

    /// The indexes of all records.
    #[cfg(test)]
    pub(super) fn indexes(&self) -> impl Iterator<Item = u32> {
        let entries = self.entries.iter().copied();
        entries
            .filter(|&entry| entry != EMPTY)
            .map(|entry| entry as u32)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn addresses_of_equal_steps_spread() {
        for step in [256_u64, 4096, 65536, 1 << 20, 640 << 10, 2 << 20] {
            let mut table = AddressTable::default();
            let address = |index: u32| 0x7F00_0000_0000 + u64::from(index) * step;
            for index in 0..4096 {
                table.insert(address(index), index);
            }
            let mut probes = 0;
            for index in 0..4096 {
                let home = table.home(hash(address(index)));
                let at = table.position(address(index), |other| other == index);
                probes += (at.unwrap().wrapping_sub(home)) & (table.entries.len() - 1);
            }
            assert!(probes < 4096 * 2, "{step}: {probes}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..300u64, any::<bool>()), 1..600)) {
            let mut table = AddressTable::default();
            let mut model = BTreeMap::new();
            let mut records = Vec::new();
            for (number, inserts) in steps {
                let address = number * 256;
                if inserts && !model.contains_key(&address) {
                    let index = records.len() as u32;
                    records.push(address);
                    table.insert(address, index);
                    model.insert(address, index);
                } else if !inserts {
                    table.remove(address, |index| records[index as usize] == address);
                    model.remove(&address);
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for number in 0..300 {
                let address = number * 256;
                let found = table.find(address, |index| records[index as usize] == address);
                prop_assert_eq!(found, model.get(&address).copied());
            }
            prop_assert_eq!(table.indexes().count(), model.len());
        }
    }
}

//! Slabs: blocks cut into equal slots.

use super::address_hash::AddressMap;
use super::blocks::NONE;
use super::size_class::SizeClass;

const WORDS: usize = 4;

/// One slab: a cache line that stands for up to 256 live blocks, so that small blocks stay cheap
/// however many there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slab {
    pub(super) address: u64,
    /// Slots that are free have their bit set.
    free: [u64; WORDS],
    /// The block that the slab lies in.
    pub(super) block: u32,
    /// Neighbours among the slabs of the arena's class that have free slots.
    pub(super) previous: u32,
    pub(super) next: u32,
    pub(super) arena: u16,
    used: u16,
    class: SizeClass,
}

impl Slab {
    pub(super) fn class(&self) -> SizeClass {
        self.class
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(super) fn is_full(&self) -> bool {
        u32::from(self.used) == self.class.slots()
    }

    #[cfg(test)]
    pub(super) fn used_count(&self) -> u16 {
        self.used
    }

    /// Takes the free slot with the lowest address.
    pub(super) fn take(&mut self) -> Option<u64> {
        let word = self.free.iter().position(|&word| word != 0)?;
        let bit = self.free[word].trailing_zeros();
        self.free[word] &= self.free[word] - 1;
        self.used += 1;
        let slot = word as u64 * 64 + u64::from(bit);
        Some(self.address + slot * self.class.size())
    }

    /// The slot that starts at an address, if it is in use.
    pub(super) fn used_slot(&self, address: u64) -> Option<u32> {
        let offset = address.checked_sub(self.address)?;
        let slot = offset / self.class.size();
        let is_slot = slot < u64::from(self.class.slots()) && slot * self.class.size() == offset;
        (is_slot && self.free[slot as usize / 64] & (1 << (slot % 64)) == 0).then_some(slot as u32)
    }

    /// Frees a slot that [`used_slot`](Self::used_slot) has found.
    pub(super) fn give_back(&mut self, slot: u32) {
        self.free[slot as usize / 64] |= 1 << (slot % 64);
        self.used -= 1;
    }
}

/// All slabs, by index and by address.
#[derive(Debug, Default)]
pub(super) struct Slabs {
    records: Vec<Slab>,
    vacant: Vec<u32>,
    by_address: AddressMap,
}

impl Slabs {
    /// Makes a slab of a block of `class.slab()` bytes that starts where a window of the class does.
    pub(super) fn insert(&mut self, address: u64, block: u32, arena: u16, class: SizeClass) -> u32 {
        debug_assert_eq!(address % class.window(), 0);
        let slots = class.slots();
        let mut free = [0; WORDS];
        for (word, bits) in free.iter_mut().enumerate() {
            let left = slots.saturating_sub(word as u32 * 64).min(64);
            *bits = u64::MAX.checked_shr(64 - left).unwrap_or(0);
        }
        let slab = Slab {
            address,
            free,
            block,
            previous: NONE,
            next: NONE,
            arena,
            used: 0,
            class,
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.records[index as usize] = slab;
                index
            }
            None => {
                self.records.push(slab);
                (self.records.len() - 1) as u32
            }
        };
        self.by_address.insert(address, index);
        index
    }

    /// Forgets a slab.
    pub(super) fn remove(&mut self, index: u32) {
        let address = self.get(index).address;
        self.by_address.remove(&address);
        self.vacant.push(index);
    }

    /// The slab of the class in whose slots `address` could be.
    pub(super) fn find(&self, address: u64, class: SizeClass) -> Option<u32> {
        let base = address & !(class.window() - 1);
        let index = *self.by_address.get(&base)?;
        (self.get(index).class == class).then_some(index)
    }

    pub(super) fn get(&self, index: u32) -> &Slab {
        &self.records[index as usize]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Slab {
        &mut self.records[index as usize]
    }

    pub(super) fn count(&self) -> usize {
        self.records.len() - self.vacant.len()
    }

    #[cfg(test)]
    pub(super) fn indexes(&self) -> impl Iterator<Item = u32> {
        self.by_address.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_is_a_cache_line() {
        assert_eq!(size_of::<Slab>(), 64);
    }

    #[test]
    fn slots_are_given_once_lowest_first_and_found_by_address() {
        for granules in [1, 5, 9, 100, 4096] {
            let class = SizeClass::of(granules);
            let mut slabs = Slabs::default();
            let base = class.window() * 7;
            let index = slabs.insert(base, 1, 2, class);
            for slot in 0..u64::from(class.slots()) {
                assert!(!slabs.get(index).is_full());
                assert_eq!(
                    slabs.get_mut(index).take(),
                    Some(base + slot * class.size())
                );
            }
            assert!(slabs.get(index).is_full());
            assert_eq!(slabs.get_mut(index).take(), None);
            for slot in (0..u64::from(class.slots())).rev() {
                let address = base + slot * class.size();
                assert_eq!(slabs.find(address, class), Some(index));
                let slab = slabs.get_mut(index);
                assert_eq!(slab.used_slot(address + 256 % class.size() + 1), None);
                assert_eq!(slab.used_slot(address), Some(slot as u32));
                slab.give_back(slot as u32);
                assert_eq!(slab.used_slot(address), None, "freed twice");
            }
            assert!(slabs.get(index).is_empty());
            assert_eq!(slabs.get(index).used_slot(base + class.slab()), None);
            slabs.remove(index);
            assert_eq!(slabs.find(base, class), None);
            assert_eq!(slabs.count(), 0);
        }
    }

    #[test]
    fn another_class_does_not_find_the_slab() {
        let mut slabs = Slabs::default();
        let class = SizeClass::of(1);
        slabs.insert(0, 0, 0, class);
        assert_eq!(slabs.find(0, SizeClass::of(2)), None);
    }
}

//! Small blocks: slots of slabs.

use super::blocks::{NONE, State};
use super::core::Core;
use super::options::GRANULARITY;
use super::size_class::SizeClass;
use super::streams::Streams;
use super::upstream::Upstream;
use offheap::Result;

impl<U: Upstream, S: Streams> Core<U, S> {
    /// A slot of the arena's slabs, O(1).
    pub(super) fn take_slot(&mut self, arena: u16, class: SizeClass) -> Option<u64> {
        let owner = &mut self.arenas[usize::from(arena)];
        let mut slab = owner.partial[class.index()];
        if slab == NONE {
            slab = owner.spare[class.index()];
            if slab == NONE {
                return None;
            }
            owner.spare[class.index()] = NONE;
            owner.spares -= 1;
            self.link_partial(slab);
        }
        let record = self.slabs.get_mut(slab);
        let address = record.take();
        if record.is_full() {
            self.unlink_partial(slab);
        }
        address
    }

    /// Frees a slot. An empty slab is kept if it is the only one of its class, else its memory
    /// becomes a free block.
    pub(super) fn put_slot(&mut self, slab: u32, slot: u32) {
        let record = self.slabs.get_mut(slab);
        let was_full = record.is_full();
        record.give_back(slot);
        let (is_empty, class, arena) = (record.is_empty(), record.class(), record.arena);
        if was_full {
            self.link_partial(slab);
        }
        if !is_empty {
            return;
        }
        self.unlink_partial(slab);
        let owner = &mut self.arenas[usize::from(arena)];
        if owner.spare[class.index()] == NONE && !owner.is_retired {
            owner.spare[class.index()] = slab;
            owner.spares += 1;
        } else {
            self.dissolve(slab);
        }
    }

    /// A small block where the arena has no free slot. As the general search, but a slab is made
    /// wherever its memory can be had, and a block of the exact size is taken before another stream
    /// is waited for.
    #[cold]
    pub(super) fn allocate_small(
        &mut self,
        size: u64,
        wanted: u32,
        class: SizeClass,
        arena: u16,
    ) -> Result<(u64, u64)> {
        if let Some(found) = self.slot_of_new_slab(class, arena) {
            return Ok(found);
        }
        if let Some(index) = self.take_own(arena, wanted, 1) {
            return Ok(self.hand_out(index, size));
        }
        if let Some(found) = self.adopt_slab(class, arena, true)? {
            return Ok(found);
        }
        let (slab, align) = shape(class);
        if let Some(index) = self.steal_for_slab(arena, slab, align)? {
            return Ok(self.slot_of(index, class, arena));
        }
        self.allocate_large(size, wanted, 1, arena, Some(class))
    }

    /// A slot of a new slab in the arena's own free memory.
    pub(super) fn slot_of_new_slab(&mut self, class: SizeClass, arena: u16) -> Option<(u64, u64)> {
        let (slab, align) = shape(class);
        let index = self.take_own(arena, slab, align)?;
        Some(self.slot_of(index, class, arena))
    }

    /// Makes a slab of a block, and takes a slot.
    fn slot_of(&mut self, index: u32, class: SizeClass, arena: u16) -> (u64, u64) {
        let block = self.blocks.get_mut(index);
        block.state = State::Slab;
        block.arena = arena;
        let address = block.address;
        let slab = self.slabs.insert(address, index, arena, class);
        self.arenas[usize::from(arena)].holds += 1;
        // A new slab has more than one slot and all are free.
        let slot = self.slabs.get_mut(slab).take().unwrap_or(address);
        self.link_partial(slab);
        (slot, class.size())
    }

    /// Takes over a slab with free slots: of streams that are gone, or of any. Its slots in use stay
    /// in use; the stream waits for those that are free.
    pub(super) fn adopt_slab(
        &mut self,
        class: SizeClass,
        arena: u16,
        only_retired: bool,
    ) -> Result<Option<(u64, u64)>> {
        for other in 0..self.arenas.len() as u16 {
            let owner = &self.arenas[usize::from(other)];
            let slab = owner.partial[class.index()];
            if other == arena || slab == NONE || (only_retired && !owner.is_retired) {
                continue;
            }
            self.wait_for(arena, other)?;
            // Whoever takes the slab's memory from this stream must wait for that wait.
            self.note_free(arena)?;
            self.unlink_partial(slab);
            self.arenas[usize::from(other)].holds -= 1;
            self.arenas[usize::from(arena)].holds += 1;
            let record = self.slabs.get_mut(slab);
            record.arena = arena;
            let block = record.block;
            self.blocks.get_mut(block).arena = arena;
            self.link_partial(slab);
            self.statistics.stolen_blocks += 1;
            return Ok(self
                .take_slot(arena, class)
                .map(|address| (address, class.size())));
        }
        Ok(None)
    }

    /// Makes the arena's empty slabs free blocks. Whether there were any.
    pub(super) fn flush_spares(&mut self, arena: u16) -> bool {
        let owner = &mut self.arenas[usize::from(arena)];
        if owner.spares == 0 {
            return false;
        }
        owner.spares = 0;
        let spare = std::mem::replace(&mut *owner.spare, [NONE; super::size_class::CLASSES]);
        for slab in spare.into_iter().filter(|&slab| slab != NONE) {
            self.dissolve(slab);
        }
        true
    }

    /// Makes the memory of an empty slab that is in no list a free block.
    fn dissolve(&mut self, slab: u32) {
        let record = *self.slabs.get(slab);
        self.slabs.remove(slab);
        self.arenas[usize::from(record.arena)].holds -= 1;
        self.insert_free(record.block);
    }

    fn link_partial(&mut self, slab: u32) {
        let record = self.slabs.get(slab);
        let (class, arena) = (record.class().index(), usize::from(record.arena));
        let head = std::mem::replace(&mut self.arenas[arena].partial[class], slab);
        if head != NONE {
            self.slabs.get_mut(head).previous = slab;
        }
        let record = self.slabs.get_mut(slab);
        record.previous = NONE;
        record.next = head;
    }

    fn unlink_partial(&mut self, slab: u32) {
        let record = *self.slabs.get(slab);
        if record.next != NONE {
            self.slabs.get_mut(record.next).previous = record.previous;
        }
        if record.previous != NONE {
            self.slabs.get_mut(record.previous).next = record.next;
        } else {
            self.arenas[usize::from(record.arena)].partial[record.class().index()] = record.next;
        }
    }
}

/// Size and alignment of a class's slabs, in granules.
fn shape(class: SizeClass) -> (u32, u32) {
    (
        (class.slab() / GRANULARITY) as u32,
        (class.window() / GRANULARITY) as u32,
    )
}

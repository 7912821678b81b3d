//! Compares the structures of a pool with each other, for tests.

use super::blocks::{NONE, State};
use super::core::Core;
use super::options::GRANULARITY;
use super::streams::Streams;
use super::upstream::Upstream;

impl<U: Upstream, S: Streams> Core<U, S> {
    /// Panics at the first thing that is not as it must be.
    pub(super) fn check(&self) {
        let mut free = vec![(0_usize, 0_u64); self.arenas.len()];
        let (mut used, mut reserved, mut count, mut slabs, mut pending) = (0, 0, 0, 0, 0);
        for chunk in &self.chunks {
            reserved += chunk.size;
            let (mut index, mut previous, mut address) = (chunk.first, NONE, chunk.address);
            while index != NONE {
                let block = self.blocks.get(index);
                assert_eq!(block.address, address, "no gap and no overlap");
                assert_eq!(block.previous, previous);
                assert!(block.size > 0);
                address = block.end();
                count += 1;
                match block.state {
                    State::Free => {
                        let entry = &mut free[usize::from(block.arena)];
                        entry.0 += 1;
                        entry.1 += u64::from(block.size);
                        if previous != NONE {
                            let other = self.blocks.get(previous);
                            assert!(
                                other.state != State::Free || other.arena != block.arena,
                                "neighbours of one stream are joined"
                            );
                        }
                    }
                    State::Used => {
                        used += 1;
                        assert_eq!(self.live.get(&block.address), Some(&index));
                    }
                    State::Slab => slabs += 1,
                    State::Pending => pending += 1,
                    State::Vacant => panic!("a vacant record in a chunk"),
                }
                previous = index;
                index = block.next;
            }
            assert_eq!(address, chunk.address + chunk.size);
        }
        assert_eq!(count, self.blocks.count());
        assert_eq!(used, self.live.len());
        assert_eq!(slabs, self.slabs.count());
        assert_eq!(reserved, self.statistics.reserved.current);
        assert_eq!(self.chunks.len() as u64, self.statistics.chunks.current);
        pending += self.pending_slots.len();
        assert_eq!(pending as u64, self.statistics.pending_blocks);
        for (arena, &(count, total)) in self.arenas.iter().zip(&free) {
            assert_eq!((arena.bins.count(), arena.bins.total()), (count, total));
        }

        let (mut slots, mut slot_bytes, mut owned) = (0, 0, 0);
        for index in self.slabs.indexes() {
            let slab = self.slabs.get(index);
            let block = self.blocks.get(slab.block);
            assert_eq!(
                (block.address, block.bytes()),
                (slab.address, slab.class().slab())
            );
            assert_eq!((block.state, block.arena), (State::Slab, slab.arena));
            slots += u64::from(slab.used_count());
            slot_bytes += u64::from(slab.used_count()) * slab.class().size();
            let arena = &self.arenas[usize::from(slab.arena)];
            let class = slab.class().index();
            let mut listed = false;
            let mut at = arena.partial[class];
            while at != NONE {
                listed |= at == index;
                at = self.slabs.get(at).next;
            }
            let is_spare = arena.spare[class] == index;
            assert_eq!(listed, !slab.is_full() && !is_spare);
            assert_eq!(is_spare, slab.is_empty());
        }
        for arena in &self.arenas {
            owned += u64::from(arena.holds);
            let spares = arena.spare.iter().filter(|&&slab| slab != NONE).count();
            assert_eq!(spares as u32, arena.spares);
        }
        assert_eq!(
            owned,
            self.slabs.count() as u64 + self.statistics.pending_blocks
        );
        let live: u64 = self
            .live
            .values()
            .map(|&index| u64::from(self.blocks.get(index).size) * GRANULARITY)
            .sum();
        let deferred: u64 = self
            .pending_slots
            .iter()
            .map(|&(slab, _)| self.slabs.get(slab).class().size())
            .sum();
        assert_eq!(
            live + slot_bytes - deferred,
            self.statistics.allocated.current
        );
        assert_eq!(
            used as u64 + slots - self.pending_slots.len() as u64,
            self.statistics.blocks.current
        );
    }
}

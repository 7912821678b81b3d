//! Blocks that are freed but in use by streams other than the one that will use them again.

use super::blocks::State;
use super::core::{Core, Place};
use super::streams::{StreamId, Streams};
use super::upstream::Upstream;
use offheap::Result;
use std::collections::VecDeque;

/// A block and what has to complete before it is free. The last event is the next to wait for.
pub(super) struct Pending<E> {
    place: Place,
    arena: u16,
    events: Vec<(StreamId, E)>,
}

impl<U: Upstream, S: Streams> Core<U, S> {
    /// Keeps a block until the events are complete (PyTorch's `stream_uses`): the stream that gets
    /// it is not made to wait, which would stop it for the others' work.
    pub(super) fn defer(&mut self, place: Place, arena: u16, events: Vec<(StreamId, S::Event)>) {
        match place {
            Place::Slot { slab, slot } => {
                self.pending_slots.insert((slab, slot));
            }
            Place::Block { index } => self.blocks.get_mut(index).state = State::Pending,
        }
        self.arenas[usize::from(arena)].holds += 1;
        self.statistics.pending_blocks += 1;
        self.enqueue(Pending {
            place,
            arena,
            events,
        });
    }

    /// Puts a block behind the others that wait for the same stream, or makes it free.
    fn enqueue(&mut self, pending: Pending<S::Event>) {
        let Some(&(stream, _)) = pending.events.last() else {
            if let Place::Slot { slab, slot } = pending.place {
                self.pending_slots.remove(&(slab, slot));
            }
            self.arenas[usize::from(pending.arena)].holds -= 1;
            self.statistics.pending_blocks -= 1;
            self.put_back(pending.place);
            return;
        };
        match self.pending.iter_mut().find(|(other, _)| *other == stream) {
            Some((_, queue)) => queue.push_back(pending),
            None => self.pending.push((stream, VecDeque::from([pending]))),
        }
    }

    /// Whether a slot is freed already.
    pub(super) fn is_pending_slot(&self, slab: u32, slot: u32) -> bool {
        !self.pending_slots.is_empty() && self.pending_slots.contains(&(slab, slot))
    }

    /// Frees the blocks whose events are complete. A query for each stream that is waited for.
    pub(super) fn poll(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        // An error says nothing about completion: the block stays.
        self.take_complete(|streams, event| Ok(streams.is_complete(event).unwrap_or(false)))
            .unwrap_or_default();
    }

    /// Blocks until every pending block is free.
    pub(super) fn finish_pending(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            let mut waits = 0;
            let result = self.take_complete(|streams, event| {
                if !streams.is_complete(event)? {
                    streams.synchronize(event)?;
                    waits += 1;
                }
                Ok(true)
            });
            self.statistics.host_waits += waits;
            result?;
        }
        Ok(())
    }

    fn take_complete(
        &mut self,
        mut is_complete: impl FnMut(&S, &S::Event) -> Result<bool>,
    ) -> Result<()> {
        let mut at = 0;
        while at < self.pending.len() {
            let Some(event) = self.pending[at]
                .1
                .front()
                .and_then(|front| front.events.last())
            else {
                self.pending.swap_remove(at);
                continue;
            };
            if !is_complete(&self.streams, &event.1)? {
                at += 1;
                continue;
            }
            if let Some(mut front) = self.pending[at].1.pop_front() {
                self.events
                    .extend(front.events.pop().map(|(_, event)| event));
                self.enqueue(front);
            }
        }
        Ok(())
    }
}

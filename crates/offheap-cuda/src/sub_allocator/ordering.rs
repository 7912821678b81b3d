//! Which stream's work comes before which: arenas, their events, and waits.

use super::arena::Arena;
use super::core::Core;
use super::streams::{StreamId, Streams};
use super::upstream::Upstream;
use offheap::{Error, Result};

/// Arenas are counted in 16 bits.
const MAX_ARENAS: usize = u16::MAX as usize;

impl<U: Upstream, S: Streams> Core<U, S> {
    /// The arena of a stream, made if it has none.
    pub(super) fn arena_of(&mut self, stream: StreamId) -> Result<u16> {
        if let Some((last, arena)) = self.last
            && last == stream
        {
            return Ok(arena);
        }
        let arena = match self.by_stream.get(&stream) {
            Some(&arena) => arena,
            None => self.new_arena(stream)?,
        };
        self.last = Some((stream, arena));
        Ok(arena)
    }

    #[cold]
    fn new_arena(&mut self, stream: StreamId) -> Result<u16> {
        // As long as there is one stream nobody could wait for its events, so none are recorded.
        // The second stream changes that, also for what was freed before.
        for arena in 0..self.arenas.len() {
            if self.arenas[arena].is_stale {
                self.record_arena(arena)?;
            }
        }
        // The place of a stream that is gone, if it left nothing, or only memory that it never used.
        let unused = self.arenas.iter().position(|arena| {
            arena.is_retired
                && arena.holds == 0
                && (arena.bins.count() == 0 || arena.event.is_none())
        });
        let index = match unused {
            Some(index) => {
                let arena = &mut self.arenas[index];
                arena.stream = stream;
                arena.is_retired = false;
                arena.waited.clear();
                index
            }
            None => {
                self.arenas.push(Arena::new(stream));
                self.arenas.len() - 1
            }
        };
        if index >= MAX_ARENAS {
            self.arenas.pop();
            return Err(Error::busy(format!(
                "pool '{}' has free memory of {MAX_ARENAS} streams",
                self.options.name
            )));
        }
        let index = index as u16;
        self.by_stream.insert(stream, index);
        Ok(index)
    }

    /// Notes that a block is freed by the arena's stream, before it is.
    pub(super) fn note_free(&mut self, arena: u16) -> Result<()> {
        let arena = usize::from(arena);
        if self.arenas.len() == 1 {
            self.arenas[arena].is_stale = true;
            return Ok(());
        }
        self.record_arena(arena)
    }

    /// Records the arena's event, or, where its stream is no more, waits for the device.
    pub(super) fn record_arena(&mut self, index: usize) -> Result<()> {
        let arena = &mut self.arenas[index];
        if arena.event.is_none() {
            arena.event = Some(match self.events.pop() {
                Some(event) => event,
                None => self.streams.create_event()?,
            });
        }
        if let Some(event) = &mut arena.event {
            match self.streams.record(event, arena.stream) {
                Ok(()) => {
                    arena.sequence += 1;
                    self.statistics.event_records += 1;
                }
                Err(_) => {
                    // What the event meant before is complete as well.
                    self.streams.synchronize_device()?;
                    self.statistics.host_waits += 1;
                }
            }
        }
        arena.is_stale = false;
        Ok(())
    }

    /// Makes one arena's stream wait for all that another's has freed.
    pub(super) fn wait_for(&mut self, arena: u16, other: u16) -> Result<()> {
        let (arena, other) = (usize::from(arena), usize::from(other));
        if arena == other {
            return Ok(());
        }
        if self.arenas[other].is_stale {
            self.record_arena(other)?;
        }
        let sequence = self.arenas[other].sequence;
        if sequence <= self.arenas[arena].waited_for(other) {
            return Ok(());
        }
        if let Some(event) = &self.arenas[other].event {
            self.streams.wait(self.arenas[arena].stream, event)?;
            self.statistics.waits += 1;
        }
        self.arenas[arena].set_waited_for(other, sequence);
        Ok(())
    }

    /// Blocks until all that the arena's stream has freed is complete.
    pub(super) fn synchronize(&mut self, arena: usize) -> Result<()> {
        if self.arenas[arena].is_stale {
            self.record_arena(arena)?;
        }
        let Some(event) = &self.arenas[arena].event else {
            return Ok(());
        };
        if !self.streams.is_complete(event)? {
            self.streams.synchronize(event)?;
            self.statistics.host_waits += 1;
        }
        Ok(())
    }

    /// Records a new event on each stream; none where all of them are known to be complete.
    pub(super) fn record_all(&mut self, streams: &[StreamId]) -> Result<Vec<(StreamId, S::Event)>> {
        let mut recorded = Vec::with_capacity(streams.len());
        for &stream in streams {
            let result = match self.events.pop() {
                Some(event) => Ok(event),
                None => self.streams.create_event(),
            };
            let result = result.and_then(|mut event| {
                let result = self.streams.record(&mut event, stream);
                result.map(|()| event)
            });
            if let Ok(event) = result {
                self.statistics.event_records += 1;
                recorded.push((stream, event));
            } else {
                // The stream may be gone; its work is not.
                self.events
                    .extend(recorded.drain(..).map(|(_, event)| event));
                self.streams.synchronize_device()?;
                self.statistics.host_waits += 1;
                break;
            }
        }
        Ok(recorded)
    }

    /// Forgets a stream that is about to be destroyed. Its free blocks stay, for others to take.
    pub(super) fn retire_stream(&mut self, stream: StreamId) -> Result<()> {
        let Some(&index) = self.by_stream.get(&stream) else {
            return Ok(());
        };
        if self.arenas[usize::from(index)].is_stale {
            self.record_arena(usize::from(index))?;
        }
        self.by_stream.remove(&stream);
        self.last = None;
        self.flush_spares(index);
        self.arenas[usize::from(index)].is_retired = true;
        Ok(())
    }
}

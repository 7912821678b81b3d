//! A device that is not there: addresses without memory, streams without work.

use super::options::GRANULARITY;
use super::streams::{StreamId, Streams};
use super::upstream::Upstream;
use offheap::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Hands out addresses that mean nothing (RMM's `simulated_memory_resource`), one chunk right behind
/// the other, and never the same twice.
#[derive(Debug)]
pub struct SimulatedUpstream {
    capacity: u64,
    state: Mutex<Chunks>,
}

#[derive(Debug, Default)]
struct Chunks {
    next: u64,
    live: BTreeMap<u64, u64>,
    bytes: u64,
    calls: u64,
}

impl SimulatedUpstream {
    /// Memory of `capacity` bytes whose first chunk is at `base`.
    pub fn new(capacity: u64, base: u64) -> Self {
        Self {
            capacity,
            state: Mutex::new(Chunks {
                next: base,
                ..Chunks::default()
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, Chunks> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunks that are out: address and size.
    pub fn chunks(&self) -> Vec<(u64, u64)> {
        self.state().live.iter().map(|(&a, &s)| (a, s)).collect()
    }

    /// Bytes of the chunks that are out.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Calls of both kinds, the refused ones included.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }
}

impl Upstream for SimulatedUpstream {
    fn allocate_chunk(&self, size: u64) -> Result<u64> {
        let mut state = self.state();
        state.calls += 1;
        if size > self.capacity - state.bytes {
            return Err(Error::new(ErrorKind::OutOfMemory {
                requested: size,
                limit: Some(self.capacity),
                allocated: state.bytes,
                pool: "simulated device".into(),
            }));
        }
        let address = state.next;
        state.next += size.next_multiple_of(GRANULARITY);
        state.bytes += size;
        state.live.insert(address, size);
        Ok(address)
    }

    fn free_chunk(&self, address: u64, size: u64) -> Result<()> {
        let mut state = self.state();
        state.calls += 1;
        if state.live.get(&address) != Some(&size) {
            return Err(Error::new(ErrorKind::Corruption {
                what: format!("no chunk of {size} bytes at {address:#x}"),
            }));
        }
        state.live.remove(&address);
        state.bytes -= size;
        Ok(())
    }
}

/// For each stream, how much of its work comes before a point: a vector clock.
type Clock = BTreeMap<StreamId, u64>;

fn join(clock: &mut Clock, other: &Clock) {
    for (&stream, &work) in other {
        let known = clock.entry(stream).or_default();
        *known = (*known).max(work);
    }
}

/// Streams in virtual time: work is counted, not done, and each stream and event knows which work
/// comes before it, so that a test can ask whether two uses of a block are ordered.
#[derive(Debug, Default)]
pub struct SimulatedStreams {
    state: Mutex<Timeline>,
}

#[derive(Debug, Default)]
struct Timeline {
    /// What comes before the next work of a stream.
    streams: BTreeMap<StreamId, Clock>,
    /// Work that is complete.
    complete: Clock,
    /// Work that the host has seen to be complete.
    seen: Clock,
    destroyed: BTreeSet<StreamId>,
    records: u64,
    waits: u64,
    device_waits: u64,
    is_failing: bool,
}

/// An event of [`SimulatedStreams`].
#[derive(Debug, Default)]
pub struct SimulatedEvent {
    clock: Clock,
}

impl SimulatedStreams {
    /// No stream has any work.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, Timeline> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a piece of work to a stream; its number, from 1.
    pub fn launch(&self, stream: StreamId) -> u64 {
        let mut state = self.state();
        let seen = state.seen.clone();
        let clock = state.streams.entry(stream).or_default();
        join(clock, &seen);
        let work = clock.entry(stream).or_default();
        *work += 1;
        *work
    }

    /// Completes up to `amount` pieces of a stream's work, as far as what they wait for is complete.
    pub fn run(&self, stream: StreamId, amount: u64) {
        let mut state = self.state();
        let launched = state
            .streams
            .get(&stream)
            .and_then(|clock| clock.get(&stream))
            .copied()
            .unwrap_or(0);
        let done = state.complete.entry(stream).or_default();
        *done = (*done + amount).min(launched);
    }

    /// Whether the next work of `stream` comes after piece `work` of `other`.
    pub fn is_ordered(&self, stream: StreamId, other: StreamId, work: u64) -> bool {
        let state = self.state();
        let known = |clock: Option<&Clock>| clock.and_then(|c| c.get(&other)).copied().unwrap_or(0);
        work <= known(state.streams.get(&stream)).max(known(Some(&state.seen)))
    }

    /// Destroys a stream: it takes no more calls, and its work goes on.
    pub fn destroy(&self, stream: StreamId) {
        self.state().destroyed.insert(stream);
    }

    /// Makes every call fail, or not.
    pub fn set_failing(&self, is_failing: bool) {
        self.state().is_failing = is_failing;
    }

    /// Events recorded, waits given to streams, waits for the device.
    pub fn calls(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.records, state.waits, state.device_waits)
    }
}

impl Timeline {
    fn check(&self, stream: Option<StreamId>) -> Result<()> {
        if self.is_failing || stream.is_some_and(|stream| self.destroyed.contains(&stream)) {
            return Err(Error::not_supported(
                "the simulated driver refuses the call",
            ));
        }
        Ok(())
    }

    fn is_complete(&self, event: &SimulatedEvent) -> bool {
        event
            .clock
            .iter()
            .all(|(stream, work)| self.complete.get(stream).unwrap_or(&0) >= work)
    }
}

impl Streams for SimulatedStreams {
    type Event = SimulatedEvent;

    fn create_event(&self) -> Result<SimulatedEvent> {
        self.state().check(None)?;
        Ok(SimulatedEvent::default())
    }

    fn record(&self, event: &mut SimulatedEvent, stream: StreamId) -> Result<()> {
        let mut state = self.state();
        state.check(Some(stream))?;
        event.clock = state.streams.get(&stream).cloned().unwrap_or_default();
        state.records += 1;
        Ok(())
    }

    fn wait(&self, stream: StreamId, event: &SimulatedEvent) -> Result<()> {
        let mut state = self.state();
        state.check(Some(stream))?;
        join(state.streams.entry(stream).or_default(), &event.clock);
        state.waits += 1;
        Ok(())
    }

    fn is_complete(&self, event: &SimulatedEvent) -> Result<bool> {
        let mut state = self.state();
        state.check(None)?;
        let is_complete = state.is_complete(event);
        if is_complete {
            join(&mut state.seen, &event.clock);
        }
        Ok(is_complete)
    }

    fn synchronize(&self, event: &SimulatedEvent) -> Result<()> {
        let mut state = self.state();
        state.check(None)?;
        join(&mut state.complete, &event.clock);
        join(&mut state.seen, &event.clock);
        Ok(())
    }

    fn synchronize_device(&self) -> Result<()> {
        let mut state = self.state();
        state.check(None)?;
        let Timeline {
            streams,
            complete,
            seen,
            device_waits,
            ..
        } = &mut *state;
        for clock in streams.values() {
            join(complete, clock);
            join(seen, clock);
        }
        *device_waits += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(2);

    #[test]
    fn a_wait_orders_what_the_event_saw_and_no_more() {
        let streams = SimulatedStreams::new();
        let mut event = streams.create_event().unwrap();
        let first = streams.launch(A);
        streams.record(&mut event, A).unwrap();
        let second = streams.launch(A);
        assert!(!streams.is_ordered(B, A, first));
        streams.wait(B, &event).unwrap();
        assert!(streams.is_ordered(B, A, first));
        assert!(!streams.is_ordered(B, A, second));
    }

    #[test]
    fn what_the_host_saw_complete_is_before_everything() {
        let streams = SimulatedStreams::new();
        let mut event = streams.create_event().unwrap();
        let work = streams.launch(A);
        streams.record(&mut event, A).unwrap();
        assert!(!streams.is_complete(&event).unwrap());
        streams.run(A, 1);
        assert!(!streams.is_ordered(B, A, work), "nobody has looked");
        assert!(streams.is_complete(&event).unwrap());
        assert!(streams.is_ordered(B, A, work));
    }

    #[test]
    fn upstream_is_exact() {
        let upstream = SimulatedUpstream::new(1024, 0x100);
        assert_eq!(upstream.allocate_chunk(512).unwrap(), 0x100);
        assert_eq!(upstream.allocate_chunk(512).unwrap(), 0x300);
        assert!(upstream.allocate_chunk(256).unwrap_err().is_out_of_memory());
        assert!(upstream.free_chunk(0x100, 256).is_err());
        upstream.free_chunk(0x100, 512).unwrap();
        assert_eq!((upstream.bytes(), upstream.calls()), (512, 5));
    }
}

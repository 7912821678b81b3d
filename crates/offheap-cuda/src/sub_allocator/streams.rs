//! What a sub-allocating pool asks of streams and events.

use offheap::Result;
use std::sync::Arc;

/// A stream, by a number that no other stream of the process ever has (`cuStreamGetId`), not by its
/// handle, which the driver gives out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Streams and events of one device.
///
/// The pool calls this under its lock: an implementation must not call the pool back.
pub trait Streams: Send + Sync {
    /// A point in a stream's work. Dropped when the pool is done with it.
    type Event: Send;

    /// A new event, not recorded yet, without timing.
    ///
    /// # Errors
    /// Whatever the driver says.
    fn create_event(&self) -> Result<Self::Event>;

    /// Makes `event` mean all work given to `stream` so far, whatever it meant before.
    ///
    /// # Errors
    /// Whatever the driver says: that the stream was destroyed, say. The pool then waits for the
    /// whole device instead.
    fn record(&self, event: &mut Self::Event, stream: StreamId) -> Result<()>;

    /// Makes the work that is given to `stream` from now on wait for `event`, on the device: the
    /// caller does not block.
    ///
    /// # Errors
    /// Whatever the driver says.
    fn wait(&self, stream: StreamId, event: &Self::Event) -> Result<()>;

    /// Whether the work that `event` means is complete.
    ///
    /// # Errors
    /// Whatever the driver says.
    fn is_complete(&self, event: &Self::Event) -> Result<bool>;

    /// Blocks the caller until the work that `event` means is complete.
    ///
    /// # Errors
    /// Whatever the driver says.
    fn synchronize(&self, event: &Self::Event) -> Result<()>;

    /// Blocks the caller until all work of the device is complete, that of destroyed streams
    /// included.
    ///
    /// # Errors
    /// Whatever the driver says.
    fn synchronize_device(&self) -> Result<()>;
}

impl<T: Streams + ?Sized> Streams for Arc<T> {
    type Event = T::Event;

    fn create_event(&self) -> Result<Self::Event> {
        (**self).create_event()
    }

    fn record(&self, event: &mut Self::Event, stream: StreamId) -> Result<()> {
        (**self).record(event, stream)
    }

    fn wait(&self, stream: StreamId, event: &Self::Event) -> Result<()> {
        (**self).wait(stream, event)
    }

    fn is_complete(&self, event: &Self::Event) -> Result<bool> {
        (**self).is_complete(event)
    }

    fn synchronize(&self, event: &Self::Event) -> Result<()> {
        (**self).synchronize(event)
    }

    fn synchronize_device(&self) -> Result<()> {
        (**self).synchronize_device()
    }
}

/// Memory that only the host uses, such as a pinned pool outside of any stream: a free takes effect
/// at once and nothing is ever waited for.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStreams;

impl Streams for NoStreams {
    type Event = ();

    fn create_event(&self) -> Result<()> {
        Ok(())
    }

    fn record(&self, _event: &mut (), _stream: StreamId) -> Result<()> {
        Ok(())
    }

    fn wait(&self, _stream: StreamId, _event: &()) -> Result<()> {
        Ok(())
    }

    fn is_complete(&self, _event: &()) -> Result<bool> {
        Ok(true)
    }

    fn synchronize(&self, _event: &()) -> Result<()> {
        Ok(())
    }

    fn synchronize_device(&self) -> Result<()> {
        Ok(())
    }
}

//! An event, and one recording of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::shared_event::SharedEvent;
use crate::stream::Point;

/// One recording: where it stands and, once it has run, when that was.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) point: Point,
    /// What the stream knew of other streams there.
    pub(crate) knows: HashMap<u64, u64>,
    /// Virtual nanoseconds plus one; 0 before it has run.
    completed: AtomicU64,
    /// For an event of several processes: the event and the number of this recording.
    pub(crate) shared: Option<(Arc<SharedEvent>, u64)>,
}

impl Record {
    pub(crate) fn new(
        point: Point,
        knows: HashMap<u64, u64>,
        shared: Option<(Arc<SharedEvent>, u64)>,
    ) -> Self {
        Self {
            point,
            knows,
            completed: AtomicU64::new(0),
            shared,
        }
    }

    pub(crate) fn complete(&self, time: u64) {
        self.completed.store(time + 1, Ordering::Release);
        if let Some((event, generation)) = &self.shared {
            event.complete(*generation);
        }
    }

    /// The virtual time at which it ran.
    pub(crate) fn time(&self) -> Option<u64> {
        self.completed.load(Ordering::Acquire).checked_sub(1)
    }
}

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) context: u64,
    pub(crate) flags: u32,
    /// The last recording by this process.
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) shared: Option<Arc<SharedEvent>>,
    /// Another process made it.
    pub(crate) imported: bool,
    /// Queries that have answered "not ready" since the last recording.
    pub(crate) queries: u32,
}

impl Event {
    /// The recording of another process that is the event's last, if it is one.
    pub(crate) fn foreign(&self) -> Option<(Arc<SharedEvent>, u64)> {
        let shared = self.shared.as_ref()?;
        let last = shared.recorded();
        let own = self
            .record
            .as_ref()
            .and_then(|record| record.shared.as_ref())
            .map_or(0, |(_, number)| *number);
        (last > own).then(|| (Arc::clone(shared), last))
    }
}

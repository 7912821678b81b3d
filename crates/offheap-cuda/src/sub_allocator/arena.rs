//! What belongs to one stream.

use super::bins::Bins;
use super::blocks::NONE;
use super::size_class::CLASSES;
use super::streams::StreamId;

/// The free memory of one stream: it uses these blocks again without waiting for anything.
#[derive(Debug)]
pub(super) struct Arena<E> {
    pub(super) stream: StreamId,
    pub(super) bins: Bins,
    /// Slabs with free slots, by class.
    pub(super) partial: Box<[u32; CLASSES]>,
    /// One empty slab of each class, kept so that a block freed and allocated in turn is cheap.
    pub(super) spare: Box<[u32; CLASSES]>,
    pub(super) spares: u32,
    /// All that was freed by this stream is complete once this is.
    pub(super) event: Option<E>,
    /// Counts the records of the event, over all streams that had this place.
    pub(super) sequence: u64,
    /// Blocks were freed after the event was recorded.
    pub(super) is_stale: bool,
    /// Slabs and pending blocks.
    pub(super) holds: u32,
    /// The stream is gone.
    pub(super) is_retired: bool,
    /// For each other arena, the record of its event that this stream has waited for.
    pub(super) waited: Vec<u64>,
}

impl<E> Arena<E> {
    pub(super) fn new(stream: StreamId) -> Self {
        Self {
            stream,
            bins: Bins::default(),
            partial: Box::new([NONE; CLASSES]),
            spare: Box::new([NONE; CLASSES]),
            spares: 0,
            event: None,
            sequence: 0,
            is_stale: false,
            holds: 0,
            is_retired: false,
            waited: Vec::new(),
        }
    }

    /// The record of another arena's event that this stream has waited for; 0: none.
    pub(super) fn waited_for(&self, other: usize) -> u64 {
        self.waited.get(other).copied().unwrap_or(0)
    }

    pub(super) fn set_waited_for(&mut self, other: usize, sequence: u64) {
        if self.waited.len() <= other {
            self.waited.resize(other + 1, 0);
        }
        self.waited[other] = sequence;
    }
}

//! One live block.

use super::site::stacks;
use super::table::Entry;
use crate::alignment::Alignment;
use crate::origin::{Frame, StackId};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A live block and where it came from, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allocation {
    /// The block's address.
    pub address: usize,
    /// Its size in bytes, as asked for.
    pub size: usize,
    /// Its alignment.
    pub alignment: Alignment,
    /// The tracker's number of the allocation, from 1. A resized block keeps its own.
    pub serial: u64,
    /// The number of the thread that allocated.
    pub thread: u64,
    /// When it was allocated.
    pub time: Instant,
    /// The native frames of the allocation.
    pub native: StackId,
    /// The frames of the language above, one a line, the innermost first: `function
    /// (file:line:column)`.
    pub foreign: Option<Arc<str>>,
    /// `key=value, …`: see [`with_tags`](crate::origin::with_tags).
    pub tags: Option<Arc<str>>,
    /// Whether the bytes were given back, and only the memory waits for work in flight: no leak.
    pub parked: bool,
}

impl Allocation {
    pub(super) fn of(address: usize, entry: &Entry, foreign_depth: usize) -> Self {
        Self {
            address,
            size: entry.size,
            alignment: entry.alignment,
            serial: entry.serial,
            thread: entry.origin.thread,
            time: entry.origin.time,
            native: entry.origin.native,
            foreign: entry.origin.foreign_frames(foreign_depth),
            tags: entry.origin.all_tags(),
            parked: entry.parked,
        }
    }

    /// The native frames with their names. Cost: milliseconds the first time.
    pub fn native_frames(&self) -> Vec<Frame> {
        self.native.frames()
    }
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#x}: {} bytes, alignment {}, number {}, thread {}, {:.3} s old",
            self.address,
            self.size,
            self.alignment.get(),
            self.serial,
            self.thread,
            self.time.elapsed().as_secs_f64()
        )?;
        if self.parked {
            f.write_str(", parked")?;
        }
        let native = self.native_frames();
        f.write_str(&stacks(
            self.tags.as_deref(),
            self.foreign.as_deref(),
            &native,
        ))
    }
}

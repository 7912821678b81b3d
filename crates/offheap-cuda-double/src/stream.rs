//! A stream: work in order, and a clock of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::abi::{CUhostFn, CUstreamCallback};
use crate::block::{Block, Place};
use crate::event::Record;
use crate::shared_event::SharedEvent;

/// A point in a stream: its handle, and the number of the work that must have run.
pub(crate) type Point = (u64, u64);

/// What of the program a stream calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostCall {
    /// Not after a failure.
    Function(CUhostFn),
    /// With the failure, if there was one, and the stream's handle as the program named it.
    Callback(CUstreamCallback, usize),
}

/// What a stream does at one point.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Copy {
        destination: Place,
        source: Place,
        length: usize,
    },
    /// `pattern` holds `width` (1, 2 or 4) bytes.
    Set {
        destination: Place,
        pattern: [u8; 4],
        width: usize,
        length: usize,
    },
    /// From here on a pool's block may be used.
    Allocate(Arc<Block>),
    /// From here on a block's memory may serve others.
    Free {
        block: Arc<Block>,
        number: u64,
    },
    Record(Arc<Record>),
    /// Waits for other streams of this process.
    Wait {
        points: Vec<Point>,
        record: Option<Arc<Record>>,
    },
    /// Waits for an event that another process has recorded.
    WaitShared {
        event: Arc<SharedEvent>,
        generation: u64,
    },
    /// The address of the argument, which must not be touched here.
    Host {
        call: HostCall,
        argument: usize,
    },
    /// Nothing but a place in the order: hints, attaching managed memory.
    Nothing,
}

impl Work {
    /// Bytes moved, which take time.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Copy { length, .. } | Self::Set { length, .. } => *length,
            _ => 0,
        }
    }
}

/// Work with its place in the order.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) number: u64,
    pub(crate) work: Work,
    /// Virtual nanoseconds of the host when it was submitted.
    pub(crate) submitted: u64,
    /// Slow streams: when it began, and the bytes moved so far.
    pub(crate) started: Option<Instant>,
    pub(crate) moved: usize,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) context: u64,
    pub(crate) device: usize,
    pub(crate) flags: u32,
    pub(crate) priority: i32,
    /// Takes part in the order of the legacy default stream.
    pub(crate) blocking: bool,
    pub(crate) queue: VecDeque<Operation>,
    pub(crate) submitted: u64,
    pub(crate) executed: u64,
    /// A thread runs the front of the queue at the moment.
    pub(crate) running: bool,
    pub(crate) destroyed: bool,
    /// Virtual nanoseconds.
    pub(crate) time: u64,
    /// For each other stream, how far it has run when work submitted here now will run.
    pub(crate) knows: HashMap<u64, u64>,
    /// Queries that have answered "not ready" since the last submission.
    pub(crate) queries: u32,
    /// Up to here the work runs without anybody waiting: a host function, another process's wait.
    pub(crate) unasked: u64,
}

impl Stream {
    pub(crate) fn new(context: u64, device: usize, flags: u32, priority: i32) -> Self {
        Self {
            context,
            device,
            flags,
            priority,
            blocking: flags & crate::abi::CU_STREAM_NON_BLOCKING == 0,
            queue: VecDeque::new(),
            submitted: 0,
            executed: 0,
            running: false,
            destroyed: false,
            time: 0,
            knows: HashMap::new(),
            queries: 0,
            unasked: 0,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.executed == self.submitted
    }
}

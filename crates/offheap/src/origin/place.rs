//! One place in a program at one time.

use super::foreign::{self, Foreign};
use super::stacks::StackId;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Thread, time and stacks of a request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// A number of its own for each thread, from 1 in the order of their first request.
    pub thread: u64,
    /// When.
    pub time: Instant,
    /// The native frames.
    pub native: StackId,
    /// The frames of the language above, told after the call.
    pub foreign: Option<Arc<Foreign>>,
}

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
    /// Whether this thread captures an origin now: what that itself allocates has none.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread's number: see [`Origin::thread`].
pub fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if THREAD.get() == 0 {
        THREAD.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    THREAD.get()
}

impl Origin {
    /// Where the calling thread is now, with `depth` native frames (at most 64; 0 for none).
    pub fn capture(depth: usize) -> Self {
        let nested = CAPTURING.replace(true);
        let (native, foreign) = if nested {
            (StackId::NONE, None)
        } else {
            (StackId::capture(0, depth), foreign::pending())
        };
        CAPTURING.set(nested);
        Self {
            thread: thread_number(),
            time: Instant::now(),
            native,
            foreign,
        }
    }
}

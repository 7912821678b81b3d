//! Who is asked before a request for memory fails.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Called with the bytes that could not be had; true when memory was freed and it is worth another try.
pub(crate) type Handler = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// A number for each, so that one can be taken away.
#[derive(Default)]
struct Handlers {
    next: u64,
    all: Vec<(u64, Handler)>,
}

/// The callbacks of one allocator (RMM's `failure_callback_resource_adaptor`).
#[derive(Default)]
pub(crate) struct OutOfMemoryHandlers(Mutex<Handlers>);

impl OutOfMemoryHandlers {
    pub(crate) fn add(&self, handler: Handler) -> u64 {
        let mut handlers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.next += 1;
        let id = handlers.next;
        handlers.all.push((id, handler));
        id
    }

    pub(crate) fn remove(&self, id: u64) {
        let mut handlers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = handlers.all.iter().position(|(each, _)| *each == id);
        let gone = gone.map(|index| handlers.all.swap_remove(index));
        drop(handlers);
        // A handler's own destructor may do anything: not under the lock.
        drop(gone);
    }

    /// Asks all; whether one of them freed something. Not under the lock: they may allocate and free.
    pub(crate) fn ask(&self, requested: u64) -> bool {
        let all: Vec<Handler> = {
            let handlers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            handlers.all.iter().map(|(_, each)| each.clone()).collect()
        };
        // All are asked, also after one that freed something.
        all.iter().filter(|handler| handler(requested)).count() > 0
    }
}

impl fmt::Debug for OutOfMemoryHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutOfMemoryHandlers")
            .finish_non_exhaustive()
    }
}

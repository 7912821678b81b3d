//! Events that are used again.

use crate::driver::abi;
use crate::gpu::Bound;
use offheap::Result;
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// Events without timing that nobody uses at the moment: making one is slow (PyTorch keeps them, too).
#[derive(Debug)]
pub(crate) struct EventPool(Mutex<Vec<usize>>);

/// More than this are given back.
const KEPT: usize = 1024;

impl EventPool {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// An event that is the caller's.
    pub(crate) fn take(&self, bound: &Bound) -> Result<abi::Event> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(event) = kept {
            return Ok(ptr::without_provenance_mut(event));
        }
        let mut event = ptr::null_mut();
        // SAFETY: the out-pointer is ours.
        crate::driver::check(bound.table, "cuEventCreate", unsafe {
            (bound.table.event_create)(&raw mut event, abi::EVENT_DISABLE_TIMING)
        })?;
        Ok(event)
    }

    /// Gives an event of [`take`](Self::take) back. Work that waits for it goes on waiting for the moment that
    /// was recorded: the driver notes that when it is told to wait.
    pub(crate) fn give(&self, event: abi::Event, bound: &Bound) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(event.addr());
            return;
        }
        drop(kept);
        // SAFETY: the caller's own event.
        unsafe { (bound.table.event_destroy)(event) };
    }
}

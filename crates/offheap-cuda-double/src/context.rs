//! Contexts, and which one each thread has bound.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use crate::result::{CUDA_ERROR_INVALID_CONTEXT, CUresult};

/// A primary context from its first retain to its last release.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) device: usize,
    /// The handle of its legacy default stream.
    pub(crate) legacy: u64,
    /// The per-thread default stream of each thread that has used one.
    pub(crate) per_thread: HashMap<u64, u64>,
    /// A failure that all later calls return, as after an illegal address.
    pub(crate) error: u32,
    /// Contexts whose memory this one may access.
    pub(crate) peers: HashSet<u64>,
}

thread_local! {
    static STACK: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The context that this thread has bound, if it has one. It may be destroyed.
pub(crate) fn current() -> Option<u64> {
    // A thread that is ending has none.
    STACK
        .try_with(|stack| stack.borrow().last().copied())
        .ok()
        .flatten()
}

/// Replaces the top of this thread's stack; `None` takes it away.
pub(crate) fn set_current(context: Option<u64>) {
    let _ = STACK.try_with(|stack| {
        let mut stack = stack.borrow_mut();
        stack.pop();
        stack.extend(context);
    });
}

pub(crate) fn push(context: u64) {
    let _ = STACK.try_with(|stack| stack.borrow_mut().push(context));
}

/// # Errors
/// `CUDA_ERROR_INVALID_CONTEXT` when the stack is empty.
pub(crate) fn pop() -> Result<u64, CUresult> {
    STACK
        .try_with(|stack| stack.borrow_mut().pop())
        .ok()
        .flatten()
        .ok_or(CUDA_ERROR_INVALID_CONTEXT)
}

/// A number that no other thread has had in this process.
pub(crate) fn thread_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

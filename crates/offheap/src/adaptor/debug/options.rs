//! What debug hooks do, and what they cost.

use super::corruption::Corruption;
use std::fmt;
use std::sync::Arc;

/// What happens when damage is found.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum OnError {
    /// The report goes to stderr, and the process ends by `abort()` (CPython's way; Arrow's `abort`).
    #[default]
    Abort,
    /// The report goes to stderr, and `SIGTRAP` stops a debugger at the call (Arrow's `trap`). Where
    /// there are no signals, as [`Abort`](Self::Abort).
    Trap,
    /// The report goes to stderr, and the program goes on (Arrow's `warn`).
    Warn,
    /// A [throw handler](super::set_throw_handler) takes the report, to be thrown when the call is
    /// over. Without one on this thread: a panic with the report, or, in a thread that panics
    /// already, as [`Warn`](Self::Warn).
    Throw,
    /// The callback is told, and the program goes on. It runs on the thread that found the damage,
    /// may use any pool (this one, too), and is not called for what is found meanwhile.
    Call(Arc<dyn Fn(&Corruption) + Send + Sync>),
}

impl OnError {
    /// The mode of a name: `abort`, `trap`, `warn` or `throw`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "abort" => Some(Self::Abort),
            "trap" => Some(Self::Trap),
            "warn" => Some(Self::Warn),
            "throw" => Some(Self::Throw),
            _ => None,
        }
    }

    /// `abort`, `trap`, `warn`, `throw` or `call`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Trap => "trap",
            Self::Warn => "warn",
            Self::Throw => "throw",
            Self::Call(_) => "call",
        }
    }
}

impl fmt::Debug for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How [`Pool::debug`](crate::Pool::debug) and [`setup_debug_hooks`](super::setup_debug_hooks)
/// watch.
#[derive(Debug, Clone)]
pub struct DebugOptions {
    /// What happens when damage is found.
    pub on_error: OnError,
    /// How many bytes of freed blocks, guards included, are held back from being used again, so that
    /// later writes to them show; at most 65,536 blocks. Larger blocks are given back at once.
    pub quarantine_bytes: usize,
    /// How many native frames of each allocation and free are kept: at most 64, 0 for none. Each
    /// costs a request some 150 ns.
    pub stack_depth: usize,
}

impl Default for DebugOptions {
    /// Abort, 16 MiB, 16 frames.
    fn default() -> Self {
        Self {
            on_error: OnError::Abort,
            quarantine_bytes: 16 << 20,
            stack_depth: 16,
        }
    }
}

//! What was freed and not used again goes back to the system.
//!
//! ```text
//!   a thread's slow path ─ freed, taken ─▶ its share ─ every few MiB ─▶ ledger of the allocator
//!                                             │                             │ min_bytes freed
//!       mimalloc's heap is this thread's own: │                             ▼
//!       its slow path collects it ◀───────────┤                       timer (a thread)
//!       its event loop collects it ◀── wake ──┴─── asked ◀── collects when the ledger is idle
//! ```
//!
//! Allocators keep what is freed for the next request, mimalloc and the C library for ever. Giving it
//! back at once makes the next request many times slower, so it goes back when a program has freed
//! [`min_bytes`](TrimPolicy::min_bytes) and then lets [`idle`](TrimPolicy::idle) pass almost without
//! allocating. One thread does that: it is started when so much was freed for the first time, never
//! at load, and ends when there is nothing left to do.
//!
//! jemalloc, the C library and our regions can be swept from any thread. A heap of mimalloc's only by
//! the thread whose it is: by its event loop where it has registered one ([`ThreadCollector`]), else
//! by its next slow path. A thread without an event loop may never come back, so it also collects
//! when it has just freed nearly all that it had, at most once a second, and ever more rarely when
//! it goes on to fill and free the same memory.

mod collector;
mod family;
mod ledger;
mod own;
mod policy;
mod share;
mod thread;
mod timer;
mod watch;

pub use collector::ThreadCollector;
pub use policy::TrimPolicy;
pub(crate) use share::{freed, moved};
pub(crate) use timer::{policy_of, release_unused, set_policy};

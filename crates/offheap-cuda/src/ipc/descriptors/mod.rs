//! File descriptors of pools, from the process that made them to others.
//!
//! ```text
//!   maker                                                     opener
//!   offers: number ─▶ secret, pool, pointer, size             handle: maker, number, secret
//!     ▲                                                         │
//!   desk: a thread ◀── abstract socket ◀── its name ◀── page of shared memory, which the handle names
//!     │                                                         │
//!     ├── is it the same user? ◀── number, secret ──────────────┤ is it the maker?
//!     └── descriptor (SCM_RIGHTS), pointer, size ──────────────▶┘
//! ```
//!
//! A descriptor of a pool stands for something in the driver, so opening `/proc/<pid>/fd/<n>` would give a
//! new, empty one; and `pidfd_getfd` is refused by Yama, which Ubuntu has on. So the maker sends it.

mod ask;
mod desk;
mod message;
mod offers;
mod socket;

pub(crate) use ask::{Taken, ask};
pub(crate) use desk::maker;
pub(crate) use offers::{SharedPool, offer, withdraw};

//! Node-API bindings of offheap. They convert and forward; the TypeScript layer in `src/` makes the
//! classes that users see, over these plain functions.
//!
//! ```text
//!   TypeScript handle ── id ──▶ Slab (one per environment) ──▶ Handle { Block, range, views }
//!        │ lazily                                                   │
//!        └ external ArrayBuffer ── finalizer ──▶ Slot ──────────────┘ the same Block
//! ```
//!
//! Ids carry a generation that is never reused, so a stale one is an error and never another
//! buffer. Whether freed memory may still be written to by work in flight is decided in `gate.rs`;
//! blocks that have to wait stand in `parking.rs`. The evidence is in `docs/lifetime.md`.

// A missing `pub` item is what napi exports; its macros make the items public where they need it.
#![allow(
    unreachable_pub,
    reason = "napi-derive exports public functions of private modules"
)]
#![cfg_attr(
    test,
    allow(
        dead_code,
        unused_imports,
        reason = "napi-derive registers nothing in a test build"
    )
)]

mod arguments;
mod arrow;
mod buffers;
mod builders;
mod collecting;
mod cuda;
mod debugging;
mod devices;
mod domains;
mod environment;
mod errors;
mod events;
mod failures;
mod gate;
mod handle;
mod hot;
mod instrument;
mod jemalloc;
mod managers;
mod observers;
mod overview;
mod parking;
mod pools;
mod shm;
mod slab;
mod slot;
#[cfg(feature = "test-devices")]
mod test_devices;
mod tickets;
mod told;
mod tracking;
mod uv;
mod views;
mod wake;

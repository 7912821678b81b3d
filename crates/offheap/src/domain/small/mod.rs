//! Small objects, 1 to 512 bytes, from arenas of 256 KiB: CPython's pymalloc with tcmalloc's
//! thread caches.
//!
//! ```text
//!  each thread (no lock)                    shared                            any thread, lock-free
//!  ┌ Magazines ────────────┐  batches  ┌ Central ──────────────────────┐
//!  │ 16   ▢▢▢▢▢            │ ◀───────  │ 16   pages with free blocks   │ a lock   ┌ registry ──────┐
//!  │ 32   ▢                │  ───────▶ │ 32   pages with free blocks   │ a class  │ address        │
//!  │ …    ≤ 256 blocks and │           │ …                             │          │  ─▶ Arena      │
//!  │ 512  ≤ 16 KiB a class │           │ Arenas: free pages, fullest   │ one lock │  ─▶ Page ─▶ class
//!  └───────────────────────┘           │ arena first; ≤ 1 empty arena  │          └────────────────┘
//!                                      └───────────────┬───────────────┘
//!                                                      ▼  no lock held
//!                                          ArenaAllocator {ctx, alloc, free}
//!
//!  an arena, 256 KiB, as the arena allocator gave it (any alignment):
//!  ├ … ┼── page 0, 8 KiB ──┼── page 1 ──┼─ … ─┼── page 30 or 31 ──┼ … ┤
//!    │  ▲ multiple of 8 KiB                                         └ what is left
//!    └ lost when the arena does not start at a multiple of 8 KiB (then 31 pages, else 32)
//!  a page holds blocks of one class, from its first byte on: block k lies at k · class size, so a
//!  class that is a multiple of 64 has all of its blocks at multiples of 64:
//!  ├ block 0 ┼ block 1 ┼ block 2 ┼ … ┤ < one block is left ┤
//!  a free block's first word is the address of the next free one; nothing else is kept in arenas.
//! ```
//!
//! - A block is *used* from when it leaves its page until it is back in it: blocks in a magazine
//!   count as used, so a page with `used == 0` is free whatever the threads do, and an arena with
//!   all pages free is empty. One empty arena is kept, any other goes back to the arena allocator
//!   that made it.
//! - A thread's magazines grow with its use, to half a MiB if it has freed many blocks of all
//!   classes; its end or its own [`release_unused`] empties them.
//! - The `Arena` and its `Page`s are records beside the memory (from the C library's malloc, about
//!   2 KiB an arena, recycled and never freed), so [`block_size`] may read them for any address at
//!   any time, and an overflow out of a block cannot reach them.
//! - Lock order: a class, then the arenas. No lock is held while an arena allocator runs: it may
//!   use this allocator. If it needs an arena for that itself, that one is mapped by the default
//!   arena allocator (CPython's would recurse until the stack ends).
//! - Rust's global allocator is never called, except by who makes an [`ArenaAllocator`] of a
//!   [`ArenaSource`] or a pool.
//!
//! Sources: PEP 445 (the arena allocator), CPython's obmalloc.c (classes, arenas with the fewest
//! free pages first, the address map), tcmalloc (batches between thread and central lists).

mod arena;
mod arena_allocator;
mod arenas;
mod central;
mod chain;
mod class;
mod heap;
mod magazines;
mod mapped;
mod registry;
mod statistics;
#[cfg(test)]
mod tests;

pub use arena_allocator::{ArenaAllocFn, ArenaAllocator, ArenaFreeFn, ArenaSource};
pub(crate) use class::MAX_SMALL;
pub(crate) use heap::{allocate, block_size, free, release_unused, statistics};
pub use heap::{get_arena_allocator, set_arena_allocator};
pub use statistics::SmallObjectStatistics;

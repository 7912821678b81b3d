//! Allocator domains (PEP 445): where each kind of memory comes from.

#[cfg_attr(
    not(test),
    allow(
        dead_code,
        unused_imports,
        reason = "the object domain is the first user"
    )
)]
pub(crate) mod small;

pub use small::{
    ArenaAllocFn, ArenaAllocator, ArenaFreeFn, ArenaSource, SmallObjectStatistics,
    get_arena_allocator, set_arena_allocator,
};

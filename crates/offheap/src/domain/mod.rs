//! Allocator domains (PEP 445): what memory is for, and which allocator serves it.

mod blocks;
#[cfg(feature = "c-abi")]
pub mod c_abi;
mod c_allocator;
mod c_handle;
#[expect(clippy::module_inception, reason = "one type a file")]
mod domain;
mod domain_pool;
mod object_pool;
mod slot;
pub(crate) mod small;

#[cfg(feature = "hooks")]
pub(crate) use blocks::AddressHasher;
pub(crate) use blocks::{AddressMap, Unhooked};
pub use c_allocator::CAllocator;
pub use c_handle::{c_allocator_of, pool_of_c_allocator};
pub use domain::Domain;
pub(crate) use domain::{allocate_control, free_control};
pub use object_pool::{object_memory_pool, small_object_statistics};
pub(crate) use slot::Slot;
pub use small::{
    ArenaAllocFn, ArenaAllocator, ArenaFreeFn, ArenaSource, SmallObjectStatistics,
    get_arena_allocator, set_arena_allocator,
};

//! Other allocators' interfaces, both ways: collections and C libraries that take their memory from
//! a pool, and pools that take theirs from any allocator.
//!
//! | from | to | type |
//! |---|---|---|
//! | a pool | an allocator-api2 `Allocator`: `Vec`, `Box`, hashbrown, bumpalo | [`PoolAllocator`] |
//! | an allocator-api2 `Allocator` | a pool | [`AllocatorPool`] |
//! | a `GlobalAlloc` | a pool | [`GlobalAllocPool`] |
//! | a pool | the `#[global_allocator]` of a program | [`PoolGlobalAlloc`] |
//! | a pool | C's malloc, calloc, realloc and free | [`PoolMalloc`] |
//!
//! The trait is that of allocator-api2 **0.2**, which hashbrown and bumpalo use; 0.3 and 0.4 have
//! traits of their own.

mod allocator_pool;
mod global_alloc_pool;
mod pool_allocator;
mod pool_global_alloc;
mod pool_malloc;

pub use allocator_pool::AllocatorPool;
pub use global_alloc_pool::GlobalAllocPool;
pub use pool_allocator::PoolAllocator;
pub use pool_global_alloc::PoolGlobalAlloc;
pub use pool_malloc::PoolMalloc;

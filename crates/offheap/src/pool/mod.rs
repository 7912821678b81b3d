//! Memory pools: where memory comes from, who is charged for it, and how much there may be.

mod account;
mod backend;
mod backend_count;
mod default;
mod handle;
mod inside;
#[cfg(feature = "jemalloc")]
pub mod jemalloc;
mod mapped;
mod memory_pool;
#[cfg(feature = "mimalloc")]
mod mimalloc;
mod options;
#[allow(dead_code, reason = "told by the timer of `trim`")]
mod region;
mod reserved;
mod statistics;
mod system;
mod trim;
mod zero;

pub(crate) use account::UNLIMITED;
pub use backend::BackendStatistics;
pub(crate) use backend::{BACKENDS, Backend};
pub use backend_count::BackendCount;
#[cfg(feature = "hooks")]
pub(crate) use default::replace_default_memory_pool;
pub(crate) use default::{backend_of_environment, plain_backend_pool};
pub use default::{
    default_memory_pool, jemalloc_memory_pool, mapped_memory_pool, memory_pool_named,
    memory_pool_named_with, mimalloc_memory_pool, set_default_memory_pool,
    supported_memory_backends, system_memory_pool, total_allocated_bytes,
};
pub use handle::Pool;
pub(crate) use handle::PoolCore;
pub(crate) use inside::Inside;
pub use memory_pool::{MemoryPool, Notice, Padding};
pub use options::PoolOptions;
pub use statistics::{LeakReport, Statistics};
pub use trim::{ThreadCollector, TrimPolicy};

//! Which memory a pool leads to.

use super::source::CudaSource;
use crate::sub_allocator::{NoStreams, SubAllocatorSource};
use offheap::Pool;
use std::sync::Arc;

/// A number for the allocator that `pool` leads to: the same for every account, limit and adaptor over it, and on every
/// stream of it ([`CudaMemoryManager::on`](crate::CudaMemoryManager::on)). `None` for memory that is not this crate's.
/// Another allocator may have it after the last pool of this one is gone.
///
/// What is freed in one of these pools is room for all of them.
pub fn memory_key(pool: &Pool) -> Option<usize> {
    if let Some(source) = pool.find_source::<CudaSource>() {
        return Some(Arc::as_ptr(source.handlers()).addr());
    }
    let source = pool.find_source::<SubAllocatorSource<NoStreams>>()?;
    Some(std::ptr::from_ref(source.allocator()).addr())
}

//! Chunks from an offheap pool.

use super::upstream::Upstream;
use offheap::{Alignment, Error, Pool, Result};
use std::ptr::{self, NonNull};

/// A pool as the source of chunks: of pinned memory, of a device's, with its limits and adaptors.
#[derive(Debug, Clone)]
pub struct PoolUpstream {
    pool: Pool,
}

/// Chunks of CPU memory start where the windows of small slabs do.
const CHUNK_ALIGNMENT: usize = 64 << 10;

impl PoolUpstream {
    /// Takes chunks from `pool`.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Devices align as they do, and may have no way to align better.
    fn alignment(&self) -> Result<Alignment> {
        Alignment::new(match self.pool.is_cpu() {
            true => CHUNK_ALIGNMENT,
            false => super::GRANULARITY as usize,
        })
    }
}

impl Upstream for PoolUpstream {
    fn allocate_chunk(&self, size: u64) -> Result<u64> {
        let bytes = usize::try_from(size).map_err(|_| {
            Error::not_supported(format!("a chunk of {size} bytes is larger than an object"))
        })?;
        let chunk = self
            .pool
            .allocate_on_device(bytes, self.alignment()?, false)?;
        Ok(chunk.as_ptr().expose_provenance() as u64)
    }

    fn free_chunk(&self, address: u64, size: u64) -> Result<()> {
        let alignment = self.alignment()?;
        if let Some(chunk) = NonNull::new(ptr::with_exposed_provenance_mut(address as usize)) {
            // SAFETY: the sub-allocator gives back what `allocate_chunk` gave it, once, with the same
            // size; the alignment is the same as then; it waited for all streams that used the chunk.
            unsafe { self.pool.free(chunk, size as usize, alignment) };
        }
        Ok(())
    }
}

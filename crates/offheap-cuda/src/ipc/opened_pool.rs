//! A pool of another process: nothing can be allocated from it, only what its maker allocated be imported.

use super::descriptors::Taken;
use super::opened::stale;
use crate::driver::{abi, check, is_exiting};
use crate::gpu::Gpu;
use offheap::Result;
use std::fmt;
use std::os::fd::AsRawFd;
use std::ptr;

/// An imported `cuMemPool`. It may be reached from the GPU that it is of, and goes after the pointers from it,
/// each of which holds it.
pub(super) struct OpenedPool {
    gpu: &'static Gpu,
    raw: abi::MemPool,
    /// What its maker calls it: random, so there is no other.
    name: [u8; 16],
}

// SAFETY: the pool is a handle that any thread may use.
unsafe impl Send for OpenedPool {}
// SAFETY: as above.
unsafe impl Sync for OpenedPool {}

impl OpenedPool {
    pub(super) fn import(gpu: &'static Gpu, taken: &Taken) -> Result<Self> {
        let bound = gpu.bind()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the out-pointer is ours; for this type the handle is the descriptor's number. The driver checks
        // what it is, and the descriptor stays ours.
        check(bound.table, "cuMemPoolImportFromShareableHandle", unsafe {
            (bound.table.mem_pool_import_from_shareable_handle)(
                &raw mut raw,
                ptr::without_provenance_mut(taken.descriptor.as_raw_fd() as usize),
                abi::MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                0,
            )
        })
        .map_err(stale)?;
        Ok(Self {
            gpu,
            raw,
            name: taken.pool,
        })
    }

    pub(super) fn is(&self, name: &[u8; 16]) -> bool {
        self.name == *name
    }

    /// The address here of an allocation; `cuMemFree` ends it.
    pub(super) fn import_pointer(&self, taken: &Taken) -> Result<u64> {
        let bound = self.gpu.bind()?;
        let mut base = 0;
        let mut pointer = abi::MemPoolPtrExportData {
            bytes: taken.pointer,
        };
        // SAFETY: a live pool; the other pointers are ours. The driver checks the data.
        check(bound.table, "cuMemPoolImportPointer", unsafe {
            (bound.table.mem_pool_import_pointer)(&raw mut base, self.raw, &raw mut pointer)
        })
        .map_err(stale)?;
        Ok(base)
    }
}

impl Drop for OpenedPool {
    fn drop(&mut self) {
        if !is_exiting()
            && let Ok(bound) = self.gpu.bind()
        {
            // SAFETY: the last owner; pointers from it hold it, so none is left. The maker's pool stays.
            unsafe { (bound.table.mem_pool_destroy)(self.raw) };
        }
    }
}

impl fmt::Debug for OpenedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenedPool({:p} of {})", self.raw, self.gpu.location())
    }
}

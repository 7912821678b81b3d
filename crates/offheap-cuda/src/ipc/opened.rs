//! Allocations of other processes that this one has open: the driver opens each once, we as often as one
//! likes.

use crate::driver::{abi, check, is_exiting};
use crate::gpu::Gpu;
use offheap::{Error, Result};
use std::sync::{Mutex, PoisonError};

#[cfg(target_os = "linux")]
use super::descriptors::Taken;
#[cfg(target_os = "linux")]
use super::opened_pool::OpenedPool;
#[cfg(target_os = "linux")]
use std::sync::Arc;

/// What is known of an allocation beside its GPU, and how it is let go.
#[derive(Debug)]
enum Origin {
    /// The driver's handle of memory of `cuMemAlloc`.
    Legacy([u8; 64]),
    /// A pool of another process, and which of its allocations.
    #[cfg(target_os = "linux")]
    Pool(Arc<OpenedPool>, u64),
}

#[derive(Debug)]
struct Opened {
    gpu: &'static Gpu,
    from: Origin,
    base: u64,
    users: usize,
}

static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

/// One use of an opened allocation.
#[derive(Debug)]
pub(super) struct Use {
    gpu: &'static Gpu,
    base: u64,
}

/// What the driver says of a handle that is none, or whose maker is gone.
pub(super) fn stale(error: Error) -> Error {
    Error::invalid_argument(
        "handle",
        error,
        "a handle that another process made and keeps alive",
    )
}

/// One more user of what is open already.
fn again(opened: &mut [Opened], is: impl Fn(&Opened) -> bool) -> Option<Use> {
    let found = opened.iter_mut().find(|each| is(each))?;
    found.users += 1;
    Some(Use {
        gpu: found.gpu,
        base: found.base,
    })
}

impl Use {
    /// Opens memory of `cuMemAlloc`.
    pub(super) fn open(gpu: &'static Gpu, handle: &[u8; 64]) -> Result<Self> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |each: &Opened| {
            each.gpu == gpu && matches!(&each.from, Origin::Legacy(other) if other == handle)
        };
        if let Some(found) = again(&mut opened, is) {
            return Ok(found);
        }
        let bound = gpu.bind()?;
        let mut base = 0;
        // SAFETY: the out-pointer is ours; the driver checks the handle.
        check(bound.table, "cuIpcOpenMemHandle", unsafe {
            let handle = abi::IpcHandle { bytes: *handle };
            let flags = abi::IPC_MEM_LAZY_ENABLE_PEER_ACCESS;
            (bound.table.ipc_open_mem_handle)(&raw mut base, handle, flags)
        })
        .map_err(stale)?;
        opened.push(Opened {
            gpu,
            from: Origin::Legacy(*handle),
            base,
            users: 1,
        });
        Ok(Self { gpu, base })
    }

    /// Opens an allocation of a pool, as its maker told.
    #[cfg(target_os = "linux")]
    pub(super) fn take(gpu: &'static Gpu, number: u64, taken: &Taken) -> Result<Self> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_pool = |each: &Opened| match &each.from {
            Origin::Pool(pool, _) if each.gpu == gpu && pool.is(&taken.pool) => {
                Some(Arc::clone(pool))
            }
            _ => None,
        };
        let is = |each: &Opened| {
            is_pool(each).is_some()
                && matches!(each.from, Origin::Pool(_, other) if other == number)
        };
        if let Some(found) = again(&mut opened, is) {
            return Ok(found);
        }
        let pool = match opened.iter().find_map(is_pool) {
            Some(pool) => pool,
            None => Arc::new(OpenedPool::import(gpu, taken)?),
        };
        let base = pool.import_pointer(taken)?;
        opened.push(Opened {
            gpu,
            from: Origin::Pool(pool, number),
            base,
            users: 1,
        });
        Ok(Self { gpu, base })
    }

    /// The allocation's first byte.
    pub(super) fn base(&self) -> u64 {
        self.base
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = opened
            .iter()
            .position(|each| each.gpu == self.gpu && each.base == self.base)
        else {
            return;
        };
        opened[index].users -= 1;
        if opened[index].users > 0 {
            return;
        }
        let gone = opened.swap_remove(index);
        if !is_exiting()
            && let Ok(bound) = self.gpu.bind()
        {
            // Work that uses it may be under way, of streams that are not known here.
            drop(self.gpu.synchronize());
            match gone.from {
                // SAFETY: opened by `open`, and the last user is gone.
                Origin::Legacy(_) => unsafe {
                    (bound.table.ipc_close_mem_handle)(self.base);
                },
                // SAFETY: imported by `take`, the last user is gone, and no work is left. What the pool is to
                // its maker stays: this ends the mapping here, before the pool itself goes.
                #[cfg(target_os = "linux")]
                Origin::Pool(..) => unsafe {
                    (bound.table.mem_free)(self.base);
                },
            }
        }
    }
}

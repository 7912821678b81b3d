//! Memory of a pool that other processes may open.

use crate::driver::{abi, check};
use crate::event::CudaEvent;
use crate::gpu::Gpu;
use crate::ipc::descriptors::{SharedPool, maker, offer, withdraw};
use crate::ipc::{CudaIpcMemory, CudaPoolHandle};
use crate::stream::CudaStream;
use offheap::{Error, Result};
use offheap_shm::Secret;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An allocation of the driver's that was not freed.
struct Allocation {
    size: u64,
    /// Comes when the stream has the memory; nobody may use it before. `None` once it has come.
    allocated: Option<CudaEvent>,
    /// What it was offered as.
    offered: Option<(u64, Secret)>,
}

#[derive(Default)]
struct Allocations {
    /// By first address.
    all: BTreeMap<u64, Allocation>,
    /// Those whose event may not have come, the oldest first; some may be gone.
    pending: VecDeque<u64>,
}

/// What a pool knows of its memory so that other processes can open it.
pub(crate) struct Exportable {
    pool: Arc<SharedPool>,
    allocations: Mutex<Allocations>,
}

/// So many events are looked at with each allocation: more than one, so that they become fewer.
const LOOKED_AT: usize = 2;

impl Allocations {
    /// The allocation with an address.
    fn find(&mut self, address: u64) -> Result<(u64, &mut Allocation)> {
        let found = self.all.range_mut(..=address).next_back();
        found
            .filter(|(base, allocation)| address - **base < allocation.size)
            .map(|(base, allocation)| (*base, allocation))
            .ok_or_else(|| Error::not_supported("the memory is none of its pool's any more"))
    }

    /// Lets events go that have come: a program may have many allocations, and few of them are new.
    fn settle(&mut self) {
        for _ in 0..LOOKED_AT {
            let Some(base) = self.pending.front() else {
                return;
            };
            if let Some(allocation) = self.all.get_mut(base) {
                let event = allocation.allocated.as_ref();
                if event.is_some_and(|event| !event.is_complete().unwrap_or(false)) {
                    return;
                }
                allocation.allocated = None;
            }
            self.pending.pop_front();
        }
    }
}

/// Whether a GPU's pools can be shared by file descriptors.
pub(crate) fn can_export(gpu: &Gpu) -> Result<bool> {
    let types = gpu.attribute(abi::attribute::MEMPOOL_SUPPORTED_HANDLE_TYPES)?;
    Ok(types.cast_unsigned() & abi::MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR != 0)
}

impl Exportable {
    /// How such pools are made.
    pub(crate) const HANDLE_TYPE: u32 = abi::MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;

    /// # Errors
    /// [`NotSupported`](offheap::ErrorKind::NotSupported) where there are no such pools.
    pub(super) fn must_be_possible(gpu: &Gpu) -> Result<()> {
        if can_export(gpu)? {
            return Ok(());
        }
        Err(Error::not_supported(format!(
            "the driver's pools on {} cannot be shared by file descriptors",
            gpu.location()
        )))
    }

    /// Gets a live pool's descriptor.
    pub(super) fn new(gpu: &Gpu, pool: abi::MemPool) -> Result<Self> {
        let name = Secret::new()?.bytes();
        let bound = gpu.bind()?;
        let mut raw: RawFd = -1;
        // SAFETY: a live pool that was made with this type, whose handle is an `int`.
        check(bound.table, "cuMemPoolExportToShareableHandle", unsafe {
            (bound.table.mem_pool_export_to_shareable_handle)(
                (&raw mut raw).cast(),
                pool,
                Self::HANDLE_TYPE,
                0,
            )
        })?;
        // SAFETY: the driver's new descriptor, which is ours to close.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        // Programs that this process starts have no business with it. Where this fails, they have it.
        // SAFETY: F_SETFD takes an integer.
        unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        Ok(Self {
            pool: Arc::new(SharedPool {
                descriptor,
                name,
                device: gpu.uuid()?,
            }),
            allocations: Mutex::default(),
        })
    }

    fn allocations(&self) -> MutexGuard<'_, Allocations> {
        self.allocations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new allocation of a stream.
    pub(super) fn allocated(
        &self,
        gpu: &'static Gpu,
        address: u64,
        size: usize,
        stream: &CudaStream,
    ) -> Result<()> {
        let event = CudaEvent::pooled(gpu)?;
        event.record_on(stream)?;
        let allocation = Allocation {
            size: size as u64,
            allocated: Some(event),
            offered: None,
        };
        let mut allocations = self.allocations();
        allocations.all.insert(address, allocation);
        allocations.pending.push_back(address);
        allocations.settle();
        Ok(())
    }

    /// Notes that an allocation is about to be freed: nobody else can open it any more.
    pub(super) fn freed(&self, address: u64) {
        let gone = self.allocations().all.remove(&address);
        if let Some((number, _)) = gone.and_then(|allocation| allocation.offered) {
            withdraw(number);
        }
    }

    /// Names the allocation with an address, and tells where it begins. Waits until the stream it is of has it.
    ///
    /// # Errors
    /// [`NotSupported`](offheap::ErrorKind::NotSupported) for an address of other memory; what the system and the
    /// driver say.
    pub(crate) fn export(&self, gpu: &Gpu, address: u64) -> Result<(CudaIpcMemory, u64)> {
        let event = self.allocations().find(address)?.1.allocated.clone();
        if let Some(event) = event {
            // Not under the lock: other threads allocate meanwhile. Whoever exports the memory keeps it.
            event.synchronize()?;
        }
        let maker = maker()?;
        let mut allocations = self.allocations();
        let (base, allocation) = allocations.find(address)?;
        allocation.allocated = None;
        let (number, secret) = match allocation.offered {
            Some(offered) => offered,
            None => {
                let pointer = pointer(gpu, base)?;
                let offered = offer(Arc::clone(&self.pool), pointer, allocation.size)?;
                *allocation.offered.insert(offered)
            }
        };
        let handle = CudaPoolHandle {
            maker,
            number,
            secret,
        };
        Ok((CudaIpcMemory::Pool(handle), base))
    }
}

/// What another process needs to find an allocation in its pool.
fn pointer(gpu: &Gpu, base: u64) -> Result<[u8; 64]> {
    let bound = gpu.bind()?;
    let mut data = abi::MemPoolPtrExportData { bytes: [0; 64] };
    // SAFETY: the out-pointer is ours; an address that is no such allocation's is an error.
    check(bound.table, "cuMemPoolExportPointer", unsafe {
        (bound.table.mem_pool_export_pointer)(&raw mut data, base)
    })?;
    Ok(data.bytes)
}

impl Drop for Exportable {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.allocations());
        // Blocks hold the pool, so nothing is left unless the driver refused to free it.
        for (number, _) in left.all.into_values().filter_map(|each| each.offered) {
            withdraw(number);
        }
    }
}

impl fmt::Debug for Exportable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exportable")
            .field("descriptor", &self.pool.descriptor)
            .field("allocations", &self.allocations().all.len())
            .finish_non_exhaustive()
    }
}

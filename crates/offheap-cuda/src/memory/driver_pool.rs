//! A pool of the driver's.

use crate::driver::{abi, check, is_exiting};
use crate::gpu::Gpu;
use crate::stream::CudaStream;
use offheap::{BackendCount, BackendStatistics, Result};
use std::ffi::c_void;
use std::fmt;
use std::ptr;

/// Options of a pool of the driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverPoolOptions {
    /// Bytes that the pool keeps when a stream is waited for; all, when absent (RMM's default).
    pub release_threshold: u64,
    /// Bytes that the pool is filled with at first; 0 for none.
    pub initial_size: u64,
    /// The most bytes that the pool may reserve; 0 for no limit. Drivers before CUDA 12.6 know none, and
    /// ignore it: a limit on the pool (`pool().limit()`) holds everywhere.
    pub max_size: u64,
}

impl Default for DriverPoolOptions {
    fn default() -> Self {
        Self {
            release_threshold: u64::MAX,
            initial_size: 0,
            max_size: 0,
        }
    }
}

/// What the driver tells of a pool, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverPoolStatistics {
    /// Taken from the GPU.
    pub reserved: u64,
    /// The most that was.
    pub reserved_peak: u64,
    /// In blocks that were not freed, in the driver's sizes.
    pub used: u64,
    /// The most that was.
    pub used_peak: u64,
}

impl From<DriverPoolStatistics> for BackendStatistics {
    fn from(found: DriverPoolStatistics) -> Self {
        // The driver counts neither what was asked for nor any totals.
        let known = |current, peak| BackendCount {
            current: Some(current),
            peak: Some(peak),
            total: None,
        };
        Self::of_counts(
            BackendCount::default(),
            known(found.used, found.used_peak),
            known(found.reserved, found.reserved_peak),
        )
    }
}

/// A `cuMemPool` of our own: the device's default one is everybody's.
pub(crate) struct DriverPool {
    gpu: &'static Gpu,
    raw: abi::MemPool,
}

// SAFETY: the pool is a handle that any thread may use.
unsafe impl Send for DriverPool {}
// SAFETY: as above.
unsafe impl Sync for DriverPool {}

impl DriverPool {
    pub(crate) fn create(
        gpu: &'static Gpu,
        stream: &CudaStream,
        options: &DriverPoolOptions,
    ) -> Result<Self> {
        let bound = gpu.bind()?;
        let properties = abi::MemPoolProps {
            alloc_type: abi::MEM_ALLOCATION_TYPE_PINNED,
            handle_types: 0,
            location: abi::MemLocation {
                kind: abi::MEM_LOCATION_TYPE_DEVICE,
                id: gpu.ordinal,
            },
            win32_security_attributes: ptr::null_mut(),
            max_size: usize::try_from(options.max_size).unwrap_or(usize::MAX),
            reserved: [0; 56],
        };
        let mut raw = ptr::null_mut();
        // SAFETY: the properties are as the driver wants them; the out-pointer is ours.
        check(bound.table, "cuMemPoolCreate", unsafe {
            (bound.table.mem_pool_create)(&raw mut raw, &raw const properties)
        })?;
        let pool = Self { gpu, raw };
        let mut threshold = options.release_threshold;
        // SAFETY: a live pool; the attribute's value is 64 bits.
        check(bound.table, "cuMemPoolSetAttribute", unsafe {
            let value: *mut c_void = (&raw mut threshold).cast();
            (bound.table.mem_pool_set_attribute)(
                pool.raw,
                abi::pool_attribute::RELEASE_THRESHOLD,
                value,
            )
        })?;
        if options.initial_size > 0 {
            let bytes = usize::try_from(options.initial_size).unwrap_or(usize::MAX);
            let block = pool.allocate(bytes, stream)?;
            pool.free(block, stream)?;
            stream.synchronize()?;
        }
        Ok(pool)
    }

    pub(super) fn allocate(&self, size: usize, stream: &CudaStream) -> Result<u64> {
        let bound = self.gpu.bind()?;
        let mut address = 0;
        // SAFETY: a live pool and stream of this context; the out-pointer is ours.
        let code = unsafe {
            (bound.table.mem_alloc_from_pool_async)(&raw mut address, size, self.raw, stream.raw())
        };
        if code == abi::SUCCESS {
            Ok(address)
        } else {
            Err(self
                .gpu
                .refused(bound.table, "cuMemAllocFromPoolAsync", code, size))
        }
    }

    pub(super) fn free(&self, address: u64, stream: &CudaStream) -> Result<()> {
        let bound = self.gpu.bind()?;
        // SAFETY: the caller's block; a stale address is an error of the driver's.
        check(bound.table, "cuMemFreeAsync", unsafe {
            (bound.table.mem_free_async)(address, stream.raw())
        })
    }

    /// Gives reserved memory back but for `keep` bytes, once what was freed has really ended.
    pub(crate) fn trim(&self, keep: u64) -> Result<()> {
        let bound = self.gpu.bind()?;
        // SAFETY: a live pool.
        check(bound.table, "cuMemPoolTrimTo", unsafe {
            (bound.table.mem_pool_trim_to)(self.raw, usize::try_from(keep).unwrap_or(usize::MAX))
        })
    }

    fn attribute(&self, attribute: u32) -> Result<u64> {
        let bound = self.gpu.bind()?;
        let mut value: u64 = 0;
        // SAFETY: a live pool; these attributes' values are 64 bits.
        check(bound.table, "cuMemPoolGetAttribute", unsafe {
            let value: *mut c_void = (&raw mut value).cast();
            (bound.table.mem_pool_get_attribute)(self.raw, attribute, value)
        })?;
        Ok(value)
    }

    pub(crate) fn statistics(&self) -> Result<DriverPoolStatistics> {
        use abi::pool_attribute as of;
        Ok(DriverPoolStatistics {
            reserved: self.attribute(of::RESERVED_MEM_CURRENT)?,
            reserved_peak: self.attribute(of::RESERVED_MEM_HIGH)?,
            used: self.attribute(of::USED_MEM_CURRENT)?,
            used_peak: self.attribute(of::USED_MEM_HIGH)?,
        })
    }

    /// Makes both peaks what is current.
    pub(crate) fn reset_peaks(&self) -> Result<()> {
        use abi::pool_attribute as of;
        let bound = self.gpu.bind()?;
        for peak in [of::RESERVED_MEM_HIGH, of::USED_MEM_HIGH] {
            let mut zero: u64 = 0;
            // SAFETY: a live pool; the attributes' values are 64 bits, and 0 is what resets them.
            check(bound.table, "cuMemPoolSetAttribute", unsafe {
                let value: *mut c_void = (&raw mut zero).cast();
                (bound.table.mem_pool_set_attribute)(self.raw, peak, value)
            })?;
        }
        Ok(())
    }
}

impl Drop for DriverPool {
    fn drop(&mut self) {
        if !is_exiting()
            && let Ok(bound) = self.gpu.bind()
        {
            // SAFETY: the last owner; blocks hold it, so none is left.
            unsafe { (bound.table.mem_pool_destroy)(self.raw) };
        }
    }
}

impl fmt::Debug for DriverPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DriverPool({:p} of {})", self.raw, self.gpu.location())
    }
}

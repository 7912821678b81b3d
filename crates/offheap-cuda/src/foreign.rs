//! Memory of a GPU that other code of the process made.

use crate::device::CudaDevice;
use crate::driver::{abi, check};
use crate::gpu::Gpu;
use offheap::{Block, Error, ErrorKind, MemoryManager, MutableDeviceBuffer, Result};
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Where the allocation lies that the driver knows at an address: its GPU, start and bytes.
fn allocation_at(gpu: &Gpu, address: u64) -> Result<(c_int, u64, u64)> {
    use abi::pointer_attribute as of;
    let bound = gpu.bind()?;
    let (mut ordinal, mut start, mut bytes) = (0, 0_u64, 0_usize);
    let ask = |attribute, value: *mut c_void| {
        // SAFETY: the value is as wide as the attribute; an address that the driver does not know is refused.
        check(bound.table, "cuPointerGetAttribute", unsafe {
            (bound.table.pointer_get_attribute)(value, attribute, address)
        })
    };
    ask(of::DEVICE_ORDINAL, (&raw mut ordinal).cast())?;
    ask(of::RANGE_START_ADDR, (&raw mut start).cast())?;
    ask(of::RANGE_SIZE, (&raw mut bytes).cast())?;
    Ok((ordinal, start, bytes as u64))
}

impl CudaDevice {
    /// Memory of this GPU that other CUDA code of the process made, in place: a mutable buffer in the order of
    /// [`manager`](Self::manager)'s stream, which no pool counts (Arrow's `CudaContext::View`, pyarrow's
    /// `foreign_buffer`). `owner` is dropped with its last slice, on whichever thread. Cost: three calls of the driver.
    ///
    /// # Errors
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for an address that the driver does not know (of
    ///   memory that was freed, or is the CPU's), or knows as another GPU's;
    /// - [`OutOfRange`](offheap::ErrorKind::OutOfRange) for a range that leaves its allocation;
    /// - what the driver says. `owner` is then dropped.
    ///
    /// # Safety
    /// - the memory stays until `owner` is dropped;
    /// - what others gave the GPU to do with it is done, and they leave it alone while the buffer lives, or both
    ///   keep an order (by [events](crate::CudaEvent)).
    pub unsafe fn foreign(
        &self,
        address: u64,
        size: usize,
        owner: impl Any + Send + Sync,
    ) -> Result<MutableDeviceBuffer> {
        let gpu = self.gpu();
        let manager: Arc<dyn MemoryManager> = Arc::new(self.manager()?);
        if size == 0 {
            return MutableDeviceBuffer::allocate(0, &manager);
        }
        let wrong = |why: &dyn std::fmt::Display| {
            Error::invalid_argument(
                "address",
                format_args!("{address:#x} ({why})"),
                "an address of memory of this GPU",
            )
        };
        let place = usize::try_from(address)
            .ok()
            .and_then(|address| NonNull::new(ptr::with_exposed_provenance_mut(address)))
            .ok_or_else(|| wrong(&"no address"))?;
        let (ordinal, start, bytes) = match allocation_at(gpu, address) {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), ErrorKind::InvalidArgument { .. }) => {
                return Err(wrong(&error));
            }
            Err(error) => return Err(error),
        };
        if ordinal != gpu.ordinal {
            return Err(wrong(&format_args!("of GPU {ordinal}")));
        }
        let offset = address.saturating_sub(start);
        match offset.checked_add(size as u64) {
            Some(end) if end <= bytes => {}
            _ => return Err(Error::range(offset, size, bytes)),
        }
        let location = manager.device().location();
        // SAFETY: the driver knows as many bytes there, which stay as long as the owner: the caller's promise.
        let block = unsafe { Block::foreign_at(place, size, location, owner)? };
        // SAFETY: the range is the block's; that nobody else uses it is the caller's promise.
        Ok(unsafe { MutableDeviceBuffer::from_block(block, 0, size, manager) })
    }
}

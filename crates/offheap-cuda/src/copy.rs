//! Copies.

use crate::driver::check;
use crate::gpu::Gpu;
use crate::stream::CudaStream;
use offheap::{Block, DeviceBuffer, DeviceType, Error, MutableDeviceBuffer, Result};
use std::ptr;

/// One side of a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    address: u64,
    /// The GPU whose own memory it is.
    gpu: Option<i64>,
}

impl Side {
    fn of(address: usize, location: offheap::Location) -> Self {
        let is_gpu = location.device_type == DeviceType::CUDA;
        Self {
            address: address as u64,
            gpu: is_gpu.then_some(location.device_id),
        }
    }

    pub(crate) fn of_block(block: &Block, offset: usize) -> Self {
        Self::of(block.as_ptr().addr().get() + offset, block.location())
    }
}

impl From<&DeviceBuffer> for Side {
    fn from(buffer: &DeviceBuffer) -> Self {
        Self::of_block(buffer.block(), buffer.offset())
    }
}

impl From<&MutableDeviceBuffer> for Side {
    fn from(buffer: &MutableDeviceBuffer) -> Self {
        Self::of_block(buffer.block(), buffer.offset())
    }
}

/// Whether memory is the CPU's own, page-locked or not: the driver's copies between two such places wait for
/// the stream, whatever their names say.
pub(crate) fn is_hosts(block: &Block) -> bool {
    let location = block.location();
    location.is_cpu
        && !matches!(
            location.device_type,
            DeviceType::CUDA | DeviceType::CUDA_MANAGED
        )
}

/// The GPU's address of page-locked memory.
pub(crate) fn device_address(gpu: &Gpu, host: usize) -> Result<u64> {
    let bound = gpu.bind()?;
    let mut address = 0;
    // SAFETY: the out-pointer is ours; an address that is not locked is refused.
    check(bound.table, "cuMemHostGetDevicePointer", unsafe {
        let host = ptr::with_exposed_provenance_mut(host);
        (bound.table.mem_host_get_device_pointer)(&raw mut address, host, 0)
    })?;
    Ok(address)
}

/// Gives a copy of `size` bytes to `stream`, to memory of its GPU at `to`.
///
/// # Safety
/// - both sides have `size` bytes, stay until the stream has come there, and nobody writes them (or reads
///   the target) until then.
pub(crate) unsafe fn start(stream: &CudaStream, to: u64, from: Side, size: usize) -> Result<()> {
    let target = Side {
        address: to,
        gpu: Some(i64::from(stream.gpu().ordinal)),
    };
    // SAFETY: the caller's promise.
    unsafe { start_between(stream, target, from, size) }
}

/// As [`start`], in any direction.
///
/// # Safety
/// - As for [`start`].
pub(crate) unsafe fn start_between(
    stream: &CudaStream,
    to: Side,
    from: Side,
    size: usize,
) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    let bound = stream.gpu().bind()?;
    let table = bound.table;
    match (to.gpu, from.gpu) {
        (Some(target), Some(source)) if target != source => {
            let target = crate::gpu::gpu(target)?.context()?;
            let source = crate::gpu::gpu(source)?.context()?;
            // SAFETY: the caller's promise.
            check(table, "cuMemcpyPeerAsync", unsafe {
                (table.memcpy_peer_async)(
                    to.address,
                    target,
                    from.address,
                    source,
                    size,
                    stream.raw(),
                )
            })
        }
        (Some(_), None) => {
            let from = ptr::with_exposed_provenance(from.address as usize);
            // SAFETY: the caller's promise.
            check(table, "cuMemcpyHtoDAsync", unsafe {
                (table.memcpy_htod_async)(to.address, from, size, stream.raw())
            })
        }
        (None, Some(_)) => {
            let to = ptr::with_exposed_provenance_mut(to.address as usize);
            // SAFETY: the caller's promise.
            check(table, "cuMemcpyDtoHAsync", unsafe {
                (table.memcpy_dtoh_async)(to, from.address, size, stream.raw())
            })
        }
        (Some(_), Some(_)) => {
            // SAFETY: the caller's promise.
            check(table, "cuMemcpyDtoDAsync", unsafe {
                (table.memcpy_dtod_async)(to.address, from.address, size, stream.raw())
            })
        }
        (None, None) => {
            // SAFETY: the caller's promise; the driver finds out where both are.
            check(table, "cuMemcpyAsync", unsafe {
                (table.memcpy_async)(to.address, from.address, size, stream.raw())
            })
        }
    }
}

/// As [`start`], to memory of the CPU.
///
/// # Safety
/// - As for [`start`].
pub(crate) unsafe fn to_host(
    stream: &CudaStream,
    from: u64,
    to: *mut u8,
    size: usize,
) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    let bound = stream.gpu().bind()?;
    // SAFETY: the caller's promise.
    check(bound.table, "cuMemcpyDtoHAsync", unsafe {
        (bound.table.memcpy_dtoh_async)(to.cast(), from, size, stream.raw())
    })
}

/// As [`start`], from memory of the CPU.
///
/// # Safety
/// - As for [`start`].
pub(crate) unsafe fn from_host(
    stream: &CudaStream,
    to: u64,
    from: *const u8,
    size: usize,
) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    let bound = stream.gpu().bind()?;
    // SAFETY: the caller's promise.
    check(bound.table, "cuMemcpyHtoDAsync", unsafe {
        (bound.table.memcpy_htod_async)(to, from.cast(), size, stream.raw())
    })
}

/// A range of a block: one side of an asynchronous copy.
#[derive(Debug, Clone)]
pub struct CopyRange {
    /// The memory, which the copy keeps until it is done.
    pub block: Block,
    /// Where in it.
    pub offset: usize,
}

impl CopyRange {
    pub(crate) fn check(&self, size: usize) -> Result<()> {
        match self.offset.checked_add(size) {
            Some(end) if end <= self.block.size() => Ok(()),
            _ => Err(Error::range(self.offset, size, self.block.size())),
        }
    }
}

/// Gives a copy of `size` bytes to `stream`, in any direction, and keeps both blocks until it is done; then
/// `done` is called on a thread of the driver's (it must be short and must not call the driver), or dropped when
/// the work has failed.
///
/// Memory of the CPU that is not page-locked may make the call wait for the copy, as the driver decides. What
/// goes from the CPU's memory to the CPU's is copied by a thread of the driver's.
///
/// # Errors
/// - [`OutOfRange`](offheap::ErrorKind::OutOfRange) for a bad range;
/// - what the driver says; `done` is then dropped, and nothing is copied.
///
/// # Safety
/// - nobody writes the source, or uses the target, before `done` but in the order of `stream`; memory of
///   other streams is safe to use there already (see [`CudaStream::wait_stream`]);
/// - memory that was [registered](crate::RegisteredMemory) stays so until `done`.
pub unsafe fn copy_async(
    stream: &CudaStream,
    target: CopyRange,
    source: CopyRange,
    size: usize,
    done: impl FnOnce() + Send + 'static,
) -> Result<()> {
    target.check(size)?;
    source.check(size)?;
    // SAFETY: the ranges were checked, and both are the CPU's where it copies them; the blocks are kept below, or
    // until the stream was waited for; the rest is the caller's promise.
    unsafe {
        if size > 0 && is_hosts(&target.block) && is_hosts(&source.block) {
            let (to, from) = (
                (&target.block, target.offset),
                (&source.block, source.offset),
            );
            move_on_stream(stream, to, from, size)?;
        } else {
            let to = Side::of_block(&target.block, target.offset);
            let from = Side::of_block(&source.block, source.offset);
            start_between(stream, to, from, size)?;
        }
    }
    keep_until_done(stream, (target.block, source.block), done)
}

/// Fills `size` bytes with `byte`: as [`copy_async`].
///
/// # Errors
/// As [`copy_async`].
///
/// # Safety
/// - As for [`copy_async`].
pub unsafe fn fill_async(
    stream: &CudaStream,
    target: CopyRange,
    byte: u8,
    size: usize,
    done: impl FnOnce() + Send + 'static,
) -> Result<()> {
    target.check(size)?;
    if size > 0 {
        let bound = stream.gpu().bind()?;
        let address = Side::of_block(&target.block, target.offset).address;
        // SAFETY: the range was checked; the block is kept below; the rest is the caller's promise.
        check(bound.table, "cuMemsetD8Async", unsafe {
            (bound.table.memset_d8_async)(address, byte, size, stream.raw())
        })?;
    }
    keep_until_done(stream, target.block, done)
}

/// Has the CPU move bytes in the order of the stream.
///
/// # Safety
/// - both sides are the CPU's memory and have `size` bytes, which stay until the stream has come there.
pub(crate) unsafe fn move_on_stream(
    stream: &CudaStream,
    (target, to): (&Block, usize),
    (source, from): (&Block, usize),
    size: usize,
) -> Result<()> {
    // As numbers: the last reference to a block must not end on a thread of the driver's.
    let to = target.as_ptr().as_ptr().expose_provenance() + to;
    let from = source.as_ptr().as_ptr().expose_provenance() + from;
    stream.on_complete(move || {
        let source: *const u8 = ptr::with_exposed_provenance(from);
        let target: *mut u8 = ptr::with_exposed_provenance_mut(to);
        // SAFETY: the caller's promise. One buffer may be both sides, so they may overlap.
        unsafe { source.copy_to(target, size) };
    })
}

/// Calls `done` when the stream has come here, and lets `kept` go then: on a thread that may call the driver,
/// as the end of a block does.
pub(crate) fn keep_until_done<K: Send + 'static>(
    stream: &CudaStream,
    kept: K,
    done: impl FnOnce() + Send + 'static,
) -> Result<()> {
    let kept = crate::graveyard::Kept::new(kept);
    let end = kept.clone();
    let told = stream.on_end(move |has_failed| {
        end.bury();
        if !has_failed {
            done();
        }
    });
    if told.is_err() {
        // The work is under way and nobody will tell: its end must be waited for.
        drop(stream.synchronize());
        kept.bury();
    }
    told
}

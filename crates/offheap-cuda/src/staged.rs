//! Copies of memory that is not page-locked, without waiting.

use crate::copy::{CopyRange, Side, keep_until_done, start_between};
use crate::host_memory::CudaHostMemoryManager;
use crate::stream::CudaStream;
use offheap::{Alignment, Block, DeviceType, MemoryManager, Result};

/// Bytes that are staged at once: few enough to be had at any time, enough to keep the bus busy.
const STAGE: usize = 4 << 20;

/// Whether the driver reaches memory of this type as it is.
fn is_drivers(kind: DeviceType) -> bool {
    matches!(
        kind,
        DeviceType::CUDA | DeviceType::CUDA_HOST | DeviceType::CUDA_MANAGED
    )
}

/// As [`copy_async`](crate::copy_async), for a side that is memory of the CPU which is not page-locked: the
/// driver would block the caller for it, or read it later than it says. Its bytes go through a page-locked
/// block of `host`'s, which a thread of the driver's fills and empties in the order of the stream.
///
/// ```text
///   stream:  fill the stage ▸ stage to the GPU ▸ fill the stage ▸ stage to the GPU ▸ … ▸ done
/// ```
///
/// The bus and the CPU take turns, so it is slower than a copy of page-locked memory, whatever that takes on
/// the machine; what is gained is that nobody waits.
///
/// # Errors
/// - [`OutOfRange`](offheap::ErrorKind::OutOfRange) for a bad range, and out of memory for the stage;
/// - what the driver says; a part may have been copied then, `done` is dropped, and the stream has been waited for.
///
/// # Safety
/// - As for [`copy_async`](crate::copy_async).
pub unsafe fn copy_staged(
    stream: &CudaStream,
    target: CopyRange,
    source: CopyRange,
    size: usize,
    host: &CudaHostMemoryManager,
    done: impl FnOnce() + Send + 'static,
) -> Result<()> {
    target.check(size)?;
    source.check(size)?;
    // Not only the CPU's own: memory that processes share is ordinary memory, too.
    let is_plain = |range: &CopyRange| !is_drivers(range.block.location().device_type);
    let (to_plain, from_plain) = (is_plain(&target), is_plain(&source));
    if !(to_plain && from_plain) && size > 0 {
        let stage = host.allocate(size.min(STAGE), Alignment::DEFAULT, false)?;
        let mut at = 0;
        while at < size {
            let length = (size - at).min(STAGE);
            // SAFETY: the ranges were checked, and the stage has as many bytes; all three are kept below, or until
            // the stream was waited for; the rest is the caller's promise.
            let step = unsafe {
                if from_plain {
                    move_on_stream(
                        stream,
                        (&stage, 0),
                        (&source.block, source.offset + at),
                        length,
                    )
                    .and_then(|()| {
                        let to = Side::of_block(&target.block, target.offset + at);
                        start_between(stream, to, Side::of_block(&stage, 0), length)
                    })
                } else {
                    let from = Side::of_block(&source.block, source.offset + at);
                    start_between(stream, Side::of_block(&stage, 0), from, length).and_then(|()| {
                        move_on_stream(
                            stream,
                            (&target.block, target.offset + at),
                            (&stage, 0),
                            length,
                        )
                    })
                }
            };
            if let Err(error) = step {
                // What was given to the stream uses the blocks.
                drop(stream.synchronize());
                return Err(error);
            }
            at += length;
        }
        return keep_until_done(stream, (target.block, source.block, stage), done);
    }
    // Both sides are the CPU's own, so the GPU has no part in it but the order.
    if size > 0 {
        // SAFETY: as above.
        unsafe {
            move_on_stream(
                stream,
                (&target.block, target.offset),
                (&source.block, source.offset),
                size,
            )?;
        }
    }
    keep_until_done(stream, (target.block, source.block), done)
}

/// Has the CPU move bytes in the order of the stream.
///
/// # Safety
/// - both sides are the CPU's memory and have `size` bytes, which stay until the stream has come there.
unsafe fn move_on_stream(
    stream: &CudaStream,
    (target, to): (&Block, usize),
    (source, from): (&Block, usize),
    size: usize,
) -> Result<()> {
    // As numbers: the last reference to a block must not end on a thread of the driver's.
    let to = target.as_ptr().as_ptr().expose_provenance() + to;
    let from = source.as_ptr().as_ptr().expose_provenance() + from;
    stream.on_complete(move || {
        let source: *const u8 = std::ptr::with_exposed_provenance(from);
        let target: *mut u8 = std::ptr::with_exposed_provenance_mut(to);
        // SAFETY: the caller's promise. One buffer may be both sides, so they may overlap.
        unsafe { source.copy_to(target, size) };
    })
}

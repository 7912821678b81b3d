//! Copies of memory that is not page-locked, without waiting.

use crate::copy::{
    CopyRange, Side, copy_async, is_hosts, keep_until_done, move_on_stream, start_between,
};
use crate::host_memory::CudaHostMemoryManager;
use crate::stream::CudaStream;
use offheap::{Alignment, Block, DeviceType, MemoryManager, Result};

/// Bytes that are staged at once: few enough to be had at any time, enough to keep the bus busy.
const STAGE: usize = 4 << 20;

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
    let (to_plain, from_plain) = (is_pageable(&target.block), is_pageable(&source.block));
    if size == 0 || !(to_plain || from_plain) || is_hosts(&target.block) && is_hosts(&source.block)
    {
        // SAFETY: the caller's promise.
        return unsafe { copy_async(stream, target, source, size, done) };
    }
    let stage = host.allocate(size.min(STAGE), Alignment::DEFAULT, false)?;
    let mut at = 0;
    while at < size {
        let length = (size - at).min(STAGE);
        let (to, from) = (target.offset + at, source.offset + at);
        // SAFETY: the ranges were checked, and the stage has as many bytes; the CPU moves bytes between the stage
        // and the side that is its own; all three are kept below, or until the stream was waited for; the rest is
        // the caller's promise.
        let step = unsafe {
            if from_plain {
                move_on_stream(stream, (&stage, 0), (&source.block, from), length).and_then(|()| {
                    let to = Side::of_block(&target.block, to);
                    start_between(stream, to, Side::of_block(&stage, 0), length)
                })
            } else {
                let from = Side::of_block(&source.block, from);
                start_between(stream, Side::of_block(&stage, 0), from, length)
                    .and_then(|()| move_on_stream(stream, (&target.block, to), (&stage, 0), length))
            }
        };
        if let Err(error) = step {
            // What was given to the stream uses the blocks.
            drop(stream.synchronize());
            return Err(error);
        }
        at += length;
    }
    keep_until_done(stream, (target.block, source.block, stage), done)
}

/// Whether it is memory of the CPU that no driver has page-locked by itself.
fn is_pageable(block: &Block) -> bool {
    is_hosts(block) && block.location().device_type != DeviceType::CUDA_HOST
}

//! The sub-allocator's streams and bytes, by the driver.

use crate::driver::{abi, check};
use crate::event::CudaEvent;
use crate::gpu::Gpu;
use crate::sub_allocator::{Bytes, StreamId, Streams};
use offheap::{Error, Result};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// CUDA's streams, by their handles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CudaStreams(pub(crate) &'static Gpu);

/// Set in the numbers of threads' default streams, which all have the same handle. No handle has it: handles are
/// addresses, or small numbers.
const OF_A_THREAD: u64 = 1 << 63;

/// The number of the calling thread's default stream, which no other thread ever gets.
fn default_stream_of_this_thread() -> StreamId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // Where the thread is past its end, a number for once: nobody is known to be ordered after it.
    let number = NUMBER
        .try_with(|number| *number)
        .unwrap_or_else(|_| NEXT.fetch_add(1, Ordering::Relaxed));
    StreamId(OF_A_THREAD | number)
}

/// The handle of a stream.
///
/// # Errors
/// For another thread's default stream, which has none here.
fn raw(stream: StreamId) -> Result<abi::Stream> {
    if stream.0 & OF_A_THREAD == 0 {
        Ok(ptr::without_provenance_mut(stream.0 as usize))
    } else if stream == default_stream_of_this_thread() {
        Ok(ptr::without_provenance_mut(abi::STREAM_PER_THREAD))
    } else {
        Err(Error::not_supported(
            "work for another thread's default stream",
        ))
    }
}

impl Streams for CudaStreams {
    type Event = CudaEvent;

    fn on_this_thread(&self, stream: StreamId) -> StreamId {
        if stream.0 == abi::STREAM_PER_THREAD as u64 {
            default_stream_of_this_thread()
        } else {
            stream
        }
    }

    fn create_event(&self) -> Result<CudaEvent> {
        CudaEvent::pooled(self.0)
    }

    fn record(&self, event: &mut CudaEvent, stream: StreamId) -> Result<()> {
        let (bound, stream) = (self.0.bind()?, raw(stream)?);
        // SAFETY: a live event; the stream is kept by those who allocate on it.
        check(bound.table, "cuEventRecord", unsafe {
            (bound.table.event_record)(event.raw(), stream)
        })
    }

    fn wait(&self, stream: StreamId, event: &CudaEvent) -> Result<()> {
        let (bound, stream) = (self.0.bind()?, raw(stream)?);
        // SAFETY: as above.
        check(bound.table, "cuStreamWaitEvent", unsafe {
            (bound.table.stream_wait_event)(stream, event.raw(), 0)
        })
    }

    fn is_complete(&self, event: &CudaEvent) -> Result<bool> {
        event.is_complete()
    }

    fn synchronize(&self, event: &CudaEvent) -> Result<()> {
        event.synchronize()
    }

    fn synchronize_device(&self) -> Result<()> {
        self.0.synchronize()
    }
}

/// The GPU fills and copies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CudaBytes(pub(crate) &'static Gpu);

// SAFETY: the driver does both in the order of the stream.
unsafe impl Bytes for CudaBytes {
    unsafe fn zero(&self, address: u64, size: u64, stream: StreamId) -> Result<()> {
        let (bound, stream) = (self.0.bind()?, raw(stream)?);
        // SAFETY: the caller's block.
        check(bound.table, "cuMemsetD8Async", unsafe {
            (bound.table.memset_d8_async)(address, 0, size as usize, stream)
        })
    }

    unsafe fn copy(&self, from: u64, to: u64, size: u64, stream: StreamId) -> Result<()> {
        let (bound, stream) = (self.0.bind()?, raw(stream)?);
        // SAFETY: the caller's blocks.
        check(bound.table, "cuMemcpyDtoDAsync", unsafe {
            (bound.table.memcpy_dtod_async)(to, from, size as usize, stream)
        })
    }
}

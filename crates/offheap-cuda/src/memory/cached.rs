//! The sub-allocator's streams and bytes, by the driver.

use crate::driver::check;
use crate::event::CudaEvent;
use crate::gpu::Gpu;
use crate::sub_allocator::{Bytes, StreamId, Streams};
use offheap::Result;
use std::ptr;

/// CUDA's streams, by their handles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CudaStreams(pub(crate) &'static Gpu);

fn raw(stream: StreamId) -> crate::driver::abi::Stream {
    ptr::without_provenance_mut(stream.0 as usize)
}

impl Streams for CudaStreams {
    type Event = CudaEvent;

    fn create_event(&self) -> Result<CudaEvent> {
        CudaEvent::pooled(self.0)
    }

    fn record(&self, event: &mut CudaEvent, stream: StreamId) -> Result<()> {
        let bound = self.0.bind()?;
        // SAFETY: a live event; the stream is kept by those who allocate on it.
        check(bound.table, "cuEventRecord", unsafe {
            (bound.table.event_record)(event.raw(), raw(stream))
        })
    }

    fn wait(&self, stream: StreamId, event: &CudaEvent) -> Result<()> {
        let bound = self.0.bind()?;
        // SAFETY: as above.
        check(bound.table, "cuStreamWaitEvent", unsafe {
            (bound.table.stream_wait_event)(raw(stream), event.raw(), 0)
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
        let bound = self.0.bind()?;
        // SAFETY: the caller's block.
        check(bound.table, "cuMemsetD8Async", unsafe {
            (bound.table.memset_d8_async)(address, 0, size as usize, raw(stream))
        })
    }

    unsafe fn copy(&self, from: u64, to: u64, size: u64, stream: StreamId) -> Result<()> {
        let bound = self.0.bind()?;
        // SAFETY: the caller's blocks.
        check(bound.table, "cuMemcpyDtoDAsync", unsafe {
            (bound.table.memcpy_dtod_async)(to, from, size as usize, raw(stream))
        })
    }
}

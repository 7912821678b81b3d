//! Events.

use crate::device::CudaDevice;
use crate::driver::{abi, check, failed, is_exiting};
use crate::gpu::Gpu;
use crate::stream::CudaStream;
use offheap::{Error, Result, Stream, SyncEvent};
use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// A moment in a stream (Arrow's `CudaDevice::SyncEvent`): a counted handle.
#[derive(Clone)]
pub struct CudaEvent(Arc<Inner>);

struct Inner {
    gpu: &'static Gpu,
    raw: abi::Event,
    end: End,
}

/// What happens to the driver's event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is used again.
    Pooled,
    Destroyed,
    /// It is somebody else's.
    Left,
}

// SAFETY: the event is a handle that any thread may use.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl CudaEvent {
    /// An event without timing, from those that were used before.
    pub(crate) fn pooled(gpu: &'static Gpu) -> Result<Self> {
        let bound = gpu.bind()?;
        let raw = gpu.events.take(&bound)?;
        Ok(Self::of(gpu, raw, End::Pooled))
    }

    fn of(gpu: &'static Gpu, raw: abi::Event, end: End) -> Self {
        Self(Arc::new(Inner { gpu, raw, end }))
    }

    /// An event of its own, with these flags.
    pub(crate) fn create(gpu: &'static Gpu, flags: u32) -> Result<Self> {
        let bound = gpu.bind()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the out-pointer is ours.
        check(bound.table, "cuEventCreate", unsafe {
            (bound.table.event_create)(&raw mut raw, flags)
        })?;
        Ok(Self::of(gpu, raw, End::Destroyed))
    }

    /// An event that another process made.
    pub(crate) fn opened(gpu: &'static Gpu, raw: abi::Event) -> Self {
        Self::of(gpu, raw, End::Destroyed)
    }

    /// Somebody else's event, which stays theirs (Arrow's `WrapDeviceSyncEvent` without a release).
    ///
    /// # Safety
    /// - `raw` is a `CUevent` of this process and of this GPU, and lives as long as the handle.
    pub unsafe fn wrap(ordinal: i64, raw: *mut c_void) -> Result<Self> {
        Ok(Self::of(crate::gpu::gpu(ordinal)?, raw, End::Left))
    }

    /// As [`wrap`](Self::wrap), by the address of the handle, as `ArrowDeviceArray.sync_event` has it.
    ///
    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for an address where none can be.
    ///
    /// # Safety
    /// - `event` is misaligned, or the address of a `CUevent`, and both live as long as the handle.
    pub(crate) unsafe fn wrap_at(gpu: &'static Gpu, event: NonNull<c_void>) -> Result<Self> {
        let event = event.cast::<abi::Event>();
        if !event.is_aligned() {
            return Err(Error::invalid_argument(
                "sync_event",
                format_args!("{event:p}"),
                "the address of a cudaEvent_t",
            ));
        }
        // SAFETY: the caller's promise; aligned.
        Ok(Self::of(gpu, unsafe { event.read() }, End::Left))
    }

    pub(crate) fn raw(&self) -> abi::Event {
        self.0.raw
    }

    pub(crate) fn gpu(&self) -> &'static Gpu {
        self.0.gpu
    }

    /// The GPU whose streams record it.
    pub fn cuda_device(&self) -> CudaDevice {
        CudaDevice::of_gpu(self.0.gpu)
    }

    /// The event becomes the moment at which all work that `stream` has now is done.
    ///
    /// # Errors
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for another GPU's stream;
    /// - what the driver says.
    pub fn record_on(&self, stream: &CudaStream) -> Result<()> {
        if stream.gpu() != self.0.gpu {
            return Err(Error::invalid_argument(
                "stream",
                format_args!("one of {}", stream.gpu().location()),
                "a stream of the event's GPU",
            ));
        }
        let bound = self.0.gpu.bind()?;
        // SAFETY: both are live handles of this context.
        check(bound.table, "cuEventRecord", unsafe {
            (bound.table.event_record)(self.0.raw, stream.raw())
        })
    }

    /// Waits for the moment.
    ///
    /// # Errors
    /// What the driver says, of the work before it, too.
    pub fn synchronize(&self) -> Result<()> {
        let bound = self.0.gpu.bind()?;
        // SAFETY: a live event.
        check(bound.table, "cuEventSynchronize", unsafe {
            (bound.table.event_synchronize)(self.0.raw)
        })
    }

    /// Whether the moment has come.
    ///
    /// # Errors
    /// As [`synchronize`](Self::synchronize).
    pub fn is_complete(&self) -> Result<bool> {
        let bound = self.0.gpu.bind()?;
        // SAFETY: a live event.
        match unsafe { (bound.table.event_query)(self.0.raw) } {
            abi::SUCCESS => Ok(true),
            abi::NOT_READY => Ok(false),
            code => Err(failed(bound.table, "cuEventQuery", code)),
        }
    }

    /// Milliseconds from `start` to this moment; both must have been made with timing, and have come.
    ///
    /// # Errors
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for an event without timing, one that was
    ///   never recorded, and one that is still to come;
    /// - what the driver says, of the work before them, too.
    pub fn elapsed_ms(&self, start: &Self) -> Result<f32> {
        let bound = self.0.gpu.bind()?;
        let mut milliseconds = 0.0;
        // SAFETY: both are live events; the out-pointer is ours.
        let code = unsafe {
            (bound.table.event_elapsed_time)(&raw mut milliseconds, start.0.raw, self.0.raw)
        };
        match code {
            abi::SUCCESS => Ok(milliseconds),
            abi::INVALID_HANDLE | abi::NOT_READY => Err(Error::invalid_argument(
                "events",
                failed(bound.table, "cuEventElapsedTime", code),
                "two with timing that were recorded and have come",
            )),
            code => Err(failed(bound.table, "cuEventElapsedTime", code)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.end == End::Left || is_exiting() {
            return;
        }
        if let Ok(bound) = self.gpu.bind() {
            if self.end == End::Pooled {
                self.gpu.events.give(self.raw, &bound);
            } else {
                // SAFETY: the last handle of an event that is ours.
                unsafe { (bound.table.event_destroy)(self.raw) };
            }
        }
    }
}

impl fmt::Debug for CudaEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CudaEvent({:p} of {})",
            self.0.raw,
            self.0.gpu.location()
        )
    }
}

impl SyncEvent for CudaEvent {
    fn record(&self, stream: &dyn Stream) -> Result<()> {
        let stream: &dyn Any = stream;
        match stream.downcast_ref::<CudaStream>() {
            Some(stream) => self.record_on(stream),
            None => Err(Error::invalid_argument(
                "stream",
                "another device's",
                "a stream of CUDA",
            )),
        }
    }

    fn wait(&self) -> Result<()> {
        self.synchronize()
    }

    fn is_complete(&self) -> Result<bool> {
        Self::is_complete(self)
    }

    fn as_raw(&self) -> *mut c_void {
        (&raw const self.0.raw).cast_mut().cast()
    }
}

//! Streams.

use crate::device::CudaDevice;
use crate::driver::{abi, check, failed, is_exiting};
use crate::event::CudaEvent;
use crate::gpu::Gpu;
use offheap::{Device, Error, Result, Stream, SyncEvent};
use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

/// A queue of work of one GPU (Arrow's `CudaDevice::Stream`, RMM's `cuda_stream`): a counted handle.
#[derive(Clone)]
pub struct CudaStream(Arc<Inner>);

struct Inner {
    gpu: &'static Gpu,
    raw: abi::Stream,
    is_owned: bool,
}

// SAFETY: the stream is a handle that any thread may use.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl CudaStream {
    /// A new stream that does not wait for the legacy default stream. `priority`: lower numbers are more
    /// urgent; `None` for the usual one; the GPU's range is taken as limits.
    pub(crate) fn create(gpu: &'static Gpu, priority: Option<i32>) -> Result<Self> {
        Self::with_flags(gpu, priority, abi::STREAM_NON_BLOCKING)
    }

    /// As [`create`](Self::create), of a stream that waits for the legacy default stream, and it for this one.
    pub(crate) fn create_blocking(gpu: &'static Gpu, priority: Option<i32>) -> Result<Self> {
        Self::with_flags(gpu, priority, abi::STREAM_DEFAULT)
    }

    fn with_flags(gpu: &'static Gpu, priority: Option<i32>, flags: u32) -> Result<Self> {
        let bound = gpu.bind()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the out-pointer is ours.
        check(bound.table, "cuStreamCreateWithPriority", unsafe {
            (bound.table.stream_create)(&raw mut raw, flags, priority.unwrap_or(0))
        })?;
        Ok(Self(Arc::new(Inner {
            gpu,
            raw,
            is_owned: true,
        })))
    }

    fn borrowed(gpu: &'static Gpu, raw: usize) -> Self {
        Self(Arc::new(Inner {
            gpu,
            raw: ptr::without_provenance_mut(raw),
            is_owned: false,
        }))
    }

    /// CUDA's legacy default stream, which waits for all blocking streams, and they for it.
    pub(crate) fn default_of(gpu: &'static Gpu) -> Self {
        Self::borrowed(gpu, 0)
    }

    /// The calling thread's default stream (`CU_STREAM_PER_THREAD`).
    pub(crate) fn per_thread(gpu: &'static Gpu) -> Self {
        Self::borrowed(gpu, abi::STREAM_PER_THREAD)
    }

    /// Whether it is another stream on each thread.
    pub(crate) fn is_per_thread(&self) -> bool {
        self.0.raw.addr() == abi::STREAM_PER_THREAD
    }

    /// Somebody else's stream, which stays theirs (Arrow's `WrapStream` without a release). 0 is the legacy
    /// default stream.
    ///
    /// # Errors
    /// As [`CudaDevice::new`].
    ///
    /// # Safety
    /// - `raw` is a `CUstream` of this process and of this GPU, and lives as long as the handle.
    pub unsafe fn wrap(ordinal: i64, raw: usize) -> Result<Self> {
        Ok(Self::borrowed(CudaDevice::new(ordinal)?.gpu(), raw))
    }

    pub(crate) fn gpu(&self) -> &'static Gpu {
        self.0.gpu
    }

    pub(crate) fn raw(&self) -> abi::Stream {
        self.0.raw
    }

    /// The GPU.
    pub fn cuda_device(&self) -> CudaDevice {
        CudaDevice::of_gpu(self.0.gpu)
    }

    /// How urgent its work is: lower is more. The nearest that the GPU has to what was asked for.
    ///
    /// # Errors
    /// What the driver says.
    pub fn priority(&self) -> Result<i32> {
        let bound = self.0.gpu.bind()?;
        let mut priority = 0;
        // SAFETY: a live stream of this context; the out-pointer is ours.
        check(bound.table, "cuStreamGetPriority", unsafe {
            (bound.table.stream_get_priority)(self.0.raw, &raw mut priority)
        })?;
        Ok(priority)
    }

    /// Whether it waits for the legacy default stream, and that for it.
    ///
    /// # Errors
    /// What the driver says.
    pub fn is_blocking(&self) -> Result<bool> {
        let bound = self.0.gpu.bind()?;
        let mut flags = 0;
        // SAFETY: a live stream of this context; the out-pointer is ours.
        check(bound.table, "cuStreamGetFlags", unsafe {
            (bound.table.stream_get_flags)(self.0.raw, &raw mut flags)
        })?;
        Ok(flags & abi::STREAM_NON_BLOCKING == 0)
    }

    /// Waits until all its work is done.
    ///
    /// # Errors
    /// What the driver says, of earlier work, too.
    pub fn synchronize(&self) -> Result<()> {
        let bound = self.0.gpu.bind()?;
        // SAFETY: a live stream of this context.
        check(bound.table, "cuStreamSynchronize", unsafe {
            (bound.table.stream_synchronize)(self.0.raw)
        })
    }

    /// Whether all its work is done.
    ///
    /// # Errors
    /// As [`synchronize`](Self::synchronize).
    pub fn is_complete(&self) -> Result<bool> {
        let bound = self.0.gpu.bind()?;
        // SAFETY: a live stream of this context.
        match unsafe { (bound.table.stream_query)(self.0.raw) } {
            abi::SUCCESS => Ok(true),
            abi::NOT_READY => Ok(false),
            code => Err(failed(bound.table, "cuStreamQuery", code)),
        }
    }

    /// Later work of this stream begins after what `other` has now. The caller does not wait.
    ///
    /// # Errors
    /// What the driver says.
    pub fn wait_stream(&self, other: &Self) -> Result<()> {
        if self == other {
            return Ok(());
        }
        let event = other.record()?;
        self.wait(&event)
    }

    /// Later work of this stream begins after `event`.
    ///
    /// # Errors
    /// What the driver says.
    pub fn wait(&self, event: &CudaEvent) -> Result<()> {
        let bound = self.0.gpu.bind()?;
        // SAFETY: both are live handles.
        check(bound.table, "cuStreamWaitEvent", unsafe {
            (bound.table.stream_wait_event)(self.0.raw, event.raw(), 0)
        })
    }

    /// A new event at the end of what the stream has now, without timing.
    ///
    /// # Errors
    /// What the driver says.
    pub fn record(&self) -> Result<CudaEvent> {
        let event = CudaEvent::pooled(self.0.gpu)?;
        event.record_on(self)?;
        Ok(event)
    }

    /// Calls `done` when the work that the stream has now is done, on a thread of the driver's. It must be
    /// short, must not call the driver, and its panics are swallowed. It is dropped uncalled when the work has
    /// failed, and when the process ends before.
    ///
    /// # Errors
    /// What the driver says; `done` is then dropped.
    pub fn on_complete(&self, done: impl FnOnce() + Send + 'static) -> Result<()> {
        self.on_end(move |has_failed| {
            if !has_failed {
                done();
            }
        })
    }

    /// As [`on_complete`](Self::on_complete), also when the work has failed, which `ended` is told.
    ///
    /// # Errors
    /// What the driver says; `ended` is then dropped.
    pub(crate) fn on_end(&self, ended: impl FnOnce(bool) + Send + 'static) -> Result<()> {
        type Ended = Box<dyn FnOnce(bool) + Send>;
        unsafe extern "C" fn call(_: abi::Stream, status: abi::Result, data: *mut c_void) {
            // SAFETY: the box of `on_end`, which the driver gives once.
            let ended = unsafe { Box::from_raw(data.cast::<Ended>()) };
            let told = AssertUnwindSafe(move || ended(status != abi::SUCCESS));
            // What is thrown must not reach the driver's frames; dropping it may throw again.
            if let Err(payload) = catch_unwind(told) {
                std::mem::forget(payload);
            }
        }
        let bound = self.0.gpu.bind()?;
        let ended: Box<Ended> = Box::new(Box::new(ended));
        let data = Box::into_raw(ended);
        // Not `cuLaunchHostFunc`, whose function "will not be called in the event of an error in the CUDA
        // context": who waits for it would wait for ever.
        // SAFETY: a live stream; the callback takes the data, once.
        let code = unsafe { (bound.table.stream_add_callback)(self.0.raw, call, data.cast(), 0) };
        if code != abi::SUCCESS {
            // SAFETY: the driver did not take it.
            drop(unsafe { Box::from_raw(data) });
        }
        check(bound.table, "cuStreamAddCallback", code)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.is_owned
            && !is_exiting()
            && let Ok(bound) = self.gpu.bind()
        {
            // SAFETY: the last handle; the driver ends the stream when its work is done.
            unsafe { (bound.table.stream_destroy)(self.raw) };
        }
    }
}

impl PartialEq for CudaStream {
    fn eq(&self, other: &Self) -> bool {
        self.0.gpu == other.0.gpu && self.0.raw == other.0.raw
    }
}

impl Eq for CudaStream {}

impl fmt::Debug for CudaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CudaStream({:p} of {})",
            self.0.raw,
            self.0.gpu.location()
        )
    }
}

/// The event of a trait object.
pub(crate) fn cuda_event(event: &dyn SyncEvent) -> Result<&CudaEvent> {
    let event: &dyn Any = event;
    event
        .downcast_ref::<CudaEvent>()
        .ok_or_else(|| Error::invalid_argument("event", "another device's", "an event of CUDA"))
}

impl Stream for CudaStream {
    fn device(&self) -> Arc<dyn Device> {
        Arc::new(self.cuda_device())
    }

    fn wait_event(&self, event: &dyn SyncEvent) -> Result<()> {
        self.wait(cuda_event(event)?)
    }

    fn synchronize(&self) -> Result<()> {
        Self::synchronize(self)
    }

    fn is_complete(&self) -> Result<bool> {
        Self::is_complete(self)
    }

    fn as_raw(&self) -> *mut c_void {
        self.0.raw
    }
}

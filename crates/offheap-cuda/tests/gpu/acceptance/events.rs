//! Events: cases 80 and 81.

use crate::support::{INVALID, NOT_SUPPORTED, code, manager};
use crate::where_it_runs::{gpu, raw, with_context};
use offheap::{Device, MemoryManager, Stream, SyncEvent, default_cpu_memory_manager};
use std::ffi::{c_uint, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

#[test]
fn case_80_an_event_that_was_never_recorded_has_come() {
    let gpu = gpu();
    let event = manager().make_sync_event().unwrap();
    assert!(event.is_complete().unwrap());
    event.wait().unwrap();
    assert!(!event.as_raw().is_null());
    for timing in [false, true] {
        let event = gpu.create_event(timing).unwrap();
        assert!(event.is_complete().unwrap());
        event.synchronize().unwrap();
        assert!(event.cuda_device().equals(&gpu));
    }
    // Memory that the CPU works with has no streams.
    let host: Arc<dyn MemoryManager> = Arc::new(gpu.host_manager().unwrap());
    for manager in [default_cpu_memory_manager(), host] {
        assert_eq!(code(manager.make_sync_event()), NOT_SUPPORTED);
    }
}

/// Events are used again, but not while their last moment is still to come.
#[test]
fn case_80_a_new_event_is_not_the_moment_of_its_last_user() {
    let (gpu, manager) = (gpu(), manager());
    let stream = gpu.create_stream(None).unwrap();
    let there = offheap::MutableDeviceBuffer::allocate(1 << 20, &manager).unwrap();
    gpu.synchronize().unwrap();
    for _ in 0..64 {
        let range = offheap_cuda::CopyRange {
            block: there.block().clone(),
            offset: 0,
        };
        // SAFETY: nobody reads it, and the copy keeps it.
        unsafe { offheap_cuda::fill_async(&stream, range, 1, 1 << 20, || {}) }.unwrap();
        drop(stream.record().unwrap());
        assert!(gpu.create_event(false).unwrap().is_complete().unwrap());
        assert!(manager.make_sync_event().unwrap().is_complete().unwrap());
    }
    stream.synchronize().unwrap();
}

#[test]
fn case_80_times_are_told_of_events_that_have_them() {
    let gpu = gpu();
    let stream = gpu.create_stream(None).unwrap();
    let timed = || gpu.create_event(true).unwrap();
    let (start, end) = (timed(), timed());
    start.record_on(&stream).unwrap();
    end.record_on(&stream).unwrap();
    end.synchronize().unwrap();
    assert!(end.elapsed_ms(&start).unwrap() >= 0.0);
    let (untimed, unrecorded) = (gpu.create_event(false).unwrap(), timed());
    untimed.record_on(&stream).unwrap();
    untimed.synchronize().unwrap();
    for wrong in [untimed, unrecorded] {
        assert_eq!(code(end.elapsed_ms(&wrong)), INVALID);
        assert_eq!(code(wrong.elapsed_ms(&start)), INVALID);
    }
    // What went wrong is no failure of the GPU's: it goes on.
    assert!(end.elapsed_ms(&start).unwrap() >= 0.0);
}

#[test]
fn case_81_an_event_of_others_stays_theirs() {
    type Event = *mut c_void;
    type Query = unsafe extern "C" fn(Event) -> c_uint;
    let manager = manager();
    let stream = gpu().create_stream(None).unwrap();
    // SAFETY: the driver's functions have these types (cuda.h).
    let (create, query, destroy) = unsafe {
        (
            raw::<unsafe extern "C" fn(*mut Event, c_uint) -> c_uint>("cuEventCreate").unwrap(),
            raw::<Query>("cuEventQuery").unwrap(),
            raw::<Query>("cuEventDestroy_v2").unwrap(),
        )
    };
    with_context(move || {
        let mut theirs = ptr::null_mut();
        // SAFETY: the out-pointer is ours.
        unsafe {
            assert_eq!(create(&raw mut theirs, 0), 0);
            assert_eq!(query(theirs), 0);
        }
        {
            let address = NonNull::from(&theirs).cast();
            // SAFETY: the address of a live event of this GPU.
            let wrapped = unsafe { manager.wrap_sync_event(address) }.unwrap();
            // SAFETY: it is the address of the handle.
            assert_eq!(unsafe { wrapped.as_raw().cast::<Event>().read() }, theirs);
            assert!(wrapped.is_complete().unwrap());
            wrapped.record(&stream).unwrap();
            Stream::wait_event(&stream, &*wrapped).unwrap();
            wrapped.wait().unwrap();
        }
        // SAFETY: it is still there, as nobody else ended it.
        unsafe {
            assert_eq!(query(theirs), 0);
            assert_eq!(destroy(theirs), 0);
        }
    });
}

/// Misuse: streams and events of another kind of device.
#[test]
fn case_81_events_and_streams_of_other_devices_are_refused() {
    #[derive(Debug)]
    struct Other;
    impl SyncEvent for Other {
        fn record(&self, _stream: &dyn Stream) -> offheap::Result<()> {
            Ok(())
        }
        fn wait(&self) -> offheap::Result<()> {
            Ok(())
        }
        fn is_complete(&self) -> offheap::Result<bool> {
            Ok(true)
        }
        fn as_raw(&self) -> *mut c_void {
            ptr::null_mut()
        }
    }
    impl Stream for Other {
        fn device(&self) -> Arc<dyn Device> {
            offheap::cpu_device()
        }
        fn wait_event(&self, _event: &dyn SyncEvent) -> offheap::Result<()> {
            Ok(())
        }
        fn synchronize(&self) -> offheap::Result<()> {
            Ok(())
        }
        fn is_complete(&self) -> offheap::Result<bool> {
            Ok(true)
        }
        fn as_raw(&self) -> *mut c_void {
            ptr::null_mut()
        }
    }
    let stream = gpu().make_stream().unwrap();
    assert_eq!(code(stream.wait_event(&Other)), INVALID);
    assert_eq!(
        code(manager().make_sync_event().unwrap().record(&Other)),
        INVALID
    );
    stream.synchronize().unwrap();
}

//! Events and streams that somebody else made, by their handles.

use crate::where_it_runs::gpu;
use offheap::{DeviceBuffer, MemoryManager, Stream, SyncEvent};
use offheap_cuda::{CudaMemoryManager, CudaStream};
use std::any::Any;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;

#[test]
fn events_are_taken_by_the_address_of_their_handle_for_every_kind_of_memory() {
    let managers: [Arc<dyn MemoryManager>; 3] = [
        Arc::new(gpu().manager().unwrap()),
        Arc::new(gpu().managed_manager().unwrap()),
        Arc::new(gpu().host_manager().unwrap()),
    ];
    for manager in managers {
        let event = gpu().create_stream(None).unwrap().record().unwrap();
        let raw = NonNull::new(event.as_raw()).unwrap();
        // SAFETY: an event of this GPU that outlives what is made of it.
        let wrapped = unsafe { manager.wrap_sync_event(raw) }.unwrap();
        // SAFETY: both are the addresses of handles.
        unsafe {
            assert_eq!(
                wrapped.as_raw().cast::<*mut c_void>().read(),
                raw.cast().read()
            );
        }
        wrapped.wait().unwrap();
        drop(wrapped);
        assert!(event.is_complete().unwrap(), "it was not ours to end");

        let odd = NonNull::new(ptr::without_provenance_mut(9)).unwrap();
        // SAFETY: an address where no handle can be.
        let error = unsafe { manager.wrap_sync_event(odd) }.unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
    }
}

#[test]
fn a_managers_memory_on_another_stream() {
    let stream = gpu().create_stream(None).unwrap();
    let manager = gpu().manager().unwrap();
    let on = manager.on_stream(&stream).unwrap().unwrap();
    let any: &dyn Any = &*on;
    assert_eq!(
        any.downcast_ref::<CudaMemoryManager>().unwrap().stream(),
        &stream
    );
    let there = DeviceBuffer::copy_from(b"bytes", &on).unwrap();
    let mut bytes = [0; 5];
    there.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"bytes");
    let host = gpu().host_manager().unwrap();
    assert!(host.on_stream(&stream).unwrap().is_none());

    // SAFETY: a stream of this GPU that outlives the handle.
    let wrapped = unsafe { CudaStream::wrap(0, stream.as_raw().addr()) }.unwrap();
    assert_eq!(wrapped, stream);
    drop(wrapped);
    stream.synchronize().unwrap();
    // SAFETY: no handle is made.
    assert!(unsafe { CudaStream::wrap(99, 0) }.is_err());

    if let Some(second) = offheap_cuda::devices().get(1) {
        let others = second.create_stream(None).unwrap();
        let error = manager.on_stream(&others).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
    }
}

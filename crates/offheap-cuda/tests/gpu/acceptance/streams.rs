//! Streams: cases 82 and 83.

use crate::support::{INVALID, bytes_of, code, manager, managers};
use crate::where_it_runs::gpu;
use offheap::{Device, MemoryManager, MutableDeviceBuffer, Stream};
use offheap_cuda::{CopyRange, CudaStream, fill_async};
use std::sync::Arc;
use std::sync::mpsc::channel;

/// What Arrow's tests do with a stream.
fn record_wait_synchronize(stream: &CudaStream) {
    let event = manager().make_sync_event().unwrap();
    event.record(stream).unwrap();
    Stream::wait_event(stream, &*event).unwrap();
    event.wait().unwrap();
    Stream::synchronize(stream).unwrap();
    assert!(event.is_complete().unwrap());
    assert!(stream.cuda_device().equals(&gpu()));
    assert!(Stream::device(stream).equals(&gpu()));
}

#[test]
fn case_82_the_default_stream_records_waits_and_ends() {
    let gpu = gpu();
    record_wait_synchronize(&gpu.default_stream());
    assert!(gpu.default_stream().as_raw().is_null());
    assert_eq!(gpu.default_stream(), gpu.default_stream());
    // Arrow's `MakeStream`.
    let made = gpu.make_stream().unwrap();
    assert!(!made.as_raw().is_null() && made.device().equals(&gpu));
    let event = manager().make_sync_event().unwrap();
    event.record(&*made).unwrap();
    made.wait_event(&*event).unwrap();
    made.synchronize().unwrap();
    // Nobody else gives it work.
    assert!(made.is_complete().unwrap());
}

#[test]
fn case_83_streams_of_every_kind_record_wait_and_end() {
    let gpu = gpu();
    let (usual, urgent) = (
        gpu.create_stream(None).unwrap(),
        // The GPU's range is taken as limits.
        gpu.create_stream(Some(-1000)).unwrap(),
    );
    let streams = [
        gpu.per_thread_stream(),
        gpu.default_stream(),
        usual.clone(),
        urgent.clone(),
        gpu.create_stream(Some(1000)).unwrap(),
    ];
    for (i, stream) in streams.iter().enumerate() {
        record_wait_synchronize(stream);
        let event = stream.record().unwrap();
        for (j, other) in streams.iter().enumerate() {
            other.wait(&event).unwrap();
            other.wait_stream(stream).unwrap();
            assert_eq!(stream == other, i == j);
        }
        stream.synchronize().unwrap();
        assert!(event.is_complete().unwrap());
    }
    for stream in [usual, urgent] {
        stream.synchronize().unwrap();
        // Those are this test's alone.
        assert!(stream.is_complete().unwrap());
    }
}

/// What is on the calling thread's own stream is another stream's on the next thread, so memory cannot be
/// ordered by it.
#[test]
fn case_83_no_memory_is_of_the_per_thread_stream() {
    let stream = gpu().per_thread_stream();
    for (name, manager) in managers() {
        let error = manager.on(&stream).unwrap_err();
        assert_eq!(error.code(), INVALID, "{name}");
        assert!(error.to_string().contains("per-thread"), "{error}");
    }
    // It is used as any other.
    let there = MutableDeviceBuffer::zeroed(1000, &manager()).unwrap();
    gpu().synchronize().unwrap();
    let (done, wait) = channel();
    let range = CopyRange {
        block: there.block().clone(),
        offset: 0,
    };
    // SAFETY: nobody uses the buffer before it is done.
    unsafe { fill_async(&stream, range, 9, 1000, move || done.send(()).unwrap()) }.unwrap();
    wait.recv().unwrap();
    assert_eq!(bytes_of(&there.freeze()), [9; 1000]);
}

/// A stream ends with its last user, which memory is, too.
#[test]
fn case_83_a_stream_lives_as_long_as_its_memory() {
    let stream = gpu().create_stream(None).unwrap();
    let manager: Arc<dyn MemoryManager> = Arc::new(gpu().manager().unwrap().on(&stream).unwrap());
    let mut there = MutableDeviceBuffer::zeroed(1000, &manager).unwrap();
    drop((stream, manager));
    there.write(1, &[5; 998]).unwrap();
    let bytes = bytes_of(&there.freeze());
    assert_eq!((bytes[0], bytes[1], bytes[998], bytes[999]), (0, 5, 5, 0));
}

#[test]
fn case_83_the_end_of_work_is_told_in_its_order() {
    let stream = gpu().create_stream(None).unwrap();
    let (tell, told) = channel();
    for number in 0..20 {
        let tell = tell.clone();
        stream
            .on_complete(move || {
                tell.send(number).unwrap();
                // A panic stays here.
                assert_ne!(number, 7, "the seventh panics");
            })
            .unwrap();
    }
    drop(tell);
    stream.synchronize().unwrap();
    assert_eq!(
        told.iter().collect::<Vec<i32>>(),
        (0..20).collect::<Vec<i32>>()
    );
    assert_eq!(
        code(gpu().manager().unwrap().on(&gpu().per_thread_stream())),
        INVALID
    );
}

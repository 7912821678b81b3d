//! Copies of memory that is not page-locked, events with timing, figures of page-locked memory.

use crate::where_it_runs::gpu;
use offheap::{
    DeviceBuffer, ErrorKind, MemoryManager, MutableDeviceBuffer, default_cpu_memory_manager,
    system_memory_pool,
};
use offheap_cuda::{CopyRange, DriverPoolOptions, copy_staged};
use std::sync::Arc;
use std::sync::mpsc::channel;

fn range(buffer: &MutableDeviceBuffer, offset: usize) -> CopyRange {
    CopyRange {
        block: buffer.block().clone(),
        offset: buffer.offset() + offset,
    }
}

#[test]
fn ordinary_memory_is_staged_in_the_order_of_the_stream() {
    let gpu = gpu();
    let (stream, host) = (
        gpu.create_stream(None).unwrap(),
        gpu.host_manager().unwrap(),
    );
    let there: Arc<dyn MemoryManager> = Arc::new(gpu.manager().unwrap().on(&stream).unwrap());
    let here = default_cpu_memory_manager();
    // More than two stages, and an odd byte.
    let size = (9 << 20) + 1;
    let data: Vec<u8> = (0..size).map(|index| ((index * 31) >> 3) as u8).collect();
    let mut source = MutableDeviceBuffer::allocate(size, &here).unwrap();
    source.write(0, &data).unwrap();
    let middle = MutableDeviceBuffer::allocate(size, &there).unwrap();
    let target = MutableDeviceBuffer::allocate(size, &here).unwrap();
    let (done, wait) = channel();
    let last = done.clone();
    // SAFETY: nobody uses them before both copies are done.
    unsafe {
        copy_staged(
            &stream,
            range(&middle, 0),
            range(&source, 0),
            size,
            &host,
            move || {
                done.send(1).unwrap();
            },
        )
        .unwrap();
        copy_staged(
            &stream,
            range(&target, 3),
            range(&middle, 2),
            size - 3,
            &host,
            move || {
                last.send(2).unwrap();
            },
        )
        .unwrap();
    }
    drop((source, middle));
    assert_eq!((wait.recv().unwrap(), wait.recv().unwrap()), (1, 2));
    let found: DeviceBuffer = target.freeze();
    let found = found.to_cpu(&system_memory_pool()).unwrap();
    assert_eq!(found[3..], data[2..size - 1]);
}

#[test]
fn ranges_are_checked_and_nothing_is_told() {
    let gpu = gpu();
    let (stream, host) = (
        gpu.create_stream(None).unwrap(),
        gpu.host_manager().unwrap(),
    );
    let here = default_cpu_memory_manager();
    let buffer = MutableDeviceBuffer::allocate(100, &here).unwrap();
    let (done, wait) = channel::<()>();
    // SAFETY: nothing is copied.
    let refused = unsafe {
        copy_staged(
            &stream,
            range(&buffer, 1),
            range(&buffer, 0),
            100,
            &host,
            move || {
                done.send(()).unwrap();
            },
        )
    };
    assert!(matches!(
        refused.unwrap_err().kind(),
        ErrorKind::OutOfRange { .. }
    ));
    assert!(wait.recv().is_err());
}

#[test]
fn events_with_timing_tell_the_time() {
    let gpu = gpu();
    let stream = gpu.create_stream(None).unwrap();
    let (start, end) = (
        gpu.create_event(true).unwrap(),
        gpu.create_event(true).unwrap(),
    );
    start.record_on(&stream).unwrap();
    end.record_on(&stream).unwrap();
    end.synchronize().unwrap();
    assert!(end.elapsed_ms(&start).unwrap() >= 0.0);
    assert_eq!(end.cuda_device().ordinal(), 0);
    let untimed = gpu.create_event(false).unwrap();
    untimed.record_on(&stream).unwrap();
    untimed.synchronize().unwrap();
    assert!(untimed.elapsed_ms(&start).is_err());
}

#[test]
fn page_locked_memory_has_figures_and_goes_back() {
    const SIZE: usize = 256 << 20;
    let host = gpu().host_manager().unwrap();
    let manager: Arc<dyn MemoryManager> = Arc::new(host.clone());
    let buffer = MutableDeviceBuffer::allocate(SIZE, &manager).unwrap();
    let held = host.allocator_statistics().unwrap();
    assert!(held.reserved.current >= SIZE as u64 && held.allocated.current >= SIZE as u64);
    drop(buffer);
    host.trim(0).unwrap();
    let left = host.allocator_statistics().unwrap();
    // Other tests take some of it meanwhile, but not as much.
    assert!(left.reserved.current < held.reserved.current);
    host.reset_allocator_peaks().unwrap();
    let manager = gpu()
        .driver_pool_manager(&DriverPoolOptions::default())
        .unwrap();
    manager.reset_allocator_peaks().unwrap();
}

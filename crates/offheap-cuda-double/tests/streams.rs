//! Order, virtual time and visibility of work.

#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "calls of the double: wrong arguments are errors, not crashes"
)]

mod support;

use support::*;

const NOT_READY: u32 = 600;

fn set_speed(bytes_per_second: u64) {
    assert_eq!(
        offheap_cuda_double::control::offheap_cuda_double_set_stream_speed(bytes_per_second),
        0
    );
}

#[test]
fn a_copy_is_not_visible_before_its_stream_is_waited_for() {
    let _double = Double::new(&[]);
    let (stream, address) = (new_stream(), allocate(4096));
    upload(address, &[1; 4096]);
    let source = vec![2; 4096];
    assert_eq!(upload_async(address, &source, stream), 0);
    assert_eq!(peek(address, 4096), [1; 4096]);
    assert_eq!(sync(stream), 0);
    assert_eq!(peek(address, 4096), [2; 4096]);
}

#[test]
fn the_source_is_read_when_the_copy_runs() {
    let _double = Double::new(&[]);
    let (stream, address) = (new_stream(), allocate(64));
    let mut source = vec![1; 64];
    upload_async(address, &source, stream);
    source.fill(9);
    sync(stream);
    assert_eq!(
        download(address, 64),
        [9; 64],
        "reusing the source too early shows"
    );
}

#[test]
fn queries_run_the_work_in_the_end() {
    let _double = Double::new(&[("QUERIES", "2")]);
    let (stream, address) = (new_stream(), allocate(64));
    let event = new_event(0);
    fill_async(address, 7, 64, stream);
    record(event, stream);
    let codes: Vec<u32> = (0..3)
        .map(|_| unsafe { offheap_cuda_double::api::event::cuEventQuery(event) })
        .collect();
    assert_eq!(codes, [NOT_READY, NOT_READY, 0]);
    fill_async(address, 8, 64, stream);
    assert_eq!(
        [query(stream), query(stream), query(stream)],
        [NOT_READY, NOT_READY, 0]
    );
    assert_eq!(query(stream), 0);
}

#[test]
fn queries_can_leave_the_work_alone() {
    let _double = Double::new(&[("QUERIES", "0")]);
    let (stream, address) = (new_stream(), allocate(64));
    fill_async(address, 7, 64, stream);
    assert!((0..50).all(|_| query(stream) == NOT_READY));
    assert_eq!(
        offheap_cuda_double::control::offheap_cuda_double_complete(stream),
        0
    );
    assert_eq!(query(stream), 0);
}

#[test]
fn streams_wait_for_events_only() {
    let _double = Double::new(&[]);
    let (first, second, address) = (new_stream(), new_stream(), allocate(64));
    let event = new_event(CU_EVENT_DISABLE_TIMING);
    upload(address, &[0; 64]);
    fill_async(address, 1, 64, first);
    let mut early = vec![0xFF; 64];
    download_async(&mut early, address, second);
    sync(second);
    assert_eq!(early, [0; 64], "nothing orders the streams");
    record(event, first);
    assert_eq!(wait_event(second, event), 0);
    let mut late = vec![0xFF; 64];
    download_async(&mut late, address, second);
    sync(second);
    assert_eq!(late, [1; 64]);
}

#[test]
fn a_chain_of_many_streams_is_no_deep_recursion() {
    let _double = Double::new(&[]);
    let (first, second, address) = (new_stream(), new_stream(), allocate(64));
    let event = new_event(CU_EVENT_DISABLE_TIMING);
    for turn in 0..20_000_u32 {
        let (from, to) = if turn % 2 == 0 {
            (first, second)
        } else {
            (second, first)
        };
        fill_async(address, turn as u8, 64, from);
        record(event, from);
        wait_event(to, event);
    }
    sync(first);
    sync(second);
    assert_eq!(download(address, 64), [19_999_u32 as u8; 64]);
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams_and_they_for_it() {
    let _double = Double::new(&[]);
    let (blocking, free, address) = (stream_with(0), new_stream(), allocate(128));
    upload(address, &[0; 128]);
    fill_async(address, 1, 64, blocking);
    fill_async(address + 64, 1, 64, free);
    // A synchronous copy is work of the legacy stream.
    let seen = download(address, 128);
    assert_eq!(seen[..64], [1; 64]);
    assert_eq!(seen[64..], [0; 64], "a non-blocking stream takes no part");
    fill_async(address, 5, 64, NULL);
    let mut after = vec![0; 64];
    download_async(&mut after, address, blocking);
    sync(blocking);
    assert_eq!(after, [5; 64]);
}

#[test]
fn fills_and_copies_inside_the_device_do_not_wait_without_a_stream() {
    let _double = Double::new(&[]);
    let (address, stream) = (allocate(128), new_stream());
    upload(address, &[0; 128]);
    unsafe { offheap_cuda_double::api::copy::cuMemsetD8_v2(address, 3, 64) };
    unsafe { offheap_cuda_double::api::copy::cuMemcpyDtoD_v2(address + 64, address, 64) };
    assert_eq!(peek(address, 128), [0; 128]);
    sync(NULL);
    assert_eq!(peek(address, 128), [3; 128]);
    sync(stream);
}

#[test]
fn copies_from_host_to_host_are_done_at_once() {
    let _double = Double::new(&[]);
    let (from, to, stream) = (host_allocate(64, 0), host_allocate(64, 0), new_stream());
    from.fill(7);
    let (source, target) = (from.as_ptr().addr() as u64, to.as_ptr().addr() as u64);
    assert_eq!(
        unsafe { offheap_cuda_double::api::copy::cuMemcpyAsync(target, source, 64, stream) },
        0
    );
    assert_eq!(to, [7; 64]);
}

#[test]
fn per_thread_streams_are_per_thread() {
    let _double = Double::new(&[]);
    let per_thread: CUstream = std::ptr::without_provenance_mut(CU_STREAM_PER_THREAD as usize);
    let address = allocate(64);
    upload(address, &[0; 64]);
    fill_async(address, 1, 64, per_thread);
    let context = retain(0);
    let context = context.addr();
    std::thread::spawn(move || {
        bind(std::ptr::without_provenance_mut(context));
        assert_eq!(
            query(std::ptr::without_provenance_mut(
                CU_STREAM_PER_THREAD as usize
            )),
            0
        );
    })
    .join()
    .unwrap();
    assert_eq!(query(per_thread), NOT_READY);
    sync(per_thread);
    assert_eq!(download(address, 64), [1; 64]);
}

#[test]
fn virtual_time_passes_with_bytes() {
    let _double = Double::new(&[]);
    let (stream, address) = (new_stream(), allocate(1 << 20));
    let (start, end) = (new_event(0), new_event(0));
    record(start, stream);
    fill_async(address, 1, 1 << 20, stream);
    record(end, stream);
    let mut time = -1.0;
    let elapsed = |time: &mut f32| unsafe {
        offheap_cuda_double::api::event::cuEventElapsedTime(time, start, end)
    };
    assert_eq!(elapsed(&mut time), NOT_READY);
    sync(stream);
    assert_eq!(elapsed(&mut time), 0);
    // 1 MiB at 10 bytes a nanosecond.
    assert!((0.104..0.2).contains(&time), "{time}");
    let untimed = new_event(CU_EVENT_DISABLE_TIMING);
    record(untimed, stream);
    sync(stream);
    let code =
        unsafe { offheap_cuda_double::api::event::cuEventElapsedTime(&mut time, start, untimed) };
    assert_eq!(code, 400);
}

#[test]
fn a_host_function_runs_in_order_without_a_wait_and_may_not_call_back() {
    use std::sync::mpsc::{Sender, channel};
    unsafe extern "C" fn call(sender: *mut std::ffi::c_void) {
        // SAFETY: the test passed a leaked sender, once.
        let sender = unsafe { Box::from_raw(sender.cast::<Sender<u32>>()) };
        sender.send(sync(NULL)).unwrap();
    }
    let _double = Double::new(&[]);
    let (stream, address) = (new_stream(), allocate(64));
    fill_async(address, 4, 64, stream);
    let (sender, receiver) = channel();
    let argument = Box::into_raw(Box::new(sender)).cast();
    let code =
        unsafe { offheap_cuda_double::api::stream::cuLaunchHostFunc(stream, Some(call), argument) };
    assert_eq!(code, 0);
    assert_eq!(
        receiver.recv(),
        Ok(800),
        "the driver refuses calls inside a host function"
    );
    assert_eq!(peek(address, 64), [4; 64]);
    sync(stream);
}

#[test]
fn a_destroyed_stream_runs_what_it_has() {
    let _double = Double::new(&[]);
    let (stream, address) = (new_stream(), allocate(64));
    fill_async(address, 6, 64, stream);
    let event = new_event(0);
    record(event, stream);
    assert_eq!(
        unsafe { offheap_cuda_double::api::stream::cuStreamDestroy_v2(stream) },
        0
    );
    assert_eq!(sync(stream), 400);
    assert_eq!(
        unsafe { offheap_cuda_double::api::event::cuEventSynchronize(event) },
        0
    );
    assert_eq!(peek(address, 64), [6; 64]);
}

#[test]
fn a_slow_stream_finishes_by_itself_and_partly_first() {
    let _double = Double::new(&[("MEMORY", "268435456")]);
    let size = 32 << 20;
    let (stream, address) = (new_stream(), allocate(size));
    fill_async(address, 1, size, stream);
    assert_eq!(sync(stream), 0);
    // 8 seconds, of which the test does not wait for the end.
    set_speed(4 << 20);
    fill_async(address, 2, size, stream);
    assert_eq!(query(stream), NOT_READY);
    // The front arrives before the back: the copy is in flight, and nobody waits for it.
    while peek(address, 1) != [2] {
        std::thread::yield_now();
    }
    assert_eq!(peek(address + size as u64 - 1, 1), [1]);
    set_speed(10 << 30);
    while query(stream) == NOT_READY {
        std::thread::yield_now();
    }
    assert_eq!(peek(address + size as u64 - 1, 1), [2]);
}

#[test]
fn pageable_memory_can_block_the_caller() {
    let _double = Double::new(&[("PAGEABLE", "sync")]);
    let (stream, address) = (new_stream(), allocate(64));
    let source = vec![1; 64];
    upload_async(address, &source, stream);
    assert_eq!(peek(address, 64), [1; 64]);
    let pinned = host_allocate(64, 0);
    pinned.fill(2);
    upload_async(address, pinned, stream);
    assert_eq!(peek(address, 64), [1; 64], "page-locked memory does not");
    sync(stream);
}

#[test]
fn slow_streams_move_at_the_same_time_and_calls_come_between() {
    let _double = Double::new(&[("STREAM_SPEED", "4000000"), ("MEMORY", "268435456")]);
    let size = 32 << 20;
    let streams = [new_stream(), new_stream()];
    let blocks = [allocate(size), allocate(size)];
    for (stream, block) in streams.into_iter().zip(blocks) {
        fill_async(block, 1, size, stream);
    }
    while !blocks.iter().all(|&block| peek(block, 1) == [1]) {
        std::thread::yield_now();
    }
    assert!(
        streams.iter().all(|&stream| query(stream) == NOT_READY),
        "both began before either ended"
    );
    allocate(64);
    set_speed(10 << 30);
    assert!(streams.iter().all(|&stream| sync(stream) == 0));
    assert!(
        blocks
            .iter()
            .all(|&block| peek(block + size as u64 - 1, 1) == [1])
    );
}

#[test]
fn freeing_waits_for_a_slow_copy() {
    let _double = Double::new(&[("STREAM_SPEED", "400000000"), ("MEMORY", "268435456")]);
    let size = 16 << 20;
    let (stream, address) = (new_stream(), allocate(size));
    let bytes = host_allocate(size, 0);
    bytes.fill(9);
    upload_async(address, bytes, stream);
    // The pages would be gone under the copy if it did not wait.
    assert_eq!(
        unsafe { offheap_cuda_double::api::host::cuMemFreeHost(bytes.as_mut_ptr().cast()) },
        0
    );
    assert_eq!(query(stream), 0);
    assert_eq!(peek(address + size as u64 - 1, 1), [9]);
    fill_async(address, 1, size, stream);
    assert_eq!(free(address), 0);
    assert_eq!(query(stream), 0);
}

#[test]
fn after_a_failure_a_host_function_is_not_called_and_a_callback_is() {
    use offheap_cuda_double::api::stream::{cuLaunchHostFunc, cuStreamAddCallback};
    use std::ffi::c_void;
    use std::sync::mpsc::{Receiver, Sender, channel};
    type Told = Sender<Option<u32>>;
    unsafe extern "C" fn wait(gate: *mut c_void) {
        // SAFETY: the test keeps the receiver until all has been called.
        unsafe { &*gate.cast::<Receiver<()>>() }.recv().unwrap();
    }
    unsafe extern "C" fn function(sender: *mut c_void) {
        // SAFETY: the test keeps the sender until all has been called.
        unsafe { &*sender.cast::<Told>() }.send(None).unwrap();
    }
    unsafe extern "C" fn callback(_: *mut c_void, status: u32, sender: *mut c_void) {
        // SAFETY: as above.
        let sender = unsafe { &*sender.cast::<Told>() };
        sender.send(Some(status)).unwrap();
    }
    let _double = Double::new(&[]);
    let (stream, other) = (new_stream(), new_stream());
    let (sender, receiver) = channel();
    let (open, gate) = channel::<()>();
    let told = std::ptr::from_ref(&sender).cast_mut().cast();
    let gate = std::ptr::from_ref(&gate).cast_mut().cast();
    let early = allocate_async(64, other);
    for (fails, expected) in [(false, vec![None, Some(0)]), (true, vec![Some(700)])] {
        // What is submitted after the failure is refused.
        assert_eq!(unsafe { cuLaunchHostFunc(stream, Some(wait), gate) }, 0);
        if fails {
            fill_async(early, 1, 64, stream);
        }
        let codes = unsafe {
            [
                cuLaunchHostFunc(stream, Some(function), told),
                cuStreamAddCallback(stream, Some(callback), told, 0),
                cuStreamAddCallback(stream, Some(callback), told, 1),
                cuStreamAddCallback(stream, None, told, 0),
            ]
        };
        assert_eq!(codes, [0, 0, 1, 1]);
        open.send(()).unwrap();
        for status in expected {
            assert_eq!(receiver.recv(), Ok(status));
        }
    }
    assert!(receiver.try_recv().is_err());
}

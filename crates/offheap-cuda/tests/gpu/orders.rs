//! What waits for what: views and copies on other streams, managed memory, and callers that must not wait.

use crate::where_it_runs::{gpu, is_double};
use offheap::{
    Block, DeviceBuffer, DeviceType, DeviceWriter, Location, MemoryManager, MutableDeviceBuffer,
    default_cpu_memory_manager, system_memory_pool,
};
use offheap_cuda::{
    CopyRange, CudaBufferWriter, CudaMemoryManager, CudaStream, copy_async, copy_staged, fill_async,
};
use std::process::Command;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// As long as a call that waits for the GPU may be waited for before it counts as one that never returns.
const PATIENCE: Duration = Duration::from_secs(20);

fn whole(block: &Block) -> CopyRange {
    CopyRange {
        block: block.clone(),
        offset: 0,
    }
}

fn on_new_stream(manager: &CudaMemoryManager) -> (CudaStream, Arc<dyn MemoryManager>) {
    let stream = gpu().create_stream(None).unwrap();
    let manager = manager.on(&stream).unwrap();
    (stream, Arc::new(manager))
}

/// Holds a stream up until the sender sends or goes.
fn hold(stream: &CudaStream) -> Sender<()> {
    let (open, gate) = channel::<()>();
    stream
        .on_complete(move || {
            let _ = gate.recv();
        })
        .unwrap();
    open
}

/// Opens the gate as soon as something else waits for what is behind it, or at once: whoever does not wait
/// has read the bytes by then.
fn open_soon(open: Sender<()>) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(open);
    });
}

/// Memory that the CPU reads, of a device that is neither the CPU nor CUDA: shared memory, say.
fn foreign(bytes: Vec<u8>) -> Block {
    let location = Location::shared(DeviceType::EXT_DEV, -1);
    let start = NonNull::new(bytes.as_ptr().cast_mut()).unwrap();
    let size = bytes.len();
    // SAFETY: the owner has as many bytes, which do not move with it.
    unsafe { Block::foreign_at(start, size, location, bytes).unwrap() }
}

#[test]
fn memory_that_is_not_cudas_is_staged_whatever_its_device() {
    let (stream, there) = on_new_stream(&gpu().manager().unwrap());
    let host = gpu().host_manager().unwrap();
    let data: Vec<u8> = (0..100_000).map(|i| (i * 7) as u8).collect();
    let target = MutableDeviceBuffer::allocate(data.len(), &there).unwrap();
    let source = foreign(data.clone());
    let (done, wait) = channel();
    let told = done.clone();
    // SAFETY: the source does not change, and the target is read after the copy.
    unsafe {
        let told = move || told.send(()).unwrap();
        let (to, from) = (whole(target.block()), whole(&source));
        copy_staged(&stream, to, from, data.len(), &host, told).unwrap();
    }
    wait.recv().unwrap();
    let target = target.freeze();
    assert_eq!(*target.to_cpu(&system_memory_pool()).unwrap(), *data);
    // Where nothing needs a stage, nothing is staged.
    let twin = MutableDeviceBuffer::allocate(data.len(), &there).unwrap();
    // SAFETY: as above.
    unsafe {
        let told = move || done.send(()).unwrap();
        let (to, from) = (whole(twin.block()), whole(target.block()));
        copy_staged(&stream, to, from, data.len(), &host, told).unwrap();
    }
    wait.recv().unwrap();
    assert_eq!(*twin.freeze().to_cpu(&system_memory_pool()).unwrap(), *data);
}

#[test]
fn copies_between_memory_of_the_cpu_do_not_make_the_caller_wait() {
    // The driver's own copy from host to host "is fully synchronous with respect to the host".
    let stream = gpu().create_stream(None).unwrap();
    let host_manager = gpu().host_manager().unwrap();
    let host: Arc<dyn MemoryManager> = Arc::new(host_manager.clone());
    let cpu = default_cpu_memory_manager();
    for (from, is_staged) in [(&host, false), (&cpu, true)] {
        let source = DeviceBuffer::copy_from(b"not yet, but soon", from).unwrap();
        let target = MutableDeviceBuffer::allocate(17, &host).unwrap();
        let gate = hold(&stream);
        let (called, returned) = channel();
        let (done, wait) = channel();
        let (to, from) = (whole(target.block()), whole(source.block()));
        let (stream, host_manager) = (stream.clone(), host_manager.clone());
        std::thread::spawn(move || {
            let done = move || done.send(()).unwrap();
            // SAFETY: the source does not change, and the target is read after the copy.
            unsafe {
                if is_staged {
                    copy_staged(&stream, to, from, 17, &host_manager, done).unwrap();
                } else {
                    copy_async(&stream, to, from, 17, done).unwrap();
                }
            }
            called.send(()).unwrap();
        });
        let did_return = returned.recv_timeout(PATIENCE).is_ok();
        assert!(wait.try_recv().is_err(), "it is behind the gate");
        drop(gate);
        assert!(did_return, "staged: {is_staged}");
        wait.recv().unwrap();
        assert_eq!(&*target.freeze().as_cpu().unwrap(), b"not yet, but soon");
    }
}

#[test]
fn a_view_on_another_stream_begins_after_what_its_source_has() {
    let manager = gpu().manager().unwrap();
    let ((first, there), (_second, elsewhere)) = (on_new_stream(&manager), on_new_stream(&manager));
    let buffer = MutableDeviceBuffer::zeroed(1000, &there).unwrap();
    let gate = hold(&first);
    // SAFETY: the bytes are read in the order of the stream.
    unsafe { fill_async(&first, whole(buffer.block()), 7, 1000, || {}).unwrap() };
    let view = buffer.freeze().view_on(&elsewhere).unwrap();
    open_soon(gate);
    let mut bytes = [0; 1000];
    view.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 1000]);
}

#[test]
fn the_cpu_copies_managed_memory_after_what_its_stream_has() {
    let (stream, managed) = on_new_stream(&gpu().managed_manager().unwrap());
    let host: Arc<dyn MemoryManager> = Arc::new(gpu().host_manager().unwrap());
    for to in [default_cpu_memory_manager(), host] {
        let buffer = MutableDeviceBuffer::zeroed(1000, &managed).unwrap();
        let gate = hold(&stream);
        // SAFETY: the bytes are read in the order of the stream.
        unsafe { fill_async(&stream, whole(buffer.block()), 7, 1000, || {}).unwrap() };
        open_soon(gate);
        let copy = buffer.freeze().copy_to(&to).unwrap();
        assert_eq!(&*copy.as_cpu().unwrap(), &[7; 1000]);
    }
}

#[test]
fn memory_of_the_gpu_is_never_taken_for_memory_that_the_cpu_reads() {
    let there: Arc<dyn MemoryManager> = Arc::new(gpu().manager().unwrap());
    let managed: Arc<dyn MemoryManager> = Arc::new(gpu().managed_manager().unwrap());
    let host: Arc<dyn MemoryManager> = Arc::new(gpu().host_manager().unwrap());
    let buffer = DeviceBuffer::copy_from(b"on the GPU", &there).unwrap();
    for to in [&managed, &host] {
        let refused = buffer.view_on(to).unwrap_err();
        assert_eq!(refused.code(), "ERR_OFFHEAP_NOT_SUPPORTED");
        let copy = buffer.view_or_copy_to(to).unwrap();
        assert_eq!(copy.location(), copy.block().location());
        assert_eq!(&*copy.to_cpu(&system_memory_pool()).unwrap(), b"on the GPU");
    }
    // A view of memory of the CPU goes back to the CPU, and nowhere else.
    let pinned = DeviceBuffer::copy_from(b"page-locked", &host).unwrap();
    let view = pinned.view_on(&there).unwrap();
    assert_eq!(view.view_on(&host).unwrap().address(), pinned.address());
    if let Ok(other) = offheap_cuda::CudaDevice::new(1) {
        let other: Arc<dyn MemoryManager> = Arc::new(other.manager().unwrap());
        assert!(view.view_on(&other).is_err());
        let copy = view.view_or_copy_to(&other).unwrap();
        assert_eq!(copy.location(), copy.block().location());
        assert_eq!(
            &*copy.to_cpu(&system_memory_pool()).unwrap(),
            b"page-locked"
        );
    }
}

#[test]
fn no_memory_is_of_a_stream_that_each_thread_has_its_own_of() {
    // Whoever drops a buffer frees it in its stream's order: on another thread that would be another stream.
    let stream = gpu().per_thread_stream();
    stream.synchronize().unwrap();
    let refused = gpu().manager().unwrap().on(&stream).unwrap_err();
    assert_eq!(refused.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
    assert!(gpu().manager().unwrap().on(&gpu().default_stream()).is_ok());
}

/// Tells the child what to do.
const PART: &str = "OFFHEAP_CUDA_ORDERS_PART";

/// How many contexts the double was asked for.
fn contexts() -> u64 {
    let path = std::env::var_os("OFFHEAP_CUDA_LIBRARY").unwrap();
    // SAFETY: the double, which is loaded already; its function takes a C string.
    unsafe {
        let double = libloading::Library::new(path).unwrap();
        let calls = double
            .get::<unsafe extern "C" fn(*const std::ffi::c_char) -> u64>(
                c"offheap_cuda_double_calls".to_bytes_with_nul(),
            )
            .unwrap();
        calls(c"cuDevicePrimaryCtxRetain".as_ptr())
    }
}

/// Not a test of its own: what breaks its process, or counts in it.
#[test]
fn child() {
    match std::env::var(PART).as_deref() {
        Ok("fails") => {
            let manager = gpu().manager().unwrap();
            let ((_first, there), (second, _)) = (on_new_stream(&manager), on_new_stream(&manager));
            let buffer = MutableDeviceBuffer::allocate(1000, &there).unwrap();
            let (done, wait) = channel::<()>();
            let told = move || done.send(()).unwrap();
            // SAFETY: wrong on purpose: nothing says that the second stream comes after the allocation.
            unsafe { fill_async(&second, whole(buffer.block()), 7, 1000, told).unwrap() };
            assert!(
                wait.recv().is_err(),
                "dropped uncalled, and not kept for ever"
            );
            assert!(second.synchronize().is_err());
            println!("TOLD");
        }
        Ok("lists") => {
            let _first = gpu();
            for gpu in offheap_cuda::devices() {
                assert!(gpu.properties().unwrap().total_memory > 0);
                assert!(gpu.can_access_peer(&gpu).unwrap());
            }
            println!("LISTED {}", contexts());
            assert!(gpu().memory_info().unwrap().0 > 0);
            println!("USED {}", contexts());
        }
        Ok("refuses") => {
            let there: Arc<dyn MemoryManager> = Arc::new(gpu().manager().unwrap());
            let buffer = MutableDeviceBuffer::zeroed(8, &there).unwrap();
            let mut writer = CudaBufferWriter::new(buffer, 4).unwrap();
            writer.write(b"ab").unwrap();
            // The first copy to the GPU is refused.
            writer.write(b"cd").unwrap_err();
            assert_eq!(writer.position().unwrap(), 2);
            writer.write(b"cd").unwrap();
            writer.write(b"efgh").unwrap();
            let buffer = Box::new(writer).finish().unwrap().freeze();
            let pool = system_memory_pool();
            assert_eq!(&*buffer.to_cpu(&pool).unwrap(), b"abcdefgh");
            println!("WRITTEN");
        }
        _ => {}
    }
}

/// What a child of this test program says, in a process of its own on the double.
fn said_by(part: &str, failures: &str) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["orders::child", "--exact", "--nocapture"])
        .env(PART, part)
        .env("OFFHEAP_CUDA_DOUBLE_FAIL", failures)
        .output()
        .unwrap();
    String::from_utf8_lossy(&child.stdout).into_owned()
}

#[test]
fn whoever_waits_for_work_that_fails_is_told() {
    let _started = gpu();
    // On a GPU it takes a kernel to fail.
    if is_double() {
        assert!(said_by("fails", "").contains("TOLD"));
    }
}

#[test]
fn listing_gpus_makes_no_contexts() {
    let _started = gpu();
    if is_double() {
        let said = said_by("lists", "");
        assert!(
            said.contains("LISTED 0") && said.contains("USED 1"),
            "{said}"
        );
    }
}

#[test]
fn a_write_that_fails_leaves_the_writer_as_it_was() {
    let _started = gpu();
    if is_double() {
        assert!(said_by("refuses", "cuMemcpyHtoDAsync:999:0:1").contains("WRITTEN"));
    }
}

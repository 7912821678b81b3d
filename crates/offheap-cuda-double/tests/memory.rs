//! Allocation, handles, errors, limits, contexts, pointers.

#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "calls of the double: wrong arguments are errors, not crashes"
)]

mod support;

use std::ffi::c_void;

use offheap_cuda_double::api::{context, copy, device, event, host, init, memory, pointer, stream};
use offheap_cuda_double::control;
use support::*;

const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;

#[test]
fn a_thread_without_a_context_gets_201() {
    let _double = Double::new(&[]);
    let address = allocate(64);
    std::thread::spawn(move || {
        assert_eq!(try_allocate(64), Err(201));
        assert_eq!(free(address), 201);
        assert_eq!(free_async(address, NULL), 201);
        bind(retain(0));
        assert_eq!(free(address), 0);
        bind(NULL);
        assert_eq!(try_allocate(64), Err(201));
    })
    .join()
    .unwrap();
}

#[test]
fn contexts_are_a_stack_on_each_thread() {
    let _double = Double::new(&[]);
    let (first, second) = (retain(0), retain(1));
    let current = || {
        let mut context = NULL;
        assert_eq!(unsafe { context::cuCtxGetCurrent(&mut context) }, 0);
        context
    };
    assert_eq!(current(), first);
    assert_eq!(unsafe { context::cuCtxPushCurrent_v2(second) }, 0);
    let mut ordinal = -1;
    assert_eq!(unsafe { context::cuCtxGetDevice(&mut ordinal) }, 0);
    assert_eq!((current(), ordinal), (second, 1));
    let mut popped = NULL;
    assert_eq!(unsafe { context::cuCtxPopCurrent_v2(&mut popped) }, 0);
    assert_eq!((popped, current()), (second, first));
    assert_eq!(
        unsafe { context::cuCtxSetCurrent(std::ptr::without_provenance_mut(0x1234)) },
        201
    );
}

#[test]
fn the_last_release_destroys_the_context() {
    let _double = Double::new(&[]);
    let context = retain(0);
    allocate(64);
    host_allocate(64, 0);
    let release = || unsafe { context::cuDevicePrimaryCtxRelease_v2(0) };
    assert_eq!(release(), 0);
    assert_eq!(live_blocks(), 2);
    assert_eq!(release(), 0);
    assert_eq!(live_blocks(), 0);
    assert_eq!(
        try_allocate(64),
        Err(709),
        "the thread is bound to a destroyed context"
    );
    assert_eq!(release(), 201);
    assert_ne!(retain(0), context, "a stale handle is never valid again");
}

#[test]
fn wrong_addresses_are_errors() {
    let _double = Double::new(&[]);
    let address = allocate(1000);
    assert_eq!(free(address + 8), INVALID_VALUE);
    assert_eq!(free(0), INVALID_VALUE);
    assert_eq!(free(0xDEAD_BEEF), INVALID_VALUE);
    assert_eq!(
        upload(address, &[0; 1001]),
        INVALID_VALUE,
        "one byte beyond"
    );
    assert_eq!(upload(address + 999, &[0; 1]), 0);
    assert_eq!(upload(address + 1000, &[0; 1]), INVALID_VALUE);
    assert_eq!(
        unsafe { copy::cuMemcpyDtoD_v2(address, u64::MAX, 8) },
        INVALID_VALUE
    );
    assert_eq!(
        unsafe { copy::cuMemsetD32_v2(address + 2, 0, 1) },
        INVALID_VALUE,
        "alignment"
    );
    assert_eq!(
        unsafe { copy::cuMemsetD32_v2(address, 0, usize::MAX) },
        INVALID_VALUE
    );
    // A device address is no host memory.
    assert_eq!(
        unsafe {
            copy::cuMemcpyHtoD_v2(address, std::ptr::without_provenance(address as usize), 8)
        },
        INVALID_VALUE
    );
    assert_eq!(free(address), 0);
    assert_eq!(free(address), INVALID_VALUE, "a double free");
    assert_eq!(upload(address, &[0; 1]), INVALID_VALUE, "a use after free");
    assert_eq!(
        unsafe {
            copy::cuMemcpyHtoD_v2(
                allocate(64),
                std::ptr::without_provenance(address as usize),
                8,
            )
        },
        INVALID_VALUE,
        "freed device memory is no host memory either"
    );
}

#[test]
fn wrong_handles_are_errors() {
    let _double = Double::new(&[]);
    let (stream, event, address) = (new_stream(), new_event(0), allocate(64));
    let stray: *mut c_void = std::ptr::without_provenance_mut(0x7F00_1234_5678);
    for wrong in [stray, event] {
        assert_eq!(sync(wrong), 400);
        assert_eq!(query(wrong), 400);
        assert_eq!(fill_async(address, 0, 64, wrong), 400);
        assert_eq!(free_async(address, wrong), 400);
        assert_eq!(unsafe { stream::cuStreamDestroy_v2(wrong) }, 400);
    }
    assert_eq!(record(stream, stream), 400);
    assert_eq!(wait_event(stream, stray), 400);
    assert_eq!(unsafe { event::cuEventDestroy_v2(event) }, 0);
    assert_eq!(unsafe { event::cuEventDestroy_v2(event) }, 400);
    assert_eq!(unsafe { stream::cuStreamDestroy_v2(stream) }, 0);
    assert_eq!(unsafe { stream::cuStreamDestroy_v2(stream) }, 400);
    assert_eq!(unsafe { stream::cuStreamDestroy_v2(NULL) }, 400);
    // An event belongs to its context.
    let foreign = new_event(0);
    bind(retain(1));
    assert_eq!(record(foreign, new_stream()), 400);
}

#[test]
fn null_results_are_errors() {
    let _double = Double::new(&[]);
    assert_eq!(
        unsafe { memory::cuMemAlloc_v2(std::ptr::null_mut(), 64) },
        INVALID_VALUE
    );
    assert_eq!(
        unsafe { memory::cuMemAllocAsync(std::ptr::null_mut(), 64, NULL) },
        INVALID_VALUE
    );
    assert_eq!(
        unsafe { stream::cuStreamCreate(std::ptr::null_mut(), 0) },
        INVALID_VALUE
    );
    assert_eq!(
        unsafe { host::cuMemHostAlloc(std::ptr::null_mut(), 64, 0) },
        INVALID_VALUE
    );
    assert_eq!(
        unsafe { init::cuDriverGetVersion(std::ptr::null_mut()) },
        INVALID_VALUE
    );
    assert_eq!(live_blocks(), 0, "nothing was allocated on the way");
}

#[test]
fn sizes_at_the_edges() {
    let _double = Double::new(&[("MEMORY", "1048576")]);
    assert_eq!(try_allocate(0), Err(INVALID_VALUE));
    assert_eq!(try_allocate(usize::MAX), Err(OUT_OF_MEMORY));
    assert_eq!(try_allocate((1 << 20) + 1), Err(OUT_OF_MEMORY));
    assert_eq!(try_allocate_async(usize::MAX, NULL), Err(OUT_OF_MEMORY));
    assert_eq!(try_allocate_async(0, NULL), Ok(0));
    let all = allocate(1 << 20);
    assert_eq!(try_allocate(1), Err(OUT_OF_MEMORY));
    assert_eq!(free(all), 0);
    allocate(1);
}

#[test]
fn the_limit_is_in_bytes_not_in_addresses() {
    let _double = Double::new(&[("MEMORY", "1048576")]);
    // Every second of many small blocks: half of the memory is free, none of it in one piece.
    let blocks: Vec<u64> = (0..256).map(|_| allocate(4096)).collect();
    assert_eq!(try_allocate(4096), Err(OUT_OF_MEMORY));
    blocks
        .iter()
        .step_by(2)
        .for_each(|&block| assert_eq!(free(block), 0));
    let (mut free_bytes, mut total) = (0, 0);
    assert_eq!(
        unsafe { memory::cuMemGetInfo_v2(&mut free_bytes, &mut total) },
        0
    );
    assert_eq!((free_bytes, total), (1 << 19, 1 << 20));
    allocate(1 << 19);
}

#[test]
fn fresh_memory_is_not_zero() {
    let _double = Double::new(&[]);
    assert_eq!(download(allocate(5000), 5000), [0xCB; 5000]);
    let stream = new_stream();
    let pooled = allocate_async(5000, stream);
    sync(stream);
    assert_eq!(download(pooled, 5000), [0xCB; 5000]);
}

#[test]
fn freed_memory_is_poisoned() {
    let _double = Double::new(&[]);
    let address = allocate(4096);
    upload(address, &[7; 4096]);
    free(address);
    assert_eq!(allocate(4096), address);
    assert_eq!(download(address, 4096), [0xDB; 4096]);
}

#[test]
fn host_and_managed_memory_are_readable_and_copied_like_device_memory() {
    let _double = Double::new(&[]);
    let bytes = host_allocate(4096, CU_MEMHOSTALLOC_PORTABLE);
    bytes.fill(3);
    let mut managed = 0;
    assert_eq!(
        unsafe { memory::cuMemAllocManaged(&mut managed, 4096, CU_MEM_ATTACH_GLOBAL) },
        0
    );
    let host = bytes.as_ptr().addr() as u64;
    assert_eq!(unsafe { copy::cuMemcpy(managed, host, 4096) }, 0);
    // SAFETY: managed memory, of which no work is in flight.
    let view = unsafe {
        std::slice::from_raw_parts(
            std::ptr::with_exposed_provenance::<u8>(managed as usize),
            4096,
        )
    };
    assert_eq!(view, [3; 4096]);
    let mut flags = 0;
    assert_eq!(
        unsafe { host::cuMemHostGetFlags(&mut flags, bytes.as_mut_ptr().cast()) },
        0
    );
    assert_eq!(flags, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    let mut address = 0;
    assert_eq!(
        unsafe { host::cuMemHostGetDevicePointer_v2(&mut address, bytes.as_mut_ptr().cast(), 0) },
        0
    );
    assert_eq!(address, host);
    assert_eq!(unsafe { host::cuMemFreeHost(bytes.as_mut_ptr().cast()) }, 0);
    assert_eq!(
        unsafe { host::cuMemFreeHost(std::ptr::without_provenance_mut(host as usize)) },
        INVALID_VALUE
    );
    assert_eq!(free(managed), 0);
    assert_eq!(live_blocks(), 0);
}

#[test]
fn host_memory_is_freed_after_the_work_that_uses_it() {
    let _double = Double::new(&[]);
    let (stream, address) = (new_stream(), allocate(4096));
    let bytes = host_allocate(4096, 0);
    bytes.fill(5);
    upload_async(address, bytes, stream);
    assert_eq!(unsafe { host::cuMemFreeHost(bytes.as_mut_ptr().cast()) }, 0);
    assert_eq!(peek(address, 4096), [5; 4096]);
}

#[test]
fn registrations_do_not_overlap() {
    let _double = Double::new(&[]);
    let mut bytes = vec![0_u8; 8192];
    let pointer: *mut c_void = bytes.as_mut_ptr().cast();
    let register = |offset: usize, size: usize| unsafe {
        host::cuMemHostRegister_v2(pointer.byte_add(offset), size, 0)
    };
    assert_eq!(register(1024, 4096), 0);
    assert_eq!(register(0, 1025), 712);
    assert_eq!(register(5119, 10), 712);
    assert_eq!(register(5120, 10), 0);
    assert_eq!(control::offheap_cuda_double_live_registrations(), 2);
    assert_eq!(unsafe { host::cuMemHostUnregister(pointer) }, 713);
    assert_eq!(
        unsafe { host::cuMemHostUnregister(pointer.byte_add(1024)) },
        0
    );
    assert_eq!(
        unsafe { host::cuMemHostUnregister(pointer.byte_add(1024)) },
        713
    );
    assert_eq!(
        unsafe { host::cuMemHostUnregister(pointer.byte_add(5120)) },
        0
    );
}

#[test]
fn pointers_know_what_they_are() {
    let _double = Double::new(&[]);
    let address = allocate(1000);
    let get = |number: u32, address: u64| {
        let mut value = 0_u64;
        let code =
            unsafe { pointer::cuPointerGetAttribute((&raw mut value).cast(), number, address) };
        if code == 0 { Ok(value) } else { Err(code) }
    };
    assert_eq!(get(2, address + 5), Ok(u64::from(CU_MEMORYTYPE_DEVICE)));
    assert_eq!(get(11, address + 5), Ok(address));
    assert_eq!(get(12, address), Ok(1000));
    assert_eq!(get(9, address), Ok(0));
    assert_eq!(
        get(4, address),
        Err(INVALID_VALUE),
        "device memory has no host address"
    );
    assert_eq!(get(10, address), Ok(1));
    assert_eq!(
        get(10, allocate_async(64, NULL)),
        Ok(0),
        "legacy IPC is not for pools"
    );
    let host = host_allocate(64, 0).as_ptr().addr() as u64;
    assert_eq!(get(2, host), Ok(u64::from(CU_MEMORYTYPE_HOST)));
    assert_eq!(get(4, host), Ok(host));
    let local = 0_u8;
    let stranger = (&raw const local).addr() as u64;
    assert_eq!(get(2, stranger), Err(INVALID_VALUE));
    let (mut kind, mut size) = (7_u32, 7_u64);
    let mut numbers = [2, 12];
    let mut data: [*mut c_void; 2] = [(&raw mut kind).cast(), (&raw mut size).cast()];
    let code = unsafe {
        pointer::cuPointerGetAttributes(2, numbers.as_mut_ptr(), data.as_mut_ptr(), stranger)
    };
    assert_eq!((code, kind, size), (0, 0, 0));
    let (mut base, mut length) = (0, 0);
    assert_eq!(
        unsafe { memory::cuMemGetAddressRange_v2(&mut base, &mut length, address + 9) },
        0
    );
    assert_eq!((base, length), (address, 1000));
}

#[test]
fn work_on_freed_memory_is_found_and_breaks_the_context() {
    let _double = Double::new(&[]);
    let (first, second) = (new_stream(), new_stream());
    let address = allocate_async(4096, first);
    sync(first);
    fill_async(address, 1, 4096, second);
    free_async(address, first);
    assert_eq!(sync(first), 0);
    assert_eq!(
        sync(second),
        700,
        "nothing ordered the fill before the free"
    );
    assert_eq!(violations(), 1);
    assert_eq!(try_allocate(64), Err(700), "as after any illegal address");
}

#[test]
fn a_host_function_is_not_called_once_its_context_has_failed() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static CALLED: AtomicBool = AtomicBool::new(false);
    unsafe extern "C" fn call(_: *mut std::ffi::c_void) {
        CALLED.store(true, Ordering::SeqCst);
    }
    let _double = Double::new(&[]);
    let (first, second) = (new_stream(), new_stream());
    let address = allocate_async(4096, first);
    sync(first);
    fill_async(address, 1, 4096, second);
    free_async(address, first);
    sync(first);
    let code = unsafe {
        offheap_cuda_double::api::stream::cuLaunchHostFunc(second, Some(call), std::ptr::null_mut())
    };
    assert_eq!(code, 0);
    assert_eq!(sync(second), 700);
    assert!(!CALLED.load(Ordering::SeqCst));
}

#[test]
fn work_before_the_allocation_is_found() {
    let _double = Double::new(&[]);
    let (first, second) = (new_stream(), new_stream());
    let address = allocate_async(4096, first);
    fill_async(address, 1, 4096, second);
    assert_eq!(sync(second), 700);
    assert_eq!(violations(), 1);
}

#[test]
fn copies_between_devices() {
    let _double = Double::new(&[]);
    let contexts = [retain(0), retain(1)];
    let first = allocate(4096);
    upload(first, &[9; 4096]);
    bind(contexts[1]);
    let second = allocate(4096);
    let stream = new_stream();
    let peer = |a: CUcontext, b: CUcontext| unsafe {
        copy::cuMemcpyPeerAsync(second, a, first, b, 4096, stream)
    };
    assert_eq!(
        peer(contexts[0], contexts[1]),
        INVALID_VALUE,
        "the contexts are the wrong way round"
    );
    assert_eq!(peer(contexts[1], contexts[0]), 0);
    sync(stream);
    assert_eq!(download(second, 4096), [9; 4096]);
    let mut can = -1;
    assert_eq!(unsafe { device::cuDeviceCanAccessPeer(&mut can, 0, 1) }, 0);
    assert_eq!(can, 1);
    let enable = || unsafe { context::cuCtxEnablePeerAccess(contexts[0], 0) };
    let disable = || unsafe { context::cuCtxDisablePeerAccess(contexts[0]) };
    assert_eq!(
        [disable(), enable(), enable(), disable(), disable()],
        [705, 0, 704, 0, 705]
    );
}

#[test]
fn managed_memory_takes_hints() {
    let _double = Double::new(&[]);
    let mut managed = 0;
    assert_eq!(
        unsafe { memory::cuMemAllocManaged(&mut managed, 4096, CU_MEM_ATTACH_GLOBAL) },
        0
    );
    let prefetch = |address, count, device| unsafe {
        pointer::cuMemPrefetchAsync(address, count, device, NULL)
    };
    assert_eq!(prefetch(managed, 4096, 0), 0);
    assert_eq!(prefetch(managed, 4096, CU_DEVICE_CPU), 0);
    assert_eq!(prefetch(managed, 4097, 0), INVALID_VALUE);
    assert_eq!(prefetch(managed, 4096, 7), 101);
    assert_eq!(
        prefetch(allocate(4096), 4096, 0),
        INVALID_VALUE,
        "only managed memory moves"
    );
    assert_eq!(unsafe { pointer::cuMemAdvise(managed, 4096, 3, 0) }, 0);
    assert_eq!(
        unsafe { pointer::cuMemAdvise(managed, 4096, 9, 0) },
        INVALID_VALUE
    );
    assert_eq!(
        unsafe { stream::cuStreamAttachMemAsync(NULL, managed, 0, CU_MEM_ATTACH_SINGLE) },
        0
    );
}

#[test]
fn devices_have_properties() {
    let _double = Double::new(&[("MEMORY", "1073741824"), ("POOLS", "0")]);
    let mut total = 0;
    assert_eq!(unsafe { device::cuDeviceTotalMem_v2(&mut total, 1) }, 0);
    assert_eq!(total, 1 << 30);
    assert_eq!(unsafe { device::cuDeviceTotalMem_v2(&mut total, 2) }, 101);
    let mut name = [0; 12];
    assert_eq!(
        unsafe { device::cuDeviceGetName(name.as_mut_ptr(), 12, 0) },
        0
    );
    assert_eq!(
        name.map(|byte| byte as u8),
        *b"offheap CUD\0",
        "cut, and ended"
    );
    let get = |number: u32| {
        let mut value = -1;
        match unsafe { device::cuDeviceGetAttribute(&mut value, number, 0) } {
            0 => Ok(value),
            code => Err(code),
        }
    };
    assert_eq!(
        [get(115), get(41), get(9999)],
        [Ok(0), Ok(1), Err(INVALID_VALUE)]
    );
    assert_eq!(try_allocate_async(64, NULL), Err(801), "no pools");
    assert!(control::offheap_cuda_double_virtual_time() < 1_000_000);
}

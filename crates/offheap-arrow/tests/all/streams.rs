//! Sequences of buffers.

use crate::arrays::doubles;
use offheap::{DeviceType, Pool, system_memory_pool};
use offheap_arrow::{
    ArrowDeviceArrayStream, ArrowSchema, ExportedArray, ExportedArrayStream, import_device_array,
    import_device_array_stream, import_device_array_stream_from_address,
};
use std::ffi::c_int;
use std::ptr;

fn arrays(pool: &Pool, lengths: &[usize]) -> Vec<ExportedArray> {
    lengths
        .iter()
        .map(|length| ExportedArray::new(&doubles(pool, *length), "g", 0, *length, None).unwrap())
        .collect()
}

fn stream_of(pool: &Pool, lengths: &[usize]) -> ExportedArrayStream {
    ExportedArrayStream::new("g", DeviceType::CPU, arrays(pool, lengths)).unwrap()
}

fn empty() -> ArrowDeviceArrayStream {
    ArrowDeviceArrayStream {
        device_type: 1,
        get_schema: None,
        get_next: None,
        get_last_error: None,
        release: None,
        private_data: ptr::null_mut(),
    }
}

#[test]
fn a_stream_goes_around_in_order_and_ends() {
    let pool = system_memory_pool().proxy();
    let exported = stream_of(&pool, &[3, 0, 5]);
    assert!(!exported.is_consumed());
    // SAFETY: a struct of ours.
    let mut imported = unsafe { import_device_array_stream(exported.stream()) }.unwrap();
    assert!(exported.is_consumed());
    drop(exported);
    assert_eq!(imported.format().as_str(), "g");
    let mut lengths = Vec::new();
    let mut kept = Vec::new();
    while let Some(array) = imported.next_array(None).unwrap() {
        lengths.push(array.length);
        kept.push(array.buffer);
    }
    assert_eq!(lengths, [3, 0, 5]);
    assert!(imported.next_array(None).unwrap().is_none());
    drop(imported);
    assert_eq!(pool.bytes_allocated(), 64);
    std::thread::spawn(move || drop(kept)).join().unwrap();
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn what_nobody_asked_for_is_released_with_the_stream_from_any_thread() {
    let pool = system_memory_pool().proxy();
    drop(stream_of(&pool, &[4, 4]));
    assert_eq!(pool.bytes_allocated(), 0);
    let exported = stream_of(&pool, &[4, 4, 4]);
    let address = exported.stream_address();
    // SAFETY: a struct of ours.
    let mut imported = unsafe { import_device_array_stream_from_address(address) }.unwrap();
    // SAFETY: as above.
    let again = unsafe { import_device_array_stream_from_address(address) }.unwrap_err();
    assert!(again.to_string().contains("Cannot import released"));
    let first = imported.next_array(None).unwrap().unwrap();
    std::thread::spawn(move || drop(imported)).join().unwrap();
    assert_eq!(pool.bytes_allocated(), 32);
    drop(first);
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn arrays_of_another_kind_are_refused_and_released() {
    let pool = system_memory_pool().proxy();
    let new = |format: &str, kind, arrays: Vec<ExportedArray>| {
        let error = ExportedArrayStream::new(format, kind, arrays).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
        error.to_string()
    };
    assert!(new("f", DeviceType::CPU, arrays(&pool, &[1])).contains("another format"));
    assert!(new("g", DeviceType::CUDA, arrays(&pool, &[1])).contains("another device"));
    let consumed = arrays(&pool, &[1, 1]);
    // SAFETY: structs of ours.
    drop(unsafe { import_device_array(consumed[1].array(), consumed[1].schema(), None) }.unwrap());
    assert!(new("g", DeviceType::CPU, consumed).contains("array 1: consumed"));
    assert!(ExportedArrayStream::new("u", DeviceType::CPU, []).is_err());
    assert_eq!(pool.bytes_allocated(), 0);

    // One that is consumed by its own address meanwhile is an error, and not the end.
    let mut made = arrays(&pool, &[1, 2]);
    let (array, schema) = (made[0].array(), made[0].schema());
    let exported = ExportedArrayStream::new("g", DeviceType::CPU, made.drain(..)).unwrap();
    // SAFETY: structs of ours, which the stream keeps.
    drop(unsafe { import_device_array(array, schema, None) }.unwrap());
    // SAFETY: as above.
    let mut imported = unsafe { import_device_array_stream(exported.stream()) }.unwrap();
    let error = imported.next_array(None).unwrap_err().to_string();
    assert!(error.contains("errno 22: an array of the stream was consumed"));
    assert_eq!(imported.next_array(None).unwrap().unwrap().length, 2);
    assert!(imported.next_array(None).unwrap().is_none());
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn streams_that_are_none_are_refused() {
    for address in [0, 9] {
        // SAFETY: addresses where no struct can be.
        assert!(unsafe { import_device_array_stream_from_address(address) }.is_err());
    }
    let mut released = empty();
    // SAFETY: a struct of the test's.
    assert!(unsafe { import_device_array_stream(&raw mut released) }.is_err());

    unsafe extern "C" fn release(stream: *mut ArrowDeviceArrayStream) {
        // SAFETY: the test's struct.
        unsafe { (*stream).release = None };
    }
    unsafe extern "C" fn fails(_: *mut ArrowDeviceArrayStream, _: *mut ArrowSchema) -> c_int {
        12
    }
    let mut without = ArrowDeviceArrayStream {
        release: Some(release),
        ..empty()
    };
    // SAFETY: as above.
    let error = unsafe { import_device_array_stream(&raw mut without) }.unwrap_err();
    assert!(error.to_string().contains("get_schema"), "{error}");
    let mut failing = ArrowDeviceArrayStream {
        release: Some(release),
        get_schema: Some(fails),
        ..empty()
    };
    // SAFETY: as above.
    let error = unsafe { import_device_array_stream(&raw mut failing) }.unwrap_err();
    assert!(error.to_string().contains("errno 12: no reason"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn c_consumes_our_stream_and_makes_what_we_import() {
    type Sum = unsafe extern "C" fn(*mut ArrowDeviceArrayStream, i64) -> f64;
    type Make = unsafe extern "C" fn(*mut ArrowDeviceArrayStream);
    let Some(peer) = crate::c_programs::Peer::compile("peer_streams", None) else {
        return;
    };
    // SAFETY: the functions have these types in `peer.c`.
    let (sum, make, released) = unsafe {
        (
            std::mem::transmute::<*mut std::ffi::c_void, Sum>(peer.symbol("peer_sum_stream")),
            std::mem::transmute::<*mut std::ffi::c_void, Make>(peer.symbol("peer_make_stream")),
            std::mem::transmute::<*mut std::ffi::c_void, extern "C" fn() -> c_int>(
                peer.symbol("peer_released"),
            ),
        )
    };
    let pool = system_memory_pool().proxy();
    for (most, expected) in [(99, 9.0), (1, 3.0), (0, 0.0)] {
        let exported = stream_of(&pool, &[3, 4]);
        // SAFETY: a struct of ours, which the function consumes.
        assert_eq!(unsafe { sum(exported.stream(), most) }, expected);
        assert_eq!(pool.bytes_allocated(), 0);
    }

    let mut stream = empty();
    // SAFETY: a place for the struct, which the function fills.
    let mut imported = unsafe {
        make(&raw mut stream);
        import_device_array_stream(&raw mut stream).unwrap()
    };
    assert_eq!((imported.format().as_str(), released()), ("i", 1));
    let mut lengths = Vec::new();
    for wrong in [
        "",
        "",
        "8 in a stream of 1",
        "errno 5: the fourth fails",
        "",
    ] {
        match imported.next_array(None) {
            Ok(array) => lengths.push(array.unwrap().length),
            Err(error) => assert!(error.to_string().contains(wrong), "{error}: {wrong}"),
        }
    }
    assert_eq!(lengths, [1, 2, 5]);
    assert!(imported.next_array(None).unwrap().is_none());
    // Four arrays, the type and the stream.
    assert_eq!(released(), 6);
}

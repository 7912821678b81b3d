//! Arrow's arrays of the CPU.

use crate::foreign::Foreign;
use offheap::{
    DeviceBuffer, Pool, Result, cpu_memory_manager, default_cpu_memory_manager, system_memory_pool,
};
use offheap_arrow::{
    ArrowDeviceArray, ArrowSchema, ExportedArray, ImportedArray, import_array, import_device_array,
    import_device_array_from_address,
};
use std::ptr;

pub(crate) fn doubles(pool: &Pool, count: usize) -> DeviceBuffer {
    let bytes: Vec<u8> = (0..count).flat_map(|n| (n as f64).to_ne_bytes()).collect();
    DeviceBuffer::copy_from(&bytes, &cpu_memory_manager(pool).unwrap()).unwrap()
}

fn import(exported: &ExportedArray) -> Result<ImportedArray> {
    // SAFETY: structs of ours.
    unsafe { import_device_array(exported.array(), exported.schema(), None) }
}

#[test]
fn a_round_trip_keeps_the_address_and_the_memory_until_released() {
    let pool = system_memory_pool().proxy();
    let buffer = doubles(&pool, 100);
    let address = buffer.address();
    let held = pool.bytes_allocated();
    assert_eq!(held, 800);
    let exported = ExportedArray::new(&buffer, "g", 10, 50, None).unwrap();
    drop(buffer);
    assert_eq!(pool.bytes_allocated(), held);

    let imported = import(&exported).unwrap();
    assert!(exported.is_consumed());
    drop(exported);
    assert_eq!(pool.bytes_allocated(), held);
    assert_eq!(imported.buffer.address(), address + 80);
    assert_eq!((imported.length, imported.bit_offset), (50, 0));
    assert_eq!(imported.format.as_str(), "g");
    let first = f64::from_ne_bytes(imported.buffer.as_cpu().unwrap()[..8].try_into().unwrap());
    assert_eq!(first, 10.0);

    // What was imported can be exported.
    let again = ExportedArray::new(&imported.buffer, "g", 0, 50, None).unwrap();
    drop(imported);
    assert_eq!(pool.bytes_allocated(), held);
    drop(again);
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn the_second_import_is_refused() {
    let pool = system_memory_pool().proxy();
    let exported = ExportedArray::new(&doubles(&pool, 4), "g", 0, 4, None).unwrap();
    let (array, schema) = (exported.array_address(), exported.schema_address());
    // SAFETY: structs of ours.
    let imported = unsafe { import_device_array_from_address(array, schema, None) }.unwrap();
    // SAFETY: as above.
    let error = unsafe { import_device_array_from_address(array, schema, None) }.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Cannot import released ArrowArray"),
        "{error}"
    );
    drop(imported);
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn an_array_is_released_from_another_thread_and_after_a_move() {
    let pool = system_memory_pool().proxy();
    let exported = ExportedArray::new(&doubles(&pool, 4), "g", 0, 4, None).unwrap();
    let (array, schema) = exported.take();
    struct Moved(ArrowDeviceArray, ArrowSchema);
    // SAFETY: moved to one other thread.
    unsafe impl Send for Moved {}
    let mut moved = Moved(array, schema);
    std::thread::spawn(move || {
        let moved = &mut moved;
        // SAFETY: live structs that were moved here.
        unsafe {
            moved.0.array.release.unwrap()(&raw mut moved.0.array);
            moved.1.release.unwrap()(&raw mut moved.1);
        }
        assert!(moved.0.array.release.is_none() && moved.1.release.is_none());
    })
    .join()
    .unwrap();
    assert_eq!(pool.bytes_allocated(), 0);

    let exported = ExportedArray::new(&doubles(&pool, 4), "g", 0, 4, None).unwrap();
    std::thread::spawn(move || drop(import(&exported).unwrap()))
        .join()
        .unwrap();
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn exports_are_checked_against_the_buffer() {
    let pool = system_memory_pool().proxy();
    let buffer = doubles(&pool, 4);
    for (format, offset, length) in [
        ("g", 0, 5),
        ("g", 4, 1),
        ("b", 250, 7),
        ("g", usize::MAX, 2),
    ] {
        let error = ExportedArray::new(&buffer, format, offset, length, None).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_OUT_OF_RANGE", "{format}");
    }
    assert!(ExportedArray::new(&buffer, "b", 250, 6, None).is_ok());
    let odd = buffer.slice(1, 16).unwrap();
    assert!(
        ExportedArray::new(&odd, "g", 0, 1, None)
            .unwrap_err()
            .to_string()
            .contains("multiples of 8")
    );
    assert!(ExportedArray::new(&odd, "C", 0, 16, None).is_ok());
    assert!(ExportedArray::new(&buffer, "u", 0, 1, None).is_err());
    let empty = ExportedArray::new(&buffer, "g", 4, 0, None).unwrap();
    assert_eq!(import(&empty).unwrap().buffer.len(), 0);
    drop((buffer, odd, empty));
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn bits_keep_the_place_of_the_first() {
    let bits = DeviceBuffer::copy_from(&[0xff; 8], &default_cpu_memory_manager()).unwrap();
    let exported = ExportedArray::new(&bits, "b", 10, 7, None).unwrap();
    let imported = import(&exported).unwrap();
    assert_eq!(imported.buffer.address(), bits.address() + 1);
    assert_eq!(
        (imported.buffer.len(), imported.bit_offset, imported.length),
        (2, 2, 7)
    );
}

/// Tries to import, and checks that both structs were released once.
fn refused(mut foreign: Foreign) -> String {
    // SAFETY: structs of the test's; nothing behind them is used that contradicts itself.
    let result =
        unsafe { import_device_array(&raw mut foreign.array, &raw mut foreign.schema, None) };
    let error = result.unwrap_err().to_string();
    assert!(foreign.array.array.release.is_none() && foreign.schema.release.is_none());
    assert_eq!(
        (foreign.arrays.times(), foreign.schemas.times()),
        (1, 1),
        "{error}"
    );
    error
}

#[test]
fn what_contradicts_itself_is_refused_and_released() {
    let data = [0_u64; 4];
    let data: *const _ = ptr::from_ref(&data).cast();
    let with = |change: &dyn Fn(&mut Foreign)| {
        let mut foreign = Foreign::new("l", 4, data);
        change(&mut foreign);
        refused(foreign)
    };
    let says = |error: String, what: &str| assert!(error.contains(what), "{error}: {what}");
    says(with(&|f| f.array.array.length = -1), "length");
    says(with(&|f| f.array.array.offset = i64::MIN), "offset");
    says(
        with(&|f| f.array.array.length = i64::MAX),
        "as many as memory can have",
    );
    says(
        with(&|f| f.array.array.offset = i64::MAX),
        "as many as memory can have",
    );
    says(with(&|f| f.array.array.n_buffers = 3), "n_buffers");
    says(with(&|f| f.array.array.n_buffers = i64::MIN), "n_buffers");
    says(
        with(&|f| f.array.array.buffers = ptr::null_mut()),
        "buffers",
    );
    says(
        with(&|f| f.array.array.buffers = ptr::without_provenance_mut(3)),
        "buffers",
    );
    says(with(&|f| f.array.array.n_children = 1), "children");
    says(
        with(&|f| f.array.array.dictionary = ptr::dangling_mut()),
        "dictionary",
    );
    says(with(&|f| f.array.array.null_count = 1), "nulls");
    says(with(&|f| f.array.array.null_count = -2), "null_count");
    says(with(&|f| f.array.array.null_count = 5), "null_count");
    says(with(&|f| f.array.reserved[2] = 1), "reserved");
    says(with(&|f| f.array.device_type = 99), "device_type");
    says(
        with(&|f| f.array.sync_event = ptr::dangling_mut()),
        "sync_event",
    );
    says(with(&|f| f.schema.format = ptr::null()), "format");
    says(with(&|f| f.schema.n_children = 2), "children");
    says(
        with(&|f| f.schema.dictionary = ptr::dangling_mut()),
        "dictionary",
    );
    says(refused(Foreign::new("u", 4, data)), "fixed-width");
    says(refused(Foreign::new("nonsense", 4, data)), "format");
    says(
        refused(Foreign::new("l", 4, ptr::null())),
        "NULL, with 32 bytes",
    );
    says(
        refused(Foreign::new("l", 1, data.wrapping_byte_add(4))),
        "multiples of 8",
    );
    says(
        refused(Foreign::new(
            "l",
            4,
            ptr::without_provenance(usize::MAX - 7),
        )),
        "address space",
    );
    let mut uncounted = Foreign::new("l", 4, data).with_validity(data);
    uncounted.array.array.null_count = -1;
    says(refused(uncounted), "nulls");
}

#[test]
fn one_of_two_is_released_when_the_other_is_not_there() {
    let data = [0_u64; 4];
    let data: *const _ = ptr::from_ref(&data).cast();
    let mut foreign = Foreign::new("l", 4, data);
    // SAFETY: a struct of the test's, and NULL.
    let error = unsafe { import_device_array(&raw mut foreign.array, ptr::null_mut(), None) };
    assert!(error.unwrap_err().to_string().contains("schema"));
    assert_eq!((foreign.arrays.times(), foreign.schemas.times()), (1, 0));
    // SAFETY: as above, and one that was released.
    let error =
        unsafe { import_device_array(&raw mut foreign.array, &raw mut foreign.schema, None) };
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("Cannot import released ArrowArray")
    );
    assert_eq!((foreign.arrays.times(), foreign.schemas.times()), (1, 1));
    // SAFETY: an address where no struct can be.
    let error = unsafe { import_device_array_from_address(3, 8 + 1, None) };
    assert!(error.unwrap_err().to_string().contains("aligned"));
}

#[test]
fn a_plain_array_is_memory_of_the_cpu_and_released_with_the_last_slice() {
    let data = [1_u64, 2, 3, 4];
    let data: *const _ = ptr::from_ref(&data).cast();
    let mut foreign = Foreign::new("L", 3, data).with_validity(data);
    foreign.array.array.offset = 1;
    // SAFETY: structs of the test's over an array that outlives the import.
    let imported =
        unsafe { import_array(&raw mut foreign.array.array, &raw mut foreign.schema).unwrap() };
    assert_eq!((foreign.arrays.times(), foreign.schemas.times()), (0, 1));
    assert_eq!(imported.buffer.address(), data.addr() + 8);
    let slice = imported.buffer.slice(8, 8).unwrap();
    drop(imported);
    assert_eq!(&slice.as_cpu().unwrap()[..], &3_u64.to_ne_bytes());
    assert_eq!(foreign.arrays.times(), 0);
    std::thread::spawn(move || drop(slice)).join().unwrap();
    assert_eq!(foreign.arrays.times(), 1);
}

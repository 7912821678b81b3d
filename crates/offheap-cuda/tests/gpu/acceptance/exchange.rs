//! Memory of a GPU by Arrow's C Device interface and DLPack: cases 95 and 148.

use crate::support::{INVALID, bytes_of, code, device_managers, manager, pattern};
use crate::where_it_runs::gpu;
use offheap::{DeviceBuffer, MemoryManager, MutableDeviceBuffer};
use offheap_arrow::{
    ArrowDeviceArray, DLDataType, ExportedArray, ExportedTensor, ImportedArray, TensorExport,
    TensorLayout, import_device_array, import_tensor,
};
use offheap_cuda::{CopyRange, fill_async};
use std::sync::Arc;

fn import(exported: &ExportedArray) -> offheap::Result<ImportedArray> {
    // SAFETY: structs of ours.
    unsafe { import_device_array(exported.array(), exported.schema(), None) }
}

fn array(exported: &ExportedArray) -> &ArrowDeviceArray {
    // SAFETY: it lives as long as what exported it.
    unsafe { &*exported.array() }
}

#[test]
fn case_95_148_an_array_goes_around_without_a_copy() {
    for (name, manager) in device_managers() {
        let pool = manager.pool().unwrap();
        let there = DeviceBuffer::copy_from(&pattern(800), &manager).unwrap();
        let address = there.address();
        let exported = ExportedArray::new(&there, "g", 10, 50, None).unwrap();
        assert_eq!(
            (array(&exported).device_type, array(&exported).device_id),
            (2, 0),
            "{name}"
        );
        assert!(array(&exported).sync_event.is_null() && array(&exported).reserved == [0; 3]);
        // The array keeps the memory.
        drop(there);
        assert_eq!(pool.bytes_allocated(), 800, "{name}");
        let imported = import(&exported).unwrap();
        assert!(exported.is_consumed());
        assert!(
            imported.buffer.device().equals(&gpu()) && !imported.buffer.is_cpu(),
            "{name}"
        );
        assert_eq!(
            (imported.buffer.address(), imported.length),
            (address + 80, 50),
            "{name}"
        );
        assert_eq!(bytes_of(&imported.buffer), pattern(800)[80..480], "{name}");
        drop(exported);
        assert_eq!(pool.bytes_allocated(), 800, "{name}");
        // Again, of what was imported.
        let again =
            import(&ExportedArray::new(&imported.buffer, "g", 5, 10, None).unwrap()).unwrap();
        drop(imported);
        assert_eq!(bytes_of(&again.buffer), pattern(800)[120..200], "{name}");
        drop(again);
        assert_eq!(pool.bytes_allocated(), 0, "{name}");
    }
}

#[test]
fn case_148_an_array_is_imported_once() {
    let manager = manager();
    let pool = manager.pool().unwrap();
    let exported = ExportedArray::new(
        &DeviceBuffer::copy_from(&pattern(80), &manager).unwrap(),
        "g",
        0,
        10,
        None,
    )
    .unwrap();
    let imported = import(&exported).unwrap();
    let error = import(&exported).unwrap_err();
    assert_eq!(error.code(), INVALID);
    assert!(
        error
            .to_string()
            .contains("Cannot import released ArrowArray"),
        "{error}"
    );
    // The first has it, on any thread.
    std::thread::spawn(move || assert_eq!(bytes_of(&imported.buffer), pattern(80)))
        .join()
        .unwrap();
    assert_eq!(pool.bytes_allocated(), 0);
    // An array that nobody imports is released.
    drop(
        ExportedArray::new(
            &DeviceBuffer::copy_from(&pattern(80), &manager).unwrap(),
            "g",
            0,
            10,
            None,
        )
        .unwrap(),
    );
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn case_148_an_array_of_a_gpu_that_is_not_there_is_refused_and_released() {
    let manager = manager();
    let pool = manager.pool().unwrap();
    let there = DeviceBuffer::copy_from(&pattern(80), &manager).unwrap();
    let exported = ExportedArray::new(&there, "g", 0, 10, None).unwrap();
    drop(there);
    // SAFETY: nobody else uses the struct.
    unsafe { (*exported.array()).device_id = 99 };
    assert_eq!(code(import(&exported)), INVALID);
    assert!(exported.is_consumed());
    assert_eq!(pool.bytes_allocated(), 0);
}

/// The consumer waits for the event before the data is touched: by itself, or by its stream.
#[test]
fn case_148_the_event_is_waited_for() {
    let gpu = gpu();
    for by_stream in [false, true] {
        let stream = gpu.create_stream(None).unwrap();
        let manager: Arc<dyn MemoryManager> = Arc::new(gpu.manager().unwrap().on(&stream).unwrap());
        let target = MutableDeviceBuffer::allocate(8 << 20, &manager).unwrap();
        let range = CopyRange {
            block: target.block().clone(),
            offset: 0,
        };
        // SAFETY: nobody uses the buffer but after the event.
        unsafe { fill_async(&stream, range, 0x5A, 8 << 20, || {}) }.unwrap();
        let event = stream.record().unwrap();
        let exported = ExportedArray::new(
            &target.freeze(),
            "g",
            0,
            1 << 20,
            Some(Arc::new(event.clone())),
        )
        .unwrap();
        // SAFETY: the address of the event's handle.
        let handle = unsafe {
            array(&exported)
                .sync_event
                .cast::<*mut std::ffi::c_void>()
                .read()
        };
        assert!(!handle.is_null());
        let consumer = gpu.create_stream(None).unwrap();
        let waits: Option<&dyn offheap::Stream> = by_stream.then_some(&consumer as _);
        // SAFETY: structs of ours.
        let imported =
            unsafe { import_device_array(exported.array(), exported.schema(), waits) }.unwrap();
        if by_stream {
            // The stream has the event before it.
            consumer.synchronize().unwrap();
        }
        assert!(event.is_complete().unwrap());
        let ends = [
            imported.buffer.slice(0, 2).unwrap(),
            imported.buffer.slice((8 << 20) - 2, 2).unwrap(),
        ];
        assert_eq!(ends.map(|end| bytes_of(&end)), [[0x5A; 2], [0x5A; 2]]);
    }
}

#[test]
fn case_148_a_tensor_goes_around_without_a_copy() {
    for (name, manager) in device_managers() {
        let pool = manager.pool().unwrap();
        let there = DeviceBuffer::copy_from(&pattern(800), &manager).unwrap();
        let address = there.address();
        let layout = TensorLayout::vector(DLDataType::FLOAT32, 200);
        let export = TensorExport {
            event: None,
            stream: None,
            is_copied: false,
        };
        let exported: ExportedTensor = ExportedTensor::new(there, &layout, &export).unwrap();
        let tensor = exported.consume().unwrap();
        assert_eq!(code(exported.consume()), "ERR_OFFHEAP_DISPOSED", "{name}");
        // SAFETY: a tensor of ours that was consumed.
        let imported = unsafe {
            let device = tensor.as_ref().dl_tensor.device;
            assert_eq!((device.device_type, device.device_id), (2, 0), "{name}");
            import_tensor(tensor.as_ptr(), None).unwrap()
        };
        assert_eq!(imported.buffer.address(), address, "{name}");
        assert!(imported.buffer.device().equals(&gpu()), "{name}");
        assert_eq!(bytes_of(&imported.buffer), pattern(800), "{name}");
        assert_eq!(pool.bytes_allocated(), 800, "{name}");
        drop((exported, imported));
        assert_eq!(pool.bytes_allocated(), 0, "{name}");
    }
}

//! DLPack's tensors of the CPU.

use crate::arrays::doubles;
use crate::foreign::ForeignTensor;
use offheap::{MutableDeviceBuffer, cpu_memory_manager, system_memory_pool};
use offheap_arrow::dlpack::{FLAG_IS_COPIED, FLAG_READ_ONLY};
use offheap_arrow::{
    DLDataType, DLManagedTensor, DLManagedTensorVersioned, ExportedTensor, TensorExport,
    TensorLayout, import_tensor, import_tensor_from_address,
};
use std::ffi::c_void;
use std::ptr;

#[test]
fn a_round_trip_keeps_the_address_and_the_memory_until_deleted() {
    let pool = system_memory_pool().proxy();
    let buffer = doubles(&pool, 12);
    let address = buffer.address();
    let layout = TensorLayout {
        data_type: DLDataType::FLOAT64,
        shape: vec![2, 5],
        strides: None,
        byte_offset: 16,
    };
    let exported: ExportedTensor =
        ExportedTensor::new(buffer, &layout, &TensorExport::default()).unwrap();
    let tensor = exported.consume().unwrap();
    assert_eq!(
        exported.consume().unwrap_err().code(),
        "ERR_OFFHEAP_DISPOSED"
    );
    drop(exported);
    assert_eq!(pool.bytes_allocated(), 96);
    // SAFETY: a tensor of ours that we consumed.
    let imported = unsafe {
        let raw = tensor.as_ref();
        assert_eq!((raw.version.major, raw.flags), (1, FLAG_READ_ONLY));
        assert_eq!(raw.dl_tensor.device.device_id, 0);
        assert_eq!(std::slice::from_raw_parts(raw.dl_tensor.strides, 2), [5, 1]);
        import_tensor(tensor.as_ptr(), None).unwrap()
    };
    assert_eq!(imported.buffer.address(), address + 16);
    assert_eq!(
        (imported.buffer.len(), &imported.shape[..]),
        (80, &[2, 5][..])
    );
    assert!(imported.read_only && !imported.is_copied);
    assert_eq!(pool.bytes_allocated(), 96);
    std::thread::spawn(move || drop(imported)).join().unwrap();
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn only_memory_of_one_owner_may_be_written() {
    let pool = system_memory_pool().proxy();
    let manager = cpu_memory_manager(&pool).unwrap();
    let layout = TensorLayout::vector(DLDataType::INT32, 4);
    let shared = || doubles(&pool, 2);
    let owned = || MutableDeviceBuffer::allocate(16, &manager).unwrap();
    let copied = TensorExport {
        is_copied: true,
        ..TensorExport::default()
    };
    let plain = TensorExport::default();
    let error = ExportedTensor::<DLManagedTensor>::new(shared(), &layout, &plain).unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_NOT_SUPPORTED");
    assert!(ExportedTensor::<DLManagedTensorVersioned>::new(shared(), &layout, &copied).is_err());
    for (export, flags) in [(&plain, 0), (&copied, FLAG_IS_COPIED)] {
        let exported: ExportedTensor = ExportedTensor::new(owned(), &layout, export).unwrap();
        let tensor = exported.consume().unwrap();
        // SAFETY: a tensor of ours that we consumed.
        let imported = unsafe {
            assert_eq!(tensor.as_ref().flags, flags);
            import_tensor(tensor.as_ptr(), None).unwrap()
        };
        assert!(!imported.read_only);
    }
    let legacy = ExportedTensor::<DLManagedTensor>::new(owned(), &layout, &plain).unwrap();
    let address = legacy.consume_address().unwrap();
    // SAFETY: as above.
    let imported = unsafe { import_tensor_from_address::<DLManagedTensor>(address, None) }.unwrap();
    assert!(imported.read_only, "a struct without flags says nothing");
    drop(imported);
    // Nobody consumes this one.
    drop(ExportedTensor::<DLManagedTensor>::new(owned(), &layout, &plain).unwrap());
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn tensors_without_elements_have_no_data_and_scalars_no_shape() {
    let pool = system_memory_pool().proxy();
    for (shape, bytes) in [(vec![3, 0], 0), (vec![], 8)] {
        let layout = TensorLayout {
            shape: shape.clone(),
            ..TensorLayout::vector(DLDataType::FLOAT64, 0)
        };
        let exported: ExportedTensor =
            ExportedTensor::new(doubles(&pool, 1), &layout, &TensorExport::default()).unwrap();
        let tensor = exported.consume().unwrap();
        // SAFETY: a tensor of ours that we consumed.
        let imported = unsafe {
            assert_eq!(tensor.as_ref().dl_tensor.data.is_null(), bytes == 0);
            assert_eq!(tensor.as_ref().dl_tensor.shape.is_null(), shape.is_empty());
            import_tensor(tensor.as_ptr(), None).unwrap()
        };
        assert_eq!(imported.buffer.len(), bytes);
    }
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn of_another_major_version_only_the_deleter_is_touched() {
    let mut foreign = ForeignTensor::new(DLDataType::INT8, &[1], None, ptr::null_mut());
    foreign.tensor.version.major = 2;
    // A layout of the future: nothing here may be followed.
    foreign.tensor.dl_tensor.shape = ptr::without_provenance_mut(8);
    foreign.tensor.dl_tensor.strides = ptr::without_provenance_mut(8);
    // SAFETY: a struct of the test's.
    let error = unsafe { import_tensor(&raw mut foreign.tensor, None) }.unwrap_err();
    assert!(error.to_string().contains("DLPack 2.1"), "{error}");
    assert_eq!(foreign.deleted.times(), 1);

    foreign.tensor.version.major = 3;
    foreign.tensor.deleter = None;
    // SAFETY: as above.
    assert!(unsafe { import_tensor(&raw mut foreign.tensor, None) }.is_err());
    assert_eq!(foreign.deleted.times(), 1);
}

#[test]
fn what_contradicts_itself_is_refused_and_deleted() {
    let mut data = [0_u64; 4];
    let data: *mut c_void = ptr::from_mut(&mut data).cast();
    let with = |says: &str, change: &dyn Fn(&mut ForeignTensor)| {
        for legacy in [false, true] {
            let mut foreign = ForeignTensor::new(DLDataType::UINT64, &[2, 2], Some(&[2, 1]), data);
            change(&mut foreign);
            // SAFETY: structs of the test's; nothing behind them is used that contradicts itself.
            let error = unsafe {
                if legacy {
                    std::mem::swap(&mut foreign.legacy.dl_tensor, &mut foreign.tensor.dl_tensor);
                    import_tensor(&raw mut foreign.legacy, None)
                } else {
                    import_tensor(&raw mut foreign.tensor, None)
                }
            };
            let error = error.unwrap_err().to_string();
            assert!(error.contains(says), "{error}: {says}");
            assert_eq!(foreign.deleted.times(), 1, "{error}");
        }
    };
    with("ndim", &|f| f.tensor.dl_tensor.ndim = -1);
    with("ndim", &|f| f.tensor.dl_tensor.ndim = i32::MAX);
    with("shape", &|f| f.tensor.dl_tensor.shape = ptr::null_mut());
    with("shape", &|f| {
        f.tensor.dl_tensor.shape = ptr::without_provenance_mut(9)
    });
    with("NULL, with 32 bytes", &|f| {
        f.tensor.dl_tensor.data = ptr::null_mut()
    });
    with("multiples of 8", &|f| f.tensor.dl_tensor.byte_offset = 1);
    with("address space", &|f| {
        f.tensor.dl_tensor.byte_offset = u64::MAX
    });
    with("dtype", &|f| f.tensor.dl_tensor.dtype.bits = 0);
    with("dtype", &|f| f.tensor.dl_tensor.dtype.lanes = 0);
    with("dtype", &|f| f.tensor.dl_tensor.dtype.code = 200);
    with("fewer than 8 bits", &|f| f.tensor.dl_tensor.dtype.code = 17);
    with("device_type", &|f| {
        f.tensor.dl_tensor.device.device_type = 77
    });
    let shaped = |shape: &'static [i64], strides: &'static [i64]| {
        let foreign = ForeignTensor::new(DLDataType::UINT64, shape, Some(strides), data);
        move |f: &mut ForeignTensor| {
            f.tensor.dl_tensor.ndim = foreign.tensor.dl_tensor.ndim;
            f.tensor.dl_tensor.shape = foreign.tensor.dl_tensor.shape;
            f.tensor.dl_tensor.strides = foreign.tensor.dl_tensor.strides;
        }
    };
    with("strides", &shaped(&[2, 2], &[1, 2]));
    with("strides", &shaped(&[4], &[0]));
    with("0 or more", &shaped(&[-1], &[1]));
    with("as many elements", &shaped(&[i64::MAX, 3], &[3, 1]));
    with("as many elements", &shaped(&[i64::MAX / 8 + 1], &[1]));

    // SAFETY: addresses where no struct can be.
    unsafe {
        assert!(import_tensor_from_address::<DLManagedTensor>(0, None).is_err());
        assert!(import_tensor_from_address::<DLManagedTensorVersioned>(12, None).is_err());
    }
}

//! What other libraries would give: structs with members as a test wants them, and how often each was released.

use offheap_arrow::dlpack::VERSION;
use offheap_arrow::{
    ArrowArray, ArrowDeviceArray, ArrowSchema, DLDataType, DLDevice, DLManagedTensor,
    DLManagedTensorVersioned, DLTensor,
};
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often something was released.
#[derive(Debug, Clone, Default)]
pub(crate) struct Released(Arc<AtomicUsize>);

impl Released {
    pub(crate) fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn context(&self) -> *mut c_void {
        Arc::as_ptr(&self.0).cast_mut().cast()
    }
}

/// # Safety
/// - `context` is that of a live `Released`.
unsafe fn count(context: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { (*context.cast::<AtomicUsize>()).fetch_add(1, Ordering::SeqCst) };
}

unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: the tests' arrays have a counter as their context.
    unsafe {
        count((*array).private_data);
        (*array).release = None;
    }
}

unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: as above.
    unsafe {
        count((*schema).private_data);
        (*schema).release = None;
    }
}

unsafe extern "C" fn delete(tensor: *mut DLManagedTensor) {
    // SAFETY: as above.
    unsafe { count((*tensor).manager_ctx) };
}

unsafe extern "C" fn delete_versioned(tensor: *mut DLManagedTensorVersioned) {
    // SAFETY: as above.
    unsafe { count((*tensor).manager_ctx) };
}

/// An array and its type; what they point to lives as long as this.
pub(crate) struct Foreign {
    pub(crate) array: ArrowDeviceArray,
    pub(crate) schema: ArrowSchema,
    pub(crate) arrays: Released,
    pub(crate) schemas: Released,
    buffers: Box<[*const c_void; 2]>,
    _format: CString,
}

impl Foreign {
    /// `length` elements at `data`, of the CPU.
    pub(crate) fn new(format: &str, length: i64, data: *const c_void) -> Self {
        let mut buffers = Box::new([ptr::null(), data]);
        let format = CString::new(format).unwrap();
        let (arrays, schemas) = (Released::default(), Released::default());
        Self {
            array: ArrowDeviceArray {
                array: ArrowArray {
                    length,
                    n_buffers: 2,
                    buffers: buffers.as_mut_ptr(),
                    release: Some(release_array),
                    private_data: arrays.context(),
                    ..ArrowArray::released()
                },
                ..ArrowDeviceArray::released()
            },
            schema: ArrowSchema {
                format: format.as_ptr(),
                flags: 2,
                release: Some(release_schema),
                private_data: schemas.context(),
                ..ArrowSchema::released()
            },
            arrays,
            schemas,
            buffers,
            _format: format,
        }
    }

    pub(crate) fn with_validity(mut self, validity: *const c_void) -> Self {
        self.buffers[0] = validity;
        self.array.array.buffers = self.buffers.as_mut_ptr();
        self
    }
}

/// A tensor; shape and strides live as long as this.
pub(crate) struct ForeignTensor {
    pub(crate) tensor: DLManagedTensorVersioned,
    pub(crate) legacy: DLManagedTensor,
    pub(crate) deleted: Released,
    _numbers: [Vec<i64>; 2],
}

impl ForeignTensor {
    pub(crate) fn new(
        dtype: DLDataType,
        shape: &[i64],
        strides: Option<&[i64]>,
        data: *mut c_void,
    ) -> Box<Self> {
        let deleted = Released::default();
        let mut numbers = [shape.to_vec(), strides.unwrap_or_default().to_vec()];
        let shape_at = numbers[0].as_mut_ptr();
        let strides_at = strides.map_or(ptr::null_mut(), |_| numbers[1].as_mut_ptr());
        let tensor = || DLTensor {
            data,
            device: DLDevice {
                device_type: 1,
                device_id: 0,
            },
            ndim: shape.len() as i32,
            dtype,
            shape: shape_at,
            strides: strides_at,
            byte_offset: 0,
        };
        Box::new(Self {
            tensor: DLManagedTensorVersioned {
                version: VERSION,
                manager_ctx: deleted.context(),
                deleter: Some(delete_versioned),
                flags: 0,
                dl_tensor: tensor(),
            },
            legacy: DLManagedTensor {
                dl_tensor: tensor(),
                manager_ctx: deleted.context(),
                deleter: Some(delete),
            },
            deleted,
            _numbers: numbers,
        })
    }
}

//! The structs of Arrow's C Data and C Device interfaces, as their specifications define them
//! (CDataInterface.rst, CDeviceDataInterface.rst).
//!
//! All may be moved bitwise: whoever does so sets `release` of the old place to `None`, without calling it.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// The type of an array.
#[derive(Debug)]
#[repr(C)]
pub struct ArrowSchema {
    /// The type, NUL-terminated: `g` are doubles.
    pub format: *const c_char,
    /// The field's name, NUL-terminated; may be NULL.
    pub name: *const c_char,
    /// Keys and values, in Arrow's own encoding; may be NULL.
    pub metadata: *const c_char,
    /// 1: the dictionary is ordered; 2: nullable; 4: map keys are sorted.
    pub flags: i64,
    /// How many children there are.
    pub n_children: i64,
    /// Their addresses.
    pub children: *mut *mut ArrowSchema,
    /// The dictionary's type; may be NULL.
    pub dictionary: *mut ArrowSchema,
    /// Ends the struct; `None` of a released one.
    pub release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    /// The producer's own.
    pub private_data: *mut c_void,
}

/// The elements of an array.
#[derive(Debug)]
#[repr(C)]
pub struct ArrowArray {
    /// How many elements there are.
    pub length: i64,
    /// How many are null; -1 when nobody has counted.
    pub null_count: i64,
    /// How many elements of the buffers come before the first.
    pub offset: i64,
    /// How many buffers there are: 2 of fixed-width types, of which the first are the validity bits.
    pub n_buffers: i64,
    /// How many children there are.
    pub n_children: i64,
    /// The buffers' addresses: of the device's memory, the only things that are.
    pub buffers: *mut *const c_void,
    /// The children's addresses.
    pub children: *mut *mut ArrowArray,
    /// The dictionary; may be NULL.
    pub dictionary: *mut ArrowArray,
    /// Ends the struct and gives the memory back; `None` of a released one.
    pub release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    /// The producer's own.
    pub private_data: *mut c_void,
}

/// An array whose buffers lie on a device.
#[derive(Debug)]
#[repr(C)]
pub struct ArrowDeviceArray {
    /// The array. It is the first member: of memory that the CPU can reach, the address of the whole is
    /// also that of a plain `ArrowArray`.
    pub array: ArrowArray,
    /// Which device of its kind; -1 by convention where there is only one.
    pub device_id: i64,
    /// The kind of device: see [`DeviceType`](offheap::DeviceType).
    pub device_type: i32,
    /// The address of the device's own handle of an event (of CUDA a `cudaEvent_t *`) that a consumer must
    /// wait for before it touches the buffers; NULL when there is nothing to wait for.
    pub sync_event: *mut c_void,
    /// Zero.
    pub reserved: [i64; 3],
}

/// Arrays of one type on one device, one after the other.
#[derive(Debug)]
#[repr(C)]
pub struct ArrowDeviceArrayStream {
    /// The kind of device.
    pub device_type: i32,
    /// Gives the type; 0, or an errno.
    pub get_schema:
        Option<unsafe extern "C" fn(*mut ArrowDeviceArrayStream, *mut ArrowSchema) -> c_int>,
    /// Gives the next array, or a released one at the end; 0, or an errno.
    pub get_next:
        Option<unsafe extern "C" fn(*mut ArrowDeviceArrayStream, *mut ArrowDeviceArray) -> c_int>,
    /// Describes the last error; may give NULL.
    pub get_last_error: Option<unsafe extern "C" fn(*mut ArrowDeviceArrayStream) -> *const c_char>,
    /// Ends the stream; `None` of a released one.
    pub release: Option<unsafe extern "C" fn(*mut ArrowDeviceArrayStream)>,
    /// The producer's own.
    pub private_data: *mut c_void,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<ArrowSchema>() == 72);
    assert!(size_of::<ArrowArray>() == 80);
    assert!(size_of::<ArrowDeviceArray>() == 128);
    assert!(offset_of!(ArrowDeviceArray, array) == 0);
    assert!(offset_of!(ArrowDeviceArray, device_id) == 80);
    assert!(offset_of!(ArrowDeviceArray, device_type) == 88);
    assert!(offset_of!(ArrowDeviceArray, sync_event) == 96);
    assert!(offset_of!(ArrowDeviceArray, reserved) == 104);
    assert!(size_of::<ArrowDeviceArrayStream>() == 48);
};

impl ArrowSchema {
    /// A released one: what consumers give producers to fill.
    pub const fn released() -> Self {
        Self {
            format: ptr::null(),
            name: ptr::null(),
            metadata: ptr::null(),
            flags: 0,
            n_children: 0,
            children: ptr::null_mut(),
            dictionary: ptr::null_mut(),
            release: None,
            private_data: ptr::null_mut(),
        }
    }
}

impl ArrowArray {
    /// A released one.
    pub const fn released() -> Self {
        Self {
            length: 0,
            null_count: 0,
            offset: 0,
            n_buffers: 0,
            n_children: 0,
            buffers: ptr::null_mut(),
            children: ptr::null_mut(),
            dictionary: ptr::null_mut(),
            release: None,
            private_data: ptr::null_mut(),
        }
    }
}

impl ArrowDeviceArray {
    /// A released one.
    pub const fn released() -> Self {
        Self {
            array: ArrowArray::released(),
            device_id: -1,
            device_type: 1,
            sync_event: ptr::null_mut(),
            reserved: [0; 3],
        }
    }
}

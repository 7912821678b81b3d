//! The structs of DLPack 1, as its documentation defines them.

use std::ffi::c_void;

/// The version that tensors made here have.
pub const VERSION: DLPackVersion = DLPackVersion { major: 1, minor: 1 };

/// The consumer may not write the tensor.
pub const FLAG_READ_ONLY: u64 = 1;
/// The tensor is a copy that the consumer alone has.
pub const FLAG_IS_COPIED: u64 = 2;
/// Elements of fewer than 8 bits have a byte each.
pub const FLAG_SUBBYTE_TYPE_PADDED: u64 = 4;

/// Another major version has another layout behind the members that all have: version, context, deleter,
/// flags. Another minor version has the same, and may have more codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct DLPackVersion {
    /// The layout.
    pub major: u32,
    /// The codes.
    pub minor: u32,
}

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct DLDevice {
    /// The kind of device: see [`DeviceType`](offheap::DeviceType), whose codes are DLPack's.
    pub device_type: i32,
    /// Which of its kind; 0 for memory of the CPU, pinned and managed memory.
    pub device_id: i32,
}

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct DLDataType {
    /// 0 signed, 1 unsigned, 2 float, 4 bfloat, 5 complex, 6 bool, 7 to 14 kinds of 8-bit floats, …
    pub code: u8,
    /// Bits of one lane.
    pub bits: u8,
    /// How many lanes an element has: 1 except of vectors.
    pub lanes: u16,
}

/// A tensor that someone else owns.
#[derive(Debug)]
#[repr(C)]
pub struct DLTensor {
    /// The device's address; NULL of a tensor without elements.
    pub data: *mut c_void,
    /// Where it lies.
    pub device: DLDevice,
    /// How many dimensions it has.
    pub ndim: i32,
    /// The elements' type.
    pub dtype: DLDataType,
    /// Elements in each dimension.
    pub shape: *mut i64,
    /// From one element to the next in each dimension, in elements. NULL means row after row without gaps
    /// (of versions before 1.2).
    pub strides: *mut i64,
    /// Where the first element lies behind `data`, in bytes.
    pub byte_offset: u64,
}

/// A tensor with its deleter, of versions before 1.0: without flags.
#[derive(Debug)]
#[repr(C)]
pub struct DLManagedTensor {
    /// The tensor.
    pub dl_tensor: DLTensor,
    /// The producer's own.
    pub manager_ctx: *mut c_void,
    /// Ends the tensor and this struct; may be NULL.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensor)>,
}

/// A tensor with its version and deleter.
#[derive(Debug)]
#[repr(C)]
pub struct DLManagedTensorVersioned {
    /// Of the struct.
    pub version: DLPackVersion,
    /// The producer's own.
    pub manager_ctx: *mut c_void,
    /// Ends the tensor and this struct; may be NULL.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensorVersioned)>,
    /// [`FLAG_READ_ONLY`], [`FLAG_IS_COPIED`], [`FLAG_SUBBYTE_TYPE_PADDED`].
    pub flags: u64,
    /// The tensor.
    pub dl_tensor: DLTensor,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<DLDevice>() == 8);
    assert!(size_of::<DLDataType>() == 4);
    assert!(size_of::<DLTensor>() == 48);
    assert!(offset_of!(DLTensor, device) == 8);
    assert!(offset_of!(DLTensor, ndim) == 16);
    assert!(offset_of!(DLTensor, dtype) == 20);
    assert!(offset_of!(DLTensor, shape) == 24);
    assert!(offset_of!(DLTensor, strides) == 32);
    assert!(offset_of!(DLTensor, byte_offset) == 40);
    assert!(size_of::<DLManagedTensor>() == 64);
    assert!(offset_of!(DLManagedTensor, manager_ctx) == 48);
    assert!(offset_of!(DLManagedTensor, deleter) == 56);
    assert!(size_of::<DLManagedTensorVersioned>() == 80);
    assert!(offset_of!(DLManagedTensorVersioned, manager_ctx) == 8);
    assert!(offset_of!(DLManagedTensorVersioned, deleter) == 16);
    assert!(offset_of!(DLManagedTensorVersioned, flags) == 24);
    assert!(offset_of!(DLManagedTensorVersioned, dl_tensor) == 32);
};

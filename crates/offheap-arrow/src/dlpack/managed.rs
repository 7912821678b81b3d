//! What both kinds of managed tensors have.

use super::abi::{DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor, VERSION};
use std::ffi::c_void;
use std::fmt::Debug;

/// One of the two managed tensors of DLPack: the current one with a version and flags, or the one before.
pub trait ManagedTensor: sealed::Sealed {}

pub(super) mod sealed {
    use super::*;

    pub trait Sealed: Debug + Sized + 'static {
        /// Whether consumers can be told what they may do with it.
        const HAS_FLAGS: bool;

        fn assemble(
            tensor: DLTensor,
            flags: u64,
            context: *mut c_void,
            deleter: unsafe extern "C" fn(*mut Self),
        ) -> Self;

        fn context(&self) -> *mut c_void;

        /// The version, without touching anything else.
        ///
        /// # Safety
        /// - `this` is the address of a tensor of any version.
        unsafe fn version(this: *const Self) -> DLPackVersion;

        /// The deleter, without touching anything else.
        ///
        /// # Safety
        /// - As [`version`](Self::version).
        unsafe fn deleter(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)>;

        fn tensor(&self) -> &DLTensor;

        fn flags(&self) -> u64;
    }
}

impl ManagedTensor for DLManagedTensorVersioned {}
impl ManagedTensor for DLManagedTensor {}

impl sealed::Sealed for DLManagedTensorVersioned {
    const HAS_FLAGS: bool = true;

    fn assemble(
        tensor: DLTensor,
        flags: u64,
        context: *mut c_void,
        deleter: unsafe extern "C" fn(*mut Self),
    ) -> Self {
        Self {
            version: VERSION,
            manager_ctx: context,
            deleter: Some(deleter),
            flags,
            dl_tensor: tensor,
        }
    }

    fn context(&self) -> *mut c_void {
        self.manager_ctx
    }

    unsafe fn version(this: *const Self) -> DLPackVersion {
        // SAFETY: the caller's promise: all versions have it there.
        unsafe { (&raw const (*this).version).read() }
    }

    unsafe fn deleter(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: as above.
        unsafe { (&raw const (*this).deleter).read() }
    }

    fn tensor(&self) -> &DLTensor {
        &self.dl_tensor
    }

    fn flags(&self) -> u64 {
        self.flags
    }
}

impl sealed::Sealed for DLManagedTensor {
    const HAS_FLAGS: bool = false;

    fn assemble(
        tensor: DLTensor,
        _flags: u64,
        context: *mut c_void,
        deleter: unsafe extern "C" fn(*mut Self),
    ) -> Self {
        Self {
            dl_tensor: tensor,
            manager_ctx: context,
            deleter: Some(deleter),
        }
    }

    fn context(&self) -> *mut c_void {
        self.manager_ctx
    }

    unsafe fn version(_this: *const Self) -> DLPackVersion {
        // There is only one layout.
        VERSION
    }

    unsafe fn deleter(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: the caller's promise.
        unsafe { (&raw const (*this).deleter).read() }
    }

    fn tensor(&self) -> &DLTensor {
        &self.dl_tensor
    }

    fn flags(&self) -> u64 {
        0
    }
}

//! Results of the driver as errors.

use super::abi::{self, Result as Code};
use super::table::Table;
use offheap::{Error, Result};
use std::ffi::{CStr, c_char};

/// NVIDIA's name of a code, or its number.
pub(super) fn name_of(table: &Table, code: Code) -> String {
    let mut name: *const c_char = std::ptr::null();
    // SAFETY: the out-pointer is ours; a code that the driver does not know leaves null.
    let known = unsafe { (table.get_error_name)(code, &raw mut name) } == abi::SUCCESS;
    if known && !name.is_null() {
        // SAFETY: the driver's own constant string.
        let name = unsafe { CStr::from_ptr(name) };
        format!("{} ({code})", name.to_string_lossy())
    } else {
        format!("CUDA error {code}")
    }
}

/// The error of a call that failed.
#[cold]
pub(crate) fn failed(table: &Table, call: &'static str, code: Code) -> Error {
    let what = format!("{call}: {}", name_of(table, code));
    match code {
        abi::INVALID_VALUE | abi::INVALID_DEVICE => {
            Error::invalid_argument("value", what, "what the driver accepts")
        }
        abi::NOT_SUPPORTED => Error::not_supported(what),
        _ => Error::device_unavailable("driver-error", what),
    }
}

/// Nothing, or the error of a call.
#[inline]
pub(crate) fn check(table: &Table, call: &'static str, code: Code) -> Result<()> {
    if code == abi::SUCCESS {
        Ok(())
    } else {
        Err(failed(table, call, code))
    }
}

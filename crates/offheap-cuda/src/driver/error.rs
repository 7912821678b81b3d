//! What the driver answers when it refuses.

use super::abi::{
    DEINITIALIZED, INVALID_DEVICE, INVALID_VALUE, NO_DEVICE, NOT_SUPPORTED, OUT_OF_MEMORY,
    Result as Code, SUCCESS,
};
use super::table::Table;
use offheap::{Error, ErrorKind, Result};
use std::ffi::{CStr, c_char};
use std::fmt;

/// A function of the driver failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaError {
    /// The driver's code (`CUresult`).
    pub code: u32,
    /// Its name: `CUDA_ERROR_ILLEGAL_ADDRESS`. Empty for a code that the driver does not know.
    pub name: String,
    /// The function that failed, as the library exports it.
    pub symbol: &'static str,
}

impl CudaError {
    /// What the driver answered to a call.
    #[cold]
    pub(super) fn of(table: &Table, symbol: &'static str, code: Code) -> Self {
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: the out-pointer is ours; a code that the driver does not know leaves null.
        let known = unsafe { (table.get_error_name)(code, &raw mut name) } == SUCCESS;
        let name = if known && !name.is_null() {
            // SAFETY: the driver's own constant string.
            unsafe { CStr::from_ptr(name) }
                .to_string_lossy()
                .into_owned()
        } else {
            String::new()
        };
        Self { code, name, symbol }
    }

    /// Whether memory could not be had.
    pub fn is_out_of_memory(&self) -> bool {
        self.code == OUT_OF_MEMORY
    }

    /// As an error of offheap, with what was asked for: `requested` bytes of `pool`, which had `allocated` bytes.
    #[cold]
    pub fn for_allocation(self, requested: u64, allocated: u64, pool: &str) -> Error {
        if self.is_out_of_memory() {
            Error::new(ErrorKind::OutOfMemory {
                requested,
                limit: None,
                allocated,
                pool: pool.to_owned(),
            })
        } else {
            self.into()
        }
    }
}

impl fmt::Display for CudaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, name, symbol } = self;
        if name.is_empty() {
            write!(f, "{symbol} failed with code {code} of the CUDA driver")
        } else {
            write!(f, "{symbol} failed: {name} ({code})")
        }
    }
}

impl std::error::Error for CudaError {}

impl From<CudaError> for Error {
    #[cold]
    fn from(error: CudaError) -> Self {
        match error.code {
            OUT_OF_MEMORY => {
                let pool = format!("CUDA driver, {}", error.symbol);
                error.for_allocation(0, 0, &pool)
            }
            NOT_SUPPORTED => Self::not_supported(error.to_string()),
            NO_DEVICE | INVALID_DEVICE => Self::device_unavailable("no-device", error.to_string()),
            DEINITIALIZED => Self::device_unavailable("exiting", error.to_string()),
            INVALID_VALUE => Self::invalid_argument("value", error, "what the driver accepts"),
            _ => Self::device_unavailable("driver-error", error.to_string()),
        }
    }
}

/// The error of a call that failed.
#[cold]
pub(crate) fn failed(table: &Table, symbol: &'static str, code: Code) -> Error {
    CudaError::of(table, symbol, code).into()
}

/// Nothing, or the error of a call.
#[inline]
pub(crate) fn check(table: &Table, symbol: &'static str, code: Code) -> Result<()> {
    if code == SUCCESS {
        Ok(())
    } else {
        Err(failed(table, symbol, code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u32) -> CudaError {
        CudaError {
            code,
            name: "CUDA_ERROR_X".into(),
            symbol: "cuMemAlloc_v2",
        }
    }

    #[test]
    fn out_of_memory_has_the_numbers_and_the_rest_the_code() {
        let refused = error(2).for_allocation(4096, 100, "gpu");
        assert_eq!(refused.code(), "ERR_OFFHEAP_OUT_OF_MEMORY");
        assert!(refused.to_string().contains("4096"), "{refused}");
        assert!(refused.to_string().contains("'gpu'"), "{refused}");
        let other = error(919).for_allocation(1, 1, "gpu");
        assert_eq!(other.code(), "ERR_OFFHEAP_DEVICE_UNAVAILABLE");
        assert!(other.to_string().contains("919"), "{other}");
        assert_eq!(Error::from(error(801)).code(), "ERR_OFFHEAP_NOT_SUPPORTED");
    }
}

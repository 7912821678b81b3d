//! Initialisation, versions, errors.

use core::ffi::{c_char, c_int, c_uint};

use crate::driver;
use crate::entry::{EXITING, FORKED, Outcome, cuda_api, store};
use crate::result::{
    CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NO_DEVICE, CUDA_ERROR_UNKNOWN, CUresult, name, text,
};
use std::sync::atomic::Ordering;

extern "C" fn at_exit() {
    driver::settings()
        .log()
        .line(&format!("exit {}", driver::left()));
    EXITING.store(true, Ordering::Release);
}

extern "C" fn in_forked_child() {
    FORKED.store(true, Ordering::Release);
}

fn initialize(flags: c_uint) -> Outcome {
    static HOOKS: std::sync::Once = std::sync::Once::new();
    let settings = driver::settings();
    if let Some(mistake) = &settings.mistake {
        eprintln!("offheap-cuda-double: {mistake}");
        return Err(CUDA_ERROR_UNKNOWN);
    }
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if settings.config.no_device || settings.config.devices == 0 {
        return Err(CUDA_ERROR_NO_DEVICE);
    }
    driver::initialize()?;
    HOOKS.call_once(|| {
        // SAFETY: both take functions without captures that live as long as the library, which is never unloaded
        // while the process runs: glibc drops handlers of an unloaded library itself.
        unsafe {
            libc::atexit(at_exit);
            libc::pthread_atfork(None, None, Some(in_forked_child));
        }
    });
    Ok(())
}

fn describe(found: Option<*const c_char>, result: *mut *const c_char) -> Outcome {
    match found {
        // SAFETY: the caller's promise for out-parameters.
        Some(text) => unsafe { store(result, text) },
        None => {
            // SAFETY: as above. A driver stores null for a code that it does not know.
            unsafe { store(result, std::ptr::null()) }?;
            Err(CUDA_ERROR_INVALID_VALUE)
        }
    }
}

cuda_api! {
    /// Sets the driver up.
    [Nothing] fn cuInit(flags: c_uint) {
        initialize(flags)
    }

    /// The version of the CUDA that the driver supports, as 1000 × major + 10 × minor.
    [Nothing] fn cuDriverGetVersion(driverVersion: *mut c_int) {
        let version = driver::settings().config.driver_version;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(driverVersion, version) }
    }

    /// The name of a result code.
    [Nothing] fn cuGetErrorName(error: CUresult, pStr: *mut *const c_char) {
        describe(name(error), pStr)
    }

    /// The text of a result code.
    [Nothing] fn cuGetErrorString(error: CUresult, pStr: *mut *const c_char) {
        describe(text(error), pStr)
    }
}

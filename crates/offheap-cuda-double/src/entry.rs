//! What every exported function does before and after its body.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::driver;
use crate::result::{
    CUDA_ERROR_DEINITIALIZED, CUDA_ERROR_NOT_INITIALIZED, CUDA_ERROR_NOT_PERMITTED,
    CUDA_ERROR_STUB_LIBRARY, CUDA_ERROR_UNKNOWN, CUDA_SUCCESS, CUresult,
};

/// The result of a body.
pub(crate) type Outcome = Result<(), CUresult>;

/// What a function needs before its body may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: versions, error names, `cuInit` itself.
    Nothing,
    /// `cuInit` has succeeded.
    Driver,
}

/// `exit` has begun, after which a real driver answers "deinitialized" at best.
pub(crate) static EXITING: AtomicBool = AtomicBool::new(false);
/// This process was forked from one that had initialised the driver: it cannot be used here.
pub(crate) static FORKED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Runs a host function of a stream; calls of the driver API inside it are refused.
pub(crate) fn in_host_function(run: impl FnOnce()) {
    let _ = IN_HOST_FUNCTION.try_with(|flag| flag.set(true));
    run();
    let _ = IN_HOST_FUNCTION.try_with(|flag| flag.set(false));
}

/// Counts, logs, refuses, fails on request, and stops panics.
pub(crate) fn enter(
    symbol: &'static str,
    arguments: &[(&'static str, u64)],
    needs: Needs,
    body: impl FnOnce() -> Outcome,
) -> CUresult {
    // Locks that another thread held at the fork stay held in the child: nothing may be touched.
    if FORKED.load(Ordering::Acquire) {
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    let run = || -> Outcome {
        let settings = driver::settings();
        settings.log().count(symbol);
        if EXITING.load(Ordering::Acquire) {
            return Err(CUDA_ERROR_DEINITIALIZED);
        }
        if settings.config.stub {
            return Err(CUDA_ERROR_STUB_LIBRARY);
        }
        if IN_HOST_FUNCTION.try_with(Cell::get).unwrap_or(false) {
            return Err(CUDA_ERROR_NOT_PERMITTED);
        }
        if let Some(code) = settings.failures().next(symbol) {
            return if code == CUDA_SUCCESS {
                Ok(())
            } else {
                Err(code)
            };
        }
        if needs == Needs::Driver && !driver::is_initialized() {
            return Err(CUDA_ERROR_NOT_INITIALIZED);
        }
        body()
    };
    let code = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => CUDA_SUCCESS,
        Ok(Err(code)) => code,
        // The panic's message is on stderr already.
        Err(_) => CUDA_ERROR_UNKNOWN,
    };
    driver::settings().log().call(symbol, arguments, code);
    code
}

/// How an argument looks in the log.
pub(crate) trait Logged {
    fn logged(&self) -> u64;
}

macro_rules! logged {
    ($($integer:ty),*) => {$(
        impl Logged for $integer {
            fn logged(&self) -> u64 {
                *self as u64
            }
        }
    )*};
}
logged!(i32, u8, u16, u32, u64, usize);

impl<T> Logged for *mut T {
    fn logged(&self) -> u64 {
        self.addr() as u64
    }
}

impl<T> Logged for *const T {
    fn logged(&self) -> u64 {
        self.addr() as u64
    }
}

impl Logged for crate::abi::CUhostFn {
    fn logged(&self) -> u64 {
        self.map_or(0, |function| function as usize as u64)
    }
}

impl Logged for crate::abi::CUstreamCallback {
    fn logged(&self) -> u64 {
        self.map_or(0, |function| function as usize as u64)
    }
}

impl Logged for crate::abi::CUmemLocation {
    fn logged(&self) -> u64 {
        u64::from(self.type_) << 32 | u64::from(self.id as u32)
    }
}

impl Logged for crate::abi::CUipcMemHandle {
    fn logged(&self) -> u64 {
        crate::abi::handle_tag(&self.reserved)
    }
}

impl Logged for crate::abi::CUipcEventHandle {
    fn logged(&self) -> u64 {
        crate::abi::handle_tag(&self.reserved)
    }
}

/// Writes an out-parameter.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for a null pointer.
///
/// # Safety
/// `pointer` is null or valid for writing a `T`.
pub(crate) unsafe fn store<T>(pointer: *mut T, value: T) -> Outcome {
    if pointer.is_null() {
        return Err(crate::result::CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not null, so valid for writing by the caller's promise; C callers may pass unaligned fields.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}

/// Exports functions of the driver API: the body is an [`Outcome`], [`enter`] does the rest.
macro_rules! cuda_api {
    ($(
        $(#[doc = $doc:literal])*
        [$needs:ident] fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block
    )*) => {$(
        $(#[doc = $doc])*
        ///
        /// # Safety
        /// As in the CUDA driver API: pointers to results are null or valid for writing, pointers to arguments are
        /// valid for reading, and host memory of a copy stays valid until the copy has run. Handles may be anything.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $crate::result::CUresult {
            $crate::entry::enter(
                stringify!($name),
                &[$((stringify!($argument), $crate::entry::Logged::logged(&$argument))),*],
                $crate::entry::Needs::$needs,
                || -> $crate::entry::Outcome { $body },
            )
        }
    )*};
}
pub(crate) use cuda_api;

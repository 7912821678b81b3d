//! The driver that the suite runs on.

use offheap_cuda::{CudaDevice, Status, status};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::{Once, OnceLock};

/// The first GPU, of a driver or of the double.
pub(crate) fn gpu() -> CudaDevice {
    start();
    CudaDevice::new(0).expect("the double has devices")
}

/// Chooses the driver before anybody looks for one.
pub(crate) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("OFFHEAP_CUDA_LIBRARY").is_none() && !has_driver() {
            let name = format!(
                "{}offheap_cuda_double{}",
                std::env::consts::DLL_PREFIX,
                std::env::consts::DLL_SUFFIX
            );
            let double = std::env::current_exe().unwrap().with_file_name(name);
            assert!(double.exists(), "{} was not built", double.display());
            // SAFETY: the tests' other threads wait for this, and none of them reads the environment before.
            unsafe { std::env::set_var("OFFHEAP_CUDA_LIBRARY", double) };
        }
        match status() {
            Status::Available(driver) => eprintln!("CUDA tests run on {driver:?}"),
            Status::Unavailable(reason) => panic!("{reason}"),
        }
    });
}

/// Whether the system has a driver: the places where installers put it.
fn has_driver() -> bool {
    ["/dev/nvidiactl", "/dev/dxg"]
        .iter()
        .any(|device| std::path::Path::new(device).exists())
}

/// A function of the driver that the suite runs on, as other code of the process calls it; `None` where it has none.
///
/// # Safety
/// - the driver's function has the type `F`, that of a function.
pub(crate) unsafe fn raw<F: Copy>(symbol: &str) -> Option<F> {
    static LIBRARY: OnceLock<libloading::Library> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        start();
        let Status::Available(driver) = status() else {
            panic!("start() found one");
        };
        // SAFETY: it is loaded already.
        unsafe { libloading::Library::new(&driver.library) }.unwrap()
    });
    // SAFETY: the caller's promise.
    unsafe { library.get::<F>(symbol.as_bytes()) }
        .ok()
        .map(|found| *found)
}

/// Calls the driver where the first GPU's context is current.
pub(crate) fn with_context<T: Send>(call: impl FnOnce() -> T + Send) -> T {
    type Context = *mut c_void;
    type Retain = unsafe extern "C" fn(*mut Context, c_int) -> c_uint;
    type SetCurrent = unsafe extern "C" fn(Context) -> c_uint;
    gpu();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: the driver's functions have these types (cuda.h); the context stays to the end of the process.
            unsafe {
                let mut context = std::ptr::null_mut();
                assert_eq!(
                    raw::<Retain>("cuDevicePrimaryCtxRetain").unwrap()(&raw mut context, 0),
                    0
                );
                assert_eq!(raw::<SetCurrent>("cuCtxSetCurrent").unwrap()(context), 0);
            }
            call()
        });
        thread.join().unwrap()
    })
}

/// Whether the suite runs on the double.
pub(crate) fn is_double() -> bool {
    std::env::var("OFFHEAP_CUDA_LIBRARY").is_ok_and(|path| path.contains("offheap_cuda_double"))
}

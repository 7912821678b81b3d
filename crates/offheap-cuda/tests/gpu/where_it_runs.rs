//! The driver that the suite runs on.

use offheap_cuda::{CudaDevice, Status, status};
use std::sync::Once;

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

/// Whether the suite runs on the double.
pub(crate) fn is_double() -> bool {
    std::env::var("OFFHEAP_CUDA_LIBRARY").is_ok_and(|path| path.contains("offheap_cuda_double"))
}

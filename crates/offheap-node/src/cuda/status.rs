//! Whether there is a GPU to work with.

use napi_derive::napi;
use offheap_cuda::{Status, Unavailable};

/// What was found. Absent texts are empty, absent numbers -1.
#[derive(Debug)]
#[napi(object)]
pub struct NativeCudaStatus {
    /// Whether there is a driver and a GPU.
    pub available: bool,
    /// Why not, in a word.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
    /// The library that was loaded.
    pub library: String,
    /// The names that were tried.
    pub searched: Vec<String>,
    /// The function that is missing.
    pub symbol: String,
    /// The driver's code.
    pub driver_code: f64,
    /// The newest CUDA that the driver knows, as 1000 × major + 10 × minor.
    pub driver_version: i32,
}

/// Whether there is a GPU to work with, and why not.
#[napi(catch_unwind)]
pub fn cuda_status() -> NativeCudaStatus {
    let mut found = NativeCudaStatus {
        available: false,
        reason: String::new(),
        message: String::new(),
        library: String::new(),
        searched: Vec::new(),
        symbol: String::new(),
        driver_code: -1.0,
        driver_version: -1,
    };
    let unavailable = match offheap_cuda::status() {
        Status::Available(info) => {
            found.available = true;
            found.library = info.library;
            found.driver_version = info.version;
            return found;
        }
        Status::Unavailable(unavailable) => unavailable,
    };
    unavailable.reason().clone_into(&mut found.reason);
    found.message = unavailable.to_string();
    match unavailable {
        Unavailable::NoLibrary { searched, .. } => found.searched = searched,
        Unavailable::MissingSymbol { symbol, library } => {
            symbol.clone_into(&mut found.symbol);
            found.library = library;
        }
        Unavailable::StubLibrary { library } => found.library = library,
        Unavailable::DriverTooOld { found: version, .. } => found.driver_version = version,
        Unavailable::DriverError(error) => found.driver_code = f64::from(error.code),
        // What a later version of the crate knows has its word and its sentence.
        _ => {}
    }
    found
}

/// How many GPUs there are; none where there is no driver.
#[napi(catch_unwind)]
pub fn cuda_device_count() -> i32 {
    match offheap_cuda::status() {
        Status::Available(info) => info.device_count,
        Status::Unavailable(_) => 0,
    }
}

//! The one look for a driver.

use super::OLDEST_DRIVER;
use super::abi::Code;
use super::error::CudaError;
use super::exiting::{process_is_exiting, watch_exit};
use super::library::Library;
use super::status::{DriverInfo, Status, Unavailable};
use super::table::{Driver, Start};
use offheap::{Error, Result};
use std::sync::OnceLock;

struct Found {
    driver: Driver,
    info: DriverInfo,
}

static FOUND: OnceLock<Result<Found, Unavailable>> = OnceLock::new();

fn found() -> &'static Result<Found, Unavailable> {
    FOUND.get_or_init(look)
}

/// Whether there is a GPU to work with, and why not. The first call looks for a driver (milliseconds, seconds where a
/// GPU wakes up), later ones read the answer.
pub fn status() -> Status {
    match found() {
        Ok(found) => Status::Available(found.info.clone()),
        Err(reason) => Status::Unavailable(reason.clone()),
    }
}

/// Whether there is a GPU to work with.
pub fn is_available() -> bool {
    found().is_ok()
}

/// The driver.
///
/// # Errors
/// [`DeviceUnavailable`](offheap::ErrorKind::DeviceUnavailable) with the reason.
pub fn driver() -> Result<&'static Driver> {
    if process_is_exiting() {
        return Err(Error::device_unavailable(
            "exiting",
            "the process is exiting: the CUDA driver is not called any more",
        ));
    }
    match found() {
        Ok(found) => Ok(&found.driver),
        Err(reason) => Err(reason.clone().into()),
    }
}

/// What a failed start means.
fn not_started(error: CudaError, library: &str) -> Unavailable {
    match error.code {
        Code::STUB_LIBRARY => Unavailable::StubLibrary {
            library: library.to_owned(),
        },
        Code::NO_DEVICE => Unavailable::NoDevice,
        _ => Unavailable::DriverError(error),
    }
}

fn look() -> Result<Found, Unavailable> {
    let library = Library::load()?;
    let name = library.name().to_owned();
    let missing = |symbol| Unavailable::MissingSymbol {
        symbol,
        library: name.clone(),
    };
    // An old driver lacks functions, too: its age is the better reason.
    let start = Start::load(&library).map_err(missing)?;
    watch_exit();
    let version = start.version().map_err(|error| not_started(error, &name))?;
    if version < OLDEST_DRIVER {
        return Err(Unavailable::DriverTooOld {
            found: version,
            needed: OLDEST_DRIVER,
        });
    }
    let driver = Driver::load(&library).map_err(missing)?;
    // SAFETY: the only flags that there are.
    unsafe { driver.cuInit(0) }.map_err(|error| not_started(error, &name))?;
    let mut device_count = 0;
    // SAFETY: a place for the result.
    unsafe { driver.cuDeviceGetCount(&raw mut device_count) }
        .map_err(|error| not_started(error, &name))?;
    if device_count < 1 {
        return Err(Unavailable::NoDevice);
    }
    // The driver does not survive being unloaded, and the table has its addresses.
    std::mem::forget(library);
    Ok(Found {
        driver,
        info: DriverInfo {
            version,
            device_count,
            library: name,
        },
    })
}

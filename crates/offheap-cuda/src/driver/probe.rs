//! The one look for a driver.

use super::OLDEST_DRIVER;
use super::abi::{self, NO_DEVICE, STUB_LIBRARY};
use super::error::CudaError;
use super::exiting::{is_exiting, watch_exit};
use super::library::Library;
use super::status::{DriverInfo, Status, Unavailable};
use super::table::Table;
use offheap::{Error, Result};
use std::mem::ManuallyDrop;
use std::sync::OnceLock;

struct Found {
    driver: Table,
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
pub(crate) fn driver() -> Result<&'static Table> {
    if is_exiting() {
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
        STUB_LIBRARY => Unavailable::StubLibrary {
            library: library.to_owned(),
        },
        NO_DEVICE => Unavailable::NoDevice,
        _ => Unavailable::DriverError(error),
    }
}

fn look() -> Result<Found, Unavailable> {
    // The driver does not survive being unloaded, also when it does not start, and the table has its addresses.
    let library = ManuallyDrop::new(Library::load()?);
    let name = library.name().to_owned();
    let missing = |symbol| Unavailable::MissingSymbol {
        symbol,
        library: name.clone(),
    };
    let table = Table::load(&library).map_err(missing)?;
    let check = |symbol, code| match code {
        abi::SUCCESS => Ok(()),
        code => Err(not_started(CudaError::of(&table, symbol, code), &name)),
    };
    let (mut version, mut device_count) = (0, 0);
    // SAFETY: no preconditions; the out-pointers are ours.
    unsafe {
        // The version can be had before the start, and says more than what an old driver's start would.
        check(
            "cuDriverGetVersion",
            (table.driver_get_version)(&raw mut version),
        )?;
        if version < OLDEST_DRIVER {
            return Err(Unavailable::DriverTooOld {
                found: version,
                needed: OLDEST_DRIVER,
            });
        }
        check("cuInit", (table.init)(0))?;
        watch_exit();
        check(
            "cuDeviceGetCount",
            (table.device_get_count)(&raw mut device_count),
        )?;
    }
    if device_count < 1 {
        return Err(Unavailable::NoDevice);
    }
    Ok(Found {
        driver: table,
        info: DriverInfo {
            version,
            device_count,
            library: name,
        },
    })
}

//! Whether there is a GPU, and why not.

use super::library::Library;
use super::table::Table;
use super::{abi, exiting, failure};
use offheap::{Error, Result};
use std::ffi::c_int;
use std::fmt;
use std::sync::OnceLock;

/// CUDA 12.2: the newest function in the table.
const OLDEST: i32 = 12_020;

/// Why CUDA cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No libcuda was found under any of these names.
    NoLibrary {
        /// What was looked for.
        searched: Vec<String>,
    },
    /// The library lacks a function.
    MissingSymbol {
        /// Its name.
        symbol: &'static str,
    },
    /// The toolkit's stub was found instead of the driver's library.
    StubLibrary,
    /// The driver sees no GPU.
    NoDevice,
    /// The driver is older than CUDA 12.2.
    DriverTooOld {
        /// Its version, as 12020 for 12.2.
        found: i32,
        /// What is needed.
        needed: i32,
    },
    /// Anything else that the driver said.
    DriverError {
        /// NVIDIA's name and number.
        code: String,
    },
}

impl Reason {
    /// In one word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoLibrary { .. } => "no-library",
            Self::MissingSymbol { .. } => "missing-symbol",
            Self::StubLibrary => "stub-library",
            Self::NoDevice => "no-device",
            Self::DriverTooOld { .. } => "driver-too-old",
            Self::DriverError { .. } => "driver-error",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLibrary { searched } => write!(
                f,
                "the library of NVIDIA's driver was not found (tried {} names: {})",
                searched.len(),
                searched.join(", ")
            ),
            Self::MissingSymbol { symbol } => {
                write!(f, "the library of NVIDIA's driver lacks {symbol}")
            }
            Self::StubLibrary => f.write_str(
                "a stub of libcuda was found instead of the driver's library: take the toolkit's `stubs` folder \
                 off the library path, or name the library by OFFHEAP_CUDA_LIBRARY",
            ),
            Self::NoDevice => f.write_str("NVIDIA's driver sees no GPU"),
            Self::DriverTooOld { found, needed } => write!(
                f,
                "NVIDIA's driver is of CUDA {}.{}; {}.{} or newer is needed",
                found / 1000,
                found % 1000 / 10,
                needed / 1000,
                needed % 1000 / 10
            ),
            Self::DriverError { code } => write!(f, "NVIDIA's driver cannot start: {code}"),
        }
    }
}

/// What is known of CUDA on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It can be used.
    Available {
        /// The driver's version of CUDA, as 12080 for 12.8.
        driver_version: i32,
        /// How many GPUs there are.
        devices: i32,
    },
    /// It cannot.
    Unavailable(Reason),
}

/// The driver, started.
#[derive(Debug)]
struct Driver {
    table: Table,
    version: i32,
    devices: i32,
    /// Never closed.
    _library: Library,
}

fn start() -> std::result::Result<Driver, Reason> {
    let library = Library::open().map_err(|searched| Reason::NoLibrary { searched })?;
    let table = Table::load(&library).map_err(|symbol| Reason::MissingSymbol { symbol })?;
    let check = |code| match code {
        abi::SUCCESS => Ok(()),
        abi::STUB_LIBRARY => Err(Reason::StubLibrary),
        abi::NO_DEVICE => Err(Reason::NoDevice),
        other => Err(Reason::DriverError {
            code: failure::name_of(&table, other),
        }),
    };
    let (mut version, mut devices): (c_int, c_int) = (0, 0);
    // SAFETY: no preconditions; the out-pointers are ours.
    unsafe {
        // The version can be had before, and says more than what an old driver's start would.
        check((table.driver_get_version)(&raw mut version))?;
        if version < OLDEST {
            return Err(Reason::DriverTooOld {
                found: version,
                needed: OLDEST,
            });
        }
        check((table.init)(0))?;
        check((table.device_get_count)(&raw mut devices))?;
    }
    if devices < 1 {
        return Err(Reason::NoDevice);
    }
    exiting::watch();
    Ok(Driver {
        table,
        version,
        devices,
        _library: library,
    })
}

fn started() -> &'static std::result::Result<Driver, Reason> {
    static DRIVER: OnceLock<std::result::Result<Driver, Reason>> = OnceLock::new();
    DRIVER.get_or_init(start)
}

/// Whether CUDA can be used, and why not. The driver is looked for at the first call, never before; the
/// answer stays. Cost of the first call: some milliseconds, with a GPU some hundreds.
pub fn status() -> Status {
    match started() {
        Ok(driver) => Status::Available {
            driver_version: driver.version,
            devices: driver.devices,
        },
        Err(reason) => Status::Unavailable(reason.clone()),
    }
}

/// Whether CUDA can be used: see [`status`].
pub fn is_available() -> bool {
    started().is_ok()
}

/// The driver's functions.
///
/// # Errors
/// [`DeviceUnavailable`](offheap::ErrorKind::DeviceUnavailable) without a GPU, and when the process is
/// ending.
pub(crate) fn driver() -> Result<&'static Table> {
    match started() {
        Ok(_) if exiting::is_exiting() => Err(Error::device_unavailable(
            "driver-error",
            "the process is ending: the driver may be gone",
        )),
        Ok(driver) => Ok(&driver.table),
        Err(reason) => Err(Error::device_unavailable(reason.code(), reason.to_string())),
    }
}

//! Whether there is a GPU to work with, and why not.

use super::OLDEST_DRIVER;
use super::error::CudaError;
use offheap::Error;
use std::fmt;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// A driver and at least one GPU.
    Available(DriverInfo),
    /// Why there is none.
    Unavailable(Unavailable),
}

/// The driver that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverInfo {
    /// The newest CUDA that it knows: 12080 is 12.8.
    pub version: i32,
    /// How many GPUs this process may see.
    pub device_count: i32,
    /// The library: a path that was asked for, or the name under which the system had it.
    pub library: String,
}

/// Why CUDA cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The driver's library was not found.
    NoLibrary {
        /// The names, or the path, that were tried.
        searched: Vec<String>,
        /// What the system said of a path that was asked for.
        message: Option<String>,
    },
    /// The library lacks a function.
    MissingSymbol {
        /// Its name.
        symbol: &'static str,
        /// The library.
        library: String,
    },
    /// The toolkit's stub, which is for linking only, stands before the driver on the library path.
    StubLibrary {
        /// The library.
        library: String,
    },
    /// A driver, but no GPU that this process may see.
    NoDevice,
    /// The driver is older than what is needed.
    DriverTooOld {
        /// Its version, as `cuDriverGetVersion` says it: 11040 is 11.4.
        found: i32,
        /// The oldest that works.
        needed: i32,
    },
    /// The driver did not start.
    DriverError(CudaError),
}

impl Status {
    /// Whether CUDA can be used.
    pub fn is_available(&self) -> bool {
        matches!(self, Self::Available(_))
    }
}

impl Unavailable {
    /// The reason in one word, for programs: `no-library`, `missing-symbol`, `stub-library`, `no-device`,
    /// `driver-too-old` or `driver-error`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoLibrary { .. } => "no-library",
            Self::MissingSymbol { .. } => "missing-symbol",
            Self::StubLibrary { .. } => "stub-library",
            Self::NoDevice => "no-device",
            Self::DriverTooOld { .. } => "driver-too-old",
            Self::DriverError(_) => "driver-error",
        }
    }
}

/// 12080 as 12.8.
struct Version(i32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLibrary {
                searched,
                message: Some(message),
            } => write!(
                f,
                "the NVIDIA driver's library {} cannot be loaded: {message}",
                searched.join(", ")
            ),
            Self::NoLibrary {
                searched,
                message: None,
            } => write!(
                f,
                "the NVIDIA driver's library was not found: tried {} names: {}",
                searched.len(),
                searched.join(", ")
            ),
            Self::MissingSymbol { symbol, library } => {
                write!(
                    f,
                    "{library} has no {symbol}: it is not a driver of CUDA {} or newer",
                    Version(OLDEST_DRIVER)
                )
            }
            Self::StubLibrary { library } => write!(
                f,
                "{library} is the CUDA toolkit's stub, which is for linking only: remove its 'stubs' directory from the library path"
            ),
            Self::NoDevice => {
                f.write_str("the NVIDIA driver sees no GPU (CUDA_VISIBLE_DEVICES may hide it)")
            }
            Self::DriverTooOld { found, needed } => write!(
                f,
                "the NVIDIA driver knows CUDA {}, and {} is needed",
                Version(*found),
                Version(*needed)
            ),
            Self::DriverError(error) => write!(f, "the NVIDIA driver did not start: {error}"),
        }
    }
}

impl std::error::Error for Unavailable {}

impl From<Unavailable> for Error {
    #[cold]
    fn from(reason: Unavailable) -> Self {
        Self::device_unavailable(reason.reason(), reason.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_and_a_sentence() {
        let old = Unavailable::DriverTooOld {
            found: 11040,
            needed: 12020,
        };
        assert_eq!(
            old.to_string(),
            "the NVIDIA driver knows CUDA 11.4, and 12.2 is needed"
        );
        let error = Error::from(old);
        assert_eq!(error.code(), "ERR_OFFHEAP_DEVICE_UNAVAILABLE");
        let stub = Unavailable::StubLibrary {
            library: "libcuda.so".into(),
        };
        assert!(stub.to_string().contains("stubs"));
        assert_eq!(stub.reason(), "stub-library");
    }
}

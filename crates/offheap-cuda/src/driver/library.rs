//! The driver's library.

use super::LIBRARY_VARIABLE;
use super::status::Unavailable;
use std::ffi::{CStr, c_void};

/// A loaded library. It stays loaded: the driver does not survive being unloaded.
pub(super) enum Library {
    /// Cudarc's, so that a program which uses both has one.
    Shared {
        name: String,
        library: &'static dyn Lookup,
    },
    /// The one that the environment names.
    Own {
        name: String,
        library: libloading::Library,
    },
}

/// Cudarc's `libloading` may be another version than ours, so its type is not named.
pub(super) trait Lookup: Send + Sync {
    fn lookup(&self, symbol: &CStr) -> Option<*const c_void>;
}

impl Library {
    /// Loads it, without a panic.
    pub(super) fn load() -> Result<Self, Unavailable> {
        if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
            let name = path.to_string_lossy().into_owned();
            // SAFETY: a library's initialisers run; that of a driver is sound, and another one was asked for by name.
            return match unsafe { libloading::Library::new(&path) } {
                Ok(library) => Ok(Self::Own { name, library }),
                Err(error) => Err(Unavailable::NoLibrary {
                    searched: vec![name],
                    message: Some(source_of(&error)),
                }),
            };
        }
        // The names that `culib` tries, in its order.
        let searched: Vec<String> = ["cuda", "nvcuda"]
            .iter()
            .flat_map(|name| cudarc::get_lib_name_candidates(name))
            .collect();
        // SAFETY: as above; the system's driver.
        let found = searched
            .iter()
            .find(|name| unsafe { libloading::Library::new(name.as_str()) }.is_ok());
        let Some(name) = found.cloned() else {
            return Err(Unavailable::NoLibrary {
                searched,
                message: None,
            });
        };
        // SAFETY: as above.
        let is_present = unsafe { cudarc::driver::sys::is_culib_present() };
        if !is_present {
            // It went away in between.
            return Err(Unavailable::NoLibrary {
                searched,
                message: None,
            });
        }
        Ok(Self::Shared {
            name,
            library: &CudarcLibrary,
        })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Shared { name, .. } | Self::Own { name, .. } => name,
        }
    }

    /// The address of a function.
    pub(super) fn lookup(&self, symbol: &CStr) -> Option<*const c_void> {
        match self {
            Self::Shared { library, .. } => library.lookup(symbol),
            // SAFETY: only the address is taken; whoever calls it gives it its type.
            Self::Own { library, .. } => unsafe {
                library
                    .get::<*const c_void>(symbol.to_bytes_with_nul())
                    .ok()
                    .map(|address| *address)
            },
        }
    }
}

/// What the system's loader said, without libloading's own words.
fn source_of(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

struct CudarcLibrary;

impl Lookup for CudarcLibrary {
    fn lookup(&self, symbol: &CStr) -> Option<*const c_void> {
        // SAFETY: the library is there (it was looked for), so `culib` does not panic; of the symbol only the address
        // is taken.
        unsafe {
            cudarc::driver::sys::culib()
                .get::<*const c_void>(symbol.to_bytes_with_nul())
                .ok()
                .map(|address| *address)
        }
    }
}

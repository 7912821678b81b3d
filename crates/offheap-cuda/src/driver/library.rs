//! Where libcuda is.

use cudarc::driver::sys;
use std::ffi::c_void;

/// Names a library to be used instead of what the system has under the usual names.
pub(super) const LIBRARY: &str = "OFFHEAP_CUDA_LIBRARY";

/// An open libcuda; never closed.
#[derive(Debug)]
pub(super) enum Library {
    Named(libloading::Library),
    Found(&'static libloading::Library),
}

impl Library {
    /// Opens the library.
    ///
    /// # Errors
    /// What was looked for.
    pub(super) fn open() -> Result<Self, Vec<String>> {
        if let Some(path) = std::env::var_os(LIBRARY).filter(|path| !path.is_empty()) {
            // SAFETY: the library that the user names is run, as any that they link; a libcuda has no
            // initialisers that need more.
            return unsafe { libloading::Library::new(&path) }
                .map(Self::Named)
                .map_err(|_| vec![path.to_string_lossy().into_owned()]);
        }
        // SAFETY: opens and closes libraries under the driver's names, whose initialisers have no
        // preconditions.
        if unsafe { sys::is_culib_present() } {
            // SAFETY: as above; it is there, so this does not panic.
            return Ok(Self::Found(unsafe { sys::culib() }));
        }
        let names = ["cuda", "nvcuda"].into_iter();
        Err(names.flat_map(cudarc::get_lib_name_candidates).collect())
    }

    /// The address of a symbol, by its name with a zero byte at the end.
    pub(super) fn symbol(&self, name: &str) -> Option<*mut c_void> {
        let library = match self {
            Self::Named(library) => library,
            Self::Found(library) => library,
        };
        // SAFETY: only the address is taken, and the library is never closed.
        let address = unsafe {
            let symbol = library.get::<*mut c_void>(name.as_bytes()).ok()?;
            symbol.try_as_raw_ptr()?
        };
        (!address.is_null()).then_some(address)
    }
}

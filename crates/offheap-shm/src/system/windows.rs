//! Windows: a section of the paging file with a random name in the session's namespace.
//!
//! A section's size is fixed, and it goes with its last handle and view. Its access list names its owner
//! alone.

use super::windows_mapping::{Mapping, kept};
use super::{Access, Address, Sought, Wanted};
use crate::failure::{gone, malformed, no_memory};
use crate::key::Place;
use crate::trailer;
use offheap::{Error, Result};
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use windows_sys::Win32::Foundation::{
    ERROR_ALREADY_EXISTS, ERROR_FILE_NOT_FOUND, ERROR_INVALID_PARAMETER, GetLastError, HANDLE,
    INVALID_HANDLE_VALUE, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, OpenFileMappingW, PAGE_READWRITE,
};

/// Random bytes of a name.
const NAME_BYTES: usize = 16;

/// How often a name may be taken.
const TRIES: usize = 4;

/// Protected (nothing is inherited), and all access for the owner alone (`S-1-3-4`).
const ACCESS: &str = "D:P(A;;GA;;;OW)";

/// The same on every Windows that Rust builds for.
pub(crate) const fn page_size() -> usize {
    4096
}

/// An open section.
#[derive(Debug)]
pub(crate) struct Section(OwnedHandle);

impl Section {
    pub(super) fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }
}

/// The section by which others find the memory.
#[derive(Debug)]
pub(crate) struct Owned {
    /// Keeps the name: without a handle only views are left, and the name goes with the last handle.
    _section: Section,
    place: Place,
}

pub(super) fn last_error() -> io::Error {
    io::Error::last_os_error()
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

fn name_of(place: &Place) -> Vec<u16> {
    let hex = place[..NAME_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    wide(&format!("Local\\offheap-{hex}"))
}

/// A security descriptor of the system's.
struct Descriptor(*mut core::ffi::c_void);

impl Descriptor {
    fn new() -> Result<Self> {
        let mut descriptor = ptr::null_mut();
        // SAFETY: the text ends with a zero, and the descriptor is written to the place given.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                wide(ACCESS).as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        };
        if made == 0 {
            return Err(kept(&last_error(), "making an access list", 0));
        }
        Ok(Self(descriptor))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the system made it for us to free so.
        unsafe { LocalFree(self.0) };
    }
}

/// Makes and maps memory. Its pages are charged at once, so `reserve` has nothing to add.
pub(crate) fn create(wanted: &Wanted<'_>) -> Result<(Mapping, Owned)> {
    let whole = wanted.whole as u64;
    let descriptor = Descriptor::new()?;
    let attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor.0,
        bInheritHandle: 0,
    };
    for _ in 0..TRIES {
        let mut place = Place::default();
        place[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&std::process::id().to_le_bytes());
        getrandom::fill(&mut place[..NAME_BYTES]).map_err(|error| {
            Error::device_unavailable("no-random", format!("no random bits: {error}"))
        })?;
        // SAFETY: the attributes and the name live during the call.
        let (made, code) = unsafe {
            let made = CreateFileMappingW(
                INVALID_HANDLE_VALUE,
                &raw const attributes,
                PAGE_READWRITE,
                (whole >> 32) as u32,
                whole as u32,
                name_of(&place).as_ptr(),
            );
            (made, GetLastError())
        };
        if made.is_null() {
            let error = io::Error::from_raw_os_error(code as i32);
            return Err(match code {
                ERROR_INVALID_PARAMETER => no_memory(whole, None),
                _ => kept(&error, "CreateFileMappingW", whole),
            });
        }
        // SAFETY: a new handle that nobody else has.
        let section = Section(unsafe { OwnedHandle::from_raw_handle(made) });
        if code == ERROR_ALREADY_EXISTS {
            continue;
        }
        let mapping = Mapping::new(&section, wanted.whole, wanted.alignment, Access::Write)?;
        let bytes = trailer::encode(wanted.size as u64, wanted.secret);
        // SAFETY: the last bytes of a new mapping.
        unsafe {
            let end = mapping.start().as_ptr().add(wanted.whole - trailer::BYTES);
            end.copy_from_nonoverlapping(bytes.as_ptr(), trailer::BYTES);
        }
        let owned = Owned {
            _section: section,
            place,
        };
        return Ok((mapping, owned));
    }
    Err(Error::device_unavailable(
        "system",
        "every random name for shared memory is taken",
    ))
}

impl Owned {
    pub(crate) fn address(&self) -> Address {
        Address {
            process: std::process::id(),
            descriptor: 0,
            place: self.place,
        }
    }

    pub(crate) fn freeze(&self) -> Result<()> {
        Err(Error::not_supported(
            "this system cannot freeze shared memory: open it read_only",
        ))
    }
}

/// Finds, maps and checks another process's memory. Only the view is kept: the name is the creator's.
pub(crate) fn open(sought: &Sought<'_>) -> Result<Mapping> {
    if !sought.is_of_name(NAME_BYTES) {
        return Err(malformed("key", "a handle of this system and version"));
    }
    let access = match sought.access {
        // A view that is copied when it is written needs no more than one that is read.
        Access::Read | Access::ReadPrivately => FILE_MAP_READ,
        Access::Write => FILE_MAP_READ | FILE_MAP_WRITE,
    };
    // SAFETY: the name lives during the call.
    let opened = unsafe { OpenFileMappingW(access, 0, name_of(sought.place).as_ptr()) };
    if opened.is_null() {
        let error = last_error();
        return Err(match error.raw_os_error().map(|code| code as u32) {
            Some(ERROR_FILE_NOT_FOUND) => gone(),
            _ => kept(&error, "OpenFileMappingW", 0),
        });
    }
    // SAFETY: a new handle that nobody else has.
    let section = Section(unsafe { OwnedHandle::from_raw_handle(opened) });
    let mapping = Mapping::new(&section, sought.whole, 1, sought.access)?;
    mapping.check_pages()?;
    let mut bytes = [0; trailer::BYTES];
    // SAFETY: the last bytes of the mapping, whose pages are there; others may write them.
    unsafe {
        let end = mapping.start().as_ptr().add(sought.whole - trailer::BYTES);
        crate::racing::load(end, &mut bytes);
    }
    trailer::check(&bytes, sought.size as u64, sought.secret)?;
    Ok(mapping)
}

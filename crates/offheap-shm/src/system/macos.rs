//! macOS: a POSIX shared memory object with a random name.
//!
//! The system lets the size of such an object be set once (`ftruncate` then fails with EINVAL), so no page
//! behind a mapping can go away. It has no anonymous objects that another process could find, so the name
//! is unlinked with the creator's last reference. A creator that is killed leaves its name, and by it the
//! memory, until somebody opens the handle or the system restarts.

use super::unix_mapping::Mapping;
use super::{Access, Address, Sought, Wanted};
use crate::failure::{gone, malformed, no_memory, no_permission, refused};
use crate::key::Place;
use crate::trailer;
use offheap::{Error, Result};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;

/// Random bytes of a name: as many as fit into the 31 characters that the system takes.
const NAME_BYTES: usize = 12;

/// How often a name may be taken.
const TRIES: usize = 4;

/// The larger of the sizes that pages have: a program for Intel's processors, whose pages are smaller,
/// finds the same memory.
pub(crate) const fn page_size() -> usize {
    16 << 10
}

/// The name by which others find the memory.
#[derive(Debug)]
pub(crate) struct Owned {
    name: CString,
    place: Place,
    /// A forked child has this value, too, and must leave the name.
    creator: u32,
}

fn name_of(place: &Place) -> Result<CString> {
    let hex = place[..NAME_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    CString::new(format!("/oh.{hex}"))
        .map_err(|_| malformed("key", "a handle of this system and version"))
}

fn shm_open(name: &CStr, flags: i32) -> io::Result<File> {
    let mode: libc::c_uint = 0o600;
    // SAFETY: the name is a C string, and the mode is what O_CREAT takes.
    let opened = unsafe { libc::shm_open(name.as_ptr(), flags, mode) };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    let file = unsafe { File::from_raw_fd(opened) };
    // SAFETY: F_SETFD takes an integer.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    Ok(file)
}

fn unlink(name: &CStr) {
    // SAFETY: the name is a C string.
    unsafe { libc::shm_unlink(name.as_ptr()) };
}

/// Makes and maps memory. Its descriptor is not needed any more.
pub(crate) fn create(wanted: &Wanted<'_>) -> Result<(Mapping, Owned)> {
    let whole = wanted.whole as u64;
    for _ in 0..TRIES {
        let mut place = Place::default();
        place[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&std::process::id().to_le_bytes());
        getrandom::fill(&mut place[..NAME_BYTES]).map_err(|error| {
            Error::device_unavailable("no-random", format!("no random bits: {error}"))
        })?;
        let name = name_of(&place)?;
        let file = match shm_open(&name, libc::O_CREAT | libc::O_EXCL | libc::O_RDWR) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(refused("shm_open", whole, &error)),
        };
        // From here on an error unlinks the name.
        let owned = Owned {
            name,
            place,
            creator: std::process::id(),
        };
        file.set_len(whole)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL | libc::EFBIG) => no_memory(whole, None),
                _ => refused("ftruncate", whole, &error),
            })?;
        let mapping = Mapping::new(
            file.as_fd(),
            wanted.whole,
            wanted.alignment,
            Access::Write,
            page_size(),
        )?;
        if wanted.options.reserve {
            for at in (0..wanted.whole).step_by(page_size()) {
                // SAFETY: in the mapping, which is new: nobody else has it, and all of it is zero.
                unsafe { mapping.start().as_ptr().add(at).write_volatile(0) };
            }
        }
        let bytes = trailer::encode(wanted.size as u64, wanted.secret);
        // SAFETY: the last bytes of a new mapping.
        unsafe {
            let end = mapping.start().as_ptr().add(wanted.whole - trailer::BYTES);
            end.copy_from_nonoverlapping(bytes.as_ptr(), trailer::BYTES);
        }
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
            process: self.creator,
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

impl Drop for Owned {
    fn drop(&mut self) {
        if self.creator == std::process::id() {
            unlink(&self.name);
        }
    }
}

/// Whether a process is there; one that may not be asked is.
fn lives(process: u32) -> bool {
    let Ok(process) = i32::try_from(process) else {
        return false;
    };
    // SAFETY: signal 0 is sent to nobody.
    process > 0
        && (unsafe { libc::kill(process, 0) } == 0
            || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH))
}

/// Finds, maps and checks another process's memory.
pub(crate) fn open(sought: &Sought<'_>) -> Result<Mapping> {
    if !sought.is_of_name(NAME_BYTES) {
        return Err(malformed("key", "a handle of this system and version"));
    }
    let name = name_of(sought.place)?;
    let (flags, access) = match sought.access {
        Access::Read => (libc::O_RDONLY, Access::Read),
        // The system has no private mappings of shared memory (`pshm_mmap` refuses them).
        Access::ReadPrivately | Access::Write => (libc::O_RDWR, Access::Write),
    };
    let file = shm_open(&name, flags).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => gone(),
        io::ErrorKind::PermissionDenied => no_permission("memory of another user"),
        _ => refused("shm_open", 0, &error),
    })?;
    let is = file
        .metadata()
        .map_err(|error| refused("fstat", 0, &error))?;
    // SAFETY: geteuid has no preconditions.
    if is.uid() != unsafe { libc::geteuid() } {
        return Err(no_permission("memory of another user"));
    }
    if is.len() != sought.whole as u64 {
        return Err(malformed("size", "a handle with its memory's size"));
    }
    let mapping = Mapping::new(file.as_fd(), sought.whole, 1, access, page_size())?;
    let mut bytes = [0; trailer::BYTES];
    // SAFETY: the last bytes of the mapping; others may write them.
    unsafe {
        let end = mapping.start().as_ptr().add(sought.whole - trailer::BYTES);
        crate::racing::load(end, &mut bytes);
    }
    trailer::check(&bytes, sought.size as u64, sought.secret)?;
    // Its creator was killed, and left the name: nobody else unlinks it.
    if !lives(sought.process) {
        unlink(&name);
        return Err(gone());
    }
    Ok(mapping)
}

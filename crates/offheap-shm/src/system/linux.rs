//! Linux: an anonymous file in memory, found by its creator's process and descriptor.
//!
//! The file is sealed against shrinking before anybody knows it, and an opener maps only what is sealed so:
//! no page behind a mapping can go away, so reading one never ends in SIGBUS, whatever a handle or its
//! process says.

use super::process::{self, Found};
use super::unix_mapping::Mapping;
use super::{Access, Address, Sought, Wanted};
use crate::failure::{gone, malformed, no_memory, no_permission, refused};
use crate::key::Place;
use crate::trailer;
use offheap::{Error, Result};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::OnceLock;

/// Without these a file is not mapped.
const FIXED_SIZE: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// The descriptor by which others find the memory.
#[derive(Debug)]
pub(crate) struct Owned {
    file: File,
    place: (u64, u64),
}

fn seals_of(file: &File) -> io::Result<i32> {
    // SAFETY: F_GET_SEALS takes no argument.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) } {
        -1 => Err(io::Error::last_os_error()),
        seals => Ok(seals),
    }
}

fn seal(file: &File, seals: i32) -> io::Result<()> {
    // SAFETY: F_ADD_SEALS takes an integer.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The most that memory can be: a larger file could be made, but never be filled.
fn system_memory() -> u64 {
    let mut info = MaybeUninit::<libc::sysinfo>::zeroed();
    // SAFETY: the call fills the struct, or leaves its zeros.
    let info = unsafe {
        libc::sysinfo(info.as_mut_ptr());
        info.assume_init()
    };
    #[allow(
        clippy::useless_conversion,
        reason = "these are 32 bits wide on some systems"
    )]
    let (ram, swap) = (u64::from(info.totalram), u64::from(info.totalswap));
    match ram
        .saturating_add(swap)
        .saturating_mul(info.mem_unit.into())
    {
        0 => u64::MAX,
        bytes => bytes,
    }
}

/// Beyond this, making a file longer ends the process by SIGXFSZ.
fn file_size_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the call fills the struct, or leaves it.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Whether pages must be taken now because the system may refuse them later (`vm.overcommit_memory` 2).
fn is_strict() -> bool {
    static STRICT: OnceLock<bool> = OnceLock::new();
    *STRICT.get_or_init(|| {
        std::fs::read("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.starts_with(b"2"))
    })
}

fn memory_file(label: &str, size: u64) -> Result<File> {
    let name = if label.is_empty() {
        "offheap".to_owned()
    } else {
        format!("offheap:{label}")
    };
    let name = CString::new(name)
        .map_err(|_| Error::invalid_argument("label", "a zero byte", "text without one"))?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Linux before 6.3 does not know the flag; later ones may want it (`vm.memfd_noexec`).
    for flags in [flags | libc::MFD_NOEXEC_SEAL, flags] {
        // SAFETY: the name is a C string.
        let made = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if made >= 0 {
            // SAFETY: a new descriptor that nobody else has.
            return Ok(unsafe { File::from_raw_fd(made) });
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINVAL) if flags & libc::MFD_NOEXEC_SEAL != 0 => {}
            Some(libc::ENOSYS) => {
                return Err(Error::not_supported(
                    "this system has no memfd_create (Linux 3.17)",
                ));
            }
            _ => return Err(refused("memfd_create", size, &error)),
        }
    }
    Err(Error::not_supported(
        "this system has no memory files that can be sealed",
    ))
}

/// Takes all pages.
fn reserve(file: &File, whole: u64) -> Result<()> {
    loop {
        // SAFETY: integers alone; the length was checked to be a file's.
        let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, whole as libc::off_t) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(refused("fallocate", whole, &error));
        }
    }
}

/// Makes, maps and seals memory.
pub(crate) fn create(wanted: &Wanted<'_>) -> Result<(Mapping, Owned)> {
    let whole = wanted.whole as u64;
    let file = memory_file(&wanted.options.label, whole)?;
    if let Some(limit) = file_size_limit()
        && whole > limit
    {
        return Err(no_memory(whole, Some(limit)));
    }
    if whole > system_memory() {
        return Err(no_memory(whole, None));
    }
    // SAFETY: fchmod takes a descriptor and an integer.
    if unsafe { libc::fchmod(file.as_raw_fd(), 0o600) } != 0 {
        return Err(refused("fchmod", whole, &io::Error::last_os_error()));
    }
    file.set_len(whole)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL | libc::EFBIG) => no_memory(whole, None),
            _ => refused("ftruncate", whole, &error),
        })?;
    if wanted.options.reserve || is_strict() {
        reserve(&file, whole)?;
    }
    let trailer = trailer::encode(wanted.size as u64, wanted.secret);
    file.write_all_at(&trailer, whole - trailer::BYTES as u64)
        .map_err(|error| refused("pwrite", whole, &error))?;
    let mapping = Mapping::new(
        file.as_fd(),
        wanted.whole,
        wanted.alignment,
        Access::Write,
        page_size(),
    )?;
    let seals = if wanted.options.freezable {
        FIXED_SIZE
    } else {
        FIXED_SIZE | libc::F_SEAL_SEAL
    };
    seal(&file, seals).map_err(|error| refused("F_ADD_SEALS", whole, &error))?;
    let found = file
        .metadata()
        .map_err(|error| refused("fstat", whole, &error))?;
    // Before the seals anybody of this user could make it shorter by /proc: pages would be missing for good.
    if found.len() != whole {
        return Err(Error::device_unavailable(
            "system",
            format!(
                "shared memory of {whole} bytes had {} when it was sealed",
                found.len()
            ),
        ));
    }
    let place = (found.dev(), found.ino());
    Ok((mapping, Owned { file, place }))
}

impl Owned {
    /// Where others find it, from now on: asked anew, since a fork has the memory, too.
    pub(crate) fn address(&self) -> Address {
        let (device, inode) = self.place;
        let mut place = Place::default();
        let numbers = [
            device,
            inode,
            process::own_start(),
            process::own_namespace(),
        ];
        for (bytes, number) in place.chunks_exact_mut(8).zip(numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        Address {
            process: std::process::id(),
            descriptor: self.file.as_raw_fd() as u32,
            place,
        }
    }

    /// From now on nobody can map it for writing who has not yet (`F_SEAL_FUTURE_WRITE`, Linux 5.1).
    pub(crate) fn freeze(&self) -> Result<()> {
        let wanted = libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;
        let seals = seals_of(&self.file).map_err(|e| refused("F_GET_SEALS", 0, &e))?;
        if seals & libc::F_SEAL_FUTURE_WRITE != 0 {
            return Ok(());
        }
        seal(&self.file, wanted).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => {
                Error::not_supported("this shared memory was made without `freezable`")
            }
            Some(libc::EINVAL) => {
                Error::not_supported("this system cannot freeze shared memory (Linux 5.1)")
            }
            _ => refused("F_ADD_SEALS", 0, &error),
        })
    }
}

fn is_in_memory(file: &File) -> io::Result<bool> {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the call fills the struct, or fails.
    if unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled; integers in any case.
    let kind = unsafe { found.assume_init() }.f_type;
    // Both are of other types elsewhere; the number has 32 bits.
    Ok(kind as u32 == libc::TMPFS_MAGIC as u32)
}

/// Whether `found` is the file that a handle names, of this user.
fn check_identity(found: &Found, device: u64, inode: u64) -> Result<()> {
    // Another file took the number: asked first, since the next questions go to whatever file it is.
    if found
        .link()
        .is_some_and(|link| !link.starts_with(process::LINK))
    {
        return Err(gone());
    }
    let is = found
        .file()
        .metadata()
        .map_err(|error| refused("fstat", 0, &error))?;
    if !is.is_file() || (is.dev(), is.ino()) != (device, inode) {
        return Err(gone());
    }
    // SAFETY: geteuid has no preconditions.
    if is.uid() != unsafe { libc::geteuid() } {
        return Err(no_permission("memory of another user"));
    }
    Ok(())
}

/// Whether the file can be mapped without a risk: it cannot change its size, and has the handle's.
fn check_size(file: &File, whole: usize) -> Result<()> {
    let sealed = "a handle of memory that is sealed against resizing";
    // Huge pages may be missing when they are touched, which is SIGBUS.
    if !is_in_memory(file).map_err(|error| refused("fstatfs", 0, &error))? {
        return Err(malformed("memory", sealed));
    }
    let seals = seals_of(file).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => malformed("memory", sealed),
        _ => refused("F_GET_SEALS", 0, &error),
    })?;
    if seals & FIXED_SIZE != FIXED_SIZE {
        return Err(malformed("memory", sealed));
    }
    // Only now: what is sealed stays as it is.
    let size = file
        .metadata()
        .map_err(|error| refused("fstat", 0, &error))?
        .len();
    if size != whole as u64 {
        return Err(malformed("size", "a handle with its memory's size"));
    }
    Ok(())
}

/// Finds, checks and maps another process's memory.
pub(crate) fn open(sought: &Sought<'_>) -> Result<Mapping> {
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(sought.place.chunks_exact(8)) {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        *number = u64::from_le_bytes(word);
    }
    let [device, inode, start, namespace] = numbers;
    let own = process::own_namespace();
    if namespace != 0 && own != 0 && namespace != own {
        return Err(Error::not_supported(
            "the shared memory is of a process in another PID namespace, whose numbers mean nothing here",
        ));
    }
    let found = process::find(sought.process, sought.descriptor, start)?;
    check_identity(&found, device, inode)?;
    let file = found.reopen(sought.access == Access::Write)?;
    check_size(&file, sought.whole)?;
    let mut trailer = [0; trailer::BYTES];
    file.read_exact_at(&mut trailer, (sought.whole - trailer::BYTES) as u64)
        .map_err(|error| refused("pread", 0, &error))?;
    trailer::check(&trailer, sought.size as u64, sought.secret)?;
    // Of frozen memory the system lets nobody map pages to write.
    Mapping::new(file.as_fd(), sought.whole, 1, sought.access, page_size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn only_files_of_plain_pages_in_memory_are_taken() {
        assert!(is_in_memory(&memory_file("test", 1).unwrap()).unwrap());
        assert!(!is_in_memory(&File::open("/proc/self/stat").unwrap()).unwrap());
        let flags = libc::MFD_HUGETLB | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a C string.
        let huge = unsafe { libc::memfd_create(c"offheap".as_ptr(), flags) };
        // Where the system has huge pages at all.
        if huge >= 0 {
            // SAFETY: a new descriptor that nobody else has.
            assert!(!is_in_memory(&unsafe { File::from_raw_fd(huge) }).unwrap());
        }
    }

    #[test]
    fn memory_is_made_with_its_seals_and_its_trailer() {
        for (freezable, last) in [(true, 0), (false, libc::F_SEAL_SEAL)] {
            let options = crate::SharedMemoryOptions {
                label: "a label".into(),
                reserve: true,
                freezable,
            };
            let secret = Secret::new().unwrap();
            let (mapping, owned) = create(&Wanted {
                size: 100,
                whole: 8192,
                alignment: 1 << 16,
                options: &options,
                secret: &secret,
            })
            .unwrap();
            let seals = seals_of(&owned.file).unwrap();
            assert_eq!(seals & (FIXED_SIZE | libc::F_SEAL_SEAL), FIXED_SIZE | last);
            assert_eq!(mapping.start().addr().get() % (1 << 16), 0);
            let about = owned.file.metadata().unwrap();
            assert_eq!((about.len(), about.blocks() * 512), (8192, 8192));
            let mut trailer = [0; trailer::BYTES];
            let at = 8192 - trailer::BYTES as u64;
            owned.file.read_exact_at(&mut trailer, at).unwrap();
            trailer::check(&trailer, 100, &secret).unwrap();
            let link = format!("/proc/self/fd/{}", owned.file.as_raw_fd());
            let link = std::fs::read_link(link).unwrap();
            assert!(link.to_str().unwrap().starts_with("/memfd:offheap:a label"));
        }
    }
}

//! Processes as Linux shows them: when they began, in which PID namespace, and their descriptors.

use crate::failure::{gone, malformed, no_permission, refused};
use offheap::{Error, Result};
use std::fs::{self, File};
use std::io::{self, ErrorKind as Io, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// How the system's names of our memory begin.
pub(super) const LINK: &str = "/memfd:offheap";

/// The field of `/proc/<pid>/stat` with the time when a process began, in clock ticks since the system's
/// start, counted behind the command's name (`proc_pid_stat(5)`, field 22).
const START_FIELD: usize = 19;

fn start_of(stat: &str) -> Option<u64> {
    // The name is in parentheses and may have any, and spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(START_FIELD)?.parse().ok()
}

/// When a process began (`self` for this one); `None` where the system does not say.
///
/// # Errors
/// [`NotFound`](Io::NotFound) when there is no such process.
fn started(process: &str) -> io::Result<Option<u64>> {
    // A line of some 52 numbers and a name of at most 64 bytes, which need not be text.
    let mut stat = [0; 2048];
    let read =
        File::open(format!("/proc/{process}/stat")).and_then(|mut file| file.read(&mut stat));
    match read {
        Ok(len) => Ok(start_of(&String::from_utf8_lossy(&stat[..len]))),
        // ESRCH: it ended between opening and reading.
        Err(e) if e.kind() == Io::NotFound || e.raw_os_error() == Some(libc::ESRCH) => {
            Err(Io::NotFound.into())
        }
        Err(_) => Ok(None),
    }
}

/// When this process began; 0 where the system does not say.
pub(super) fn own_start() -> u64 {
    started("self").ok().flatten().unwrap_or(0)
}

/// The PID namespace of this process; 0 where the system does not say.
pub(super) fn own_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |found| found.ino())
}

/// Whether `/proc` is there and names processes as this one does: a container's program may see its host's.
fn proc_is_ours() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&std::process::id().to_string()))
}

/// Another process's memory, found but not opened: reading and writing go through
/// [`reopen`](Found::reopen) or [`Mapping`](super::Mapping).
pub(super) enum Found {
    /// By `/proc`: a descriptor that only names the file (`O_PATH`).
    Path(File),
    /// By `pidfd_getfd`: the other process's own opening, for reading and writing.
    Same(File),
}

/// Finds what `descriptor` of `process`, which began at `start`, is.
///
/// By `/proc/<pid>/fd/<n>`, which the same user may follow (`ptrace_may_access`, mode read). Where `/proc`
/// is not there, by `pidfd_getfd` (Linux 5.6), which asks for more (mode attach: Yama refuses it).
///
/// # Errors
/// - [`Disposed`](offheap::ErrorKind::Disposed) when there is no such process or descriptor any more, or it
///   is no shared memory;
/// - [`DeviceUnavailable`](offheap::ErrorKind::DeviceUnavailable) when the system does not let us.
pub(super) fn find(process: u32, descriptor: u32, start: u64) -> Result<Found> {
    // A process's number is positive, and 0 would be this one.
    if !(1..=i32::MAX as u32).contains(&process) || descriptor > i32::MAX as u32 {
        return Err(malformed(
            "process",
            "a handle of a process and a descriptor",
        ));
    }
    if !proc_is_ours() {
        return by_pidfd(process, descriptor).map(Found::Same);
    }
    match started(&process.to_string()) {
        Err(_) => return Err(gone()),
        // The number was given to another process.
        Ok(Some(now)) if start != 0 && now != start => return Err(gone()),
        Ok(_) => {}
    }
    // Names the file without opening it: a stale number may be a pipe's, a terminal's or a remote file's by
    // now, and opening those may wait, or do something.
    let found = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(format!("/proc/{process}/fd/{descriptor}"))
        .map_err(|error| match error.kind() {
            Io::NotFound => gone(),
            _ if error.raw_os_error() == Some(libc::ESRCH) => gone(),
            Io::PermissionDenied => no_permission(&format!("opening memory of process {process}")),
            _ => refused("opening another process's memory", 0, &error),
        })?;
    Ok(Found::Path(found))
}

fn by_pidfd(process: u32, descriptor: u32) -> Result<File> {
    let call = |number, first: u32, second: u32| {
        // SAFETY: pidfd_open(pid, flags) and pidfd_getfd(pidfd, targetfd, flags) take integers alone; what
        // they leave out of the three is zero.
        let result = unsafe { libc::syscall(number, first, second, 0_u32) };
        if result < 0 {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::ESRCH | libc::EBADF) => gone(),
                Some(libc::EPERM | libc::EACCES) => {
                    no_permission(&format!("memory of process {process} without /proc"))
                }
                Some(libc::ENOSYS | libc::EINVAL) => Error::device_unavailable(
                    "no-proc",
                    "shared memory of another process is found by /proc or pidfd_getfd, and neither is there",
                ),
                _ => refused("pidfd_getfd", 0, &error),
            });
        }
        // SAFETY: a new descriptor that nobody else has.
        Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
    };
    let other = call(libc::SYS_pidfd_open, process, 0)?;
    let found = call(libc::SYS_pidfd_getfd, other.as_raw_fd() as u32, descriptor)?;
    Ok(File::from(found))
}

impl Found {
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Path(file) | Self::Same(file) => file,
        }
    }

    /// What the system calls it, by which a stale number is told from memory before anything asks the file
    /// itself; `None` where it does not say.
    pub(super) fn link(&self) -> Option<String> {
        match self {
            Self::Path(file) => fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
                .ok()
                .map(|link| link.to_string_lossy().into_owned()),
            Self::Same(_) => None,
        }
    }

    /// Opens it for reading, or for reading and writing.
    pub(super) fn reopen(self, writable: bool) -> Result<File> {
        match self {
            // Shared with its creator, and so open for writing; the mapping is what `writable` asks.
            Self::Same(file) => Ok(file),
            Self::Path(file) => File::options()
                .read(true)
                .write(writable)
                .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
                .map_err(|error| refused("opening shared memory", 0, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_read_behind_any_name() {
        let fields: Vec<_> = (3..=52).map(|n| (n * 10).to_string()).collect();
        let stat = format!("12 (a) (b c) {}\n", fields.join(" "));
        assert_eq!(start_of(&stat), Some(220));
        assert_eq!(start_of("12 (a) R 1"), None);
        assert_eq!(start_of(""), None);
        assert!(own_start() > 0 && own_namespace() > 0);
        assert_eq!(
            started(&std::process::id().to_string()).unwrap(),
            Some(own_start())
        );
        assert_eq!(started("4194305").unwrap_err().kind(), Io::NotFound);
    }

    #[test]
    fn what_is_not_there_is_gone_and_what_cannot_be_is_invalid() {
        let code = |process, descriptor| match find(process, descriptor, 0) {
            Err(error) => error.code(),
            Ok(_) => "found",
        };
        let own = std::process::id();
        assert_eq!(code(own, 1 << 20), "ERR_OFFHEAP_DISPOSED");
        assert_eq!(code(4_194_305, 1), "ERR_OFFHEAP_DISPOSED");
        for (process, descriptor) in [(0, 1), (1 << 31, 1), (u32::MAX, 1), (own, u32::MAX)] {
            assert_eq!(code(process, descriptor), "ERR_OFFHEAP_INVALID_ARGUMENT");
        }
        let file = File::open("/proc/self/stat").unwrap();
        let found = find(own, file.as_raw_fd() as u32, own_start()).unwrap();
        assert!(!found.link().unwrap().starts_with(LINK));
        assert!(find(own, file.as_raw_fd() as u32, own_start() + 1).is_err());
    }
}

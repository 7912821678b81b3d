//! The system's refusals as typed errors.

use offheap::{Error, ErrorKind};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of shared memory that this process has mapped, for errors and statistics.
pub(crate) static MAPPED: AtomicU64 = AtomicU64::new(0);

/// Under which name the crate's memory is counted.
pub(crate) const NAME: &str = "shm";

/// The memory behind a handle is gone.
#[cold]
pub(crate) fn gone() -> Error {
    Error::new(ErrorKind::Disposed {
        what: "shared memory",
    })
}

/// A handle that can never be right. Its value is not shown: it has a secret.
#[cold]
pub(crate) fn malformed(part: &'static str, expected: &'static str) -> Error {
    Error::invalid_argument("handle", format_args!("one whose {part} is not"), expected)
}

/// The memory cannot be had; `limit` is the one that refused, if one did.
#[cold]
pub(crate) fn no_memory(requested: u64, limit: Option<u64>) -> Error {
    Error::new(ErrorKind::OutOfMemory {
        requested,
        limit,
        allocated: MAPPED.load(Ordering::Relaxed),
        pool: NAME.to_owned(),
    })
}

/// The system keeps the memory from this process.
#[cold]
pub(crate) fn no_permission(what: &str) -> Error {
    Error::device_unavailable(
        "permission",
        format!("{what}: it is open to processes of the same user only"),
    )
}

/// What the system said to `call` about memory of `size` bytes.
#[cold]
pub(crate) fn refused(call: &str, size: u64, error: &io::Error) -> Error {
    use io::ErrorKind as Io;
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
        return Error::device_unavailable(
            "descriptors",
            format!("{call}: no file descriptor is left ({error})"),
        );
    }
    match error.kind() {
        Io::OutOfMemory | Io::StorageFull | Io::FileTooLarge | Io::QuotaExceeded => {
            no_memory(size, None)
        }
        Io::PermissionDenied => no_permission(call),
        _ => Error::device_unavailable("system", format!("{call} for {size} bytes: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_become_the_kinds_that_the_crate_documents() {
        let kind = |kind: io::ErrorKind| refused("ask", 7, &kind.into()).into_kind();
        assert!(matches!(
            kind(io::ErrorKind::OutOfMemory),
            ErrorKind::OutOfMemory {
                requested: 7,
                limit: None,
                ..
            }
        ));
        assert!(matches!(
            kind(io::ErrorKind::PermissionDenied),
            ErrorKind::DeviceUnavailable {
                reason: "permission",
                ..
            }
        ));
        assert!(matches!(
            kind(io::ErrorKind::Other),
            ErrorKind::DeviceUnavailable {
                reason: "system",
                ..
            }
        ));
        #[cfg(unix)]
        for errno in [libc::EMFILE, libc::ENFILE] {
            assert!(matches!(
                refused("ask", 7, &io::Error::from_raw_os_error(errno)).into_kind(),
                ErrorKind::DeviceUnavailable {
                    reason: "descriptors",
                    ..
                }
            ));
        }
        let text = malformed("key", "100 hex digits").to_string();
        assert_eq!(
            text,
            "handle must be 100 hex digits, got one whose key is not"
        );
    }
}

//! Errors: one pointer wide, with the numbers that explain them.

use std::fmt;

/// What every fallible call of this crate returns.
///
/// The error is one pointer wide, so `Result<NonNull<u8>>` travels in two registers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused. An error leaves everything as it was.
pub struct Error {
    kind: Box<ErrorKind>,
}

/// The reason inside an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Memory could not be had: the system refused, or a limit would be exceeded.
    OutOfMemory {
        /// Bytes asked for (for a reallocation: the bytes that would have been added).
        requested: u64,
        /// The limit that refused, in bytes; `None` when the allocator itself refused.
        limit: Option<u64>,
        /// Bytes that the refusing pool held at that moment.
        allocated: u64,
        /// The refusing pool's name.
        pool: String,
    },
    /// An argument that can never be right.
    InvalidArgument {
        /// The argument's name.
        argument: &'static str,
        /// The value given.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// A range, index or position outside of the memory it is meant for.
    OutOfRange {
        /// What was asked, with its numbers.
        what: String,
    },
    /// The pool, reader or writer was closed.
    Closed {
        /// What was closed.
        what: String,
    },
    /// The memory may not be written.
    Immutable {
        /// The operation that would have written.
        what: &'static str,
    },
    /// This build, system or kind of memory cannot do it.
    NotSupported {
        /// What cannot be done, and why.
        what: String,
    },
    /// Others hold the memory, so it cannot move or change now.
    Busy {
        /// Who holds it.
        what: String,
    },
    /// Memory was damaged, or given back in a way that would damage it; found by debug hooks.
    Corruption {
        /// The whole report.
        what: String,
    },
    /// A device, or what is needed to reach it, is not there.
    DeviceUnavailable {
        /// Why, in one word for programs: `no-library`, `no-device`, …
        reason: &'static str,
        /// What was looked for, and what was found.
        what: String,
    },
    /// The handle was disposed, or never existed.
    Disposed {
        /// What was disposed.
        what: &'static str,
    },
}

impl Error {
    /// Makes an error from its reason.
    #[cold]
    pub fn new(kind: ErrorKind) -> Self {
        Self {
            kind: Box::new(kind),
        }
    }

    /// The reason.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The reason, owned.
    pub fn into_kind(self) -> ErrorKind {
        *self.kind
    }

    /// The Node-style code, stable across versions: `ERR_OFFHEAP_…`.
    pub fn code(&self) -> &'static str {
        match *self.kind {
            ErrorKind::OutOfMemory { .. } => "ERR_OFFHEAP_OUT_OF_MEMORY",
            ErrorKind::InvalidArgument { .. } => "ERR_OFFHEAP_INVALID_ARGUMENT",
            ErrorKind::OutOfRange { .. } => "ERR_OFFHEAP_OUT_OF_RANGE",
            ErrorKind::Closed { .. } => "ERR_OFFHEAP_CLOSED",
            ErrorKind::Immutable { .. } => "ERR_OFFHEAP_IMMUTABLE",
            ErrorKind::NotSupported { .. } => "ERR_OFFHEAP_NOT_SUPPORTED",
            ErrorKind::Busy { .. } => "ERR_OFFHEAP_BUSY",
            ErrorKind::Disposed { .. } => "ERR_OFFHEAP_DISPOSED",
            ErrorKind::DeviceUnavailable { .. } => "ERR_OFFHEAP_DEVICE_UNAVAILABLE",
            ErrorKind::Corruption { .. } => "ERR_OFFHEAP_CORRUPTION",
        }
    }

    /// Whether memory could not be had.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(*self.kind, ErrorKind::OutOfMemory { .. })
    }

    /// An [`ErrorKind::OutOfMemory`] of the allocator itself.
    #[cold]
    pub(crate) fn allocator_refused(requested: u64, allocated: u64, pool: String) -> Self {
        Self::new(ErrorKind::OutOfMemory {
            requested,
            limit: None,
            allocated,
            pool,
        })
    }

    /// An [`ErrorKind::InvalidArgument`].
    #[cold]
    pub fn invalid_argument(
        argument: &'static str,
        value: impl fmt::Display,
        expected: &'static str,
    ) -> Self {
        Self::new(ErrorKind::InvalidArgument {
            argument,
            value: value.to_string(),
            expected,
        })
    }

    /// An [`ErrorKind::OutOfRange`] for `[offset, offset + length)` of `size` bytes.
    #[cold]
    pub fn range(
        offset: impl fmt::Display,
        length: impl fmt::Display,
        size: impl fmt::Display,
    ) -> Self {
        Self::new(ErrorKind::OutOfRange {
            what: format!("offset {offset} with length {length} is outside of {size} bytes"),
        })
    }

    /// An [`ErrorKind::OutOfRange`] for one position in `size` bytes.
    #[cold]
    pub fn position(
        what: &'static str,
        position: impl fmt::Display,
        size: impl fmt::Display,
    ) -> Self {
        Self::new(ErrorKind::OutOfRange {
            what: format!("{what} {position} is outside of {size} bytes"),
        })
    }

    /// An [`ErrorKind::Closed`].
    #[cold]
    pub fn closed(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Closed { what: what.into() })
    }

    /// An [`ErrorKind::NotSupported`].
    #[cold]
    pub fn not_supported(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotSupported { what: what.into() })
    }

    /// An [`ErrorKind::DeviceUnavailable`].
    #[cold]
    pub fn device_unavailable(reason: &'static str, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::DeviceUnavailable {
            reason,
            what: what.into(),
        })
    }

    /// An [`ErrorKind::Busy`].
    #[cold]
    pub fn busy(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Busy { what: what.into() })
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory {
                requested,
                limit: Some(limit),
                allocated,
                pool,
            } => write!(
                f,
                "pool '{pool}' cannot allocate {requested} bytes: {allocated} of its limit of {limit} bytes are allocated, {} are left",
                limit.saturating_sub(*allocated)
            ),
            Self::OutOfMemory {
                requested,
                limit: None,
                allocated,
                pool,
            } => write!(
                f,
                "pool '{pool}' cannot allocate {requested} bytes: the system refused ({allocated} bytes are allocated)"
            ),
            Self::InvalidArgument {
                argument,
                value,
                expected,
            } => {
                write!(f, "{argument} must be {expected}, got {value}")
            }
            Self::OutOfRange { what }
            | Self::NotSupported { what }
            | Self::Busy { what }
            | Self::DeviceUnavailable { what, .. }
            | Self::Corruption { what } => f.write_str(what),
            Self::Closed { what } => write!(f, "{what} is closed"),
            Self::Immutable { what } => write!(f, "cannot {what}: the buffer is immutable"),
            Self::Disposed { what } => write!(f, "the {what} was disposed"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.kind, self.code())
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match *error.kind {
            ErrorKind::OutOfMemory { .. } => Io::OutOfMemory,
            ErrorKind::InvalidArgument { .. } | ErrorKind::OutOfRange { .. } => Io::InvalidInput,
            ErrorKind::Closed { .. } | ErrorKind::Disposed { .. } => Io::BrokenPipe,
            ErrorKind::Immutable { .. } => Io::PermissionDenied,
            ErrorKind::NotSupported { .. } => Io::Unsupported,
            ErrorKind::Busy { .. } => Io::ResourceBusy,
            ErrorKind::DeviceUnavailable { .. } => Io::NotFound,
            ErrorKind::Corruption { .. } => Io::InvalidData,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_pointer_wide_and_carry_their_numbers() {
        assert_eq!(
            size_of::<Result<std::ptr::NonNull<u8>>>(),
            2 * size_of::<usize>()
        );
        let error = Error::new(ErrorKind::OutOfMemory {
            requested: 401,
            limit: Some(1000),
            allocated: 600,
            pool: "query".into(),
        });
        assert_eq!(error.code(), "ERR_OFFHEAP_OUT_OF_MEMORY");
        assert_eq!(
            error.to_string(),
            "pool 'query' cannot allocate 401 bytes: 600 of its limit of 1000 bytes are allocated, 400 are left"
        );
        let invalid = Error::invalid_argument("alignment", 3, "a power of two");
        assert_eq!(
            invalid.to_string(),
            "alignment must be a power of two, got 3"
        );
        assert!(std::io::Error::from(invalid).kind() == std::io::ErrorKind::InvalidInput);
    }
}

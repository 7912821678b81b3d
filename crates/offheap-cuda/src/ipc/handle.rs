//! What one process tells another.

use offheap::{Error, Result};
use offheap_shm::{Secret, SharedMemoryHandle};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// What another process needs to open memory of a GPU: numbers and text, for JSON or any other way.
///
/// Its receiver must be a process of the same user on the same machine, and not the one that made it. The
/// memory lives as long as its maker keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaIpcHandle {
    /// The GPU's UUID: ordinals differ where processes see different GPUs.
    pub device: [u8; 16],
    /// The whole allocation.
    pub handle: CudaIpcMemory,
    /// Where the bytes begin in the allocation.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
}

/// Names an allocation for other processes. Goes through text by [`Display`](fmt::Display) and [`FromStr`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CudaIpcMemory {
    /// The driver's own handle of memory of `cuMemAlloc`; 128 hex digits as text.
    Legacy([u8; 64]),
    /// An allocation of an [exportable](crate::DriverPoolOptions::exportable) pool of the driver's.
    Pool(CudaPoolHandle),
}

/// Names an allocation of an exportable pool: where its maker can be asked for it, and 128 random bits that
/// prove that the maker gave the handle. It holds no authority over a file descriptor, and keeps nothing
/// alive. [`Debug`](fmt::Debug) does not show the bits.
#[derive(Clone)]
pub struct CudaPoolHandle {
    /// Memory of the maker's that says where it can be asked.
    pub(crate) maker: SharedMemoryHandle,
    /// Which of the maker's allocations.
    pub(crate) number: u64,
    pub(crate) secret: Secret,
}

impl PartialEq for CudaPoolHandle {
    fn eq(&self, other: &Self) -> bool {
        self.maker == other.maker
            && self.number == other.number
            && self.secret.matches(&other.secret)
    }
}

impl Eq for CudaPoolHandle {}

impl fmt::Debug for CudaPoolHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaPoolHandle")
            .field("maker", &self.maker)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// What another process needs to wait for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaIpcEventHandle {
    /// The GPU's UUID.
    pub device: [u8; 16],
    /// The driver's handle.
    pub handle: [u8; 64],
}

const POOL: &str = "offheap-pool:";

/// A handle that can never be right. Its value is not shown: it has a secret.
#[cold]
fn malformed() -> Error {
    Error::invalid_argument("handle", "another text", "the text that an export gave")
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// As many bytes as two digits for each say.
fn from_hex<const N: usize>(text: &str) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return Err(malformed());
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or_else(malformed);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Ok(bytes)
}

impl fmt::Display for CudaIpcMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy(bytes) => hex(f, bytes),
            Self::Pool(pool) => {
                write!(f, "{POOL}{}:", pool.number)?;
                hex(f, &pool.secret.bytes())?;
                f.write_char(':')?;
                pool.maker.fmt(f)
            }
        }
    }
}

impl FromStr for CudaIpcMemory {
    type Err = Error;

    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for other text than
    /// [`Display`](fmt::Display)'s.
    fn from_str(text: &str) -> Result<Self> {
        let Some(rest) = text.strip_prefix(POOL) else {
            return from_hex(text).map(Self::Legacy);
        };
        let mut parts = rest.splitn(3, ':');
        let (Some(number), Some(secret), Some(maker)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Self::Pool(CudaPoolHandle {
            maker: maker.parse()?,
            number: match number.parse() {
                Ok(number) if is_plain => number,
                _ => return Err(malformed()),
            },
            secret: Secret::from_bytes(from_hex(secret)?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> CudaIpcMemory {
        CudaIpcMemory::Pool(CudaPoolHandle {
            maker: SharedMemoryHandle {
                process: 3,
                descriptor: 9,
                size: 32,
                key: "4c".into(),
            },
            number: 7,
            secret: Secret::from_bytes(std::array::from_fn(|i| i as u8 * 16)),
        })
    }

    #[test]
    fn text_is_read_back_and_debug_hides_the_secret() {
        let text = pool().to_string();
        let secret = "00102030405060708090a0b0c0d0e0f0";
        assert_eq!(
            text,
            format!("offheap-pool:7:{secret}:offheap-shm:3:9:32:4c")
        );
        assert_eq!(text.parse::<CudaIpcMemory>().unwrap(), pool());
        assert!(!format!("{:?}", pool()).contains("1020"));
        let legacy = CudaIpcMemory::Legacy(std::array::from_fn(|i| i as u8));
        let text = legacy.to_string();
        assert_eq!(text.len(), 128);
        assert_eq!(text.parse::<CudaIpcMemory>().unwrap(), legacy);
        assert_ne!(legacy, pool());
    }

    #[test]
    fn other_text_is_refused() {
        let good = pool().to_string();
        for wrong in [
            "",
            "00",
            &"zz".repeat(64),
            &"é".repeat(64),
            "offheap-pool:",
            "offheap-pool:7",
            &good[..good.len() - 4],
            &good[..45],
            &good.replace(":7:", ":-7:"),
            &good.replace(":7:", ":+7:"),
            &good.replace(":7:", "::"),
            &good.replace(":7:", ":18446744073709551616:"),
            &good.replace("00102030", "0010203"),
            &good.replace("00102030", "001020zz"),
            &good.replace("offheap-shm", "offheap-shn"),
        ] {
            let error = wrong.parse::<CudaIpcMemory>().unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT", "{wrong}");
        }
    }
}

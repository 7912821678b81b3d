//! Handles: what one process tells another.

use crate::failure::malformed;
use offheap::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// The largest integer that a JSON number carries exactly everywhere.
pub(crate) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Names shared memory for other processes of the same user: numbers below 2^53 and a hex string, so it
/// goes through JSON, and by [`Display`](fmt::Display) and [`FromStr`] through one word of text.
///
/// It is as good as the memory itself: whoever has it and is the same user can open it. It keeps nothing
/// alive, and may be opened any number of times while its creator has the memory.
/// [`Debug`](fmt::Debug) does not show the key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SharedMemoryHandle {
    /// The process that has the memory open for others, as itself and others in its PID namespace see it.
    pub process: u32,
    /// Its file descriptor of the memory (Linux); 0 elsewhere.
    pub descriptor: u32,
    /// Bytes of the memory.
    pub size: u64,
    /// What else finds the memory, and 128 random bits that prove that its creator made the handle: 100
    /// hex digits.
    pub key: String,
}

const PREFIX: &str = "offheap-shm";

/// A decimal number as [`Display`](fmt::Display) writes it: no sign, no leading zero.
pub(crate) fn number(text: &str, part: &'static str) -> Result<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    match text.parse() {
        Ok(number) if plain && number <= MAX_NUMBER => Ok(number),
        _ => Err(malformed(part, "a handle with numbers below 2^53")),
    }
}

impl SharedMemoryHandle {
    /// From the parts of its text behind the prefix.
    pub(crate) fn from_parts<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut next = || parts.next().ok_or_else(|| malformed("text", EXPECTED));
        if next()? != PREFIX {
            return Err(malformed("text", EXPECTED));
        }
        let small = |text, part| {
            u32::try_from(number(text, part)?)
                .map_err(|_| malformed(part, "a handle with a number of 32 bits there"))
        };
        Ok(Self {
            process: small(next()?, "process")?,
            descriptor: small(next()?, "descriptor")?,
            size: number(next()?, "size")?,
            key: next()?.to_owned(),
        })
    }
}

const EXPECTED: &str = "a handle as `offheap-shm:process:descriptor:size:key`";

impl fmt::Display for SharedMemoryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}:{}:{}:{}:{}",
            self.process, self.descriptor, self.size, self.key
        )
    }
}

impl FromStr for SharedMemoryHandle {
    type Err = Error;

    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for other text. The key is read when the
    /// handle is opened.
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let handle = Self::from_parts(&mut parts)?;
        match parts.next() {
            None => Ok(handle),
            Some(_) => Err(malformed("text", EXPECTED)),
        }
    }
}

impl fmt::Debug for SharedMemoryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemoryHandle")
            .field("process", &self.process)
            .field("descriptor", &self.descriptor)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_back_and_debug_hides_the_key() {
        let handle = SharedMemoryHandle {
            process: u32::MAX,
            descriptor: 7,
            size: MAX_NUMBER,
            key: "4c01".into(),
        };
        let text = handle.to_string();
        assert_eq!(text, "offheap-shm:4294967295:7:9007199254740991:4c01");
        assert_eq!(text.parse::<SharedMemoryHandle>().unwrap(), handle);
        assert!(!format!("{handle:?}").contains("4c01"));
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            ":",
            "offheap-shm",
            "offheap-shm:1:2:3",
            "offheap-shm:1:2:3:k:5",
            "offheap-shn:1:2:3:k",
            "offheap-shm:-1:2:3:k",
            "offheap-shm:+1:2:3:k",
            "offheap-shm:01:2:3:k",
            "offheap-shm: 1:2:3:k",
            "offheap-shm:4294967296:2:3:k",
            "offheap-shm:1:4294967296:3:k",
            "offheap-shm:1:2:9007199254740992:k",
            "offheap-shm:1:2:18446744073709551616:k",
            "offheap-shm:1:2:0x3:k",
            "offheap-shm:1:2::k",
            "offheap-shm:1:2:٣:k",
        ] {
            let error = text.parse::<SharedMemoryHandle>().unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT", "{text}");
        }
    }
}

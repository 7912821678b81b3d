//! The bits that nobody guesses.

use offheap::{Error, Result};
use std::fmt;
use std::hint::black_box;

/// 128 random bits that a handle and its memory have in common: by them the maker knows what it gave. Public for other
/// crates whose handles go the same way.
#[derive(Clone, Copy)]
pub struct Secret([u8; Self::BYTES]);

impl Secret {
    /// How many bytes that is.
    pub const BYTES: usize = 16;

    /// New bits of the system's random source.
    ///
    /// # Errors
    /// [`DeviceUnavailable`](offheap::ErrorKind::DeviceUnavailable) with `no-random`.
    pub fn new() -> Result<Self> {
        loop {
            let mut bits = [0; Self::BYTES];
            getrandom::fill(&mut bits).map_err(|error| {
                Error::device_unavailable("no-random", format!("no random bits: {error}"))
            })?;
            let secret = Self(bits);
            // Zero marks revoked memory.
            if !secret.is_revoked() {
                return Ok(secret);
            }
        }
    }

    /// Bits that somebody else says.
    pub const fn from_bytes(bits: [u8; Self::BYTES]) -> Self {
        Self(bits)
    }

    /// The bits, for a handle.
    pub const fn bytes(&self) -> [u8; Self::BYTES] {
        self.0
    }

    /// Whether these bits are what [`revoke`](crate::SharedMemory::revoke) leaves.
    pub(crate) fn is_revoked(&self) -> bool {
        self.matches(&Self([0; Self::BYTES]))
    }

    /// Whether both are the same, in a time that does not tell how many bits agree.
    pub fn matches(&self, other: &Self) -> bool {
        let mut differing = 0;
        for (a, b) in self.0.iter().zip(&other.0) {
            differing |= black_box(a ^ b);
        }
        black_box(differing) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_is_seen() {
        let secret = Secret::new().unwrap();
        assert!(secret.matches(&secret.clone()) && !secret.is_revoked());
        for bit in 0..128 {
            let mut bits = secret.bytes();
            bits[bit / 8] ^= 1 << (bit % 8);
            assert!(!secret.matches(&Secret::from_bytes(bits)), "bit {bit}");
        }
        assert!(Secret::from_bytes([0; 16]).is_revoked());
        assert!(!Secret::new().unwrap().matches(&secret));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}

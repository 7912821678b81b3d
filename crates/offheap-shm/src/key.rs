//! The hex string of a handle.

use crate::failure::malformed;
use crate::secret::Secret;
use offheap::Result;

/// What a system needs to find memory, beside a process and a descriptor.
pub(crate) type Place = [u8; 32];

/// ```text
///   system 1 │ version 1 │ place 32 │ secret 16
/// ```
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) secret: Secret,
}

const VERSION: u8 = 1;
const BYTES: usize = 2 + 32 + Secret::BYTES;

const SYSTEM: u8 = if cfg!(any(target_os = "linux", target_os = "android")) {
    b'L'
} else if cfg!(windows) {
    b'W'
} else {
    b'M'
};

const EXPECTED: &str = "a handle whose key has 100 hex digits in lower case";

fn digit(digit: u8) -> Result<u8> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(malformed("key", EXPECTED)),
    }
}

impl Key {
    pub(crate) fn to_hex(self) -> String {
        let mut bytes = [0; BYTES];
        bytes[0] = SYSTEM;
        bytes[1] = VERSION;
        bytes[2..34].copy_from_slice(&self.place);
        bytes[34..].copy_from_slice(&self.secret.bytes());
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        bytes
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| char::from(DIGITS[usize::from(digit)]))
            .collect()
    }

    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for everything that
    /// [`to_hex`](Self::to_hex) does not make on this system.
    pub(crate) fn from_hex(text: &str) -> Result<Self> {
        let text = text.as_bytes();
        if text.len() != 2 * BYTES {
            return Err(malformed("key", EXPECTED));
        }
        let mut bytes = [0; BYTES];
        for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        if bytes[0] != SYSTEM || bytes[1] != VERSION {
            return Err(malformed("key", "a handle of this system and version"));
        }
        let mut key = Self {
            place: [0; 32],
            secret: Secret::from_bytes([0; Secret::BYTES]),
        };
        key.place.copy_from_slice(&bytes[2..34]);
        let mut bits = [0; Secret::BYTES];
        bits.copy_from_slice(&bytes[34..]);
        key.secret = Secret::from_bytes(bits);
        // No memory ever has it, but revoked memory shows it.
        if key.secret.is_revoked() {
            return Err(malformed(
                "secret",
                "a handle that its memory's creator gave",
            ));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_nothing_else_is() {
        let key = Key {
            place: std::array::from_fn(|i| i as u8 * 7),
            secret: Secret::new().unwrap(),
        };
        let text = key.to_hex();
        assert_eq!(text.len(), 100);
        let back = Key::from_hex(&text).unwrap();
        assert_eq!(back.place, key.place);
        assert!(back.secret.matches(&key.secret));
        for wrong in [
            "",
            &text[1..],
            &text.to_uppercase(),
            &format!("{text}0"),
            &text.replacen(&text[..2], "58", 1),
            &format!("{}zz", &text[..98]),
            &format!("{}{}", &text[..68], "0".repeat(32)),
            &"é".repeat(50),
        ] {
            assert_eq!(
                Key::from_hex(wrong).unwrap_err().code(),
                "ERR_OFFHEAP_INVALID_ARGUMENT",
                "{wrong}"
            );
        }
    }
}

//! Bytes as hexadecimal digits.

use crate::error::{Error, Result};

/// Two upper-case digits a byte, as Arrow's `ToHexString`.
///
/// # Errors
/// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) when the text's memory, which is Rust's and no
/// pool's, cannot be had.
pub fn try_to_hex(bytes: &[u8]) -> Result<String> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::new();
    let length = bytes.len().saturating_mul(2);
    text.try_reserve_exact(length)
        .map_err(|_| Error::allocator_refused(length as u64, 0, "text".to_owned()))?;
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    Ok(text)
}

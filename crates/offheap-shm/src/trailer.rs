//! What stands behind the data, in the last 64 bytes of the system's memory.
//!
//! ```text
//!   data (size bytes) … zeros … │ magic 8 │ version 8 │ size 8 │ secret 16 │ zeros 24 │ end of a page
//! ```
//!
//! Behind and not in front: data then starts at a page, and small memory costs one page, not two.

use crate::failure::{gone, malformed};
use crate::secret::Secret;
use offheap::Result;

/// Bytes of the trailer.
pub(crate) const BYTES: usize = 64;

/// Where the secret is in it.
pub(crate) const SECRET_AT: usize = 24;

const MAGIC: u64 = u64::from_le_bytes(*b"offheap\n");
const VERSION: u64 = 1;

/// Bytes of the system's memory for `size` bytes of data: whole pages. `None` when there is no such
/// object.
pub(crate) const fn whole(size: usize, page: usize) -> Option<usize> {
    match size.checked_add(BYTES + page - 1) {
        Some(sum) if sum <= isize::MAX as usize => Some(sum & !(page - 1)),
        _ => None,
    }
}

/// The trailer of memory with `size` bytes of data.
pub(crate) fn encode(size: u64, secret: &Secret) -> [u8; BYTES] {
    let mut trailer = [0; BYTES];
    trailer[..8].copy_from_slice(&MAGIC.to_le_bytes());
    trailer[8..16].copy_from_slice(&VERSION.to_le_bytes());
    trailer[16..SECRET_AT].copy_from_slice(&size.to_le_bytes());
    trailer[SECRET_AT..SECRET_AT + Secret::BYTES].copy_from_slice(&secret.bytes());
    trailer
}

/// Whether memory with this trailer is what a handle with `size` and `secret` names.
///
/// # Errors
/// - [`Disposed`](offheap::ErrorKind::Disposed) when the handle was revoked;
/// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) when it is another's.
pub(crate) fn check(trailer: &[u8; BYTES], size: u64, secret: &Secret) -> Result<()> {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&trailer[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let mut bits = [0; Secret::BYTES];
    bits.copy_from_slice(&trailer[SECRET_AT..SECRET_AT + Secret::BYTES]);
    let theirs = Secret::from_bytes(bits);
    if word(0) != MAGIC || word(8) != VERSION {
        return Err(malformed(
            "memory",
            "a handle of shared memory of this version",
        ));
    }
    if theirs.is_revoked() {
        return Err(gone());
    }
    // Of a wrong secret nothing else is told.
    if !theirs.matches(secret) {
        return Err(malformed(
            "secret",
            "a handle that its memory's creator gave",
        ));
    }
    if word(16) != size {
        return Err(malformed("size", "a handle with its memory's size"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_with_room_for_the_trailer() {
        assert_eq!(whole(0, 4096), Some(4096));
        assert_eq!(whole(4096 - BYTES, 4096), Some(4096));
        assert_eq!(whole(4096 - BYTES + 1, 4096), Some(8192));
        assert_eq!(whole(4096, 16384), Some(16384));
        assert_eq!(whole(isize::MAX as usize, 4096), None);
        assert_eq!(whole(usize::MAX, 4096), None);
    }

    #[test]
    fn only_the_right_trailer_passes() {
        let secret = Secret::new().unwrap();
        let right = encode(100, &secret);
        check(&right, 100, &secret).unwrap();
        let code = |trailer: &[u8; BYTES], size| check(trailer, size, &secret).unwrap_err().code();
        assert_eq!(code(&right, 101), "ERR_OFFHEAP_INVALID_ARGUMENT");
        for at in 0..SECRET_AT + Secret::BYTES {
            let mut wrong = right;
            wrong[at] ^= 0x40;
            assert_eq!(code(&wrong, 100), "ERR_OFFHEAP_INVALID_ARGUMENT", "{at}");
        }
        let mut revoked = right;
        revoked[SECRET_AT..SECRET_AT + Secret::BYTES].fill(0);
        assert_eq!(code(&revoked, 100), "ERR_OFFHEAP_DISPOSED");
        assert_eq!(code(&[0; BYTES], 0), "ERR_OFFHEAP_INVALID_ARGUMENT");
    }
}

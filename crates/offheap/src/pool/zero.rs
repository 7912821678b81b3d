//! The block of no bytes.

use crate::alignment::Alignment;
use std::ptr::NonNull;

#[repr(align(4096))]
struct Sentinel(#[expect(dead_code, reason = "only its address is used")] [u8; 64]);

static SENTINEL: Sentinel = Sentinel([0; 64]);

/// The address that every allocation of zero bytes returns: never null, shared, and a multiple of
/// `alignment`. Nothing may be written there.
pub(crate) fn zero_size_block(alignment: Alignment) -> NonNull<u8> {
    if alignment.get() <= 4096 {
        NonNull::from(&SENTINEL).cast()
    } else {
        // No static can be aligned to more than a page everywhere; an address that nobody reads
        // need not be mapped.
        let address = std::ptr::without_provenance_mut(alignment.get());
        NonNull::new(address).unwrap_or(NonNull::dangling())
    }
}

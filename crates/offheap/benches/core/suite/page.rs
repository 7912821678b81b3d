//! Writing to memory as a program that uses it would: a byte in every page.

/// The least page that any of our systems has.
pub(crate) const PAGE: usize = 4096;

/// Writes a byte in every page from `from` up to `to`.
///
/// # Safety
/// - the bytes from `from` to `to` of `block` may be written.
pub(crate) unsafe fn touch(block: *mut u8, from: usize, to: usize) {
    for offset in (from..to).step_by(PAGE) {
        // SAFETY: `offset` is below `to`.
        unsafe { block.add(offset).write_volatile(1) };
    }
}

//! Stand-in until the small-object allocator is merged.
use crate::alignment::Alignment;
use crate::pool::BACKENDS;
use std::ptr::NonNull;
pub(crate) const MAX_SMALL: usize = 512;
fn class(size: usize) -> usize {
    size.next_multiple_of(64)
}
pub(crate) fn allocate(size: usize, _alignment: usize) -> Option<NonNull<u8>> {
    BACKENDS[0].allocate(class(size), Alignment::DEFAULT, false)
}
pub(crate) unsafe fn free(ptr: NonNull<u8>, size: usize, _alignment: usize) {
    // SAFETY: stand-in.
    unsafe { BACKENDS[0].free(ptr, class(size), Alignment::DEFAULT) }
}
pub(crate) fn block_size(_ptr: NonNull<u8>) -> Option<usize> {
    None
}
pub(crate) fn release_unused() {}

//! The default source of arenas: pages of the system's, mapped and unmapped.

use super::class::PAGE_SIZE;
use std::ptr::NonNull;

/// `size` bytes, a multiple of [`PAGE_SIZE`], at a multiple of [`PAGE_SIZE`].
#[cfg(unix)]
pub(super) fn allocate(size: usize) -> Option<NonNull<u8>> {
    let block = map(size)?;
    if block.addr().get() & (PAGE_SIZE - 1) == 0 {
        return Some(block);
    }
    // The system's pages are smaller than ours and this one started in the middle: map one more,
    // and give what is too much back. Later mappings mostly come out aligned by themselves.
    // SAFETY: the mapping was made above and nobody knows it.
    unsafe { free(block, size) };
    let block = map(size.checked_add(PAGE_SIZE)?)?;
    let before = block.addr().get().wrapping_neg() & (PAGE_SIZE - 1);
    // SAFETY: `before` is less than PAGE_SIZE, and the mapping is larger than that.
    let aligned = unsafe { block.add(before) };
    // SAFETY: `before + size` is at most the mapping's size.
    let after = unsafe { aligned.add(size) };
    // SAFETY: both ends belong to the mapping, and nobody uses them.
    unsafe {
        free(block, before);
        free(after, PAGE_SIZE - before);
    }
    Some(aligned)
}

#[cfg(unix)]
fn map(size: usize) -> Option<NonNull<u8>> {
    // SAFETY: a fresh private mapping touches nothing that exists.
    let block = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANON,
            -1,
            0,
        )
    };
    if block == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(block.cast())
}

/// Gives back what [`allocate`] gave.
///
/// # Safety
/// - `block` and `size` are a mapping of [`allocate`]'s, or an end of one that consists of whole
///   pages of the system's, and nobody uses it any more.
#[cfg(unix)]
pub(super) unsafe fn free(block: NonNull<u8>, size: usize) {
    if size == 0 {
        return;
    }
    // SAFETY: the caller's promise.
    if unsafe { libc::munmap(block.as_ptr().cast(), size) } != 0 {
        // A hole would need one more mapping than the system allows a process: keep the addresses,
        // give the memory back.
        // SAFETY: as above; the bytes are nobody's.
        unsafe { libc::madvise(block.as_ptr().cast(), size, libc::MADV_DONTNEED) };
    }
}

#[cfg(not(unix))]
fn layout(size: usize) -> Option<std::alloc::Layout> {
    std::alloc::Layout::from_size_align(size, PAGE_SIZE).ok()
}

/// `size` bytes, not zero, at a multiple of [`PAGE_SIZE`].
#[cfg(not(unix))]
pub(super) fn allocate(size: usize) -> Option<NonNull<u8>> {
    use std::alloc::{GlobalAlloc, System};
    if size == 0 {
        return None;
    }
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { System.alloc(layout(size)?) })
}

/// Gives back what [`allocate`] gave.
///
/// # Safety
/// - `block` and `size` are [`allocate`]'s, and nobody uses the block any more.
#[cfg(not(unix))]
pub(super) unsafe fn free(block: NonNull<u8>, size: usize) {
    use std::alloc::{GlobalAlloc, System};
    if let Some(layout) = layout(size) {
        // SAFETY: the caller's promise; the layout is `allocate`'s.
        unsafe { System.dealloc(block.as_ptr(), layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::class::ARENA_SIZE;
    use super::*;

    #[test]
    fn mappings_are_aligned_writable_and_apart() {
        let blocks: Vec<_> = (0..9).map(|_| allocate(ARENA_SIZE).unwrap()).collect();
        // Makes the next mappings start in the middle of a page of ours on most systems.
        let odd = allocate(ARENA_SIZE).unwrap();
        // SAFETY: the block's first bytes, ARENA_SIZE of them.
        unsafe { odd.write_bytes(1, ARENA_SIZE) };
        for (i, block) in blocks.iter().enumerate() {
            assert_eq!(block.addr().get() % PAGE_SIZE, 0);
            // SAFETY: the block has ARENA_SIZE bytes.
            unsafe { block.write_bytes(i as u8, ARENA_SIZE) };
        }
        for (i, block) in blocks.iter().enumerate() {
            // SAFETY: written above.
            let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), ARENA_SIZE) };
            assert!(bytes.iter().all(|b| *b == i as u8));
        }
        for block in blocks.into_iter().chain([odd]) {
            // SAFETY: made above, not used any more.
            unsafe { free(block, ARENA_SIZE) };
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_mapping_that_starts_in_the_middle_of_a_page_is_aligned() {
        // Blocks of half a page between the mappings make the system's next places odd ones.
        let odd: Vec<_> = (0..3).map(|_| map(PAGE_SIZE / 2).unwrap()).collect();
        let blocks: Vec<_> = (0..4)
            .map(|_| (map(PAGE_SIZE / 2).unwrap(), allocate(ARENA_SIZE).unwrap()))
            .collect();
        for (half, block) in blocks {
            assert_eq!(block.addr().get() % PAGE_SIZE, 0);
            // SAFETY: the last byte of the block is the block's.
            unsafe { block.add(ARENA_SIZE - 1).write(1) };
            // SAFETY: made above, not used any more.
            unsafe {
                free(block, ARENA_SIZE);
                free(half, PAGE_SIZE / 2);
            }
        }
        for half in odd {
            // SAFETY: made above, not used any more.
            unsafe { free(half, PAGE_SIZE / 2) };
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        assert_eq!(allocate(usize::MAX & !(PAGE_SIZE - 1)), None);
    }
}

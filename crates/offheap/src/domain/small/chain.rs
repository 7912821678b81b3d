//! Free blocks, linked through their first words.

use std::ptr::{self, NonNull};

/// The first word of a free block.
#[repr(C)]
pub(super) struct FreeBlock {
    next: *mut FreeBlock,
}

/// A list of free blocks that nobody else knows, last in first out.
///
/// What a chain holds it owns: [`push`](Self::push) takes the block from its caller, and
/// [`pop`](Self::pop) hands it over.
pub(super) struct Chain {
    head: *mut FreeBlock,
    len: u32,
}

impl Chain {
    pub(super) const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
            len: 0,
        }
    }

    /// # Safety
    /// - `head` starts a list of exactly `len` free blocks, ended by null, that the caller gives up.
    pub(super) unsafe fn from_raw(head: *mut FreeBlock, len: u32) -> Self {
        Self { head, len }
    }

    pub(super) fn into_raw(self) -> (*mut FreeBlock, u32) {
        (self.head, self.len)
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// # Safety
    /// - `block` has at least 16 bytes at a multiple of 16, and only the caller uses it.
    #[inline]
    pub(super) unsafe fn push(&mut self, block: NonNull<u8>) {
        // SAFETY: the caller's promise.
        self.head = unsafe { link(block, self.head) };
        self.len += 1;
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<NonNull<u8>> {
        let block = NonNull::new(self.head)?;
        // SAFETY: a chain's blocks are free ones with a valid link.
        self.head = unsafe { next(block.as_ptr()) };
        self.len -= 1;
        Some(block.cast())
    }
}

/// Makes `block` a free block before `next`.
///
/// # Safety
/// - `block` has at least 16 bytes at a multiple of 16, and only the caller uses it.
#[inline]
pub(super) unsafe fn link(block: NonNull<u8>, next: *mut FreeBlock) -> *mut FreeBlock {
    let block = block.as_ptr().cast::<FreeBlock>();
    // SAFETY: the block is large enough, aligned and the caller's alone.
    unsafe { block.write(FreeBlock { next }) };
    block
}

/// What [`link`] was told.
///
/// # Safety
/// - `block` is a free block of the caller's.
#[inline]
pub(super) unsafe fn next(block: *mut FreeBlock) -> *mut FreeBlock {
    // SAFETY: `link` wrote the word, and nobody else uses a free block.
    unsafe { (*block).next }
}

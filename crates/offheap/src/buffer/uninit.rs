//! Buffers whose bytes nobody has written yet.

use super::block::Block;
use super::mutable::MutableBuffer;
use crate::alignment::Alignment;
use crate::error::Result;
use crate::pool::Pool;
use std::mem::MaybeUninit;

/// New memory before its first write: what Arrow's `AllocateBuffer` returns, except that reading it
/// by mistake does not compile. The padding behind the bytes is zero.
#[derive(Debug)]
pub struct UninitBuffer {
    block: Block,
}

impl UninitBuffer {
    /// `size` uninitialised bytes at a multiple of `alignment`.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn allocate(size: usize, alignment: Alignment, pool: &Pool) -> Result<Self> {
        let block = Block::allocate(size, alignment, pool, false)?;
        if !size.is_multiple_of(64) {
            // SAFETY: the capacity may be written, and nobody else knows the block.
            unsafe {
                let padding = block.as_ptr().add(size);
                padding.write_bytes(0, block.capacity() - size);
            }
        }
        Ok(Self { block })
    }

    /// The bytes, to be written.
    #[inline]
    pub fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the block has as many bytes, nobody else holds it, and MaybeUninit needs no value.
        unsafe {
            std::slice::from_raw_parts_mut(self.block.as_ptr().as_ptr().cast(), self.block.size())
        }
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.block.size()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address of the first byte: never null.
    #[inline]
    pub fn address(&self) -> usize {
        self.block.as_ptr().addr().get()
    }

    /// Fills every byte with `byte`.
    #[inline]
    pub fn fill(mut self, byte: u8) -> MutableBuffer {
        self.as_uninit().fill(MaybeUninit::new(byte));
        // SAFETY: every byte was written.
        unsafe { self.assume_init() }
    }

    /// Fills the buffer with `bytes`.
    ///
    /// # Panics
    /// When `bytes` is not as long as the buffer.
    #[inline]
    pub fn copy_from(mut self, bytes: &[u8]) -> MutableBuffer {
        write_all(self.as_uninit(), bytes);
        // SAFETY: every byte was written.
        unsafe { self.assume_init() }
    }

    /// The buffer as one that can be read.
    ///
    /// # Safety
    /// - Every byte was written.
    #[inline]
    pub unsafe fn assume_init(self) -> MutableBuffer {
        let len = self.block.size();
        // SAFETY: the caller's promise; nobody else holds the block.
        unsafe { MutableBuffer::from_block(self.block, 0, len) }
    }
}

/// Fills `target` with `bytes`.
///
/// # Panics
/// When the lengths differ.
#[inline]
pub(crate) fn write_all(target: &mut [MaybeUninit<u8>], bytes: &[u8]) {
    assert_eq!(
        target.len(),
        bytes.len(),
        "as many bytes as there is room for"
    );
    // SAFETY: both have as many bytes, and a mutable slice overlaps no other.
    unsafe {
        target
            .as_mut_ptr()
            .cast::<u8>()
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
    };
}

//! Mutable buffers.

use super::block::Block;
use super::immutable::Buffer;
use super::native::{Native, as_values, as_values_mut};
use super::uninit::UninitBuffer;
use crate::alignment::Alignment;
use crate::error::{Error, Result};
use crate::pool::{Notice, Pool};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes that one owner reads and writes (Arrow's `MutableBuffer`).
///
/// The type is not `Clone`: share it by [`freeze`](Self::freeze), cut it into independent parts by
/// [`split_at`](Self::split_at).
pub struct MutableBuffer {
    ptr: NonNull<u8>,
    len: usize,
    block: Block,
}

// SAFETY: the bytes belong to this value alone.
unsafe impl Send for MutableBuffer {}
// SAFETY: `&MutableBuffer` only reads.
unsafe impl Sync for MutableBuffer {}

impl MutableBuffer {
    /// `size` zero bytes. Large ones come as zero pages: no byte is touched.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn zeroed(size: usize, pool: &Pool) -> Result<Self> {
        Self::zeroed_aligned(size, Alignment::DEFAULT, pool)
    }

    /// `size` zero bytes at a multiple of `alignment`.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn zeroed_aligned(size: usize, alignment: Alignment, pool: &Pool) -> Result<Self> {
        let block = Block::allocate(size, alignment, pool, true)?;
        // SAFETY: the block is zero and nobody else holds it.
        Ok(unsafe { Self::from_block(block, 0, size) })
    }

    /// A copy of `bytes` in `pool`.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn copy_from(bytes: &[u8], pool: &Pool) -> Result<Self> {
        Ok(UninitBuffer::allocate(bytes.len(), Alignment::DEFAULT, pool)?.copy_from(bytes))
    }

    /// `len` bytes of a block from `offset`.
    ///
    /// # Safety
    /// - `offset + len` is at most the block's capacity, and these bytes are initialised;
    /// - nobody else reads or writes them while this buffer lives.
    #[inline]
    pub unsafe fn from_block(block: Block, offset: usize, len: usize) -> Self {
        // SAFETY: the caller's promise.
        let ptr = unsafe { block.as_ptr().add(offset) };
        Self { ptr, len, block }
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes from the start up to the end of the memory: a whole buffer's size rounded up to 64, a
    /// part's own size.
    #[inline]
    pub fn capacity(&self) -> usize {
        if self.block.is_unique() && self.ptr == self.block.as_ptr() {
            self.block.capacity()
        } else {
            self.len
        }
    }

    /// The address of the first byte: never null.
    #[inline]
    pub fn address(&self) -> usize {
        self.ptr.addr().get()
    }

    /// The pool that the memory came from; `None` for foreign memory.
    pub fn pool(&self) -> Option<&Pool> {
        self.block.pool()
    }

    /// Zeroes the bytes between the size and the capacity.
    pub fn zero_padding(&mut self) {
        let padding = self.capacity() - self.len;
        if padding > 0 {
            // SAFETY: the capacity may be written, and nobody else holds the block.
            unsafe { self.ptr.add(self.len).write_bytes(0, padding) };
        }
    }

    /// The bytes as numbers, in place.
    ///
    /// # Errors
    /// As [`Buffer::typed_data`].
    #[inline]
    pub fn typed_data<T: Native>(&self) -> Result<&[T]> {
        as_values(self)
    }

    /// The bytes as numbers, in place, to be written.
    ///
    /// # Errors
    /// As [`Buffer::typed_data`].
    #[inline]
    pub fn typed_data_mut<T: Native>(&mut self) -> Result<&mut [T]> {
        as_values_mut(self)
    }

    /// `length` bytes from `offset`, to be written.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) when the range is not inside of the buffer.
    pub fn slice_mut(&mut self, offset: usize, length: usize) -> Result<&mut [u8]> {
        let size = self.len;
        let end = offset.checked_add(length).filter(|end| *end <= size);
        match end {
            Some(end) => Ok(&mut self[offset..end]),
            None => Err(Error::range(offset, length, size)),
        }
    }

    /// Cuts the buffer in two that share the memory and are written independently; it goes with the
    /// last of them (Arrow's `SliceMutableBuffer`, without the aliasing).
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) when `middle` is past the end.
    pub fn split_at(self, middle: usize) -> Result<(Self, Self)> {
        if middle > self.len {
            return Err(Error::position("middle", middle, self.len));
        }
        let block = self.block.clone();
        // SAFETY: `middle` is inside.
        let ptr = unsafe { self.ptr.add(middle) };
        let back = Self {
            ptr,
            len: self.len - middle,
            block,
        };
        Ok((
            Self {
                len: middle,
                ..self
            },
            back,
        ))
    }

    /// The buffer as an immutable, shareable one, without a copy.
    #[inline]
    pub fn freeze(self) -> Buffer {
        if cfg!(feature = "hooks") && self.is_whole() {
            self.block.notice(Notice::Sealed);
        }
        // SAFETY: the range was this buffer's own, and nobody can write it any more.
        unsafe {
            let offset = self.ptr.offset_from_unsigned(self.block.as_ptr());
            Buffer::from_block(self.block, offset, self.len)
        }
    }

    /// The block underneath, where in it the first byte is, and how many bytes there are.
    #[inline]
    pub fn into_block(self) -> (Block, usize, usize) {
        // SAFETY: a buffer's bytes lie in its block.
        let offset = unsafe { self.ptr.offset_from_unsigned(self.block.as_ptr()) };
        (self.block, offset, self.len)
    }

    pub(super) fn into_parts(self) -> (Block, usize) {
        (self.block, self.len)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.ptr == self.block.as_ptr() && self.block.is_unique()
    }
}

impl Deref for MutableBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the block keeps the bytes, which are initialised and this value's own.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for MutableBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for MutableBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for MutableBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl From<MutableBuffer> for Buffer {
    fn from(buffer: MutableBuffer) -> Self {
        buffer.freeze()
    }
}

impl fmt::Debug for MutableBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutableBuffer")
            .field("len", &self.len)
            .field("address", &self.ptr)
            .field("pool", &self.pool().map(Pool::name))
            .finish()
    }
}

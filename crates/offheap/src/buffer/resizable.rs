//! Resizable buffers.

use super::block::Block;
use super::immutable::Buffer;
use super::mutable::MutableBuffer;
use crate::alignment::Alignment;
use crate::error::{Error, Result};
use crate::pool::Pool;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// Bytes that one owner reads, writes and resizes (Arrow's `ResizableBuffer`).
///
/// The pool counts the size, or after [`reserve`](Self::reserve) and after a resize without
/// shrinking, the capacity that was asked for.
pub struct ResizableBuffer {
    block: Block,
    len: usize,
}

// SAFETY: the bytes belong to this value alone.
unsafe impl Send for ResizableBuffer {}
// SAFETY: `&ResizableBuffer` only reads.
unsafe impl Sync for ResizableBuffer {}

impl ResizableBuffer {
    /// `size` zero bytes.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn zeroed(size: usize, pool: &Pool) -> Result<Self> {
        Self::zeroed_aligned(size, Alignment::DEFAULT, pool)
    }

    /// `size` zero bytes at a multiple of `alignment`, which every later resize keeps.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn zeroed_aligned(size: usize, alignment: Alignment, pool: &Pool) -> Result<Self> {
        Ok(Self {
            block: Block::allocate(size, alignment, pool, true)?,
            len: size,
        })
    }

    /// No bytes, and room for `capacity`.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn with_capacity(capacity: usize, alignment: Alignment, pool: &Pool) -> Result<Self> {
        Ok(Self {
            block: Block::allocate(capacity, alignment, pool, false)?,
            len: 0,
        })
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

    /// Bytes up to which the buffer can grow in place: a multiple of 64.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.block.capacity()
    }

    /// The address of the first byte: never null.
    #[inline]
    pub fn address(&self) -> usize {
        self.block.as_ptr().addr().get()
    }

    /// The pool that the memory comes from.
    pub fn pool(&self) -> Option<&Pool> {
        self.block.pool()
    }

    /// Makes room for `capacity` bytes; the size stays.
    ///
    /// # Errors
    /// As [`Pool::allocate`]; the buffer is then as it was.
    #[inline]
    pub fn reserve(&mut self, capacity: usize) -> Result<()> {
        // Against what is counted, not against the rounded capacity: padding is not for use.
        if capacity > self.block.size() {
            self.block.reallocate(capacity)
        } else {
            Ok(())
        }
    }

    /// Changes the size. New bytes are zero. A smaller size gives memory back when `shrink_to_fit`,
    /// and keeps the capacity otherwise.
    ///
    /// # Errors
    /// As [`Pool::allocate`]; the buffer is then as it was.
    pub fn resize(&mut self, size: usize, shrink_to_fit: bool) -> Result<()> {
        let old = self.len;
        if self.block.size() == 0
            && size > 0
            && let Some(pool) = self.block.pool()
        {
            // The first bytes, as zero pages if they are many. Nothing was counted, so the old block
            // and the new one fit under a limit together.
            self.block = Block::allocate(size, self.block.alignment(), pool, true)?;
            self.len = size;
            return Ok(());
        }
        // SAFETY: the new bytes are zeroed right below.
        unsafe { self.resize_uninit(size, shrink_to_fit)? };
        if size > old {
            // SAFETY: the block has `size` bytes.
            unsafe { self.block.as_ptr().add(old).write_bytes(0, size - old) };
        }
        Ok(())
    }

    /// As [`resize`](Self::resize), leaving new bytes as they come.
    ///
    /// # Errors
    /// As [`resize`](Self::resize).
    ///
    /// # Safety
    /// - New bytes are written before they are read.
    pub unsafe fn resize_uninit(&mut self, size: usize, shrink_to_fit: bool) -> Result<()> {
        let counted = self.block.size();
        // Growth into the padding moves nothing, but what is used is counted.
        if size > counted || (shrink_to_fit && size <= self.len && size != counted) {
            self.block.reallocate(size)?;
        }
        self.len = size;
        Ok(())
    }

    /// Changes the size to `count` values of `T` (Arrow's `TypedResize`).
    ///
    /// # Errors
    /// As [`resize`](Self::resize); a product that overflows is out of memory.
    pub fn resize_typed<T>(&mut self, count: usize, shrink_to_fit: bool) -> Result<()> {
        self.resize(self.bytes_for::<T>(count)?, shrink_to_fit)
    }

    /// Makes room for `count` values of `T` (Arrow's `TypedReserve`).
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve); a product that overflows is out of memory.
    pub fn reserve_typed<T>(&mut self, count: usize) -> Result<()> {
        self.reserve(self.bytes_for::<T>(count)?)
    }

    fn bytes_for<T>(&self, count: usize) -> Result<usize> {
        count.checked_mul(size_of::<T>()).ok_or_else(|| {
            let pool = self.pool().map_or("none", Pool::name).to_owned();
            Error::allocator_refused(u64::MAX, self.block.size() as u64, pool)
        })
    }

    /// The bytes between the size and what was [reserved](Self::reserve), to be written before
    /// [`set_len`](Self::set_len).
    #[inline]
    pub fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        let spare = self.block.size() - self.len;
        // SAFETY: the bytes asked for may be written, nobody else holds the block, and MaybeUninit needs
        // no value.
        unsafe {
            std::slice::from_raw_parts_mut(self.block.as_ptr().add(self.len).as_ptr().cast(), spare)
        }
    }

    /// Sets the size without touching memory.
    ///
    /// # Safety
    /// - `len` is at most the size plus the length of [`spare`](Self::spare), and the first `len`
    ///   bytes are initialised.
    #[inline]
    pub unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.block.size());
        self.len = len;
    }

    /// Zeroes the bytes between the size and the capacity.
    pub fn zero_padding(&mut self) {
        let padding = self.capacity() - self.len;
        if padding > 0 {
            // SAFETY: the capacity may be written, and nobody else holds the block.
            unsafe { self.block.as_ptr().add(self.len).write_bytes(0, padding) };
        }
    }

    /// The buffer as a mutable one that keeps its size.
    #[inline]
    pub fn into_mutable(self) -> MutableBuffer {
        // SAFETY: the first `len` bytes are initialised, and nobody else holds the block.
        unsafe { MutableBuffer::from_block(self.block, 0, self.len) }
    }

    /// The buffer as an immutable, shareable one, without a copy.
    #[inline]
    pub fn freeze(self) -> Buffer {
        self.into_mutable().freeze()
    }

    pub(crate) fn into_parts(self) -> (Block, usize) {
        (self.block, self.len)
    }
}

impl TryFrom<MutableBuffer> for ResizableBuffer {
    type Error = MutableBuffer;

    /// A whole mutable buffer from a pool as a resizable one; a part, or foreign memory, comes back.
    fn try_from(buffer: MutableBuffer) -> Result<Self, MutableBuffer> {
        if buffer.is_whole() && buffer.pool().is_some() {
            let (block, len) = buffer.into_parts();
            Ok(Self { block, len })
        } else {
            Err(buffer)
        }
    }
}

impl Deref for ResizableBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are initialised and this value's own.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr().as_ptr(), self.len) }
    }
}

impl DerefMut for ResizableBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.block.as_ptr().as_ptr(), self.len) }
    }
}

impl fmt::Debug for ResizableBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResizableBuffer")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .field("pool", &self.pool().map(Pool::name))
            .finish()
    }
}

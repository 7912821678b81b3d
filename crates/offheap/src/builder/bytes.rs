//! The builder of bytes, which the other builders are made of.

use crate::alignment::{Alignment, padded};
use crate::buffer::{Block, MutableBuffer, ResizableBuffer};
use crate::error::{Error, Result};
use crate::pool::Pool;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;

/// Collects bytes and hands them over as a buffer, without a copy (Arrow's `BufferBuilder`).
///
/// ```
/// # use offheap::{BufferBuilder, default_memory_pool};
/// let mut builder = BufferBuilder::new(&default_memory_pool());
/// builder.append(b"hello ")?;
/// builder.append_copies(b'!', 3)?;
/// let buffer = builder.finish(true)?.freeze();
/// assert_eq!(&buffer[..], b"hello !!!");
/// # Ok::<(), offheap::Error>(())
/// ```
///
/// The pool counts the capacity while the builder grows, and the length after a finish that shrinks.
/// Appending at least doubles the capacity, unless a limit is near: then it takes half of what is
/// left, and at last exactly what is needed, so nothing is refused while bytes are free. No memory
/// is taken before the first append.
///
/// An error leaves the builder as it was, and every sum is checked. (Arrow 26 accepts a negative
/// `Reserve`, and a `Rewind` past the end.)
pub struct BufferBuilder {
    /// The block's first byte: kept here so that an append reads one cache line.
    data: NonNull<u8>,
    len: usize,
    /// Bytes that were asked for, so may be used: the block's size.
    capacity: usize,
    block: ManuallyDrop<Option<Block>>,
    pool: ManuallyDrop<Pool>,
    alignment: Alignment,
}

// SAFETY: the bytes belong to this value alone.
unsafe impl Send for BufferBuilder {}
// SAFETY: `&BufferBuilder` only reads.
unsafe impl Sync for BufferBuilder {}

/// `size` rounded up to 64 where it can be.
#[inline]
fn rounded(size: usize) -> usize {
    padded(size).unwrap_or(size)
}

/// Copies `bytes`. Eight to sixteen of them, numbers and short words, without a call, which would
/// cost as much as the rest of an append.
///
/// # Safety
/// - `target` is valid for writes of as many bytes, and overlaps none of them.
#[inline]
unsafe fn copy(bytes: &[u8], target: *mut u8) {
    if let (8..=16, Some(head), Some(tail)) = (
        bytes.len(),
        bytes.first_chunk::<8>(),
        bytes.last_chunk::<8>(),
    ) {
        // SAFETY: the caller's promise; both ends are within it.
        unsafe {
            target.cast::<[u8; 8]>().write(*head);
            target.add(bytes.len() - 8).cast::<[u8; 8]>().write(*tail);
        }
    } else {
        // SAFETY: the caller's promise.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}

impl BufferBuilder {
    /// An empty builder. Takes no memory yet.
    #[inline(always)]
    pub fn new(pool: &Pool) -> Self {
        Self::with_alignment(Alignment::DEFAULT, pool)
    }

    /// An empty builder whose buffer will be at a multiple of `alignment`, however often it grows.
    #[inline(always)]
    pub fn with_alignment(alignment: Alignment, pool: &Pool) -> Self {
        Self {
            data: NonNull::dangling(),
            len: 0,
            capacity: 0,
            block: ManuallyDrop::new(None),
            pool: ManuallyDrop::new(pool.clone()),
            alignment,
        }
    }

    /// An empty builder with room for `capacity` bytes.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn with_capacity(capacity: usize, pool: &Pool) -> Result<Self> {
        let mut builder = Self::new(pool);
        builder.reserve(capacity)?;
        Ok(builder)
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.ensure_few(bytes.len())?;
        // SAFETY: there is room.
        unsafe { self.append_unchecked(bytes) };
        Ok(())
    }

    /// As [`append`](Self::append), without the check for room (Arrow's `UnsafeAppend`).
    ///
    /// # Safety
    /// - `len() + bytes.len()` is at most [`capacity`](Self::capacity).
    #[inline]
    pub unsafe fn append_unchecked(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.capacity - self.len);
        // SAFETY: the caller's promise makes the target part of the block, which nobody else holds,
        // so `bytes` cannot overlap it.
        unsafe { copy(bytes, self.data.add(self.len).as_ptr()) };
        self.len += bytes.len();
    }

    /// Appends `n` times the same byte. Takes no more memory than `n` other bytes would.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn append_copies(&mut self, byte: u8, n: usize) -> Result<()> {
        self.ensure(n)?;
        if n > 0 {
            // SAFETY: there is room for `n` bytes, in a block that nobody else holds.
            unsafe { self.data.add(self.len).write_bytes(byte, n) };
        }
        self.len += n;
        Ok(())
    }

    /// Appends `n` zero bytes.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn advance(&mut self, n: usize) -> Result<()> {
        self.append_copies(0, n)
    }

    /// Makes room for `additional` bytes more, exactly (rounded up to 64): many small calls cost
    /// many moves, unlike appends.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn reserve(&mut self, additional: usize) -> Result<()> {
        if additional > self.capacity - self.len {
            let need = self.sum(additional)?;
            self.fit(need)?;
        }
        Ok(())
    }

    /// Changes the capacity to `capacity` (rounded up to 64). A smaller one gives memory back when
    /// `shrink_to_fit`, and changes nothing otherwise.
    ///
    /// # Errors
    /// - [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when it is less than the length;
    /// - as [`Pool::allocate`].
    pub fn resize(&mut self, capacity: usize, shrink_to_fit: bool) -> Result<()> {
        if capacity < self.len {
            return Err(Error::invalid_argument(
                "capacity",
                capacity,
                "at least the builder's length",
            ));
        }
        if capacity > self.capacity || (shrink_to_fit && rounded(capacity) < self.capacity) {
            self.fit(capacity)?;
        }
        Ok(())
    }

    /// Forgets the bytes from `position` on.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) when `position` is past the end.
    pub fn rewind(&mut self, position: usize) -> Result<()> {
        if position > self.len {
            return Err(Error::position("position", position, self.len));
        }
        self.len = position;
        Ok(())
    }

    /// Hands the bytes over and starts anew, empty. The padding is zero. `shrink_to_fit` gives
    /// memory beyond the length back: from 1 MiB on the end of the block is cut off, smaller
    /// blocks may move. Without, all that was reserved is padding, so it is written, as in Arrow.
    ///
    /// # Errors
    /// As [`Pool::allocate`]: an empty builder allocates zero bytes, and a shrink that moves may
    /// lack the memory to do so. The builder is then as it was: `finish(false)` may still work.
    #[inline(always)]
    pub fn finish(&mut self, shrink_to_fit: bool) -> Result<MutableBuffer> {
        self.finish_with_length(self.len, shrink_to_fit)
    }

    /// As [`finish`](Self::finish), with only the first `length` bytes, or with zero bytes added up
    /// to `length`.
    ///
    /// # Errors
    /// - [`OutOfRange`](crate::ErrorKind::OutOfRange) when `length` is more than the capacity;
    /// - as [`finish`](Self::finish).
    #[inline(always)]
    pub fn finish_with_length(
        &mut self,
        length: usize,
        shrink_to_fit: bool,
    ) -> Result<MutableBuffer> {
        // Another builder's address goes out of line, so that this one can be in registers.
        let empty = Self::with_alignment(self.alignment, &self.pool);
        let mut full = std::mem::replace(self, empty);
        let result = full.finish_here(length, shrink_to_fit);
        if result.is_err() {
            *self = full;
        }
        result
    }

    #[inline(never)]
    fn finish_here(&mut self, length: usize, shrink_to_fit: bool) -> Result<MutableBuffer> {
        self.settle(length, shrink_to_fit)?;
        if length > self.len {
            // SAFETY: `settle` made sure of a block of at least `length` bytes.
            unsafe { self.data.add(self.len).write_bytes(0, length - self.len) };
        }
        self.len = length;
        self.hand_over()
    }

    /// The part of finishing with `length` bytes that can fail: a block, exactly as large when
    /// `shrink_to_fit`. Bytes past `length` may be gone after it.
    ///
    /// # Errors
    /// As [`finish_with_length`](Self::finish_with_length).
    pub(super) fn settle(&mut self, length: usize, shrink_to_fit: bool) -> Result<()> {
        if length > self.capacity {
            return Err(Error::position("length", length, self.capacity));
        }
        if self.block.is_none() || (shrink_to_fit && length != self.capacity) {
            self.set_capacity(length)?;
            self.len = self.len.min(length);
        }
        Ok(())
    }

    /// The other part: the bytes so far as a buffer.
    ///
    /// # Errors
    /// As [`finish`](Self::finish), only without [`settle`](Self::settle) before.
    pub(super) fn hand_over(&mut self) -> Result<MutableBuffer> {
        if self.block.is_none() {
            self.set_capacity(0)?;
        }
        let Some(block) = self.block.take() else {
            unreachable!("just made sure of")
        };
        // SAFETY: the first `len` bytes are initialised, and nobody else holds the block.
        let mut buffer = unsafe { MutableBuffer::from_block(block, 0, self.len) };
        (self.data, self.len, self.capacity) = (NonNull::dangling(), 0, 0);
        buffer.zero_padding();
        Ok(buffer)
    }

    /// Forgets everything and gives the memory back.
    pub fn reset(&mut self) {
        (self.data, self.len, self.capacity) = (NonNull::dangling(), 0, 0);
        drop(self.block.take());
    }

    /// How many bytes were appended.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes up to which appending takes no memory, and which the pool counts: a multiple of 64,
    /// unless a limit left no room for the last of them.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The bytes so far.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are initialised and not written while borrowed.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }

    /// The bytes so far, to be changed.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_slice`, and nobody else holds the block.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }

    /// The room behind the bytes, to be written before [`set_len`](Self::set_len): what a binding
    /// shows as a window.
    #[inline]
    pub fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        let room = self.capacity - self.len;
        // SAFETY: the room is part of the block, nobody else holds it, and MaybeUninit needs no
        // value.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(self.len).as_ptr().cast(), room) }
    }

    /// Sets the length without touching memory.
    ///
    /// # Safety
    /// - `len` is at most the capacity, and the first `len` bytes are initialised.
    #[inline]
    pub unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity);
        self.len = len;
    }

    /// The address that the bytes have until the next growth.
    pub fn address(&self) -> usize {
        self.data.addr().get()
    }

    /// The pool that the memory comes from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The alignment of the bytes.
    pub fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// Makes room for `additional` bytes more as appends do: by doubling.
    #[inline]
    pub(super) fn ensure(&mut self, additional: usize) -> Result<()> {
        if additional > self.capacity - self.len {
            self.grow(additional)
        } else {
            Ok(())
        }
    }

    /// As [`ensure`](Self::ensure), for no more bytes than a slice or a value can have: the sum does
    /// not overflow, and an append is two instructions shorter.
    #[inline(always)]
    pub(super) fn ensure_few(&mut self, additional: usize) -> Result<()> {
        debug_assert!(additional <= isize::MAX as usize);
        if self.len + additional > self.capacity {
            self.grow(additional)
        } else {
            Ok(())
        }
    }

    /// Grows the block out of line, by value: a loop of appends keeps a builder whose address no
    /// call gets in registers, and stores nothing but values.
    #[inline(always)]
    fn grow(&mut self, additional: usize) -> Result<()> {
        // SAFETY: copies of two handles. Only `grown` uses them, during the call, and it drops none.
        let (block, pool) = unsafe {
            (
                std::ptr::read(&raw const self.block),
                std::ptr::read(&raw const self.pool),
            )
        };
        let block = Self::grown(
            block,
            pool,
            self.alignment,
            self.len,
            self.capacity,
            additional,
        )?;
        (self.data, self.capacity) = (block.as_ptr(), block.size());
        // The same handle, or the first one.
        self.block = ManuallyDrop::new(Some(ManuallyDrop::into_inner(block)));
        Ok(())
    }

    /// The block of a builder with these parts after growth. The parts stay the caller's, also when
    /// a pool of the program's own panics: the handle to a block is the same before and after.
    #[cold]
    #[inline(never)]
    fn grown(
        block: ManuallyDrop<Option<Block>>,
        pool: ManuallyDrop<Pool>,
        alignment: Alignment,
        len: usize,
        capacity: usize,
        additional: usize,
    ) -> Result<ManuallyDrop<Block>> {
        let mut builder = ManuallyDrop::new(Self {
            data: NonNull::dangling(),
            len,
            capacity,
            block,
            pool,
            alignment,
        });
        builder.grow_here(additional)?;
        let Some(block) = builder.block.take() else {
            unreachable!("grown, so there is one")
        };
        Ok(ManuallyDrop::new(block))
    }

    fn grow_here(&mut self, additional: usize) -> Result<()> {
        let need = self.sum(additional)?;
        let doubled = need.max(self.capacity.saturating_mul(2));
        let error = match self.set_capacity(rounded(doubled)) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if !error.is_out_of_memory() {
            return Err(error);
        }
        // Twice the capacity cannot be had, but less may do. Under a limit, half of what is left:
        // a builder gets to the last byte in a few dozen moves, and its siblings get some, too.
        let available = self
            .pool
            .available()
            .map(|left| usize::try_from(left).unwrap_or(usize::MAX));
        let step = available.map_or(need / 8, |left| left / 2);
        let less = rounded(need.max(self.capacity.saturating_add(step)));
        if less < doubled && self.set_capacity(less).is_ok() {
            return Ok(());
        }
        match available {
            Some(_) => self.set_capacity(need),
            None => Err(error),
        }
    }

    /// Makes the capacity `capacity`, rounded up unless a limit has no room for that.
    fn fit(&mut self, capacity: usize) -> Result<()> {
        match self.set_capacity(rounded(capacity)) {
            Err(error) if error.is_out_of_memory() && rounded(capacity) != capacity => {
                self.set_capacity(capacity)
            }
            result => result,
        }
    }

    fn set_capacity(&mut self, capacity: usize) -> Result<()> {
        // The block stays in its place: a pool of the program's own may panic, and what it has not
        // moved must then still be ours.
        let block = match &mut *self.block {
            Some(block) => {
                block.reallocate(capacity)?;
                block
            }
            none => none.insert(Block::allocate(
                capacity,
                self.alignment,
                &self.pool,
                false,
            )?),
        };
        self.data = block.as_ptr();
        self.capacity = capacity;
        Ok(())
    }

    fn sum(&self, additional: usize) -> Result<usize> {
        self.len
            .checked_add(additional)
            .ok_or_else(|| self.overflow(additional as u64))
    }

    /// The error of a size that no `usize` holds.
    #[cold]
    pub(super) fn overflow(&self, requested: u64) -> Error {
        let pool = self.pool.name().to_owned();
        Error::allocator_refused(requested, self.pool.bytes_allocated(), pool)
    }
}

impl Drop for BufferBuilder {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: both are taken once, here.
        unsafe {
            end(
                ManuallyDrop::take(&mut self.block),
                ManuallyDrop::take(&mut self.pool),
            )
        };
    }
}

/// The end of a builder, by value as its growth is.
#[inline(never)]
fn end(block: Option<Block>, pool: Pool) {
    drop(block);
    drop(pool);
}

impl From<ResizableBuffer> for BufferBuilder {
    /// A builder that continues at the end of `buffer`, in its memory.
    fn from(buffer: ResizableBuffer) -> Self {
        let (block, len) = buffer.into_parts();
        let pool = block
            .pool()
            .cloned()
            .unwrap_or_else(crate::pool::default_memory_pool);
        Self {
            data: block.as_ptr(),
            len,
            capacity: block.size(),
            pool: ManuallyDrop::new(pool),
            alignment: block.alignment(),
            block: ManuallyDrop::new(Some(block)),
        }
    }
}

impl fmt::Debug for BufferBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferBuilder")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .field("pool", &self.pool.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::system_memory_pool;

    #[test]
    fn growth_doubles_and_reserve_is_exact() {
        let pool = system_memory_pool().proxy();
        let mut builder = BufferBuilder::new(&pool);
        assert_eq!((builder.capacity(), pool.num_allocations()), (0, 0));
        builder.append(&[1; 100]).unwrap();
        assert_eq!(builder.capacity(), 128);
        builder.append(&[2; 29]).unwrap();
        assert_eq!(builder.capacity(), 256);
        builder.reserve(128).unwrap();
        assert_eq!(builder.capacity(), 320);
        assert_eq!(pool.bytes_allocated(), 320);
        builder.append_copies(3, 191).unwrap();
        assert_eq!((builder.len(), builder.capacity()), (320, 320));
        assert_eq!(
            builder.as_slice()[100..130],
            [&[2_u8; 29][..], &[3]].concat()
        );
    }

    #[test]
    fn a_builder_uses_the_last_byte_of_a_limit() {
        let pool = system_memory_pool().limit(1_000_003);
        let mut builder = BufferBuilder::new(&pool);
        let mut appended = 0;
        while builder.append(&[7; 9]).is_ok() {
            appended += 9;
        }
        assert_eq!((builder.len(), appended), (999_999, 999_999));
        builder.append(&[7; 4]).unwrap();
        assert!(builder.append(&[7]).unwrap_err().is_out_of_memory());
        assert_eq!(pool.bytes_allocated(), 1_000_003);
        assert!(
            pool.num_allocations() < 100,
            "{} growths",
            pool.num_allocations()
        );
        let buffer = builder.finish(true).unwrap();
        assert!(buffer.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn errors_leave_the_builder_as_it_was() {
        let pool = system_memory_pool().limit(128);
        let mut builder = BufferBuilder::with_capacity(100, &pool).unwrap();
        builder.append(b"kept").unwrap();
        let before = (builder.address(), builder.len(), builder.capacity());
        for failure in [
            builder.append(&[0; 125]),
            builder.append_copies(0, usize::MAX),
            builder.advance(isize::MAX as usize),
            builder.reserve(usize::MAX - 4),
            builder.reserve(usize::MAX),
            builder.resize(129, true),
        ] {
            assert!(failure.unwrap_err().is_out_of_memory());
        }
        assert_eq!(
            builder.resize(3, true).unwrap_err().code(),
            "ERR_OFFHEAP_INVALID_ARGUMENT"
        );
        assert_eq!(
            builder.rewind(5).unwrap_err().code(),
            "ERR_OFFHEAP_OUT_OF_RANGE"
        );
        let long = builder.finish_with_length(129, true);
        assert_eq!(long.unwrap_err().code(), "ERR_OFFHEAP_OUT_OF_RANGE");
        assert_eq!(
            (builder.address(), builder.len(), builder.capacity()),
            before
        );
        assert_eq!(builder.as_slice(), b"kept");
    }

    #[test]
    fn finishing_longer_adds_zeros_and_finishing_shorter_cuts() {
        let pool = system_memory_pool().proxy();
        let mut builder = BufferBuilder::new(&pool);
        builder.append(&[9; 64]).unwrap();
        builder.rewind(10).unwrap();
        let long = builder.finish_with_length(20, true).unwrap();
        assert_eq!(long[..], [[9_u8; 10], [0; 10]].concat());
        assert_eq!((long.capacity(), pool.bytes_allocated()), (64, 20));
        builder.append(&[9; 64]).unwrap();
        let short = builder.finish_with_length(3, false).unwrap();
        assert_eq!((&short[..], short.capacity()), (&[9; 3][..], 64));
    }

    #[test]
    fn a_builder_continues_a_buffer_in_place() {
        let pool = system_memory_pool().proxy();
        let mut buffer = ResizableBuffer::zeroed(2, &pool).unwrap();
        buffer.reserve(64).unwrap();
        let address = buffer.address();
        let mut builder = BufferBuilder::from(buffer);
        builder.append(b"more").unwrap();
        let buffer = builder.finish(false).unwrap();
        assert_eq!((&buffer[..], buffer.address()), (&b"\0\0more"[..], address));
    }
}

//! Immutable buffers.

use super::block::Block;
use super::mutable::MutableBuffer;
use super::native::{Native, as_values};
use super::uninit::{UninitBuffer, write_all};
use crate::alignment::Alignment;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::{Notice, Pool};
use std::any::Any;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

/// Bytes that do not change, shared by all clones and slices (Arrow's `Buffer`).
///
/// ```text
///   Buffer { ptr, len, block } ─┬─▶ Block ──▶ memory, freed with the last of them
///   slice  { ptr + 3, 4, block }┘
/// ```
///
/// Cloning and slicing cost one counter update each way, as for an `Arc` (19 ns with the drop); the
/// pool counts the bytes once. Where a slice need not outlive the buffer, borrow: `&buffer[2..9]`
/// costs what it does for a `Vec` (0.7 ns with its check), [`typed_data`](Self::typed_data) gives
/// numbers, and [`slice_ref`](Self::slice_ref) makes a slice of what was borrowed. There is no
/// borrowed type of our own: `&[u8]` is what other code takes, and the buffer knows its pool.
#[derive(Clone)]
pub struct Buffer {
    ptr: NonNull<u8>,
    len: usize,
    block: Block,
}

// SAFETY: the bytes are never written while a `Buffer` exists.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// The first `len` bytes of a block.
    ///
    /// # Safety
    /// - `offset + len` is at most the block's capacity, and these bytes are initialised;
    /// - nobody writes them while this buffer or a clone of it lives.
    #[inline]
    pub unsafe fn from_block(block: Block, offset: usize, len: usize) -> Self {
        // SAFETY: the caller's promise.
        let ptr = unsafe { block.as_ptr().add(offset) };
        Self { ptr, len, block }
    }

    /// A copy of `bytes` in `pool`.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn copy_from(bytes: &[u8], pool: &Pool) -> Result<Self> {
        Ok(
            UninitBuffer::allocate(bytes.len(), Alignment::DEFAULT, pool)?
                .copy_from(bytes)
                .freeze(),
        )
    }

    /// Takes over whatever holds bytes (a `Vec<u8>`, a `String`, a memory map) without a copy; it is
    /// dropped with the last reference. The pool's guarantee of alignment does not extend to it:
    /// see [`ensure_alignment`](Self::ensure_alignment).
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) when the control block cannot be had.
    pub fn from_owner<T: AsRef<[u8]> + Send + Sync + 'static>(owner: T) -> Result<Self> {
        let owner = Boxed::new(owner);
        let bytes: &[u8] = owner.get().as_ref();
        let (ptr, len) = (NonNull::from(bytes).cast(), bytes.len());
        // SAFETY: the owner stays where it is until it is dropped with the block, and nobody has
        // `&mut` to it: an owner whose `as_ref` bytes change through `&self` breaks `AsRef`'s own
        // contract.
        let block = unsafe { Block::foreign(ptr, len, owner)? };
        Ok(Self { ptr, len, block })
    }

    /// Foreign memory, kept alive by `owner` until the last reference goes.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) when the control block cannot be had.
    ///
    /// # Safety
    /// - `ptr` is valid for reads of `len` initialised bytes until `owner` is dropped;
    /// - nobody writes them until then.
    pub unsafe fn from_foreign(
        ptr: NonNull<u8>,
        len: usize,
        owner: impl Any + Send + Sync,
    ) -> Result<Self> {
        // SAFETY: the caller's promise.
        let block = unsafe { Block::foreign(ptr, len, owner)? };
        Ok(Self { ptr, len, block })
    }

    /// The bytes of all `buffers`, one after the other, in a new buffer.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn concat<T: AsRef<[u8]>>(buffers: &[T], pool: &Pool) -> Result<Self> {
        let total = buffers
            .iter()
            .try_fold(0_usize, |sum, part| sum.checked_add(part.as_ref().len()))
            .unwrap_or(usize::MAX);
        let mut whole = UninitBuffer::allocate(total, Alignment::DEFAULT, pool)?;
        let mut rest = whole.as_uninit();
        for part in buffers {
            let bytes = part.as_ref();
            // An `as_ref` that answers something else the second time must not run over.
            if bytes.len() > rest.len() {
                return Err(Error::range(0, bytes.len(), rest.len()));
            }
            let (head, tail) = rest.split_at_mut(bytes.len());
            write_all(head, bytes);
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(Error::range(0, rest.len(), 0));
        }
        // SAFETY: every byte was written.
        Ok(unsafe { whole.assume_init() }.freeze())
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the block keeps the bytes, which are initialised and not written.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
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
    /// slice's own size.
    #[inline]
    pub fn capacity(&self) -> usize {
        if self.ptr == self.block.as_ptr() && self.len == self.block.size() {
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

    /// The block underneath.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// The pool that the memory came from; `None` for foreign memory.
    pub fn pool(&self) -> Option<&Pool> {
        self.block.pool()
    }

    /// How many buffers and slices hold the memory.
    pub fn strong_count(&self) -> usize {
        self.block.strong_count()
    }

    /// `length` bytes from `offset`, without a copy (Arrow's `SliceBufferSafe`).
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) when the range is not inside of the buffer; it
    /// is never clamped.
    #[inline]
    pub fn slice(&self, offset: usize, length: usize) -> Result<Self> {
        match offset.checked_add(length) {
            Some(end) if end <= self.len => {
                // SAFETY: just checked.
                Ok(unsafe { self.slice_unchecked(offset, length) })
            }
            _ => Err(Error::range(offset, length, self.len)),
        }
    }

    /// The bytes from `offset` to the end, without a copy.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) when `offset` is past the end.
    #[inline]
    pub fn slice_from(&self, offset: usize) -> Result<Self> {
        match self.len.checked_sub(offset) {
            Some(length) => self.slice(offset, length),
            None => Err(Error::position("offset", offset, self.len)),
        }
    }

    /// As [`slice`](Self::slice), without the check (Arrow's `SliceBuffer`).
    ///
    /// # Safety
    /// - `offset + length` does not overflow and is at most [`len`](Self::len).
    #[inline]
    pub unsafe fn slice_unchecked(&self, offset: usize, length: usize) -> Self {
        // SAFETY: the caller's promise.
        let ptr = unsafe { self.ptr.add(offset) };
        Self {
            ptr,
            len: length,
            block: self.block.clone(),
        }
    }

    /// A slice of the bytes that `part`, borrowed from this buffer, has: parse with `&buffer[2..9]`,
    /// which costs nothing, and keep what is to stay by this (`Bytes::slice_ref` in the `bytes`
    /// crate). An empty part gives an empty slice.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) when they are not all of this buffer.
    #[inline]
    pub fn slice_ref(&self, part: &[u8]) -> Result<Self> {
        if part.is_empty() {
            return self.slice(0, 0);
        }
        // The start of other memory is far past the end, also when it lies in front.
        let offset = part.as_ptr().addr().wrapping_sub(self.address());
        match offset.checked_add(part.len()) {
            Some(end) if end <= self.len => self.slice(offset, part.len()),
            _ => Err(self.not_ours(part)),
        }
    }

    #[cold]
    fn not_ours(&self, part: &[u8]) -> Error {
        let (start, size) = (part.as_ptr(), part.len());
        let what = format!(
            "the {size} bytes at {start:p} are not all of the {} bytes at {:p}",
            self.len, self.ptr
        );
        Error::new(ErrorKind::OutOfRange { what })
    }

    /// The bytes as numbers, in place.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when the first byte does not lie at a
    /// multiple of `T`'s alignment (see [`ensure_alignment`](Self::ensure_alignment)), or the bytes
    /// are no whole number of values.
    #[inline]
    pub fn typed_data<T: Native>(&self) -> Result<&[T]> {
        as_values(self)
    }

    /// A copy of `length` bytes from `offset`, in `pool`.
    ///
    /// # Errors
    /// - [`OutOfRange`](crate::ErrorKind::OutOfRange) for a bad range (Arrow's `CopySlice` aborts);
    /// - as [`Pool::allocate`].
    pub fn copy_slice(&self, offset: usize, length: usize, pool: &Pool) -> Result<MutableBuffer> {
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= self.len)
            .ok_or_else(|| Error::range(offset, length, self.len))?;
        let copy = UninitBuffer::allocate(length, Alignment::DEFAULT, pool)?;
        Ok(copy.copy_from(&self.as_slice()[offset..end]))
    }

    /// Whether the first `n` bytes of both are the same; false when either is shorter.
    pub fn equals_n(&self, other: &[u8], n: usize) -> bool {
        self.len >= n && other.len() >= n && self.as_slice()[..n] == other[..n]
    }

    /// The bytes in upper-case hexadecimal digits, as Arrow's `ToHexString`.
    ///
    /// # Panics
    /// When the text's memory cannot be had: see [`try_to_hex`](super::try_to_hex).
    pub fn to_hex(&self) -> String {
        super::hex::try_to_hex(self).expect("memory for the text")
    }

    /// The byte at `index`; -1 is the last one.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) below `-len` and from `len` on.
    pub fn at(&self, index: isize) -> Result<u8> {
        let position = if index < 0 {
            self.len.checked_add_signed(index)
        } else {
            Some(index.unsigned_abs())
        };
        position
            .and_then(|position| self.as_slice().get(position).copied())
            .ok_or_else(|| Error::position("index", index, self.len))
    }

    /// Whether the first byte lies at a multiple of `alignment`.
    pub fn check_alignment(&self, alignment: Alignment) -> bool {
        alignment.is_aligned(self.address())
    }

    /// These bytes at a multiple of `alignment`: the same memory if it is already, else a copy in
    /// `pool` (at a multiple of 64 at least).
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn ensure_alignment(&self, alignment: Alignment, pool: &Pool) -> Result<Self> {
        if self.check_alignment(alignment) {
            return Ok(self.clone());
        }
        let copy = UninitBuffer::allocate(self.len, alignment.max(Alignment::DEFAULT), pool)?;
        Ok(copy.copy_from(self).freeze())
    }

    /// The buffer as a mutable one, without a copy, when nobody else holds it and it is a whole
    /// block from a pool.
    ///
    /// # Errors
    /// The buffer itself, unchanged, otherwise.
    pub fn try_into_mutable(self) -> Result<MutableBuffer, Self> {
        let whole = self.ptr == self.block.as_ptr() && self.block.pool().is_some();
        if whole && self.block.is_unique() {
            self.block.notice(Notice::Unsealed);
            // SAFETY: the bytes are initialised, and nobody else holds the block.
            Ok(unsafe { MutableBuffer::from_block(self.block, 0, self.len) })
        } else {
            Err(self)
        }
    }
}

/// A `Box` that may be moved while its content is borrowed: moving a real one would assert that
/// nobody points into it.
struct Boxed<T>(NonNull<T>);

// SAFETY: it owns a `T` as a `Box` does.
unsafe impl<T: Send> Send for Boxed<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Boxed<T> {}

impl<T> Boxed<T> {
    fn new(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(value))))
    }

    fn get(&self) -> &T {
        // SAFETY: the value lives until `drop`.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Boxed<T> {
    fn drop(&mut self) {
        // SAFETY: made by `new` from a box, and dropped once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Buffer {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        (self.ptr == other.ptr && self.len == other.len) || self.as_slice() == other.as_slice()
    }
}

impl Eq for Buffer {}

impl PartialOrd for Buffer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Buffer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .field("address", &self.ptr)
            .field("pool", &self.pool().map(Pool::name))
            .finish()
    }
}

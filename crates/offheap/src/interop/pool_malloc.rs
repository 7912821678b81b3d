//! C's malloc family over a pool.
//!
//! ```text
//!   the pool's block, a multiple of 64
//!   ├── size (8) ── spare (8) ──┤├── size bytes ──┤
//!                                └ what C gets, a multiple of 16
//! ```

use crate::alignment::Alignment;
use crate::panic::caught;
use crate::pool::Pool;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// C's malloc, calloc, realloc and free over a pool: what a C library's allocator hooks want.
///
/// Their free and realloc are not told a block's size, which a pool must know. It is kept in 16
/// bytes in front of the block, so every address is a multiple of 16, malloc's own guarantee. A
/// table beside the blocks would leave them as they are, but every free would search it under a
/// lock, and it would need memory of its own. The header does not count: the pool's figures are what
/// the library asked for, to the byte.
///
/// Sizes of zero give an address of their own, never null, as PEP 445 wants it; null always means
/// that the pool refused, and no refusal unwinds or aborts. The functions with a context have the
/// signatures of PEP 445's `PyMemAllocatorEx`; a guide to the hooks of zlib, SQLite, OpenSSL, expat
/// and libxml2 is `docs/c-libraries.md` in the repository.
///
/// Cost beside the pool's own call: none.
///
/// ```
/// use offheap::{PoolMalloc, default_memory_pool};
///
/// let query = default_memory_pool().limit(1000);
/// let memory = PoolMalloc::new(&query);
/// let block = memory.malloc(600);
/// assert_eq!(query.bytes_allocated(), 600);
/// assert!(memory.calloc(100, 5).is_null());
/// // SAFETY: a block of `memory` that is used no more.
/// unsafe { memory.free(block) };
/// assert_eq!(query.bytes_allocated(), 0);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolMalloc {
    pool: Pool,
}

/// The bytes in front of a block.
const HEADER: usize = 16;

/// # Safety
/// - `data` came from a [`PoolMalloc`] and is live.
unsafe fn size_of_block(data: NonNull<c_void>) -> (NonNull<u8>, usize) {
    // SAFETY: every block has its header in front of it.
    unsafe {
        let block = data.cast::<u8>().sub(HEADER);
        (block, block.cast::<usize>().read())
    }
}

/// Writes the header and gives the address behind it.
///
/// # Safety
/// - `block` has `HEADER` bytes and more, at a multiple of 64, that belong to the caller.
unsafe fn data_of(block: NonNull<u8>, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe {
        block.cast::<usize>().write(size);
        block.add(HEADER).as_ptr().cast()
    }
}

impl PoolMalloc {
    /// The malloc family over `pool`, which is held.
    pub fn new(pool: &Pool) -> Self {
        Self { pool: pool.clone() }
    }

    /// The pool that the memory comes from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    fn allocate(&self, size: usize, zeroed: bool) -> *mut c_void {
        caught(|| {
            self.pool
                .allocate_prefixed(HEADER, size, Alignment::DEFAULT, zeroed)
        })
        .flatten()
        // SAFETY: the pool gave a header and `size` bytes.
        .map_or(ptr::null_mut(), |block| unsafe { data_of(block, size) })
    }

    /// A block of `size` bytes at a multiple of 16, uninitialised; null when the pool refuses.
    pub fn malloc(&self, size: usize) -> *mut c_void {
        self.allocate(size, false)
    }

    /// A block of `count` elements of `size` bytes, all zero; null when the pool refuses or the
    /// product is too large.
    pub fn calloc(&self, count: usize, size: usize) -> *mut c_void {
        match count.checked_mul(size) {
            Some(size) => self.allocate(size, true),
            None => ptr::null_mut(),
        }
    }

    /// Changes a block's size, keeping the bytes that both have; null leaves the block as it was.
    /// A null `data` is [`malloc`](Self::malloc); a `size` of zero does not free.
    ///
    /// # Safety
    /// - `data` is null, or came from a `PoolMalloc` over the same pool and is live;
    /// - nobody uses the block during the call.
    pub unsafe fn realloc(&self, data: *mut c_void, size: usize) -> *mut c_void {
        let Some(data) = NonNull::new(data) else {
            return self.malloc(size);
        };
        // SAFETY: the caller's promise.
        let (block, old) = unsafe { size_of_block(data) };
        // SAFETY: the block is the pool's, with that size, and nobody uses it meanwhile.
        caught(|| unsafe {
            self.pool
                .reallocate_prefixed(block, HEADER, old, size, Alignment::DEFAULT)
        })
        .flatten()
        // SAFETY: as in `allocate`.
        .map_or(ptr::null_mut(), |block| unsafe { data_of(block, size) })
    }

    /// Gives a block back; nothing when `data` is null.
    ///
    /// # Safety
    /// - `data` is null, or came from a `PoolMalloc` over the same pool, is live, and nobody uses
    ///   it any more.
    pub unsafe fn free(&self, data: *mut c_void) {
        let Some(data) = NonNull::new(data) else {
            return;
        };
        // SAFETY: the caller's promise.
        let (block, size) = unsafe { size_of_block(data) };
        caught(|| {
            // SAFETY: the block is the pool's, with that size, and the caller gives it up.
            unsafe {
                self.pool
                    .free_prefixed(block, HEADER, size, Alignment::DEFAULT);
            }
        });
    }

    /// The size that a block was asked for with (glibc's `malloc_usable_size`, SQLite's `xSize`).
    ///
    /// # Safety
    /// - `data` came from a `PoolMalloc` and is live.
    pub unsafe fn usable_size(data: NonNull<c_void>) -> usize {
        // SAFETY: the caller's promise.
        unsafe { size_of_block(data).1 }
    }

    /// The context for the functions below: this value's own address, so it must neither move nor
    /// end while C has it.
    pub fn as_context(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// [`malloc`](Self::malloc) for C.
    ///
    /// # Safety
    /// - `context` came from [`as_context`](Self::as_context) of a value that is still there.
    pub unsafe extern "C" fn c_malloc(context: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: the caller's promise.
        unsafe { &*context.cast::<Self>() }.malloc(size)
    }

    /// [`calloc`](Self::calloc) for C.
    ///
    /// # Safety
    /// - As [`c_malloc`](Self::c_malloc).
    pub unsafe extern "C" fn c_calloc(
        context: *mut c_void,
        count: usize,
        size: usize,
    ) -> *mut c_void {
        // SAFETY: the caller's promise.
        unsafe { &*context.cast::<Self>() }.calloc(count, size)
    }

    /// [`realloc`](Self::realloc) for C.
    ///
    /// # Safety
    /// - As [`c_malloc`](Self::c_malloc), and `data` as in [`realloc`](Self::realloc).
    pub unsafe extern "C" fn c_realloc(
        context: *mut c_void,
        data: *mut c_void,
        size: usize,
    ) -> *mut c_void {
        // SAFETY: the caller's promise.
        unsafe { (*context.cast::<Self>()).realloc(data, size) }
    }

    /// [`free`](Self::free) for C.
    ///
    /// # Safety
    /// - As [`c_malloc`](Self::c_malloc), and `data` as in [`free`](Self::free).
    pub unsafe extern "C" fn c_free(context: *mut c_void, data: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { (*context.cast::<Self>()).free(data) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::system_memory_pool;

    #[test]
    fn blocks_are_counted_as_asked_for_and_aligned_to_16() {
        let pool = system_memory_pool().proxy();
        let memory = PoolMalloc::new(&pool);
        let mut blocks = Vec::new();
        for size in 0..200_usize {
            let data = memory.malloc(size);
            assert_eq!(data.addr() % 16, 0);
            // SAFETY: the block has `size` bytes.
            unsafe { data.write_bytes(size as u8, size) };
            blocks.push(data);
        }
        assert_eq!(pool.bytes_allocated(), 199 * 200 / 2);
        blocks.sort();
        blocks.dedup();
        assert_eq!(
            blocks.len(),
            200,
            "blocks of no bytes have addresses of their own"
        );
        for data in &mut blocks {
            let size = NonNull::new(*data).unwrap();
            // SAFETY: live blocks of `memory`, of as many bytes as they say, all written.
            unsafe {
                let size = PoolMalloc::usable_size(size);
                let grown = memory.realloc(*data, size * 3);
                let bytes = std::slice::from_raw_parts(grown.cast::<u8>(), size);
                assert!(bytes.iter().all(|byte| *byte == size as u8));
                *data = memory.realloc(grown, 0);
                assert!(!data.is_null());
            }
        }
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 200));
        for data in blocks {
            // SAFETY: as above.
            unsafe { memory.free(data) };
        }
        assert_eq!(pool.live_allocations(), 0);
    }

    #[test]
    fn null_is_what_c_makes_of_it() {
        let memory = PoolMalloc::new(&system_memory_pool().limit(100));
        // SAFETY: null is allowed, and live blocks of `memory`.
        unsafe {
            memory.free(ptr::null_mut());
            let data = memory.realloc(ptr::null_mut(), 50);
            data.write_bytes(9, 50);
            assert!(memory.realloc(data, 101).is_null());
            assert!(memory.realloc(data, usize::MAX).is_null());
            assert!(memory.malloc(51).is_null());
            assert!(memory.malloc(usize::MAX).is_null());
            assert!(memory.calloc(usize::MAX / 2, 3).is_null());
            assert_eq!(std::slice::from_raw_parts(data.cast::<u8>(), 50), [9; 50]);
            memory.free(data);
        }
        assert_eq!(memory.pool().live_allocations(), 0);
    }

    #[test]
    fn c_gets_the_same_by_a_context() {
        let memory = PoolMalloc::new(&system_memory_pool().limit(1000));
        let context = memory.as_context();
        // SAFETY: `memory` outlives the calls; live blocks of it.
        unsafe {
            let first = PoolMalloc::c_malloc(context, 10);
            let second = PoolMalloc::c_calloc(context, 10, 10);
            assert_eq!(
                std::slice::from_raw_parts(second.cast::<u8>(), 100),
                [0; 100]
            );
            let first = PoolMalloc::c_realloc(context, first, 500);
            assert_eq!(memory.pool().bytes_allocated(), 600);
            assert!(PoolMalloc::c_calloc(context, 401, 1).is_null());
            PoolMalloc::c_free(context, first);
            PoolMalloc::c_free(context, second);
        }
        assert_eq!(memory.pool().live_allocations(), 0);
    }
}

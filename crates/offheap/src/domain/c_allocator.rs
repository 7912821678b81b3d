//! Allocators written in C.

use crate::alignment::Alignment;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::{MemoryPool, Padding, Pool};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::NonNull;

/// `{ctx, malloc, calloc, realloc, free}`: PEP 445's `PyMemAllocatorEx`, and `offheap_allocator` of
/// `offheap.h`.
///
/// The functions do what C's of the same name do, with `ctx` in front, and may be called from any
/// thread. `malloc` returns memory aligned to 16 bytes; where more is asked for, the pool over the
/// allocator asks for more bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CAllocator {
    /// Passed to the functions.
    pub ctx: *mut c_void,
    /// A new block, or null.
    pub malloc: unsafe extern "C" fn(ctx: *mut c_void, size: usize) -> *mut c_void,
    /// A new block of `count * size` zero bytes, or null.
    pub calloc: unsafe extern "C" fn(ctx: *mut c_void, count: usize, size: usize) -> *mut c_void,
    /// Another size for a block; null leaves it as it was.
    pub realloc:
        unsafe extern "C" fn(ctx: *mut c_void, ptr: *mut c_void, new_size: usize) -> *mut c_void,
    /// The end of a block.
    pub free: unsafe extern "C" fn(ctx: *mut c_void, ptr: *mut c_void),
}

impl PartialEq for CAllocator {
    fn eq(&self, other: &Self) -> bool {
        self.ctx == other.ctx
            && std::ptr::fn_addr_eq(self.malloc, other.malloc)
            && std::ptr::fn_addr_eq(self.calloc, other.calloc)
            && std::ptr::fn_addr_eq(self.realloc, other.realloc)
            && std::ptr::fn_addr_eq(self.free, other.free)
    }
}

impl CAllocator {
    /// A pool over the allocator, under the name `c`. It sees the sizes that are asked for: such a
    /// pool's buffers have no padding.
    ///
    /// # Safety
    /// - the functions keep the contract above, from any thread, for as long as the pool or a block
    ///   of it lives.
    pub unsafe fn into_pool(self) -> Pool {
        Pool::custom(CSource { allocator: self })
    }

    /// The allocator of a pool made by [`into_pool`](Self::into_pool), and of nothing over one.
    pub fn of_pool(pool: &Pool) -> Option<Self> {
        pool.own_source::<CSource>().map(|source| source.allocator)
    }
}

/// A pool's source over C functions.
#[derive(Debug)]
struct CSource {
    allocator: CAllocator,
}

// SAFETY: `into_pool`'s caller promises functions that any thread may call.
unsafe impl Send for CSource {}
// SAFETY: as above.
unsafe impl Sync for CSource {}

thread_local! {
    /// The shape in which a `calloc` of this thread was asked for.
    static CALLOC_SHAPE: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Runs `body`, during which a C allocator that is asked for `count * size` zero bytes sees both
/// numbers.
pub(super) fn with_calloc_shape<T>(count: usize, size: usize, body: impl FnOnce() -> T) -> T {
    struct Restore(Option<(usize, usize)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CALLOC_SHAPE.set(self.0);
        }
    }
    let _restore = Restore(CALLOC_SHAPE.replace(Some((count, size))));
    body()
}

/// In front of a block at more than malloc's alignment: where the C block begins.
const PREFIX: usize = size_of::<*mut c_void>();

impl CSource {
    fn refused(&self, requested: usize) -> Error {
        Error::new(ErrorKind::OutOfMemory {
            requested: requested as u64,
            limit: None,
            allocated: 0,
            pool: self.backend_name().to_owned(),
        })
    }

    fn make(&self, size: usize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>> {
        let c = &self.allocator;
        let extra = if alignment <= Alignment::MALLOC {
            0
        } else {
            alignment.get() + PREFIX
        };
        let bytes = size.checked_add(extra).ok_or_else(|| self.refused(size))?;
        let block = if zeroed {
            let (count, each) = CALLOC_SHAPE
                .get()
                .filter(|(count, each)| extra == 0 && count.checked_mul(*each) == Some(size))
                .unwrap_or((1, bytes));
            // SAFETY: the functions keep C's contract, as `into_pool`'s caller promised.
            unsafe { (c.calloc)(c.ctx, count, each) }
        } else {
            // SAFETY: as above.
            unsafe { (c.malloc)(c.ctx, bytes) }
        };
        let block = NonNull::new(block.cast::<u8>()).ok_or_else(|| self.refused(size))?;
        if extra == 0 {
            return Ok(block);
        }
        let start = block.addr().get() + PREFIX;
        let offset = start.next_multiple_of(alignment.get()) - block.addr().get();
        // SAFETY: the offset is at least a pointer and at most `extra`, so the pointer in front and
        // `size` bytes behind lie in the C block.
        unsafe {
            let aligned = block.add(offset);
            aligned
                .sub(PREFIX)
                .cast::<NonNull<u8>>()
                .write_unaligned(block);
            Ok(aligned)
        }
    }
}

/// # Safety
/// - `ptr` came from [`CSource::make`] with `alignment`, and is live.
unsafe fn c_block(ptr: NonNull<u8>, alignment: Alignment) -> NonNull<u8> {
    if alignment <= Alignment::MALLOC {
        return ptr;
    }
    // SAFETY: the caller's promise: the C block's address is in front.
    unsafe { ptr.sub(PREFIX).cast::<NonNull<u8>>().read_unaligned() }
}

// SAFETY: the functions keep C's contract; what exceeds malloc's alignment is made room for.
unsafe impl MemoryPool for CSource {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.make(size, alignment, false)
    }

    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.make(size, alignment, true)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        let c = &self.allocator;
        if alignment <= Alignment::MALLOC {
            // SAFETY: the caller's promise: a live block of these functions.
            let moved = unsafe { (c.realloc)(c.ctx, ptr.as_ptr().cast(), new_size) };
            return NonNull::new(moved.cast()).ok_or_else(|| self.refused(new_size));
        }
        let new = self.make(new_size, alignment, false)?;
        // SAFETY: two live blocks of at least as many bytes; the caller gives the old one up.
        unsafe {
            new.copy_from_nonoverlapping(ptr, old_size.min(new_size));
            self.free(ptr, old_size, alignment);
        }
        Ok(new)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, _size: usize, alignment: Alignment) {
        let c = &self.allocator;
        // SAFETY: the caller's promise: a live block of these functions.
        unsafe { (c.free)(c.ctx, c_block(ptr, alignment).as_ptr().cast()) };
    }

    fn padding(&self) -> Padding {
        Padding::None
    }

    fn backend_name(&self) -> &str {
        "c"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Domain;
    use std::sync::Mutex;

    /// CPython's `test_setallocators` (Modules/_testcapi/mem.c): the hook sees sizes and context,
    /// and passes them on to the allocator that it replaced.
    #[derive(Debug, Default)]
    struct Seen {
        calls: Mutex<Vec<String>>,
        inner: Option<CAllocator>,
    }
    // SAFETY: for this test, which runs on one thread.
    unsafe impl Sync for Seen {}

    impl Seen {
        fn note(&self, call: String) -> CAllocator {
            self.calls.lock().unwrap().push(call);
            self.inner.unwrap()
        }
    }

    unsafe fn seen<'a>(ctx: *mut c_void) -> &'a Seen {
        // SAFETY: the context of the test below, which outlives the calls.
        unsafe { &*ctx.cast::<Seen>() }
    }
    unsafe extern "C" fn malloc(ctx: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: as above; forwards to a live allocator.
        unsafe {
            let inner = seen(ctx).note(format!("malloc {size}"));
            (inner.malloc)(inner.ctx, size)
        }
    }
    unsafe extern "C" fn calloc(ctx: *mut c_void, count: usize, size: usize) -> *mut c_void {
        // SAFETY: as above.
        unsafe {
            let inner = seen(ctx).note(format!("calloc {count} {size}"));
            (inner.calloc)(inner.ctx, count, size)
        }
    }
    unsafe extern "C" fn realloc(
        ctx: *mut c_void,
        ptr: *mut c_void,
        new_size: usize,
    ) -> *mut c_void {
        // SAFETY: as above.
        unsafe {
            let inner = seen(ctx).note(format!("realloc {new_size}"));
            (inner.realloc)(inner.ctx, ptr, new_size)
        }
    }
    unsafe extern "C" fn free(ctx: *mut c_void, ptr: *mut c_void) {
        // SAFETY: as above.
        unsafe {
            let inner = seen(ctx).note("free".to_owned());
            (inner.free)(inner.ctx, ptr);
        }
    }

    #[test]
    fn a_c_hook_sees_what_is_asked_for() {
        let seen = Seen {
            inner: Some(super::super::c_handle::c_allocator_of(
                &crate::system_memory_pool(),
            )),
            ..Default::default()
        };
        let hook = CAllocator {
            ctx: std::ptr::from_ref(&seen).cast_mut().cast(),
            malloc,
            calloc,
            realloc,
            free,
        };
        // SAFETY: the functions forward to a live allocator, on this thread.
        let pool = unsafe { hook.into_pool() };
        assert_eq!(CAllocator::of_pool(&pool), Some(hook));
        assert_eq!(CAllocator::of_pool(&pool.proxy()), None);
        let a = pool.allocate(42, Alignment::MALLOC).unwrap();
        // SAFETY: live blocks, with what they were asked for.
        unsafe {
            a.write_bytes(7, 42);
            let a = pool.reallocate(a, 42, 200, Alignment::MALLOC).unwrap();
            assert_eq!(a.add(41).read(), 7);
            pool.free(a, 200, Alignment::MALLOC);
        }
        let b = with_calloc_shape(2, 5, || pool.allocate_zeroed(10, Alignment::MALLOC)).unwrap();
        // SAFETY: a live block of ten zero bytes.
        unsafe {
            assert_eq!(b.add(9).read(), 0);
            pool.free(b, 10, Alignment::MALLOC);
        }
        assert_eq!(
            *seen.calls.lock().unwrap(),
            ["malloc 42", "realloc 200", "free", "calloc 2 5", "free"]
        );
        seen.calls.lock().unwrap().clear();
        for shift in 5..13 {
            let alignment = Alignment::new(1 << shift).unwrap();
            let block = pool.allocate_zeroed(100, alignment).unwrap();
            assert!(alignment.is_aligned(block.addr().get()));
            // SAFETY: live blocks, with what they were asked for.
            unsafe {
                block.write_bytes(3, 100);
                let block = pool.reallocate(block, 100, 1000, alignment).unwrap();
                assert!(alignment.is_aligned(block.addr().get()));
                assert_eq!(block.add(99).read(), 3);
                pool.free(block, 1000, alignment);
            }
        }
        assert_eq!(pool.bytes_allocated(), 0);
        assert_eq!(Domain::named("mem").unwrap(), Domain::Mem);
    }
}

//! Who allocates: offheap's pools, and allocators without a pool. All give blocks at multiples of
//! 64, which is what pools promise.

use offheap::pool::{memory_pool_named, memory_pool_named_with};
use offheap::{Alignment, Pool, PoolOptions};
use std::ptr::NonNull;

pub(crate) trait Memory: Sync {
    /// A block of `size` bytes; never null.
    fn allocate(&self, size: usize) -> *mut u8;

    /// # Safety
    /// - `block` is a live block of this memory, of `size` bytes.
    unsafe fn free(&self, block: *mut u8, size: usize);

    /// # Safety
    /// - `block` is a live block of this memory, of `old` bytes.
    unsafe fn reallocate(&self, block: *mut u8, old: usize, new: usize) -> *mut u8;
}

impl Memory for Pool {
    #[inline]
    fn allocate(&self, size: usize) -> *mut u8 {
        Self::allocate(self, size, Alignment::DEFAULT)
            .unwrap()
            .as_ptr()
    }

    #[inline]
    unsafe fn free(&self, block: *mut u8, size: usize) {
        // SAFETY: a live block is not null; the rest is the caller's promise.
        unsafe { self.free(NonNull::new_unchecked(block), size, Alignment::DEFAULT) };
    }

    #[inline]
    unsafe fn reallocate(&self, block: *mut u8, old: usize, new: usize) -> *mut u8 {
        // SAFETY: a live block is not null; the rest is the caller's promise.
        unsafe {
            let block = NonNull::new_unchecked(block);
            Self::reallocate(self, block, old, new, Alignment::DEFAULT)
                .unwrap()
                .as_ptr()
        }
    }
}

#[derive(Debug)]
pub(crate) struct Mimalloc;

impl Memory for Mimalloc {
    #[inline]
    fn allocate(&self, size: usize) -> *mut u8 {
        // SAFETY: 64 is a power of two; any size may be asked for.
        let block = unsafe { libmimalloc_sys::mi_malloc_aligned(size, 64) };
        assert!(!block.is_null());
        block.cast()
    }

    #[inline]
    unsafe fn free(&self, block: *mut u8, _size: usize) {
        // SAFETY: the caller's promise.
        unsafe { libmimalloc_sys::mi_free(block.cast()) };
    }

    #[inline]
    unsafe fn reallocate(&self, block: *mut u8, _old: usize, new: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { libmimalloc_sys::mi_realloc_aligned(block.cast(), new, 64) };
        assert!(!block.is_null());
        block.cast()
    }
}

#[cfg(feature = "jemalloc")]
pub(crate) use jemalloc::Jemalloc;

#[cfg(feature = "jemalloc")]
mod jemalloc {
    use super::Memory;
    use std::ffi::{c_int, c_void};

    // The functions of the jemalloc that offheap links. A dependency on it would have it built for
    // the tests that do without.
    unsafe extern "C" {
        fn _rjem_mallocx(size: usize, flags: c_int) -> *mut c_void;
        fn _rjem_rallocx(block: *mut c_void, size: usize, flags: c_int) -> *mut c_void;
        fn _rjem_sdallocx(block: *mut c_void, size: usize, flags: c_int);
    }

    /// MALLOCX_LG_ALIGN(6).
    const ALIGN_64: c_int = 6;

    #[derive(Debug)]
    pub(crate) struct Jemalloc;

    impl Memory for Jemalloc {
        #[inline]
        fn allocate(&self, size: usize) -> *mut u8 {
            // SAFETY: the size is not zero.
            let block = unsafe { _rjem_mallocx(size, ALIGN_64) };
            assert!(!block.is_null());
            block.cast()
        }

        #[inline]
        unsafe fn free(&self, block: *mut u8, size: usize) {
            // SAFETY: the caller's promise.
            unsafe { _rjem_sdallocx(block.cast(), size, ALIGN_64) };
        }

        #[inline]
        unsafe fn reallocate(&self, block: *mut u8, _old: usize, new: usize) -> *mut u8 {
            // SAFETY: the caller's promise.
            let block = unsafe { _rjem_rallocx(block.cast(), new, ALIGN_64) };
            assert!(!block.is_null());
            block.cast()
        }
    }
}

/// The C library's aligned call, which Arrow C++ and arrow-rs make. It has no way to grow a block.
#[derive(Debug)]
pub(crate) struct PosixMemalign;

impl Memory for PosixMemalign {
    #[inline]
    fn allocate(&self, size: usize) -> *mut u8 {
        let mut block = std::ptr::null_mut();
        // SAFETY: 64 is a power of two and a multiple of a pointer's size.
        let failed = unsafe { libc::posix_memalign(&raw mut block, 64, size) };
        assert_eq!(failed, 0);
        block.cast()
    }

    #[inline]
    unsafe fn free(&self, block: *mut u8, _size: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::free(block.cast()) };
    }

    unsafe fn reallocate(&self, block: *mut u8, old: usize, new: usize) -> *mut u8 {
        let larger = self.allocate(new);
        // SAFETY: both blocks have so many bytes, and one is new.
        unsafe {
            larger.copy_from_nonoverlapping(block, old.min(new));
            self.free(block, old);
        }
        larger
    }
}

/// The C library's malloc, aligned by hand: 64 bytes more, and the way back in front of the block.
/// The least that aligning blocks of 16-byte alignment can cost.
#[derive(Debug)]
pub(crate) struct HeaderMalloc;

impl Memory for HeaderMalloc {
    #[inline]
    fn allocate(&self, size: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        let raw = unsafe { libc::malloc(size + 64) }.cast::<u8>();
        assert!(!raw.is_null());
        let ahead = 64 - (raw.addr() & 63);
        // SAFETY: malloc aligns to 16, so `ahead` is 16 to 64: within the block, with room for the
        // way back before it.
        unsafe {
            let block = raw.add(ahead);
            block.cast::<usize>().sub(1).write(ahead);
            block
        }
    }

    #[inline]
    unsafe fn free(&self, block: *mut u8, _size: usize) {
        // SAFETY: `allocate` wrote the way back.
        unsafe { libc::free(block.sub(block.cast::<usize>().sub(1).read()).cast()) };
    }

    unsafe fn reallocate(&self, block: *mut u8, old: usize, new: usize) -> *mut u8 {
        let larger = self.allocate(new);
        // SAFETY: both blocks have so many bytes, and one is new.
        unsafe {
            larger.copy_from_nonoverlapping(block, old.min(new));
            self.free(block, old);
        }
        larger
    }
}

/// The C library's own realloc. Blocks are aligned to 16 only: it does less.
#[derive(Debug)]
pub(crate) struct Realloc;

impl Memory for Realloc {
    #[inline]
    fn allocate(&self, size: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        let block = unsafe { libc::malloc(size) };
        assert!(!block.is_null());
        block.cast()
    }

    #[inline]
    unsafe fn free(&self, block: *mut u8, _size: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::free(block.cast()) };
    }

    #[inline]
    unsafe fn reallocate(&self, block: *mut u8, _old: usize, new: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { libc::realloc(block.cast(), new) };
        assert!(!block.is_null());
        block.cast()
    }
}

/// offheap's pool of a name: a backend's, `limit` (over mimalloc's), or `no-large-blocks` (mimalloc
/// serves those, too).
pub(crate) fn pool_of(name: &str) -> Option<Pool> {
    match name {
        "limit" => Some(memory_pool_named("mimalloc").ok()?.limit(1 << 42)),
        "no-large-blocks" => {
            let options = PoolOptions::DEFAULT.without_large_blocks();
            memory_pool_named_with("mimalloc", &options).ok()
        }
        _ => memory_pool_named(name).ok(),
    }
}

/// Evaluates an expression with the memory of a contender's name, as `Some`; `None` for a name that
/// is none. The expression is compiled for each, so nothing is called through a table.
macro_rules! with_memory {
    ($name:expr, $memory:ident => $body:expr) => {
        match $name {
            "mimalloc" => {
                let $memory = &$crate::suite::memory::Mimalloc;
                Some($body)
            }
            #[cfg(feature = "jemalloc")]
            "jemalloc" => {
                let $memory = &$crate::suite::memory::Jemalloc;
                Some($body)
            }
            "posix_memalign" => {
                let $memory = &$crate::suite::memory::PosixMemalign;
                Some($body)
            }
            "realloc" => {
                let $memory = &$crate::suite::memory::Realloc;
                Some($body)
            }
            name => name
                .strip_prefix("offheap-")
                .and_then($crate::suite::memory::pool_of)
                .map(|pool| {
                    let $memory = &pool;
                    $body
                }),
        }
    };
}
pub(super) use with_memory;

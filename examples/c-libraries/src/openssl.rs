//! OpenSSL: three functions for the process, without a context, before its first allocation.

use offheap::{Pool, PoolMalloc};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

unsafe extern "C" {
    fn CRYPTO_set_mem_functions(
        malloc: unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
        realloc: unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
        free: unsafe extern "C" fn(*mut c_void, *const c_char, c_int),
    ) -> c_int;
}

// [openssl]
static MEMORY: OnceLock<PoolMalloc> = OnceLock::new();

// OpenSSL says which of its lines asks.
unsafe extern "C" fn malloc(size: usize, _file: *const c_char, _line: c_int) -> *mut c_void {
    MEMORY
        .get()
        .map_or(ptr::null_mut(), |memory| memory.malloc(size))
}

unsafe extern "C" fn realloc(
    block: *mut c_void,
    size: usize,
    _file: *const c_char,
    _line: c_int,
) -> *mut c_void {
    match MEMORY.get() {
        // SAFETY: OpenSSL's blocks come from `malloc`.
        Some(memory) => unsafe { memory.realloc(block, size) },
        None => ptr::null_mut(),
    }
}

unsafe extern "C" fn free(block: *mut c_void, _file: *const c_char, _line: c_int) {
    if let Some(memory) = MEMORY.get() {
        // SAFETY: as above, and OpenSSL uses the block no more.
        unsafe { memory.free(block) };
    }
}

/// Makes OpenSSL take all its memory from `pool`. `false` once it has allocated with C's functions.
pub fn install(pool: &Pool) -> bool {
    MEMORY.get_or_init(|| PoolMalloc::new(pool));
    // SAFETY: the functions do what C's do.
    unsafe { CRYPTO_set_mem_functions(malloc, realloc, free) == 1 }
}
// [end]

//! SQLite: one table of functions for the process, without a context, before anything else is called.

use libsqlite3_sys::{SQLITE_CONFIG_MALLOC, SQLITE_OK, sqlite3_config, sqlite3_mem_methods};
use offheap::{Pool, PoolMalloc};
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

// [sqlite]
static MEMORY: OnceLock<PoolMalloc> = OnceLock::new();

unsafe extern "C" fn malloc(size: c_int) -> *mut c_void {
    match (MEMORY.get(), usize::try_from(size)) {
        (Some(memory), Ok(size)) => memory.malloc(size),
        _ => ptr::null_mut(),
    }
}

unsafe extern "C" fn realloc(block: *mut c_void, size: c_int) -> *mut c_void {
    match (MEMORY.get(), usize::try_from(size)) {
        // SAFETY: SQLite's blocks come from `malloc`.
        (Some(memory), Ok(size)) => unsafe { memory.realloc(block, size) },
        _ => ptr::null_mut(),
    }
}

unsafe extern "C" fn free(block: *mut c_void) {
    if let Some(memory) = MEMORY.get() {
        // SAFETY: as above, and SQLite uses the block no more.
        unsafe { memory.free(block) };
    }
}

unsafe extern "C" fn size(block: *mut c_void) -> c_int {
    // SAFETY: as above; a block was asked for with a c_int.
    NonNull::new(block).map_or(0, |block| unsafe {
        PoolMalloc::usable_size(block) as c_int
    })
}

/// SQLite wants to know what a size is rounded up to, to count it; multiples of 8 are its own rule.
unsafe extern "C" fn roundup(size: c_int) -> c_int {
    size.saturating_add(7) & !7
}

unsafe extern "C" fn init(_context: *mut c_void) -> c_int {
    SQLITE_OK
}

unsafe extern "C" fn shutdown(_context: *mut c_void) {}

/// Makes SQLite take all its memory from `pool`. Answers `SQLITE_OK`, or `SQLITE_MISUSE` once SQLite
/// is initialised.
pub fn install(pool: &Pool) -> c_int {
    MEMORY.get_or_init(|| PoolMalloc::new(pool));
    let methods = sqlite3_mem_methods {
        xMalloc: Some(malloc),
        xFree: Some(free),
        xRealloc: Some(realloc),
        xSize: Some(size),
        xRoundup: Some(roundup),
        xInit: Some(init),
        xShutdown: Some(shutdown),
        pAppData: ptr::null_mut(),
    };
    // SAFETY: SQLite copies the table; this option takes a pointer to it.
    unsafe { sqlite3_config(SQLITE_CONFIG_MALLOC, &raw const methods) }
}
// [end]

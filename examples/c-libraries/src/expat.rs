//! expat: a suite of functions for each parser, without a context.

use offheap::{Pool, PoolMalloc};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

/// expat's parser.
#[repr(C)]
#[derive(Debug)]
pub struct Parser {
    opaque: [u8; 0],
}

/// `XML_Memory_Handling_Suite`.
#[repr(C)]
struct MemorySuite {
    malloc: unsafe extern "C" fn(usize) -> *mut c_void,
    realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
}

/// Called for each start tag with the parser's user data, the name, and the attributes.
pub type StartElement = unsafe extern "C" fn(*mut c_void, *const c_char, *const *const c_char);
/// Called for each end tag.
pub type EndElement = unsafe extern "C" fn(*mut c_void, *const c_char);

/// `XML_ERROR_NO_MEMORY`.
pub const NO_MEMORY: c_int = 1;

#[allow(missing_docs, reason = "expat's own")]
unsafe extern "C" {
    fn XML_ParserCreate_MM(
        encoding: *const c_char,
        memory: *const MemorySuite,
        separator: *const c_char,
    ) -> *mut Parser;
    pub fn XML_ParserFree(parser: *mut Parser);
    pub fn XML_Parse(parser: *mut Parser, text: *const u8, length: c_int, last: c_int) -> c_int;
    pub fn XML_GetErrorCode(parser: *mut Parser) -> c_int;
    pub fn XML_SetElementHandler(parser: *mut Parser, start: StartElement, end: EndElement);
    pub fn XML_SetUserData(parser: *mut Parser, data: *mut c_void);
}

// [expat]
static MEMORY: OnceLock<PoolMalloc> = OnceLock::new();

unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    MEMORY
        .get()
        .map_or(ptr::null_mut(), |memory| memory.malloc(size))
}

unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    match MEMORY.get() {
        // SAFETY: expat's blocks come from `malloc`.
        Some(memory) => unsafe { memory.realloc(block, size) },
        None => ptr::null_mut(),
    }
}

unsafe extern "C" fn free(block: *mut c_void) {
    if let Some(memory) = MEMORY.get() {
        // SAFETY: as above, and expat uses the block no more.
        unsafe { memory.free(block) };
    }
}

/// A parser whose memory comes from the pool of the first call; null when the pool refuses.
pub fn parser(pool: &Pool) -> *mut Parser {
    MEMORY.get_or_init(|| PoolMalloc::new(pool));
    let memory = MemorySuite {
        malloc,
        realloc,
        free,
    };
    // SAFETY: expat copies the suite; null stands for its own encodings and no namespaces.
    unsafe { XML_ParserCreate_MM(ptr::null(), &raw const memory, ptr::null()) }
}
// [end]

//! libxml2: four functions for the process, without a context, before anything else is called.

use offheap::{Pool, PoolMalloc};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

/// libxml2's document.
#[repr(C)]
#[derive(Debug)]
pub struct Document {
    opaque: [u8; 0],
}

/// The start of `xmlError`.
#[repr(C)]
#[derive(Debug)]
pub struct XmlError {
    /// The part of the library.
    pub domain: c_int,
    /// What happened, `xmlParserErrors`.
    pub code: c_int,
}

/// `XML_ERR_NO_MEMORY`.
pub const NO_MEMORY: c_int = 2;

#[allow(missing_docs, reason = "libxml2's own")]
unsafe extern "C" {
    fn xmlMemSetup(
        free: unsafe extern "C" fn(*mut c_void),
        malloc: unsafe extern "C" fn(usize) -> *mut c_void,
        realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
        strdup: unsafe extern "C" fn(*const c_char) -> *mut c_char,
    ) -> c_int;
    pub fn xmlReadMemory(
        text: *const u8,
        length: c_int,
        url: *const c_char,
        encoding: *const c_char,
        options: c_int,
    ) -> *mut Document;
    pub fn xmlFreeDoc(document: *mut Document);
    pub fn xmlSetStructuredErrorFunc(
        data: *mut c_void,
        handler: Option<unsafe extern "C" fn(*mut c_void, *const XmlError)>,
    );
    pub fn xmlResetLastError();
    pub fn xmlCleanupParser();
}

// [libxml2]
static MEMORY: OnceLock<PoolMalloc> = OnceLock::new();

unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    MEMORY
        .get()
        .map_or(ptr::null_mut(), |memory| memory.malloc(size))
}

unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    match MEMORY.get() {
        // SAFETY: libxml2's blocks come from `malloc`.
        Some(memory) => unsafe { memory.realloc(block, size) },
        None => ptr::null_mut(),
    }
}

unsafe extern "C" fn free(block: *mut c_void) {
    if let Some(memory) = MEMORY.get() {
        // SAFETY: as above, and libxml2 uses the block no more.
        unsafe { memory.free(block) };
    }
}

unsafe extern "C" fn strdup(text: *const c_char) -> *mut c_char {
    // SAFETY: libxml2 gives a C string; the copy has as many bytes.
    unsafe {
        let bytes = CStr::from_ptr(text).to_bytes_with_nul();
        let copy = malloc(bytes.len()).cast::<c_char>();
        if !copy.is_null() {
            copy.copy_from_nonoverlapping(text, bytes.len());
        }
        copy
    }
}

/// Makes libxml2 take all its memory from `pool`. To be called before any other of its functions:
/// libxml2 does not notice when it is too late.
pub fn install(pool: &Pool) -> bool {
    MEMORY.get_or_init(|| PoolMalloc::new(pool));
    // SAFETY: the functions do what C's do.
    unsafe { xmlMemSetup(free, malloc, realloc, strdup) == 0 }
}
// [end]

//! libxml2 under a limit. One test: its functions are the process's.

mod support;

use offheap::{Pool, system_memory_pool};
use offheap_c_libraries::libxml2::*;
use std::ffi::{c_int, c_void};
use std::ptr;
use support::Ballast;

unsafe extern "C" fn collect(codes: *mut c_void, error: *const XmlError) {
    // SAFETY: the vector of `parse`, which waits for the call, and libxml2's error.
    unsafe { (*codes.cast::<Vec<c_int>>()).push((*error).code) };
}

/// The bytes that the pool held with the document, or the codes of libxml2's errors.
fn parse(text: &[u8], pool: &Pool) -> Result<u64, Vec<c_int>> {
    let mut codes: Vec<c_int> = Vec::new();
    // SAFETY: the text has that length; null stands for no URL and the document's own encoding; the
    // handler goes before the vector does.
    unsafe {
        xmlSetStructuredErrorFunc((&raw mut codes).cast(), Some(collect));
        let length = text.len() as c_int;
        let document = xmlReadMemory(text.as_ptr(), length, ptr::null(), ptr::null(), 0);
        xmlSetStructuredErrorFunc(ptr::null_mut(), None);
        let held = pool.bytes_allocated();
        xmlResetLastError();
        if document.is_null() {
            return Err(codes);
        }
        xmlFreeDoc(document);
        Ok(held)
    }
}

#[test]
fn a_document_lives_in_a_pool() {
    let pool = system_memory_pool().limit(4 << 20);
    assert!(install(&pool));
    // Short, with a large tree: a text that does not fit into the 8 KiB of its first buffer is lost by
    // libxml2 2.10 when the buffer cannot grow.
    let text = format!("<?xml version='1.0'?><list>{}</list>", "<e/>".repeat(1800));
    let held = parse(text.as_bytes(), &pool).unwrap();
    assert!(held > 200_000, "{held}");
    // What libxml2 keeps for itself until `xmlCleanupParser`.
    let kept = pool.bytes_allocated();
    assert!(kept < 20_000, "{kept}");
    // Its other errors are still its own: 76 is "opening and ending tag mismatch".
    assert_eq!(parse(b"<a></b>", &pool), Err(vec![76]));

    let (mut refused, mut worked) = (0, 0);
    for left in (0..).step_by(1000) {
        let ballast = Ballast::leaving(&pool, left);
        match parse(text.as_bytes(), &pool) {
            Ok(_) => worked += 1,
            Err(codes) => {
                assert!(codes.contains(&NO_MEMORY), "{left} bytes: {codes:?}");
                refused += 1;
            }
        }
        drop(ballast);
        assert!(pool.bytes_allocated() <= kept);
        if worked == 5 {
            break;
        }
    }
    assert!(refused > 100, "{refused}");
    assert!(parse(text.as_bytes(), &pool).is_ok());

    // SAFETY: no document is alive, and nobody uses libxml2 any more.
    unsafe { xmlCleanupParser() };
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
}

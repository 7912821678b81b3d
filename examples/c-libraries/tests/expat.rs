//! expat under a limit. One test: its functions have no context, so all parsers share a pool.

mod support;

use offheap::{Pool, system_memory_pool};
use offheap_c_libraries::expat::*;
use std::ffi::{c_char, c_int, c_void};
use support::Ballast;

/// What the handlers see.
struct Seen<'a> {
    pool: &'a Pool,
    elements: usize,
    deepest: u64,
}

unsafe extern "C" fn start(data: *mut c_void, _: *const c_char, _: *const *const c_char) {
    // SAFETY: the user data of `parse`, which waits for the call.
    let seen = unsafe { &mut *data.cast::<Seen>() };
    seen.elements += 1;
    seen.deepest = seen.deepest.max(seen.pool.bytes_allocated());
}

unsafe extern "C" fn end(_: *mut c_void, _: *const c_char) {}

/// The number of elements, and the bytes that the pool held at most meanwhile.
fn parse(text: &[u8], pool: &Pool) -> Result<(usize, u64), c_int> {
    let parser = parser(pool);
    if parser.is_null() {
        return Err(NO_MEMORY);
    }
    let mut seen = Seen {
        pool,
        elements: 0,
        deepest: 0,
    };
    // SAFETY: a new parser; the text and the user data live through the call.
    let (ok, code) = unsafe {
        XML_SetUserData(parser, (&raw mut seen).cast());
        XML_SetElementHandler(parser, start, end);
        let ok = XML_Parse(parser, text.as_ptr(), text.len() as c_int, 1) == 1;
        let code = XML_GetErrorCode(parser);
        XML_ParserFree(parser);
        (ok, code)
    };
    if ok {
        Ok((seen.elements, seen.deepest))
    } else {
        Err(code)
    }
}

#[test]
fn a_parser_lives_in_a_pool() {
    const DEPTH: usize = 300;
    let pool = system_memory_pool().limit(1 << 20);
    let text = format!(
        "<?xml version='1.0'?>{}text{}",
        "<element with='an attribute'>".repeat(DEPTH),
        "</element>".repeat(DEPTH)
    );
    let (elements, deepest) = parse(text.as_bytes(), &pool).unwrap();
    assert_eq!(elements, DEPTH);
    assert!(deepest > 10_000, "{deepest}");
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    // Its other errors are still its own: 3 is "no element found".
    assert_eq!(parse(b"", &pool), Err(3));

    let (mut refused, mut worked) = (0, 0);
    for left in (0..).step_by(100) {
        let ballast = Ballast::leaving(&pool, left);
        match parse(text.as_bytes(), &pool) {
            Ok((elements, _)) => {
                assert_eq!(elements, DEPTH);
                worked += 1;
            }
            Err(code) => {
                assert_eq!((code, worked), (NO_MEMORY, 0), "{left} bytes");
                refused += 1;
            }
        }
        drop(ballast);
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
        if worked == 5 {
            break;
        }
    }
    assert!(refused > 50, "{refused}");
}

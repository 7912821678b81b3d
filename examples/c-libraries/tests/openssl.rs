//! OpenSSL under a limit. One test: its functions are the process's.
#![cfg(feature = "openssl")]

mod support;

use offheap::system_memory_pool;
use offheap_c_libraries::openssl::install;
use openssl_sys::*;
use std::ffi::c_int;
use std::ptr;
use support::Ballast;

unsafe extern "C" {
    /// Frees what OpenSSL keeps for the process. Nothing of it may be called afterwards.
    fn OPENSSL_cleanup();
}

/// `ERR_R_MALLOC_FAILURE`, without the flags of a reason.
const MALLOC_FAILURE: c_int = 0x100;

/// The SHA-256 of `bytes`, or nothing.
fn sha256(bytes: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    // SAFETY: a context of its own, freed at the end (null is allowed); the digest has 32 bytes.
    unsafe {
        let context = EVP_MD_CTX_new();
        let ok = !context.is_null()
            && EVP_DigestInit_ex(context, EVP_sha256(), ptr::null_mut()) == 1
            && EVP_DigestUpdate(context, bytes.as_ptr().cast(), bytes.len()) == 1
            && EVP_DigestFinal_ex(context, digest.as_mut_ptr(), ptr::null_mut()) == 1;
        EVP_MD_CTX_free(context);
        ok.then_some(digest)
    }
}

/// Whether one of the errors in OpenSSL's queue, which ends empty, is that memory is out.
fn memory_was_out() -> bool {
    let mut found = false;
    loop {
        // SAFETY: no preconditions.
        let error = unsafe { ERR_get_error() };
        if error == 0 {
            return found;
        }
        // Reasons carry flags in the bits above.
        found |= ERR_GET_REASON(error) & 0x1ff == MALLOC_FAILURE;
    }
}

#[test]
fn openssl_lives_in_a_pool() {
    let pool = system_memory_pool().limit(16 << 20);
    assert!(install(&pool));
    let empty = [
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ];
    assert_eq!(sha256(b""), Some(empty));
    // What OpenSSL keeps for the process: its tables of algorithms.
    let kept = pool.bytes_allocated();
    assert!(kept > 10_000, "{kept}");

    // SAFETY: a memory BIO, used from here alone; every write has its bytes.
    unsafe {
        let bio = BIO_new(BIO_s_mem());
        let chunk = vec![1_u8; 1 << 20];
        let mut written = 0;
        while BIO_write(bio, chunk.as_ptr().cast(), chunk.len() as c_int) > 0 {
            written += 1;
            assert!(pool.bytes_allocated() >= written << 20);
        }
        assert!((4..16).contains(&written), "{written}");
        assert!(memory_was_out());
        // The BIO has kept what it had.
        let mut back = vec![0; 1 << 20];
        for _ in 0..written {
            assert_eq!(BIO_read(bio, back.as_mut_ptr().cast(), 1 << 20), 1 << 20);
            assert_eq!(back, chunk);
        }
        BIO_free_all(bio);
    }
    assert!(pool.bytes_allocated() < kept + 10_000);

    // With every amount of memory from none on: an error that says so, and then success.
    let (mut refused, mut worked) = (0, 0);
    for left in (0..).step_by(8) {
        let ballast = Ballast::leaving(&pool, left);
        let result = sha256(b"");
        drop(ballast);
        match result {
            Some(digest) => {
                assert_eq!(digest, empty);
                worked += 1;
            }
            None => {
                assert!(memory_was_out(), "{left} bytes");
                refused += 1;
            }
        }
        if worked == 5 {
            break;
        }
    }
    assert!(refused > 5, "{refused}");
    assert!(pool.bytes_allocated() < kept + 10_000);

    // SAFETY: the last call of OpenSSL.
    unsafe { OPENSSL_cleanup() };
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
}

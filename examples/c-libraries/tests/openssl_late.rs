//! A hook that comes after OpenSSL's first allocation. One test: OpenSSL's functions are the
//! process's.
#![cfg(feature = "openssl")]

use offheap::system_memory_pool;
use offheap_c_libraries::openssl::install;
use openssl_sys::{EVP_MD_CTX_free, EVP_MD_CTX_new};

#[test]
fn a_hook_that_comes_too_late_is_refused() {
    let pool = system_memory_pool().proxy();
    // SAFETY: a context is made and freed.
    unsafe {
        let before = EVP_MD_CTX_new();
        assert!(!before.is_null() && !install(&pool));
        EVP_MD_CTX_free(before);
        // And nothing has changed.
        EVP_MD_CTX_free(EVP_MD_CTX_new());
    }
    assert_eq!(pool.num_allocations(), 0);
}

//! Pools of a program's own, to see what the crate does with them.

use offheap::{Alignment, Error, MemoryPool, Result};
use std::ptr::NonNull;

/// Gives nothing.
#[derive(Debug)]
pub(crate) struct Refusing;

// SAFETY: no block is ever given out.
unsafe impl MemoryPool for Refusing {
    fn allocate(&self, size: usize, _alignment: Alignment) -> Result<NonNull<u8>> {
        Err(Error::not_supported(format!(
            "'refusing' was asked for {size} bytes"
        )))
    }

    unsafe fn reallocate(
        &self,
        _ptr: NonNull<u8>,
        _old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        self.allocate(new_size, alignment)
    }

    unsafe fn free(&self, _ptr: NonNull<u8>, size: usize, _alignment: Alignment) {
        panic!("'refusing' was given {size} bytes that it never gave");
    }

    fn backend_name(&self) -> &str {
        "refusing"
    }
}

/// Gives memory of the system pool, and panics where it is asked to grow.
#[derive(Debug)]
pub(crate) struct PanicsOnGrowth;

// SAFETY: forwards to a pool that keeps the promises, or does nothing.
unsafe impl MemoryPool for PanicsOnGrowth {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        offheap::system_memory_pool().allocate(size, alignment)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        assert!(new_size < old_size, "asked to grow to {new_size}");
        let pool = offheap::system_memory_pool();
        // SAFETY: the caller's promise.
        unsafe { pool.reallocate(ptr, old_size, new_size, alignment) }
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { offheap::system_memory_pool().free(ptr, size, alignment) };
    }

    fn backend_name(&self) -> &str {
        "panics-on-growth"
    }
}

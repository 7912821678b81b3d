//! Pools for C: any pool as `{ctx, malloc, calloc, realloc, free}`.

use super::blocks::{Blocks, Entry, Unhooked};
use super::c_allocator::{CAllocator, with_calloc_shape};
use crate::alignment::Alignment;
use crate::panic::caught;
use crate::pool::Pool;
use std::ffi::c_void;
use std::io::Write;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

/// The pools that C code has a struct of. It never says that it is done with one, so they stay: one
/// small entry for each pool that was ever asked for.
static POOLS: Mutex<allocator_api2::vec::Vec<&'static Pool, Unhooked>> =
    Mutex::new(allocator_api2::vec::Vec::new_in(Unhooked));

fn find(is: impl Fn(&Pool) -> bool) -> Option<&'static Pool> {
    let pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.iter().copied().find(|pool| is(pool))
}

/// The blocks that went out through such structs: `free(ctx, ptr)` brings no size.
static BLOCKS: Blocks = Blocks::new();

/// A struct that allocates from `pool` (PEP 445's `PyMem_GetAllocator`). What was made by
/// [`CAllocator::into_pool`] comes back as it was. The pool lives for ever.
pub fn c_allocator_of(pool: &Pool) -> CAllocator {
    if let Some(own) = CAllocator::of_pool(pool) {
        return own;
    }
    let handle = find(|known| known.ptr_eq(pool)).unwrap_or_else(|| {
        // Not under the lock: a hook may ask for a struct itself. Two threads may make one each.
        let handle: &'static Pool = Box::leak(Box::new(pool.clone()));
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.push(handle);
        handle
    });
    CAllocator {
        ctx: ptr::from_ref(handle).cast_mut().cast(),
        malloc: pool_malloc,
        calloc: pool_calloc,
        realloc: pool_realloc,
        free: pool_free,
    }
}

/// A pool over a C allocator; what [`c_allocator_of`] gave is the pool that it was given for, so a
/// struct that was kept restores what it came from.
///
/// # Safety
/// - As [`CAllocator::into_pool`].
pub unsafe fn pool_of_c_allocator(allocator: CAllocator) -> Pool {
    if std::ptr::fn_addr_eq(
        allocator.malloc,
        pool_malloc as unsafe extern "C" fn(_, _) -> _,
    ) && let Some(pool) = find(|pool| ptr::from_ref(pool).addr() == allocator.ctx.addr())
    {
        return pool.clone();
    }
    // SAFETY: the caller's promise.
    unsafe { allocator.into_pool() }
}

/// # Safety
/// - `ctx` is one of [`c_allocator_of`].
unsafe fn pool_of(ctx: *mut c_void) -> &'static Pool {
    // SAFETY: the caller's promise: a leaked handle.
    unsafe { &*ctx.cast::<Pool>() }
}

/// A panic of a custom source must not unwind into C: it is an allocation that failed.
fn no_panic(body: impl FnOnce() -> *mut c_void) -> *mut c_void {
    caught(body).unwrap_or(ptr::null_mut())
}

fn make(pool: &'static Pool, size: usize, zeroed: bool) -> *mut c_void {
    let size = size.max(1);
    let made = if zeroed {
        pool.allocate_zeroed(size, Alignment::MALLOC)
    } else {
        pool.allocate(size, Alignment::MALLOC)
    };
    let Ok(block) = made else {
        return ptr::null_mut();
    };
    let entry = Entry {
        pool: pool.clone(),
        size,
        alignment: Alignment::MALLOC,
    };
    match BLOCKS.insert(pool.key(), block, entry) {
        Ok(()) => block.as_ptr().cast(),
        Err(_) => {
            // SAFETY: the block is new and nobody else knows it.
            unsafe { pool.free(block, size, Alignment::MALLOC) };
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn pool_malloc(ctx: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: a struct's functions are called with its `ctx`.
    let pool = unsafe { pool_of(ctx) };
    no_panic(|| make(pool, size, false))
}

unsafe extern "C" fn pool_calloc(ctx: *mut c_void, count: usize, size: usize) -> *mut c_void {
    // SAFETY: as above.
    let pool = unsafe { pool_of(ctx) };
    no_panic(|| match count.checked_mul(size) {
        Some(bytes) => with_calloc_shape(count, size, || make(pool, bytes, true)),
        None => ptr::null_mut(),
    })
}

unsafe extern "C" fn pool_realloc(
    ctx: *mut c_void,
    ptr: *mut c_void,
    new_size: usize,
) -> *mut c_void {
    // SAFETY: as above.
    let pool = unsafe { pool_of(ctx) };
    no_panic(|| {
        let Some(block) = NonNull::new(ptr.cast::<u8>()) else {
            return make(pool, new_size, false);
        };
        let Some(entry) = BLOCKS.remove(pool.key(), block) else {
            drop(writeln!(
                std::io::stderr(),
                "offheap: realloc of {block:p}: no live block of this allocator; it was left alone"
            ));
            return ptr::null_mut();
        };
        let new_size = new_size.max(1);
        // SAFETY: C's contract for `realloc`: a live block that nobody uses meanwhile; the entry says
        // how it was made.
        let moved = unsafe { pool.reallocate(block, entry.size, new_size, entry.alignment) };
        let (block, size, result) = match moved {
            Ok(moved) => (moved, new_size, moved.as_ptr().cast()),
            Err(_) => (block, entry.size, ptr::null_mut()),
        };
        // As for `Domain::realloc`: an unlisted block is leaked when it is freed, nothing worse.
        drop(BLOCKS.insert(pool.key(), block, Entry { size, ..entry }));
        result
    })
}

unsafe extern "C" fn pool_free(ctx: *mut c_void, ptr: *mut c_void) {
    // SAFETY: as above.
    let pool = unsafe { pool_of(ctx) };
    no_panic(|| {
        if let Some(block) = NonNull::new(ptr.cast::<u8>()) {
            match BLOCKS.remove(pool.key(), block) {
                // SAFETY: C's contract for `free`; the entry says how the block was made.
                Some(entry) => unsafe { pool.free(block, entry.size, entry.alignment) },
                None => drop(writeln!(
                    std::io::stderr(),
                    "offheap: free of {block:p}: no live block of this allocator; it was left alone"
                )),
            }
        }
        ptr::null_mut()
    });
}

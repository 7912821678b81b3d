//! The functions of `include/offheap.h`.
//!
//! Nothing unwinds into C: a panic of a hook or of a custom source is an allocation that failed.

use super::c_allocator::CAllocator;
use super::c_handle::{c_allocator_of, pool_of_c_allocator};
use super::domain::Domain;
use super::small::{ArenaAllocator, get_arena_allocator, set_arena_allocator};
use crate::panic::caught;
use std::ffi::{c_int, c_void};
use std::ptr;

fn guarded<T>(refused: T, body: impl FnOnce() -> T) -> T {
    caught(body).unwrap_or(refused)
}

macro_rules! domain_functions {
    ($domain:expr, $malloc:ident, $calloc:ident, $realloc:ident, $free:ident) => {
        /// Allocates from the domain.
        #[unsafe(no_mangle)]
        pub extern "C" fn $malloc(size: usize) -> *mut c_void {
            guarded(ptr::null_mut(), || $domain.malloc(size).cast())
        }

        /// Allocates zero bytes from the domain.
        #[unsafe(no_mangle)]
        pub extern "C" fn $calloc(count: usize, size: usize) -> *mut c_void {
            guarded(ptr::null_mut(), || $domain.calloc(count, size).cast())
        }

        /// Resizes a block of the domain.
        ///
        /// # Safety
        /// As [`Domain::realloc`].
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $realloc(ptr: *mut c_void, new_size: usize) -> *mut c_void {
            guarded(ptr::null_mut(), || {
                // SAFETY: the caller's promise.
                unsafe { $domain.realloc(ptr.cast(), new_size) }.cast()
            })
        }

        /// Frees a block of the domain.
        ///
        /// # Safety
        /// As [`Domain::free`].
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $free(ptr: *mut c_void) {
            guarded((), || {
                // SAFETY: the caller's promise.
                unsafe { $domain.free(ptr.cast()) }
            });
        }
    };
}

domain_functions!(
    Domain::Raw,
    offheap_raw_malloc,
    offheap_raw_calloc,
    offheap_raw_realloc,
    offheap_raw_free
);
domain_functions!(
    Domain::Mem,
    offheap_mem_malloc,
    offheap_mem_calloc,
    offheap_mem_realloc,
    offheap_mem_free
);
domain_functions!(
    Domain::Object,
    offheap_object_malloc,
    offheap_object_calloc,
    offheap_object_realloc,
    offheap_object_free
);

/// The domain of a letter.
fn domain_of(letter: c_int) -> Option<Domain> {
    Domain::ALL
        .into_iter()
        .find(|domain| letter == c_int::from(domain.letter() as u8))
}

/// Writes a domain's allocator.
///
/// # Safety
/// - `allocator` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offheap_get_allocator(domain: c_int, allocator: *mut CAllocator) -> c_int {
    guarded(-1, || {
        let Some(domain) = domain_of(domain).filter(|_| !allocator.is_null()) else {
            return -1;
        };
        // SAFETY: the caller's promise; not null.
        unsafe { allocator.write(c_allocator_of(&domain.allocator())) };
        0
    })
}

/// A C struct as C may fill it in: with null pointers.
#[repr(C)]
#[derive(Clone, Copy)]
struct Unchecked {
    ctx: *mut c_void,
    functions: [*const c_void; 4],
}

const _: () = assert!(size_of::<Unchecked>() == size_of::<CAllocator>());

/// Sets a domain's allocator.
///
/// # Safety
/// - `allocator` is null, or points to a struct whose functions are null or keep the contract of
///   [`CAllocator`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offheap_set_allocator(
    domain: c_int,
    allocator: *const CAllocator,
) -> c_int {
    guarded(-1, || {
        let Some(domain) = domain_of(domain).filter(|_| !allocator.is_null()) else {
            return -1;
        };
        // SAFETY: the caller's promise; the fields are read as plain pointers, which may be null.
        let fields = unsafe { allocator.cast::<Unchecked>().read() };
        if fields.functions.iter().any(|function| function.is_null()) {
            return -1;
        }
        // SAFETY: the caller's promise, with no null function.
        let pool = unsafe { pool_of_c_allocator(allocator.read()) };
        match domain.set_allocator(&pool) {
            Ok(()) => 0,
            Err(_) => -1,
        }
    })
}

/// `{ctx, alloc, free}` as C may fill it in: with null pointers.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CArenaAllocator {
    /// Passed to the functions.
    pub ctx: *mut c_void,
    /// Makes an arena.
    pub alloc: Option<super::ArenaAllocFn>,
    /// Takes an arena back.
    pub free: Option<super::ArenaFreeFn>,
}

/// Writes the arena allocator.
///
/// # Safety
/// - `allocator` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offheap_get_arena_allocator(allocator: *mut CArenaAllocator) -> c_int {
    guarded(-1, || {
        if allocator.is_null() {
            return -1;
        }
        let now = get_arena_allocator();
        let (ctx, alloc, free) = now.as_raw_parts();
        // C never says that it is done with what it got.
        std::mem::forget(now);
        let fields = CArenaAllocator {
            ctx,
            alloc: Some(alloc),
            free: Some(free),
        };
        // SAFETY: the caller's promise; not null.
        unsafe { allocator.write(fields) };
        0
    })
}

/// Sets the arena allocator.
///
/// # Safety
/// - `allocator` is null, or points to a struct whose functions are null or keep the contract of
///   [`ArenaAllocator::new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offheap_set_arena_allocator(allocator: *const CArenaAllocator) -> c_int {
    guarded(-1, || {
        if allocator.is_null() {
            return -1;
        }
        // SAFETY: the caller's promise; not null.
        let fields = unsafe { allocator.read() };
        let (Some(alloc), Some(free)) = (fields.alloc, fields.free) else {
            return -1;
        };
        // SAFETY: the caller's promise.
        let new = unsafe { ArenaAllocator::new(fields.ctx, alloc, free) };
        // Arenas that exist go back to the allocator that made them, which they keep.
        set_arena_allocator(new);
        0
    })
}

/// Puts debug hooks that abort over all three domains; those that the environment asked for stay as
/// they are.
#[unsafe(no_mangle)]
pub extern "C" fn offheap_setup_debug_hooks() -> c_int {
    guarded(-1, || {
        match crate::adaptor::setup_debug_hooks(&crate::adaptor::DebugOptions::default()) {
            Ok(()) => 0,
            Err(_) => -1,
        }
    })
}

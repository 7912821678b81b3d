//! Where arenas come from: PEP 445's arena allocator.

use super::mapped;
use crate::alignment::Alignment;
use crate::panic::caught;
use crate::pool::Pool;
use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// `alloc` of the C form: `size` bytes at a multiple of any alignment, or null.
pub type ArenaAllocFn = unsafe extern "C" fn(ctx: *mut c_void, size: usize) -> *mut c_void;
/// `free` of the C form, told the size that `alloc` was asked for.
pub type ArenaFreeFn = unsafe extern "C" fn(ctx: *mut c_void, ptr: *mut c_void, size: usize);

/// A source of arenas written in Rust.
///
/// Calls come without any lock held and from any thread. Both functions may use the object domain;
/// an arena that an `allocate` needs for itself is mapped from the system. A panic counts as `None`.
///
/// # Safety
/// - `allocate` returns `size` bytes, at any alignment, that nobody else uses and that stay valid
///   for every thread until `free`.
pub unsafe trait ArenaSource: Send + Sync + 'static {
    /// `size` bytes for an arena, uninitialised; `None` when they cannot be had.
    fn allocate(&self, size: usize) -> Option<NonNull<u8>>;

    /// Takes an arena back.
    ///
    /// # Safety
    /// - `ptr` came from this source's `allocate(size)`, and nobody uses it any more.
    unsafe fn free(&self, ptr: NonNull<u8>, size: usize);
}

/// What makes and frees the arenas of the object domain (PEP 445's `PyObjectArenaAllocator`).
///
/// A clone is the same allocator. Each arena keeps the one that made it and is freed by it, however
/// often the allocator is replaced meanwhile.
#[derive(Clone)]
pub struct ArenaAllocator {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Mapped,
    Functions {
        ctx: *mut c_void,
        alloc: ArenaAllocFn,
        free: ArenaFreeFn,
    },
    // Boxed so that a thin pointer can name it: the C form's `ctx`.
    Rust(Arc<Box<dyn ArenaSource>>),
}

// SAFETY: `new` asks for functions and a context that any thread may use; the others are Send.
unsafe impl Send for ArenaAllocator {}
// SAFETY: as above.
unsafe impl Sync for ArenaAllocator {}

impl ArenaAllocator {
    /// Arenas straight from the system: `mmap` on Unix, the system allocator elsewhere. The default.
    pub const MAPPED: Self = Self {
        source: Source::Mapped,
    };

    /// An allocator in PEP 445's form.
    ///
    /// # Safety
    /// - `alloc(ctx, size)` returns null or `size` bytes, at any alignment, that nobody else uses
    ///   and that stay valid until `free(ctx, ptr, size)`;
    /// - both may be called from any thread, several at a time, and do not unwind;
    /// - `ctx` stays valid while the allocator is set and while any of its arenas lives.
    pub const unsafe fn new(ctx: *mut c_void, alloc: ArenaAllocFn, free: ArenaFreeFn) -> Self {
        Self {
            source: Source::Functions { ctx, alloc, free },
        }
    }

    /// An allocator over a program's own source, which lives as long as its last arena.
    pub fn from_source(source: impl ArenaSource) -> Self {
        Self {
            source: Source::Rust(Arc::new(Box::new(source))),
        }
    }

    /// An allocator whose arenas are blocks of `pool`, at multiples of 4096: counted there, and
    /// under its limits.
    pub fn from_pool(pool: &Pool) -> Self {
        Self::from_source(PoolArenas(pool.clone()))
    }

    /// The C form: `(ctx, alloc, free)`.
    ///
    /// For an allocator made by [`new`](Self::new) what that was given. Else the three are valid as
    /// long as this allocator, a clone of it, or one of its arenas lives.
    pub fn as_raw_parts(&self) -> (*mut c_void, ArenaAllocFn, ArenaFreeFn) {
        match &self.source {
            Source::Mapped => (ptr::null_mut(), mapped_alloc, mapped_free),
            Source::Functions { ctx, alloc, free } => (*ctx, *alloc, *free),
            Source::Rust(source) => (
                Arc::as_ptr(source).cast_mut().cast(),
                source_alloc,
                source_free,
            ),
        }
    }

    /// Whether both are the same allocator.
    pub fn same(&self, other: &Self) -> bool {
        let (ctx, alloc, free) = self.as_raw_parts();
        let (other_ctx, other_alloc, other_free) = other.as_raw_parts();
        ctx == other_ctx && ptr::fn_addr_eq(alloc, other_alloc) && ptr::fn_addr_eq(free, other_free)
    }

    /// `size` bytes for an arena, uninitialised and at any alignment; `None` when the allocator
    /// has none or panics. For allocators over others.
    pub fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        match &self.source {
            Source::Mapped => {
                mapped::allocate(size.checked_next_multiple_of(super::class::PAGE_SIZE)?)
            }
            Source::Functions { ctx, alloc, .. } => {
                // SAFETY: `new`'s caller promised that any thread may call it, with any size.
                NonNull::new(unsafe { alloc(*ctx, size) }.cast())
            }
            Source::Rust(source) => caught(|| source.allocate(size)).flatten(),
        }
    }

    /// Takes an arena back. A panic of the allocator is caught; the arena then counts as freed.
    ///
    /// # Safety
    /// - `ptr` came from this allocator's [`allocate`](Self::allocate) with `size`, and nobody uses
    ///   it any more.
    pub unsafe fn free(&self, ptr: NonNull<u8>, size: usize) {
        match &self.source {
            // SAFETY: the caller's promise; the rounding is `allocate`'s, which did not overflow.
            Source::Mapped => unsafe {
                mapped::free(ptr, size.next_multiple_of(super::class::PAGE_SIZE));
            },
            // SAFETY: the caller's promise, and `new`'s caller's.
            Source::Functions { ctx, free, .. } => unsafe { free(*ctx, ptr.as_ptr().cast(), size) },
            Source::Rust(source) => {
                // SAFETY: the caller's promise.
                caught(|| unsafe { source.free(ptr, size) });
            }
        }
    }

    /// Forgets this handle: the last one drops the source, whose panics are caught.
    pub(super) fn discard(self) {
        caught(|| drop(self));
    }
}

impl Default for ArenaAllocator {
    /// [`MAPPED`](Self::MAPPED).
    fn default() -> Self {
        Self::MAPPED
    }
}

impl fmt::Debug for ArenaAllocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Mapped => f.write_str("ArenaAllocator(mapped)"),
            Source::Functions { ctx, alloc, free } => f
                .debug_struct("ArenaAllocator")
                .field("ctx", ctx)
                .field("alloc", alloc)
                .field("free", free)
                .finish(),
            Source::Rust(source) => write!(f, "ArenaAllocator(source {:p})", Arc::as_ptr(source)),
        }
    }
}

unsafe extern "C" fn mapped_alloc(_ctx: *mut c_void, size: usize) -> *mut c_void {
    let block = ArenaAllocator::MAPPED.allocate(size);
    block.map_or(ptr::null_mut(), |block| block.as_ptr().cast())
}

/// # Safety
/// - `ptr` is null or came from `mapped_alloc` with `size`, and nobody uses it any more.
unsafe extern "C" fn mapped_free(_ctx: *mut c_void, ptr: *mut c_void, size: usize) {
    if let Some(block) = NonNull::new(ptr.cast()) {
        // SAFETY: the caller's promise.
        unsafe { ArenaAllocator::MAPPED.free(block, size) };
    }
}

/// # Safety
/// - `ctx` is that of `as_raw_parts`, still valid.
unsafe extern "C" fn source_alloc(ctx: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: `as_raw_parts` made it of an Arc's content, which the caller keeps alive.
    let source = unsafe { &*ctx.cast::<Box<dyn ArenaSource>>() };
    let block = caught(|| source.allocate(size)).flatten();
    block.map_or(ptr::null_mut(), |block| block.as_ptr().cast())
}

/// # Safety
/// - `ctx` is that of `as_raw_parts`, still valid;
/// - `ptr` is null or came from `source_alloc` with `size`, and nobody uses it any more.
unsafe extern "C" fn source_free(ctx: *mut c_void, ptr: *mut c_void, size: usize) {
    // SAFETY: as in `source_alloc`.
    let source = unsafe { &*ctx.cast::<Box<dyn ArenaSource>>() };
    if let Some(block) = NonNull::new(ptr.cast()) {
        // SAFETY: the caller's promise.
        caught(|| unsafe { source.free(block, size) });
    }
}

/// Arenas that are blocks of a pool. At a page's alignment of the system's, not of ours: that is the
/// most that every backend has without asking `posix_memalign`.
struct PoolArenas(Pool);

fn page_alignment() -> Alignment {
    Alignment::new(4096).unwrap_or_default()
}

// SAFETY: a pool's blocks are their holder's alone, and any thread may use and free them.
unsafe impl ArenaSource for PoolArenas {
    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        self.0.allocate(size, page_alignment()).ok()
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize) {
        // SAFETY: the caller's promise; the alignment is `allocate`'s.
        unsafe { self.0.free(ptr, size, page_alignment()) };
    }
}

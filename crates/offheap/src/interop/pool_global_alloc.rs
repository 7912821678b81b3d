//! A program's global allocator over a pool.
//!
//! ```text
//!   made by the backend, alignment up to 32:   data ≡ 0 (mod 64), nothing in front
//!   made by an installed pool:                 │ maker, … │ data ≡ 16 or 32 (mod 64)
//!   alignment of 64 and more:                  │ …, maker, 0 │ data      (no maker: the backend)
//! ```
//!
//! Every pool aligns to 64, so an address says by itself whether a header is in front, and a block
//! goes back to the pool that made it whatever is installed by then.

use crate::alignment::{Alignment, MAX_ALIGNMENT};
use crate::error::{Error, Result};
use crate::pool::{
    BACKENDS, Backend, Inside, Pool, Statistics, backend_of_environment, plain_backend_pool,
};
use std::alloc::{GlobalAlloc, Layout};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

/// A `#[global_allocator]` over a pool: what a Rust program allocates is counted, and can be limited
/// or watched.
///
/// It starts with a backend's own pool, since memory is needed before `main`.
/// [`install`](Self::install) puts any other pool in its place: a limit, a proxy with figures of its
/// own, one of the program's. Blocks always go back to the pool that made them.
///
/// - A limit that refuses makes `try_reserve` and the like fail, and what has no way to fail abort:
///   that is what limiting a global allocator means. No refusal allocates.
/// - What an installed pool allocates while it serves a request (its hook's message, its table, its
///   error) comes from the backend's pool, and what it frees of its own is freed when it has
///   returned: it is never called while it is being called. Errors of this crate that say that
///   memory is out come from the backend's pool, too.
/// - A thread that panics is served by the backend's pool: std stops for ever when the backtrace of
///   a panic runs out of memory.
/// - An installed pool that panics refuses; nothing unwinds out of the allocator.
///
/// What counts is the size asked for. Cost beside the pool's own call: none for the backend's
/// pool; for an installed one 16 bytes a block and some nanoseconds (a thread-local flag); blocks
/// aligned to 64 and more have one unit of their alignment in front of them.
///
/// ```standalone_crate
/// use offheap::PoolGlobalAlloc;
///
/// #[global_allocator]
/// static GLOBAL: PoolGlobalAlloc = PoolGlobalAlloc::system();
///
/// let query = offheap::system_memory_pool().limit(1 << 20);
/// GLOBAL.install(&query)?;
/// let mut bytes: Vec<u8> = Vec::with_capacity(1000);
/// let held = GLOBAL.statistics().bytes_allocated;
/// let refused = bytes.try_reserve(2 << 20);
/// GLOBAL.uninstall();
///
/// assert_eq!((held, refused.is_err()), (1000, true));
/// drop(bytes); // goes back to `query`
/// assert_eq!(query.bytes_allocated(), 0);
/// # Ok::<(), offheap::Error>(())
/// ```
pub struct PoolGlobalAlloc {
    base: Base,
    /// Null, or a pool that is kept.
    installed: AtomicPtr<Pool>,
    /// The first of the pools that were ever installed: they stay.
    kept: AtomicPtr<Kept>,
}

/// A pool that was installed.
struct Kept {
    pool: Pool,
    next: *mut Kept,
}

/// Which backend serves while nothing is installed.
#[derive(Debug, Clone, Copy)]
enum Base {
    Backend(Backend),
    /// The one that the environment names, else the preferred one.
    Default,
}

/// The index in [`BACKENDS`] of the default backend, plus one; zero until somebody asked.
static DEFAULT: AtomicU8 = AtomicU8::new(0);

/// The backend behind the default pool at the start, found without allocating: the default pool
/// itself may need memory to find out.
#[inline]
fn default_backend() -> Backend {
    #[cold]
    fn find() -> Backend {
        let backend = backend_of_environment();
        let index = BACKENDS.iter().position(|known| *known == backend);
        DEFAULT.store(index.unwrap_or(0) as u8 + 1, Ordering::Relaxed);
        backend
    }
    match DEFAULT.load(Ordering::Relaxed) {
        0 => find(),
        index => BACKENDS[usize::from(index) - 1],
    }
}

/// Up to here a block of the backend has no header.
const UNMARKED_ALIGNMENT: usize = 32;
/// In front of the data: the address of the pool that made the block, and a spare word.
const HEADER: usize = 16;

/// How a block lies in memory.
#[derive(Clone, Copy)]
struct Shape {
    /// Of the whole block.
    alignment: Alignment,
    /// Bytes in front of the data.
    prefix: usize,
}

impl Shape {
    /// Of a block with a header. `None` for alignments that no pool has.
    #[inline]
    fn marked(layout: Layout) -> Option<Self> {
        if layout.align() as u64 > MAX_ALIGNMENT {
            return None;
        }
        Some(Self {
            alignment: Alignment::new(layout.align().max(64)).ok()?,
            prefix: layout.align().max(HEADER),
        })
    }

    /// Of a block without: its alignment is at most [`UNMARKED_ALIGNMENT`].
    const UNMARKED: Self = Self {
        alignment: Alignment::DEFAULT,
        prefix: 0,
    };
}

/// Where a block came from.
struct Origin {
    /// `None` is the backend's pool.
    maker: Option<&'static Pool>,
    block: NonNull<u8>,
    shape: Shape,
}

impl Origin {
    /// # Safety
    /// - `data` is a live block of this allocator with this layout.
    #[inline]
    unsafe fn of(data: NonNull<u8>, layout: Layout) -> Self {
        if layout.align() <= UNMARKED_ALIGNMENT && data.addr().get() & 63 == 0 {
            return Self {
                maker: None,
                block: data,
                shape: Shape::UNMARKED,
            };
        }
        // A live block's alignment had a shape.
        let shape = Shape::marked(layout).unwrap_or(Shape::UNMARKED);
        // SAFETY: such a block has a header in front of its data, and `prefix` bytes in all.
        unsafe {
            Self {
                maker: data.sub(HEADER).cast::<Option<&'static Pool>>().read(),
                block: data.sub(shape.prefix),
                shape,
            }
        }
    }
}

impl PoolGlobalAlloc {
    /// Over the default backend: mimalloc, else jemalloc, else the system's, unless the environment
    /// names another as it does for [`default_memory_pool`](crate::default_memory_pool). A default
    /// pool that is set later changes nothing here, and neither do debug hooks that the environment
    /// asks for: install a pool to have them here, too.
    pub const fn new() -> Self {
        Self::over(Base::Default)
    }

    /// Over the C library's malloc.
    pub const fn system() -> Self {
        Self::over(Base::Backend(Backend::System))
    }

    /// Over mimalloc.
    #[cfg(feature = "mimalloc")]
    pub const fn mimalloc() -> Self {
        Self::over(Base::Backend(Backend::Mimalloc))
    }

    /// Over jemalloc.
    #[cfg(feature = "jemalloc")]
    pub const fn jemalloc() -> Self {
        Self::over(Base::Backend(Backend::Jemalloc))
    }

    const fn over(base: Base) -> Self {
        Self {
            base,
            installed: AtomicPtr::new(ptr::null_mut()),
            kept: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Serves from `pool` from now on. What was allocated before stays, and is reallocated, where it
    /// was.
    ///
    /// A handle of each pool is kept for ever: blocks may come back to it at the program's very end.
    /// Install few pools, as often as you like, not one a request (that is what a
    /// [`PoolAllocator`](super::PoolAllocator) is for). Closing an installed pool makes every
    /// allocation fail.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) for a pool that was closed, or counts into one that was.
    pub fn install(&self, pool: &Pool) -> Result<()> {
        if let Some(name) = pool.closed_name() {
            return Err(Error::closed(format!("pool '{name}'")));
        }
        let kept = ptr::from_ref(self.keep(pool)).cast_mut();
        self.installed.store(kept, Ordering::Release);
        Ok(())
    }

    /// The handle of `pool` that stays.
    fn keep(&self, pool: &Pool) -> &'static Pool {
        let mut first = self.kept.load(Ordering::Acquire);
        let mut new: Option<Box<Kept>> = None;
        loop {
            let mut next = first;
            // SAFETY: null, or an entry; entries never go and never change.
            while let Some(entry) = unsafe { next.as_ref() } {
                if entry.pool == *pool {
                    return &entry.pool;
                }
                next = entry.next;
            }
            let mut entry = new.take().unwrap_or_else(|| {
                let pool = pool.clone();
                Box::new(Kept { pool, next: first })
            });
            entry.next = first;
            let entry = Box::into_raw(entry);
            let swapped =
                self.kept
                    .compare_exchange(first, entry, Ordering::AcqRel, Ordering::Acquire);
            match swapped {
                // SAFETY: an entry now.
                Ok(_) => return unsafe { &(*entry).pool },
                Err(now) => {
                    // SAFETY: still this call's own box.
                    new = Some(unsafe { Box::from_raw(entry) });
                    first = now;
                }
            }
        }
    }

    /// Serves from the backend's pool again.
    pub fn uninstall(&self) {
        self.installed.store(ptr::null_mut(), Ordering::Release);
    }

    /// The pool that serves now.
    pub fn pool(&self) -> Pool {
        self.installed().map_or_else(|| self.base(), Pool::clone)
    }

    /// The figures of the pool that serves now. A backend's own pool counts what others take from
    /// it, too, and what was allocated before `main`; install a proxy for figures of the program
    /// alone.
    pub fn statistics(&self) -> Statistics {
        // A backend may need memory to find its own figures.
        let _inside = Inside::enter();
        self.pool().statistics()
    }

    #[inline]
    fn installed(&self) -> Option<&'static Pool> {
        let installed = self.installed.load(Ordering::Acquire);
        // SAFETY: null, or a pool that `install` keeps.
        unsafe { installed.as_ref() }
    }

    #[inline]
    fn base(&self) -> Pool {
        // Without the environment's debug hooks: to read the environment needs memory.
        plain_backend_pool(match self.base {
            Base::Backend(backend) => backend,
            Base::Default => default_backend(),
        })
    }

    #[inline]
    fn allocate(&self, layout: Layout, zeroed: bool) -> *mut u8 {
        let data = match self.installed() {
            Some(pool) if !passes_by() => guarded(|| marked(pool, Some(pool), layout, zeroed)),
            _ if layout.align() > UNMARKED_ALIGNMENT => marked(&self.base(), None, layout, zeroed),
            _ => self
                .base()
                .allocate_prefixed(0, layout.size(), Alignment::DEFAULT, zeroed),
        };
        data.map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}

/// Whether the thread gets its memory from the backend, whatever is installed.
#[inline]
fn passes_by() -> bool {
    Inside::is_inside() || std::thread::panicking()
}

/// Runs a call of an installed pool. `None` when it panics.
fn guarded<T>(call: impl FnOnce() -> Option<T>) -> Option<T> {
    let _inside = Inside::enter();
    crate::panic::caught(call).flatten()
}

/// A block with a header.
#[inline]
fn marked(
    pool: &Pool,
    maker: Option<&'static Pool>,
    layout: Layout,
    zeroed: bool,
) -> Option<NonNull<u8>> {
    let Shape { alignment, prefix } = Shape::marked(layout)?;
    let block = pool.allocate_prefixed(prefix, layout.size(), alignment, zeroed)?;
    // SAFETY: the block has `prefix` bytes and then the layout's; the header is within the first,
    // which are at least as many, and aligned: the block is at a multiple of 64, `prefix` is of 16.
    unsafe {
        let data = block.add(prefix);
        data.sub(HEADER)
            .cast::<Option<&'static Pool>>()
            .write(maker);
        Some(data)
    }
}

impl Default for PoolGlobalAlloc {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PoolGlobalAlloc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolGlobalAlloc")
            .field("base", &self.base)
            .field("installed", &self.installed())
            .finish()
    }
}

// SAFETY: the pools give aligned blocks that overlap nothing and keep them until they are given
// back; a block goes back to its maker with the shape that it was made with; reallocation keeps the
// alignment, and the old block when it fails; nothing unwinds.
unsafe impl GlobalAlloc for PoolGlobalAlloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout, false)
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout, true)
    }

    #[inline]
    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        // SAFETY: the caller's block is not null.
        let data = unsafe { NonNull::new_unchecked(data) };
        // SAFETY: the caller's promise.
        let Origin {
            maker,
            block,
            shape,
        } = unsafe { Origin::of(data, layout) };
        let size = layout.size();
        // SAFETY: the block is its maker's, with this shape and size, and the caller gives it up.
        let free = |pool: &Pool| unsafe {
            pool.free_prefixed(block, shape.prefix, size, shape.alignment);
        };
        match maker {
            None => free(&self.base()),
            Some(pool) if Inside::is_inside() => {
                // SAFETY: as above; this thread is inside, and a header is some bytes.
                if !unsafe { Inside::defer(pool, block, shape.prefix, size, shape.alignment) } {
                    free(pool);
                }
            }
            Some(pool) => {
                guarded(|| {
                    free(pool);
                    Some(())
                });
            }
        }
    }

    unsafe fn realloc(&self, data: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's block is not null.
        let data = unsafe { NonNull::new_unchecked(data) };
        // SAFETY: the caller's promise.
        let Origin {
            maker,
            block,
            shape,
        } = unsafe { Origin::of(data, layout) };
        // SAFETY: the block is its maker's, with this shape and size, and nobody uses it meanwhile.
        let reallocate = |pool: &Pool| unsafe {
            pool.reallocate_prefixed(
                block,
                shape.prefix,
                layout.size(),
                new_size,
                shape.alignment,
            )
        };
        let moved = match maker {
            None => reallocate(&self.base()),
            Some(_) if Inside::is_inside() => None,
            Some(pool) => guarded(|| reallocate(pool)),
        };
        if let Some(block) = moved {
            // SAFETY: the new block starts with the same prefix: the header moved along.
            return unsafe { block.add(shape.prefix).as_ptr() };
        }
        if maker.is_none() || !passes_by() {
            return ptr::null_mut();
        }
        // The maker is not to be asked now: over to the backend's pool.
        // SAFETY: the caller promises that the new size has a layout.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        let to = self.allocate(new, false);
        if !to.is_null() {
            // SAFETY: both blocks have as many bytes, and a new block overlaps no live one; the
            // caller has given the old one up.
            unsafe {
                data.as_ptr()
                    .copy_to_nonoverlapping(to, layout.size().min(new_size));
                self.dealloc(data.as_ptr(), layout);
            }
        }
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::system_memory_pool;

    // Not the tests' global allocator: its calls are made by hand.

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    fn layouts() -> impl Iterator<Item = Layout> {
        (0..=16).flat_map(|shift| [1, 48, 64, 100, 5000].map(|size| layout(size, 1 << shift)))
    }

    #[test]
    fn blocks_go_back_to_the_pool_that_made_them() {
        // What was installed stays, so these must, too.
        const COUNT: usize =
            2 + cfg!(feature = "mimalloc") as usize + cfg!(feature = "jemalloc") as usize;
        static GLOBALS: [PoolGlobalAlloc; COUNT] = [
            PoolGlobalAlloc::new(),
            PoolGlobalAlloc::system(),
            #[cfg(feature = "mimalloc")]
            PoolGlobalAlloc::mimalloc(),
            #[cfg(feature = "jemalloc")]
            PoolGlobalAlloc::jemalloc(),
        ];
        for global in &GLOBALS {
            let base = global.pool();
            let own = base.proxy();
            let foreign = Pool::custom(system_memory_pool()).limit(10_000_000);
            let mut blocks = Vec::new();
            for installed in [&base, &own, &foreign, &base] {
                if installed == &base {
                    global.uninstall();
                } else {
                    global.install(installed).unwrap();
                }
                assert_eq!(&global.pool(), installed);
                for layout in layouts() {
                    // SAFETY: the sizes are not zero.
                    let data = unsafe { global.alloc_zeroed(layout) };
                    assert_eq!(data.addr() % layout.align(), 0, "{layout:?}");
                    // SAFETY: the block has that many bytes, all initialised.
                    let bytes = unsafe { std::slice::from_raw_parts_mut(data, layout.size()) };
                    assert!(bytes.iter().all(|byte| *byte == 0));
                    bytes.fill(blocks.len() as u8);
                    blocks.push((data, layout));
                }
            }
            let asked: usize = layouts().map(|layout| layout.size()).sum();
            for pool in [&own, &foreign] {
                assert_eq!(pool.bytes_allocated(), asked as u64);
                assert_eq!(pool.live_allocations(), layouts().count() as u64);
            }
            // For three of four blocks this is not the pool that made them.
            global.install(&foreign).unwrap();
            for (i, (data, old)) in blocks.iter_mut().enumerate() {
                for size in [old.size() + 1000, old.size() / 2 + 1] {
                    // SAFETY: a live block with its layout; as many bytes are kept as both have.
                    let kept = unsafe {
                        *data = global.realloc(*data, *old, size);
                        std::slice::from_raw_parts_mut(*data, size.min(old.size()))
                    };
                    assert_eq!(kept.as_ptr().addr() % old.align(), 0);
                    assert!(kept.iter().all(|byte| *byte == i as u8));
                    // SAFETY: the block has `size` bytes.
                    unsafe { data.write_bytes(i as u8, size) };
                    *old = layout(size, old.align());
                }
            }
            for pool in [&own, &foreign] {
                assert_eq!(pool.live_allocations(), layouts().count() as u64);
            }
            for (data, layout) in blocks {
                // SAFETY: as above.
                unsafe { global.dealloc(data, layout) };
            }
            for pool in [&own, &foreign] {
                assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
            }
        }
    }

    #[test]
    fn what_cannot_be_had_is_null_and_leaves_the_block() {
        static GLOBAL: PoolGlobalAlloc = PoolGlobalAlloc::system();
        let global = &GLOBAL;
        let limit = system_memory_pool().limit(100);
        for installed in [false, true] {
            if installed {
                global.install(&limit).unwrap();
            }
            // SAFETY: the sizes are not zero; a live block with its layout.
            unsafe {
                let held = global.alloc(layout(60, 64));
                held.write_bytes(5, 60);
                for impossible in [layout(8, 1 << 40), layout(isize::MAX as usize - 63, 1)] {
                    assert!(global.alloc(impossible).is_null());
                    assert!(global.alloc_zeroed(impossible).is_null());
                }
                assert!(
                    global
                        .realloc(held, layout(60, 64), isize::MAX as usize - 63)
                        .is_null()
                );
                let grown = global.realloc(held, layout(60, 64), 101);
                assert_eq!(grown.is_null(), installed);
                assert_eq!(global.statistics().available, installed.then_some(40));
                if installed {
                    assert_eq!(std::slice::from_raw_parts(held, 60), [5; 60]);
                    global.dealloc(held, layout(60, 64));
                } else {
                    global.dealloc(grown, layout(101, 64));
                }
            }
        }
        assert_eq!(limit.live_allocations(), 0);
    }

    #[test]
    fn a_pool_is_kept_once() {
        static GLOBAL: PoolGlobalAlloc = PoolGlobalAlloc::system();
        let global = &GLOBAL;
        let pools = [(); 3].map(|()| system_memory_pool().proxy());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pools.iter().for_each(|pool| global.install(pool).unwrap());
                    }
                });
            }
        });
        let mut kept = 0;
        let mut next = global.kept.load(Ordering::Acquire);
        // SAFETY: null, or an entry; entries never go.
        while let Some(entry) = unsafe { next.as_ref() } {
            assert!(pools.contains(&entry.pool));
            kept += 1;
            next = entry.next;
        }
        assert_eq!(kept, 3);
        assert!(pools.contains(&global.pool()));
    }

    #[test]
    fn a_closed_pool_is_not_installed() {
        let global = PoolGlobalAlloc::default();
        let pool = system_memory_pool().proxy();
        pool.close().unwrap();
        let error = global.install(&pool.limit(10)).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_CLOSED");
        assert!(format!("{global:?}").contains("installed: None"));
    }
}

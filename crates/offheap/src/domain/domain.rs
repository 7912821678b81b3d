//! The three domains.

use super::blocks::{Blocks, Entry};
use super::c_allocator::with_calloc_shape;
use super::object_pool::object_memory_pool;
use super::slot::Slot;
use super::small;
#[cfg(feature = "hooks")]
use crate::adaptor::initial_raw_pool;
use crate::alignment::Alignment;
use crate::error::{Error, Result};
#[cfg(feature = "hooks")]
use crate::pool::replace_default_memory_pool;
#[cfg(not(feature = "hooks"))]
use crate::pool::system_memory_pool as initial_raw_pool;
use crate::pool::{Pool, default_memory_pool};
use std::cell::Cell;
use std::fmt;
use std::ptr::{self, NonNull};

/// What memory is for (PEP 445's three allocator domains). Each has an allocator that can be
/// replaced while threads allocate; a block always goes back to the allocator that made it.
///
/// | domain | for | its allocator at first |
/// |---|---|---|
/// | `Raw` | anything, on any thread, at any time | the C library's |
/// | `Mem` | buffers: it *is* the default pool | the default pool |
/// | `Object` | small blocks of up to 512 bytes, buffers' control blocks among them | arenas of 256 KiB; larger requests go to `Mem` |
///
/// `malloc`, `calloc`, `realloc` and `free` are as in C and in PEP 445: unsized, aligned to 16
/// bytes, `malloc(0)` is a block of its own. Which pool a block came from is kept in a table beside
/// it, so that allocators see exact sizes, a stray `free` is reported instead of obeyed, and a free
/// through the wrong domain names both. Cost: 50 to 80 ns over the pool's own (small objects: none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Domain {
    /// Any thread, any time.
    Raw,
    /// Buffers.
    Mem,
    /// Small control blocks.
    Object,
}

static RAW: Slot<Pool> = Slot::new();
static OBJECT: Slot<Pool> = Slot::new();
static BLOCKS: Blocks = Blocks::new();

impl Domain {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Mem, Self::Object];

    /// `raw`, `mem` or `object`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mem => "mem",
            Self::Object => "object",
        }
    }

    /// The letter that debug reports show: CPython's `r`, `m`, `o`.
    pub const fn letter(self) -> char {
        match self {
            Self::Raw => 'r',
            Self::Mem => 'm',
            Self::Object => 'o',
        }
    }

    /// The domain of a name.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for any other name.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|domain| domain.name() == name)
            .ok_or_else(|| {
                Error::invalid_argument(
                    "domain",
                    format_args!("'{name}'"),
                    "one of 'raw', 'mem', 'object'",
                )
            })
    }

    /// The domain's allocator (`PyMem_GetAllocator`): allocate from it as from any pool.
    pub fn allocator(self) -> Pool {
        match self {
            Self::Raw => RAW.get().unwrap_or_else(initial_raw_pool),
            Self::Mem => default_memory_pool(),
            Self::Object => OBJECT.get().unwrap_or_else(object_memory_pool),
        }
    }

    /// Replaces the domain's allocator (`PyMem_SetAllocator`), while other threads may allocate.
    /// Blocks that exist go back to the allocator that made them. For `Mem`, this sets the default
    /// pool.
    ///
    /// An allocator that itself takes memory from the domain has none: such requests fail as if
    /// memory had run out. ([`object_memory_pool`](super::object_memory_pool) takes its larger
    /// blocks from `Mem`.)
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) for a pool that was closed.
    #[cfg(feature = "hooks")]
    pub fn set_allocator(self, pool: &Pool) -> Result<()> {
        let pool = crate::adaptor::debug_as_environment_says(pool, self);
        self.replace(&pool, None).map(drop)
    }

    /// Puts a pool over the domain's allocator, whatever it is by then: between PEP 445's get and
    /// set, another thread's hook could be lost. `over` may be asked more than once. Returns what it
    /// made.
    ///
    /// # Errors
    /// As [`set_allocator`](Self::set_allocator).
    #[cfg(feature = "hooks")]
    pub fn wrap(self, over: impl Fn(&Pool) -> Pool) -> Result<Pool> {
        loop {
            let before = self.allocator();
            let new = over(&before);
            if self.replace(&new, Some(&before))? {
                return Ok(new);
            }
        }
    }

    /// Sets the allocator, unless it is another one than `expected`; says whether it was set.
    #[cfg(feature = "hooks")]
    pub(crate) fn replace(self, pool: &Pool, expected: Option<&Pool>) -> Result<bool> {
        match self {
            Self::Raw => RAW.replace(pool, &initial_raw_pool(), expected),
            Self::Mem => replace_default_memory_pool(pool, expected),
            Self::Object => OBJECT.replace(pool, &object_memory_pool(), expected),
        }
    }

    /// A new block of `size` bytes; null when memory cannot be had. Zero bytes are a block, too.
    #[inline]
    pub fn malloc(self, size: usize) -> *mut u8 {
        self.aligned_malloc(size, Alignment::MALLOC)
    }

    /// As [`malloc`](Self::malloc), at a multiple of `alignment`.
    #[inline]
    pub fn aligned_malloc(self, size: usize, alignment: Alignment) -> *mut u8 {
        self.make(size, alignment, false)
    }

    /// A block of `count * size` zero bytes; null also when the product overflows.
    pub fn calloc(self, count: usize, size: usize) -> *mut u8 {
        match count.checked_mul(size) {
            Some(bytes) => {
                with_calloc_shape(count, size, || self.make(bytes, Alignment::MALLOC, true))
            }
            None => ptr::null_mut(),
        }
    }

    #[inline]
    fn make(self, size: usize, alignment: Alignment, zeroed: bool) -> *mut u8 {
        let size = size.max(1);
        if self == Self::Object && OBJECT.get().is_none() {
            if !small_serves(size, alignment) {
                // Of `mem`'s allocator, but this domain's block: giving it back to `mem` is misuse.
                return self.make_from(Self::Mem.allocator(), size, alignment, zeroed);
            }
            let Some(block) = small::allocate(size, alignment.get()) else {
                return ptr::null_mut();
            };
            if zeroed {
                // SAFETY: a new block of at least `size` bytes that nobody else knows.
                unsafe { block.write_bytes(0, size) };
            }
            return block.as_ptr();
        }
        self.make_from(self.allocator(), size, alignment, zeroed)
    }

    fn make_from(self, pool: Pool, size: usize, alignment: Alignment, zeroed: bool) -> *mut u8 {
        let Some(_nested) = Nested::enter() else {
            return ptr::null_mut();
        };
        let made = if zeroed {
            pool.allocate_zeroed(size, alignment)
        } else {
            pool.allocate(size, alignment)
        };
        let Ok(block) = made else {
            return ptr::null_mut();
        };
        let entry = Entry {
            pool,
            size,
            alignment,
        };
        match BLOCKS.insert(self as usize, block, entry) {
            Ok(()) => block.as_ptr(),
            Err(entry) => {
                // SAFETY: the block is new and nobody else knows it.
                unsafe { entry.pool.free(block, size, alignment) };
                ptr::null_mut()
            }
        }
    }

    /// Another size for a block, which may move; null when memory cannot be had, and the block is
    /// then as it was. A null block is a `malloc`.
    ///
    /// # Safety
    /// - `ptr` is null or a live block of this domain, and nobody uses it during the call. (A block
    ///   of another domain, or of none, is reported and left alone.)
    pub unsafe fn realloc(self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        let Some(block) = NonNull::new(ptr) else {
            return self.malloc(new_size);
        };
        let new_size = new_size.max(1);
        let Some(entry) = BLOCKS.remove(self as usize, block) else {
            // SAFETY: the caller's promise.
            return unsafe { self.realloc_unlisted(block, new_size) };
        };
        // SAFETY: the caller's promise; the entry says how the block was made.
        let moved = unsafe {
            entry
                .pool
                .reallocate(block, entry.size, new_size, entry.alignment)
        };
        let (block, size, result) = match moved {
            Ok(moved) => (moved, new_size, moved.as_ptr()),
            Err(_) => (block, entry.size, ptr::null_mut()),
        };
        // The entry just taken out left room in its shard, but another shard may lack the memory for
        // one. A block that stays unlisted is leaked when it is freed, and nothing worse.
        let mut entry = Entry { size, ..entry };
        for _ in 0..1000 {
            match BLOCKS.insert(self as usize, block, entry) {
                Ok(()) => break,
                Err(refused) => entry = refused,
            }
            std::thread::yield_now();
        }
        result
    }

    /// # Safety
    /// As [`realloc`](Self::realloc), for a block that is not in the table.
    unsafe fn realloc_unlisted(self, block: NonNull<u8>, new_size: usize) -> *mut u8 {
        let Some(room) = self.small_block_size(block) else {
            self.report_stray("realloc", block);
            return ptr::null_mut();
        };
        // Also to a smaller class: such blocks are meant to be short-lived or to stay as they are.
        if new_size <= room && OBJECT.get().is_none() {
            return block.as_ptr();
        }
        let Some(new) = NonNull::new(self.malloc(new_size)) else {
            return ptr::null_mut();
        };
        // SAFETY: two live blocks, of at least `room` and `new_size` bytes; the caller gave the old
        // one up.
        unsafe {
            new.copy_from_nonoverlapping(block, room.min(new_size));
            small::free(block, room, Alignment::MALLOC.get());
        }
        new.as_ptr()
    }

    /// Gives a block back. Null is nothing.
    ///
    /// # Safety
    /// - `ptr` is null or a live block of this domain that nobody uses any more. (A block of another
    ///   domain, or of none, is reported and left alone.)
    #[inline]
    pub unsafe fn free(self, ptr: *mut u8) {
        let Some(block) = NonNull::new(ptr) else {
            return;
        };
        if self == Self::Object
            && !OBJECT.was_set()
            && let Some(size) = small::block_size(block.as_ptr())
        {
            // SAFETY: the caller's promise: a live small block.
            unsafe { small::free(block, size, Alignment::MALLOC.get()) };
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.free_listed(block) };
    }

    /// # Safety
    /// As [`free`](Self::free).
    unsafe fn free_listed(self, block: NonNull<u8>) {
        if let Some(entry) = BLOCKS.remove(self as usize, block) {
            // SAFETY: the caller's promise; the entry says how the block was made.
            unsafe { entry.pool.free(block, entry.size, entry.alignment) };
        } else if let Some(size) = self.small_block_size(block) {
            // SAFETY: the caller's promise: a live small block.
            unsafe { small::free(block, size, Alignment::MALLOC.get()) };
        } else {
            self.report_stray("free", block);
        }
    }

    /// Bytes that a live block was asked for with (small objects: what it has room for); `None` for
    /// an address that is no block of this domain. In a page of small objects, free blocks and
    /// addresses inside of blocks answer as live ones do.
    pub fn block_size(self, ptr: *mut u8) -> Option<usize> {
        let block = NonNull::new(ptr)?;
        BLOCKS
            .size(self as usize, block)
            .or_else(|| self.small_block_size(block))
    }

    /// The size of a small object that is not in the table. One that debug hooks know is no such
    /// object, but lies inside of one, and was freed already.
    fn small_block_size(self, block: NonNull<u8>) -> Option<usize> {
        #[cfg(feature = "hooks")]
        if OBJECT.was_set() && crate::adaptor::is_debugged(block) {
            return None;
        }
        (self == Self::Object)
            .then(|| small::block_size(block.as_ptr()))
            .flatten()
    }

    #[cold]
    fn report_stray(self, function: &str, block: NonNull<u8>) {
        let owner = Self::ALL
            .into_iter()
            .find(|domain| *domain != self && domain.block_size(block.as_ptr()).is_some());
        let report = match owner {
            Some(owner) => format!(
                "{function} of {block:p}: allocated from domain '{owner}', given back to domain '{self}'; the block was left alone"
            ),
            None => format!(
                "{function} of {block:p}: no live block of domain '{self}' (freed twice, or never allocated); it was left alone"
            ),
        };
        #[cfg(feature = "hooks")]
        crate::adaptor::report_misuse(self, owner, function == "free", block, &report);
        #[cfg(not(feature = "hooks"))]
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("offheap: {report}\n"),
        ));
    }
}

impl Slot<Pool> {
    /// Puts `pool` in the slot (`initial` empties it), unless what is there is not `expected`; says
    /// whether it did.
    ///
    /// # Errors
    /// - [`Closed`](crate::ErrorKind::Closed) for a pool that was closed;
    /// - [`NotSupported`](crate::ErrorKind::NotSupported) for memory that the CPU cannot reach.
    pub(crate) fn replace(
        &self,
        pool: &Pool,
        initial: &Pool,
        expected: Option<&Pool>,
    ) -> Result<bool> {
        if !pool.is_cpu() {
            return Err(pool.not_of_the_cpu());
        }
        let mut is_expected = true;
        let changed = self.change(|now| {
            // The message needs memory, for which a hook may ask for this very value.
            if let Some(name) = pool.closed_name() {
                return Err(name);
            }
            is_expected = expected.is_none_or(|e| now.unwrap_or(initial).ptr_eq(e));
            if !is_expected {
                return Ok(now.cloned());
            }
            Ok((!pool.ptr_eq(initial)).then(|| pool.clone()))
        });
        let old = changed.map_err(|name| Error::closed(format!("pool '{name}'")))?;
        // A pool's own destructor may allocate: not under the lock.
        drop(old);
        Ok(is_expected)
    }
}

/// The requests to domains that a thread is inside of. An allocator that serves a domain from the
/// same domain, which nobody can see from outside, would go on until the stack ends.
struct Nested;

/// More than hooks that allocate need.
const MOST_NESTED: u32 = 32;

thread_local! {
    static NESTED: Cell<u32> = const { Cell::new(0) };
}

impl Nested {
    #[inline]
    fn enter() -> Option<Self> {
        let depth = NESTED.get();
        (depth < MOST_NESTED).then(|| {
            NESTED.set(depth + 1);
            Self
        })
    }
}

impl Drop for Nested {
    #[inline]
    fn drop(&mut self) {
        NESTED.set(NESTED.get() - 1);
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[inline]
fn small_serves(size: usize, alignment: Alignment) -> bool {
    size <= small::MAX_SMALL && alignment.get() <= 64
}

/// A block for one of offheap's own control structures, from the `object` domain.
#[inline]
pub(crate) fn allocate_control(size: usize, alignment: Alignment) -> Option<NonNull<u8>> {
    debug_assert!(small_serves(size, alignment));
    if cfg!(feature = "hooks") && OBJECT.was_set() {
        return allocate_listed_control(size, alignment);
    }
    small::allocate(size, alignment.get())
}

/// Out of the way of those who never replace an allocator.
#[cold]
#[inline(never)]
fn allocate_listed_control(size: usize, alignment: Alignment) -> Option<NonNull<u8>> {
    NonNull::new(Domain::Object.aligned_malloc(size, alignment))
}

/// # Safety
/// - As [`free_control`].
#[cold]
#[inline(never)]
unsafe fn free_listed_control(block: NonNull<u8>) {
    // SAFETY: the caller's promise; a block that was made before the allocator was replaced is found
    // among the small ones.
    unsafe { Domain::Object.free(block.as_ptr()) };
}

/// # Safety
/// - `block` came from [`allocate_control`] with `size` and `alignment`, and nobody uses it any more.
#[inline]
pub(crate) unsafe fn free_control(block: NonNull<u8>, size: usize, alignment: Alignment) {
    if cfg!(feature = "hooks") && OBJECT.was_set() {
        // SAFETY: the caller's promise.
        unsafe { free_listed_control(block) };
    } else {
        // SAFETY: the caller's promise; no other allocator was ever in place.
        unsafe { small::free(block, size, alignment.get()) };
    }
}

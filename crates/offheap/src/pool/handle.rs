//! The handle that every buffer holds.
//!
//! ```text
//!   Pool (one word) ──▶ PoolCore { account, base, parent } ──▶ parent Pool … ──▶ a backend's static
//!    bit 0: a static, never counted        │
//!                                          └▶ base: the allocator under the whole chain
//! ```
//!
//! A limit or a proxy is an account chained to its parent's, over one allocator: a level costs a few
//! counter updates, not another virtual call. Adaptors that see or change every request (log, track,
//! debug, failing, hook) are sources of their own, with the pool they wrap as their upstream.

mod as_source;
mod figures;
mod freed;
mod making;
mod pool_core;
mod prefixed;
mod trimming;

use self::freed::{Freed, Seen};
pub(in crate::pool) use self::pool_core::Base;
pub(crate) use self::pool_core::PoolCore;
use super::account::{Account, Kind};
use super::inside::Inside;
use super::memory_pool::{Notice, Padding};
use super::reserved::Reserved;
use super::zero::zero_size_block;
use crate::alignment::{Alignment, padded};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// Pools that were closed and still exist: nobody looks for one while there is none.
static CLOSED: AtomicUsize = AtomicUsize::new(0);

/// A counted handle to a memory pool.
///
/// Cloning is cheap (free for the built-in pools) and every buffer holds one, so a pool outlives
/// its buffers by construction; Arrow's raw `MemoryPool*` does not (ARROW-4825).
pub struct Pool {
    /// A `PoolCore` that lives for ever when bit 0 is set, else one from `Box::into_raw`, which stays
    /// where it is to its end: accounts below, and threads that end, have its address.
    core: NonNull<PoolCore>,
    marker: PhantomData<PoolCore>,
}

// SAFETY: a handle is a count or a reference to a static; everything in the core is Sync.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

const STATIC: usize = 1;

/// This pool's core and its ancestors'.
#[derive(Clone)]
struct Chain<'a>(Option<&'a PoolCore>);

impl<'a> Iterator for Chain<'a> {
    type Item = &'a PoolCore;

    #[inline]
    fn next(&mut self) -> Option<&'a PoolCore> {
        let core = self.0?;
        self.0 = core.parent.as_ref().map(Pool::core);
        Some(core)
    }
}

impl Pool {
    #[inline]
    fn is_static(&self) -> bool {
        self.core.addr().get() & STATIC != 0
    }

    #[inline]
    pub(super) fn core(&self) -> &PoolCore {
        let core = self.core.as_ptr().map_addr(|a| a & !STATIC);
        // SAFETY: a static, or a box that this handle keeps alive.
        unsafe { &*core }
    }

    #[inline]
    fn chain(&self) -> Chain<'_> {
        Chain(Some(self.core()))
    }

    /// This pool, what it counts into, and the pools under adaptors.
    fn lineage(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |pool| pool.parent())
    }

    #[cold]
    fn refused_by_system(&self, requested: usize) -> Error {
        // The error needs memory itself, which an exhausted pool would not give.
        let _inside = Inside::enter();
        let core = self.core();
        Error::allocator_refused(
            requested as u64,
            core.account.snapshot().bytes,
            core.name.to_string(),
        )
    }

    #[cold]
    fn refused_by_limit(&self, requested: u64, refuser: &Account) -> Error {
        let _inside = Inside::enter();
        let name = self
            .chain()
            .find(|core| std::ptr::eq(&raw const core.account, refuser))
            .map_or_else(|| self.name().to_owned(), |core| core.name.to_string());
        Error::new(ErrorKind::OutOfMemory {
            requested,
            limit: refuser.limit(),
            allocated: refuser.reserved(),
            pool: name,
        })
    }

    /// Whether a pool of the chain was closed.
    #[inline]
    fn is_any_closed(&self) -> bool {
        CLOSED.load(Ordering::Acquire) != 0 && self.closed_core().is_some()
    }

    #[cold]
    #[inline(never)]
    fn closed_core(&self) -> Option<&PoolCore> {
        self.chain()
            .find(|core| core.closed.load(Ordering::Acquire))
    }

    /// Refuses when a pool of the chain was closed; reserves under every limit.
    #[inline]
    fn admit(&self, n: u64) -> Result<Reserved<'_>> {
        if CLOSED.load(Ordering::Acquire) != 0
            && let Some(closed) = self.closed_core()
        {
            return Err(Error::closed(format!("pool '{}'", closed.name)));
        }
        self.core()
            .account
            .reserve(n)
            .map_err(|refuser| self.refused_by_limit(n, refuser))?;
        Ok(Reserved::new(self, n))
    }

    pub(super) fn unreserve(&self, n: u64) {
        self.core().account.unreserve(n);
    }

    /// A new block of `size` bytes at a multiple of `alignment`, uninitialised.
    ///
    /// The block may be written up to `size` rounded up to 64. Zero bytes give one shared address
    /// that is never null. Low level: prefer the buffers of this crate.
    ///
    /// # Errors
    /// - [`OutOfMemory`](ErrorKind::OutOfMemory) when the system or a limit refuses;
    /// - [`Closed`](ErrorKind::Closed) after [`close`](Self::close);
    /// - [`NotSupported`](ErrorKind::NotSupported) for a device's memory that the CPU cannot reach: see
    ///   [`allocate_on_device`](Self::allocate_on_device).
    #[inline]
    pub fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.allocate_with(size, alignment, false, true)
    }

    /// As [`allocate`](Self::allocate), with every byte zero up to `size` rounded up to 64. Large
    /// blocks come as zero pages: no byte is touched.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.allocate_with(size, alignment, true, true)
    }

    /// As [`allocate`](Self::allocate) and [`allocate_zeroed`](Self::allocate_zeroed), wherever the memory
    /// [lies](Self::location): the address may be one of a device, which the CPU must not use. Everything
    /// else of a pool works with such blocks as with others.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate), but for the last.
    pub fn allocate_on_device(
        &self,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Result<NonNull<u8>> {
        self.allocate_with(size, alignment, zeroed, false)
    }

    /// The whole of it where nothing is rare: a backend's memory, a lease that has the bytes, no
    /// closed pool.
    #[inline]
    fn allocate_with(
        &self,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
        for_cpu: bool,
    ) -> Result<NonNull<u8>> {
        let core = self.core();
        if let Base::Backend(backend) = core.base
            && let Some(bytes @ 1..) = padded(size)
            && !self.is_any_closed()
        {
            let n = size as i64;
            if !core.account.is_counted() {
                if let Some(block) = backend.allocate(bytes, alignment, zeroed) {
                    return Ok(block);
                }
            } else if let Some(shard) = core.account.mine()
                && shard.reserve(n)
            {
                let Some(block) = backend.allocate(bytes, alignment, zeroed) else {
                    shard.unreserve(n);
                    return Err(self.refused_by_system(size));
                };
                shard.commit(n, Kind::Block);
                return Ok(block);
            }
        }
        self.allocate_slowly(size, alignment, zeroed, for_cpu)
    }

    #[cold]
    #[inline(never)]
    fn allocate_slowly(
        &self,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
        for_cpu: bool,
    ) -> Result<NonNull<u8>> {
        if for_cpu && !self.is_cpu() {
            return Err(self.not_of_the_cpu());
        }
        let n = size as u64;
        let reserved = self.admit(n)?;
        let block = if size == 0 {
            zero_size_block(alignment)
        } else {
            match self.allocate_block(size, alignment, zeroed)? {
                Some(block) => block,
                None => {
                    drop(reserved);
                    return Err(self.refused_by_system(size));
                }
            }
        };
        reserved.keep();
        self.core().account.commit_allocation(n);
        Ok(block)
    }

    /// `None` when the system refuses.
    #[inline]
    fn allocate_block(
        &self,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Result<Option<NonNull<u8>>> {
        let Some(bytes) = padded(size) else {
            return Ok(None);
        };
        match &self.core().base {
            Base::Backend(backend) => Ok(backend.allocate(bytes, alignment, zeroed)),
            Base::Custom(source) => {
                let bytes = self.source_size(size);
                if zeroed {
                    source.allocate_zeroed(bytes, alignment)
                } else {
                    source.allocate(bytes, alignment)
                }
                .map(Some)
            }
        }
    }

    /// The size that a custom source is asked for.
    #[inline]
    fn source_size(&self, size: usize) -> usize {
        match self.core().padding {
            // A live block's size could be padded once, so it can be now.
            Padding::Rounded => padded(size).unwrap_or(size),
            Padding::Passed | Padding::None => size,
        }
    }

    /// Where the memory lies.
    #[inline]
    pub fn location(&self) -> Location {
        self.core().location
    }

    /// Whether the CPU may read and write the memory.
    #[inline]
    pub fn is_cpu(&self) -> bool {
        self.core().location.is_cpu
    }

    #[cold]
    pub(crate) fn not_of_the_cpu(&self) -> Error {
        Error::not_supported(format!(
            "pool '{}' has memory of {}, which the CPU cannot read or write",
            self.name(),
            self.location()
        ))
    }

    /// Whether blocks have room up to their size rounded to 64, and which sizes a source sees.
    pub fn padding(&self) -> Padding {
        self.core().padding
    }

    /// Bytes that may be written in a block of `size` bytes.
    #[inline]
    pub(crate) fn capacity_of(&self, size: usize) -> usize {
        if cfg!(feature = "hooks") && self.core().padding == Padding::None {
            size
        } else {
            padded(size).unwrap_or(size)
        }
    }

    /// Tells the adaptors over this pool's memory what happened to a live block.
    #[inline]
    pub(crate) fn notice(&self, ptr: NonNull<u8>, size: usize, notice: Notice) {
        if cfg!(feature = "hooks")
            && size != 0
            && let Base::Custom(source) = &self.core().base
        {
            source.notice(ptr, self.source_size(size), notice);
        }
    }

    /// # Safety
    /// - `block` came from `allocate_block` with `size`, which is not zero, and `alignment`.
    #[inline]
    unsafe fn free_block(
        &self,
        block: NonNull<u8>,
        size: usize,
        alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        match &self.core().base {
            Base::Backend(backend) => {
                // A live block's size could be padded once, so it can be now.
                let bytes = padded(size).unwrap_or(size);
                // SAFETY: the caller's promise; the padded size is what was asked for.
                unsafe { backend.free(block, bytes, alignment) }
            }
            Base::Custom(source) => {
                let asked = self.source_size(size);
                // A source that rounds says a rounded size.
                let mut seen = Seen {
                    freed: Some(asked),
                    asked,
                    size,
                    told: freed,
                };
                // SAFETY: the caller's promise, with the size that was asked for.
                unsafe { source.free_checked(block, asked, alignment, &mut seen.freed) }
            }
        }
    }

    /// Changes a block's size, keeping the first `min(old_size, new_size)` bytes.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate); the old block is then still valid and counted.
    ///
    /// # Safety
    /// - `ptr` came from this pool, or another handle to it, with `old_size` and `alignment`, and
    ///   is live;
    /// - nobody uses the block during the call.
    pub unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        if new_size == 0 && old_size != 0 {
            let mut freed = Some(old_size);
            let counted = Freed {
                pool: self,
                freed: &mut freed,
                is_end: false,
            };
            // SAFETY: the caller's promise.
            unsafe { self.free_block(ptr, old_size, alignment, counted.freed) };
            drop(counted);
            return match freed {
                Some(_) => Ok(zero_size_block(alignment)),
                None => Err(Error::new(ErrorKind::Corruption {
                    what: format!("{ptr:p} is no live block of pool '{}'", self.name()),
                })),
            };
        }
        let Some(growth) = new_size.checked_sub(old_size).filter(|n| *n > 0) else {
            // SAFETY: the caller's promise.
            let block = unsafe { self.reallocate_block(ptr, old_size, new_size, alignment)? };
            let block = block.ok_or_else(|| self.refused_by_system(new_size))?;
            self.core()
                .account
                .commit_shrink((old_size - new_size) as u64);
            return Ok(block);
        };
        let n = growth as u64;
        let reserved = self.admit(n)?;
        // SAFETY: the caller's promise.
        let block = unsafe { self.reallocate_block(ptr, old_size, new_size, alignment)? };
        let Some(block) = block else {
            drop(reserved);
            return Err(self.refused_by_system(new_size));
        };
        reserved.keep();
        self.core().account.commit_growth(n);
        Ok(block)
    }

    /// `None` when the system refuses.
    ///
    /// # Safety
    /// As [`reallocate`](Self::reallocate).
    unsafe fn reallocate_block(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<Option<NonNull<u8>>> {
        if old_size == 0 {
            return if new_size == 0 {
                Ok(Some(ptr))
            } else {
                self.allocate_block(new_size, alignment, false)
            };
        }
        if new_size == 0 {
            debug_assert!(false, "`reallocate` frees");
            return Ok(Some(ptr));
        }
        let old = padded(old_size).unwrap_or(old_size);
        let Some(new) = padded(new_size) else {
            return Ok(None);
        };
        match &self.core().base {
            Base::Backend(_) if old == new => Ok(Some(ptr)),
            Base::Backend(backend) => {
                // SAFETY: the caller's promise; padded sizes are what was asked for.
                Ok(unsafe { backend.reallocate(ptr, old, new, alignment) })
            }
            Base::Custom(source) => {
                let (old, new) = (self.source_size(old_size), self.source_size(new_size));
                if old == new {
                    return Ok(Some(ptr));
                }
                // SAFETY: the caller's promise, with the sizes that were asked for.
                unsafe { source.reallocate(ptr, old, new, alignment) }.map(Some)
            }
        }
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// - `ptr` came from this pool, or another handle to it, with `size` and `alignment`, and is
    ///   live;
    /// - nobody uses the block any more.
    #[inline]
    pub unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        let core = self.core();
        if let Base::Backend(backend) = core.base
            && size != 0
        {
            // A live block's size could be padded once, so it can be now.
            let bytes = padded(size).unwrap_or(size);
            // SAFETY: the caller's promise; the padded size is what was asked for.
            unsafe { backend.free(ptr, bytes, alignment) };
            match core.account.mine() {
                _ if !core.account.is_counted() => {}
                Some(shard) => shard.give(size as i64, Kind::Block),
                None => core.account.commit_free(size as u64),
            }
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.free_slowly(ptr, size, alignment) };
    }

    /// # Safety
    /// As [`free`](Self::free).
    #[cold]
    #[inline(never)]
    unsafe fn free_slowly(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { self.free_counting(ptr, size, alignment, &mut Some(size)) };
    }

    /// # Safety
    /// As [`free`](Self::free).
    #[inline]
    unsafe fn free_counting(
        &self,
        ptr: NonNull<u8>,
        size: usize,
        alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        // Also when a source, or what reports its damage, panics.
        let counted = Freed {
            pool: self,
            freed,
            is_end: true,
        };
        if size != 0 {
            // SAFETY: the caller's promise.
            unsafe { self.free_block(ptr, size, alignment, counted.freed) };
        }
    }

    /// A block of which no account hears.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate), but for limits, which are not asked.
    #[cfg(feature = "hooks")]
    pub(crate) fn allocate_uncounted(
        &self,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Result<NonNull<u8>> {
        debug_assert!(size != 0);
        self.allocate_block(size, alignment, zeroed)?
            .ok_or_else(|| self.refused_by_system(size))
    }

    /// The end of a block of [`allocate_uncounted`](Self::allocate_uncounted).
    ///
    /// # Safety
    /// As [`free`](Self::free), for such a block.
    #[cfg(feature = "hooks")]
    pub(crate) unsafe fn free_uncounted(
        &self,
        ptr: NonNull<u8>,
        size: usize,
        alignment: Alignment,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.free_block(ptr, size, alignment, &mut Some(size)) };
    }

    /// Counts a block as given back though its memory waits for somebody: it leaves the bytes
    /// allocated and every limit, and shows as parked.
    ///
    /// # Safety
    /// - `ptr` came from this pool with `size`, is live, and its end will be
    ///   [`free_parked`](Self::free_parked).
    pub(crate) unsafe fn park(&self, ptr: NonNull<u8>, size: usize) {
        if cfg!(feature = "hooks")
            && size != 0
            && let Base::Custom(source) = &self.core().base
        {
            // SAFETY: the block is a live one of the source's, and `free_parked` will end it.
            unsafe { source.park(ptr, self.source_size(size)) };
        }
        let account = &self.core().account;
        account.commit_free(size as u64);
        account.park(size as u64);
    }

    /// Frees a block that was [parked](Self::park).
    ///
    /// # Safety
    /// - As [`free`](Self::free), and `park` was called for the block.
    pub(crate) unsafe fn free_parked(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        if size != 0 {
            match &self.core().base {
                // SAFETY: the caller's promise, with the size that was asked for.
                Base::Custom(source) if cfg!(feature = "hooks") => unsafe {
                    source.free_parked(ptr, self.source_size(size), alignment);
                },
                // SAFETY: the caller's promise.
                _ => unsafe { self.free_block(ptr, size, alignment, &mut Some(size)) },
            }
        }
        self.core().account.unpark(size as u64);
    }
}

impl Clone for Pool {
    #[inline]
    fn clone(&self) -> Self {
        if !self.is_static() {
            // As `Arc`: a handle is there already, so nothing needs to be seen.
            let handles = self.core().handles.fetch_add(1, Ordering::Relaxed);
            assert!(handles <= isize::MAX as usize, "too many handles");
        }
        Self {
            core: self.core,
            marker: PhantomData,
        }
    }
}

impl Drop for Pool {
    #[inline]
    fn drop(&mut self) {
        if !self.is_static() && self.core().handles.fetch_sub(1, Ordering::Release) == 1 {
            // SAFETY: that was the last handle.
            unsafe { Self::end(self.core) };
        }
    }
}

impl Pool {
    /// Lets the chain go one pool after the other: limits and proxies nest as deep as a program
    /// likes, a stack does not. (Adaptors do not: some thousand of them end it, in requests, too.)
    ///
    /// # Safety
    /// - `core` is a box that no handle is left of.
    #[cold]
    #[inline(never)]
    unsafe fn end(mut core: NonNull<PoolCore>) {
        loop {
            // What other threads did with their handles is seen from here on.
            fence(Ordering::Acquire);
            // SAFETY: nobody else has the box.
            #[cfg(offheap_tsan)] // which does not know fences
            let _ = unsafe { core.as_ref() }.handles.load(Ordering::Acquire);
            // SAFETY: the caller's promise, or the last handle's end below.
            let mut ends = unsafe { Box::from_raw(core.as_ptr()) };
            if *ends.closed.get_mut() {
                CLOSED.fetch_sub(1, Ordering::Relaxed);
            }
            // Before its parent may end.
            ends.account.retire();
            let parent = ends.parent.take();
            drop(ends);
            let Some(parent) = parent else { return };
            if parent.is_static() {
                return;
            }
            let parent = std::mem::ManuallyDrop::new(parent).core;
            // SAFETY: the handle that was just taken over keeps it.
            let handles = unsafe { &parent.as_ref().handles };
            if handles.fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            core = parent;
        }
    }
}

impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other)
    }
}

impl Eq for Pool {}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("backend", &self.backend_name())
            .field("bytes_allocated", &self.bytes_allocated())
            .field("limit", &self.limit_bytes())
            .finish_non_exhaustive()
    }
}

//! The counted block under every buffer.
//!
//! ```text
//!   Block (8 bytes) ──▶ Control (one 64-byte line) ──▶ the memory
//!                        strong, parked counts           │
//!                        size, alignment                 └ from `pool`, or foreign, kept by `owner`
//! ```
//!
//! The control block is separate from the data: a header in front of it would turn 4096 bytes into
//! the next size class and break page alignment.

use super::counts::{Counts, Released};
use crate::alignment::Alignment;
use crate::domain::allocate_control;
use crate::error::{Error, Result};
use crate::location::Location;
use crate::pool::{Notice, Pool};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What is known of foreign memory.
struct Foreign {
    location: Location,
    /// Whatever keeps it alive; dropped with the last reference to the block.
    owner: Box<dyn Any + Send + Sync>,
}

#[repr(align(64))]
struct Control {
    counts: Counts,
    ptr: NonNull<u8>,
    /// Bytes asked for and counted.
    size: usize,
    /// Where the memory came from; `None` for foreign memory.
    pool: Option<Pool>,
    /// Boxed: one word, so that a control block is one line.
    foreign: Option<Box<Foreign>>,
    alignment: Alignment,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Control>() == 64);

/// Control blocks come from the `object` domain. No pool counts them.
const CONTROL_ALIGNMENT: Alignment = Alignment::DEFAULT;

/// A counted reference to a block of memory: the low-level type that buffers and language bindings
/// are made of.
///
/// Reading and writing go through [`as_ptr`](Self::as_ptr) and are the caller's responsibility;
/// [`Buffer`](super::Buffer), [`MutableBuffer`](super::MutableBuffer) and
/// [`ResizableBuffer`](super::ResizableBuffer) are the safe types.
pub struct Block {
    /// Bit 0 is set in clones: they are likely not the last to go.
    control: NonNull<Control>,
    marker: PhantomData<Control>,
}

const CLONE: usize = 1;

// SAFETY: the counts are atomic, the pool and the owner are Send and Sync, and the memory is only
// reached through raw pointers.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// Memory for a control block, given back unless it is filled: also when a source of the program's
/// own panics.
struct ControlPlace(NonNull<Control>);

impl ControlPlace {
    #[inline]
    fn new() -> Option<Self> {
        let place = allocate_control(size_of::<Control>(), CONTROL_ALIGNMENT)?;
        Some(Self(place.cast()))
    }

    #[inline]
    fn fill(self, control: Control) -> NonNull<Control> {
        let place = self.0;
        std::mem::forget(self);
        // SAFETY: a new block of the right size and alignment.
        unsafe { place.write(control) };
        place
    }
}

impl Drop for ControlPlace {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with these figures, and nothing was put there.
        unsafe {
            crate::domain::free_control(self.0.cast(), size_of::<Control>(), CONTROL_ALIGNMENT);
        }
    }
}

/// # Safety
/// - `control` came from [`ControlPlace::fill`], and nobody uses it any more.
#[inline(always)]
unsafe fn free_control(control: NonNull<Control>) {
    // SAFETY: the caller's promise.
    unsafe {
        control.drop_in_place();
        crate::domain::free_control(control.cast(), size_of::<Control>(), CONTROL_ALIGNMENT);
    }
}

/// Frees a control block that nobody else has, should a source panic.
struct FreeControl(NonNull<Control>);

impl Drop for FreeControl {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it is made for the last reference.
        unsafe { free_control_cold(self.0) };
    }
}

/// # Safety
/// - As [`free_control`].
#[cold]
#[inline(never)]
unsafe fn free_control_cold(control: NonNull<Control>) {
    // SAFETY: the caller's promise.
    unsafe { free_control(control) };
}

#[cold]
fn no_control(size: usize, pool: &Pool) -> Error {
    Error::allocator_refused(size as u64, pool.bytes_allocated(), pool.name().to_owned())
}

impl Block {
    /// A new block of `size` bytes from `pool`, uninitialised, or all zero when `zeroed`.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn allocate(size: usize, alignment: Alignment, pool: &Pool, zeroed: bool) -> Result<Self> {
        // First, so that a refusal of either leaves the pool's figures as they were.
        let place = ControlPlace::new().ok_or_else(|| no_control(size, pool))?;
        let ptr = if zeroed {
            pool.allocate_zeroed(size, alignment)?
        } else {
            pool.allocate(size, alignment)?
        };
        let control = place.fill(Control {
            counts: Counts::new(),
            ptr,
            size,
            pool: Some(pool.clone()),
            foreign: None,
            alignment,
        });
        Ok(Self {
            control,
            marker: PhantomData,
        })
    }

    /// As [`allocate`](Self::allocate), wherever the pool's memory [lies](Pool::location).
    ///
    /// # Errors
    /// As [`Pool::allocate_on_device`].
    pub fn allocate_on_device(
        size: usize,
        alignment: Alignment,
        pool: &Pool,
        zeroed: bool,
    ) -> Result<Self> {
        let place = ControlPlace::new().ok_or_else(|| no_control(size, pool))?;
        let ptr = pool.allocate_on_device(size, alignment, zeroed)?;
        let control = place.fill(Control {
            counts: Counts::new(),
            ptr,
            size,
            pool: Some(pool.clone()),
            foreign: None,
            alignment,
        });
        Ok(Self {
            control,
            marker: PhantomData,
        })
    }

    /// A block over foreign memory, which `owner` keeps alive.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) when the 64 bytes of the control block cannot
    /// be had; `owner` is then dropped.
    ///
    /// # Safety
    /// - `ptr` is valid for reads of `size` bytes (and for writes, if the block is written) from
    ///   any thread, until `owner` is dropped.
    pub unsafe fn foreign(
        ptr: NonNull<u8>,
        size: usize,
        owner: impl Any + Send + Sync,
    ) -> Result<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self::foreign_at(ptr, size, Location::CPU, owner) }
    }

    /// As [`foreign`](Self::foreign), for memory that lies at `location`.
    ///
    /// # Errors
    /// As [`foreign`](Self::foreign).
    ///
    /// # Safety
    /// - As for [`foreign`](Self::foreign), by whatever can reach memory there: where the location
    ///   says so, by the CPU.
    pub unsafe fn foreign_at(
        ptr: NonNull<u8>,
        size: usize,
        location: Location,
        owner: impl Any + Send + Sync,
    ) -> Result<Self> {
        let lowest = 1_usize << ptr.addr().get().trailing_zeros().min(12);
        let control = Control {
            counts: Counts::new(),
            ptr,
            size,
            pool: None,
            foreign: Some(Box::new(Foreign {
                location,
                owner: Box::new(owner),
            })),
            alignment: Alignment::new(lowest)?,
        };
        let Some(place) = ControlPlace::new() else {
            return Err(Error::allocator_refused(
                size_of::<Control>() as u64,
                0,
                "control".to_owned(),
            ));
        };
        Ok(Self {
            control: place.fill(control),
            marker: PhantomData,
        })
    }

    #[inline]
    fn untagged(&self) -> NonNull<Control> {
        let control = self.control.as_ptr().map_addr(|address| address & !CLONE);
        // SAFETY: a control block's address is a multiple of 64, and not null.
        unsafe { NonNull::new_unchecked(control) }
    }

    #[inline]
    fn control(&self) -> &Control {
        // SAFETY: the control block lives while a reference does.
        unsafe { self.untagged().as_ref() }
    }

    /// The first byte.
    #[inline]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.control().ptr
    }

    /// Bytes asked for: what the pool counts.
    #[inline]
    pub fn size(&self) -> usize {
        self.control().size
    }

    /// Bytes that may be written: the size rounded up to 64, except of foreign memory and under
    /// debug hooks, whose guards start at the size.
    #[inline]
    pub fn capacity(&self) -> usize {
        let size = self.size();
        self.pool().map_or(size, |pool| pool.capacity_of(size))
    }

    /// The alignment asked for (foreign memory: what its address happens to have, at most 4096).
    #[inline]
    pub fn alignment(&self) -> Alignment {
        self.control().alignment
    }

    /// The pool that the memory came from; `None` for foreign memory.
    #[inline]
    pub fn pool(&self) -> Option<&Pool> {
        self.control().pool.as_ref()
    }

    /// What keeps foreign memory alive; `None` for a pool's.
    pub fn owner(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.control()
            .foreign
            .as_deref()
            .map(|foreign| &*foreign.owner)
    }

    /// Where the memory lies.
    #[inline]
    pub fn location(&self) -> Location {
        let control = self.control();
        match (&control.pool, &control.foreign) {
            (Some(pool), _) => pool.location(),
            (None, Some(foreign)) => foreign.location,
            (None, None) => Location::CPU,
        }
    }

    /// Whether the CPU may read and write the memory.
    #[inline]
    pub fn is_cpu(&self) -> bool {
        self.location().is_cpu
    }

    /// Whether this is the only reference, parked ones included.
    #[inline]
    pub fn is_unique(&self) -> bool {
        self.control().counts.is_unique()
    }

    /// How many references there are, parked ones not included.
    pub fn strong_count(&self) -> usize {
        self.control().counts.strong()
    }

    /// Whether two references are to one block.
    #[inline]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.untagged() == other.untagged()
    }

    /// Changes the size, moving the block if need be; the first `min(old, new)` bytes stay.
    ///
    /// # Errors
    /// - [`Busy`](crate::ErrorKind::Busy) when others hold the block;
    /// - [`NotSupported`](crate::ErrorKind::NotSupported) for foreign memory;
    /// - as [`Pool::allocate`]. The block is then as it was.
    pub fn reallocate(&mut self, new_size: usize) -> Result<()> {
        if !self.is_unique() {
            return Err(Error::busy(format!(
                "the memory cannot move: {} other references hold it",
                self.strong_count().saturating_sub(1).max(1)
            )));
        }
        let mut control = self.untagged();
        // SAFETY: the only reference, and `self` is borrowed mutably.
        let control = unsafe { control.as_mut() };
        let Some(pool) = &control.pool else {
            return Err(Error::not_supported("foreign memory cannot be resized"));
        };
        // SAFETY: the block came from this pool with these figures; nobody else holds it.
        let ptr =
            unsafe { pool.reallocate(control.ptr, control.size, new_size, control.alignment)? };
        control.ptr = ptr;
        control.size = new_size;
        Ok(())
    }

    /// Tells the adaptors of the block's pool what happened to it: that its bytes may no longer be
    /// written, say, which debug hooks then check. Costs nothing without adaptors.
    #[inline]
    pub fn notice(&self, notice: Notice) {
        if cfg!(feature = "hooks")
            && let Some(pool) = self.pool()
        {
            pool.notice(self.as_ptr(), self.size(), notice);
        }
    }

    /// Gives this reference up but keeps the memory in place: for work in flight that has the
    /// address and cannot be asked. When no [`Block`] is left, the bytes leave the pool's account
    /// and show as parked.
    pub fn park(self) -> ParkedBlock {
        let parked = ParkedBlock {
            control: self.untagged(),
            marker: PhantomData,
        };
        self.control().counts.park();
        drop(self);
        parked
    }
}

/// Ends a block and its account.
///
/// # Safety
/// - No reference to the block is left, of either kind.
#[inline(never)]
unsafe fn free(control: NonNull<Control>) {
    // SAFETY: the caller's promise: nobody else reads the control block.
    let inner = unsafe { control.as_ref() };
    if let Some(pool) = &inner.pool {
        // Also when debug hooks report by a panic.
        let unwinding = FreeControl(control);
        // SAFETY: the block came from this pool with these figures, and nobody uses it.
        unsafe { pool.free(inner.ptr, inner.size, inner.alignment) };
        std::mem::forget(unwinding);
    }
    // SAFETY: the caller's promise.
    unsafe { free_control(control) };
}

/// Ends a block's account; its memory, too, unless parked references are left.
///
/// # Safety
/// - No strong reference to the block is left, and its account was not settled.
#[cold]
#[inline(never)]
unsafe fn settle_parked(control: NonNull<Control>) {
    // SAFETY: the strong references' share of the parked count keeps the control block.
    let inner = unsafe { control.as_ref() };
    if let Some(pool) = &inner.pool {
        // SAFETY: the block came from this pool, and `free_parked` ends it.
        unsafe { pool.park(inner.ptr, inner.size) };
    }
    if inner.counts.release_parked() {
        // SAFETY: the last reference of both kinds.
        unsafe { free_parked(control) };
    }
}

/// # Safety
/// - No reference to the block is left, and its account was settled.
unsafe fn free_parked(control: NonNull<Control>) {
    // SAFETY: the caller's promise: nobody else reads the control block.
    let inner = unsafe { control.as_ref() };
    // Also when debug hooks report by a panic.
    let _free = FreeControl(control);
    if let Some(pool) = &inner.pool {
        // SAFETY: the block came from this pool with these figures and was parked.
        unsafe { pool.free_parked(inner.ptr, inner.size, inner.alignment) };
    }
}

impl Clone for Block {
    #[inline]
    fn clone(&self) -> Self {
        self.control().counts.retain();
        Self {
            control: self.control.map_addr(|address| address | CLONE),
            marker: PhantomData,
        }
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        let control = self.untagged();
        let counts = &self.control().counts;
        let left = if self.control == control {
            counts.release()
        } else {
            counts.release_shared()
        };
        // The control block's address, not `self`'s, goes out of line: handles stay in registers.
        match left {
            Released::Shared => {}
            // SAFETY: this was the last reference.
            Released::Free => unsafe { free(control) },
            // SAFETY: this was the last strong reference.
            Released::Parked => unsafe { settle_parked(control) },
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("ptr", &self.as_ptr())
            .field("size", &self.size())
            .field("alignment", &self.alignment().get())
            .field("references", &self.strong_count())
            .finish_non_exhaustive()
    }
}

/// Keeps a block's memory in place without using or counting it (see [`Block::park`]).
pub struct ParkedBlock {
    control: NonNull<Control>,
    marker: PhantomData<Control>,
}

// SAFETY: as for `Block`.
unsafe impl Send for ParkedBlock {}
// SAFETY: as for `Block`.
unsafe impl Sync for ParkedBlock {}

impl ParkedBlock {
    fn control(&self) -> &Control {
        // SAFETY: the control block lives while a reference does.
        unsafe { self.control.as_ref() }
    }

    /// As [`Block::notice`].
    pub fn notice(&self, notice: Notice) {
        let control = self.control();
        if cfg!(feature = "hooks")
            && let Some(pool) = &control.pool
        {
            pool.notice(control.ptr, control.size, notice);
        }
    }

    /// Whether no [`Block`] is left: the bytes are nobody's.
    pub fn is_unused(&self) -> bool {
        self.control().counts.strong() == 0
    }

    /// The block's bytes.
    pub fn size(&self) -> usize {
        self.control().size
    }

    /// Gives the block's whole pages back to the system while its addresses stay reserved: whoever
    /// writes there later writes to memory that nobody reads. Returns the bytes given back: 0 when
    /// the block [is used](Self::is_unused), is foreign or a device's, has no whole page, or the system has no
    /// such call. Cost: some microseconds and a page fault each, should the pages be touched again.
    pub fn discard_pages(&self) -> usize {
        let control = self.control();
        if !self.is_unused()
            || control
                .pool
                .as_ref()
                .is_none_or(|pool| pool.location() != Location::CPU)
        {
            return 0;
        }
        #[cfg(target_os = "linux")]
        {
            // SAFETY: sysconf has no preconditions.
            let page =
                usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
            let start = control.ptr.addr().get().next_multiple_of(page);
            let end = (control.ptr.addr().get() + control.size) & !(page - 1);
            if start >= end {
                return 0;
            }
            let first = control.ptr.as_ptr().with_addr(start);
            // SAFETY: the pages lie inside of a live private allocation whose contents nobody
            // reads any more; DONTNEED makes them zero pages.
            let result = unsafe { libc::madvise(first.cast(), end - start, libc::MADV_DONTNEED) };
            if result == 0 { end - start } else { 0 }
        }
        #[cfg(not(target_os = "linux"))]
        0
    }
}

impl Drop for ParkedBlock {
    fn drop(&mut self) {
        if self.control().counts.release_parked() {
            // SAFETY: the last reference of both kinds; the last strong one settled the account.
            unsafe { free_parked(self.control) };
        }
    }
}

impl fmt::Debug for ParkedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkedBlock")
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::system_memory_pool;
    use std::sync::Arc;

    #[test]
    fn a_parked_block_leaves_the_account_and_keeps_its_memory() {
        let pool = system_memory_pool().limit(10_000);
        let block = Block::allocate(8192, Alignment::DEFAULT, &pool, true).unwrap();
        let ptr = block.as_ptr();
        let other = block.clone();
        let parked = block.park();
        assert_eq!(
            (pool.bytes_allocated(), pool.statistics().parked_bytes),
            (8192, 0)
        );
        assert!(!parked.is_unused());
        assert_eq!(parked.discard_pages(), 0);
        drop(other);
        assert_eq!(
            (pool.bytes_allocated(), pool.statistics().parked_bytes),
            (0, 8192)
        );
        assert_eq!(pool.available(), Some(10_000));
        assert!(parked.is_unused());
        // SAFETY: the parked reference keeps the memory; a late writer does this.
        unsafe { ptr.write_bytes(7, 8192) };
        if cfg!(target_os = "linux") {
            assert!(parked.discard_pages() >= 4096);
        }
        // SAFETY: as above.
        unsafe { ptr.write_bytes(9, 8192) };
        drop(parked);
        assert_eq!(pool.statistics().parked_bytes, 0);
        assert_eq!(pool.live_allocations(), 0);
    }

    #[test]
    fn a_foreign_block_drops_its_owner_once_and_cannot_grow() {
        let owner = Arc::new([1_u8, 2, 3]);
        let ptr = NonNull::from(&owner[0]);
        // SAFETY: the Arc keeps the bytes.
        let mut block = unsafe { Block::foreign(ptr, 3, Arc::clone(&owner)) }.unwrap();
        assert_eq!(Arc::strong_count(&owner), 2);
        assert!(block.pool().is_none());
        assert_eq!(
            block.reallocate(10).unwrap_err().code(),
            "ERR_OFFHEAP_NOT_SUPPORTED"
        );
        let parked = block.clone().park();
        assert_eq!(block.reallocate(10).unwrap_err().code(), "ERR_OFFHEAP_BUSY");
        drop(block);
        assert_eq!(Arc::strong_count(&owner), 2);
        drop(parked);
        assert_eq!(Arc::strong_count(&owner), 1);
    }
}

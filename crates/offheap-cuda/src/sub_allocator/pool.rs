//! The sub-allocating pool.

use super::core::Core;
use super::options::SubAllocatorOptions;
use super::statistics::{OutOfMemoryReport, SubAllocatorStatistics};
use super::streams::{StreamId, Streams};
use super::upstream::Upstream;
use offheap::{Error, Result};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A pool of large chunks from upstream, cut into blocks, with the free memory kept by stream
/// (RMM's `pool_memory_resource`).
///
/// The pool deals in addresses and touches no memory, so it works over device memory, pinned memory
/// and a simulation alike. All of it is behind one lock, which may be held while upstream makes a
/// chunk. Measured without contention (`bench_sub_allocator`, a 2-core Xeon): a small block of one
/// stream takes 33 ns to allocate or free, the lock included, blocks of all sizes up to 1 MiB 58 ns
/// with 100 live and 93 ns with 100,000; a driver's event is not in these figures. Threads take turns:
/// two with a stream and 1,000 blocks each get as many operations done as one does, 73 ns each
/// where one takes 71 ns and two pools 49 ns, and four are no slower (on a busy machine).
///
/// - **Small blocks**, up to 32 KiB, are slots of slabs: O(1), and a slab of up to 256 blocks is one
///   cache line, so the cost does not depend on how many blocks are live.
/// - **Larger blocks** are the nearly best fit of the stream's free blocks, found by size in O(1)
///   (TLSF), split to what is asked for and joined again with free neighbours, never across chunks.
/// - **Order of the search**, as RMM's: the stream's own memory, with no waiting; another stream's,
///   which the stream waits for on the device; free blocks of several streams joined; a new chunk.
///   RMM merges all streams' lists before it grows; this joins only what gives the block.
/// - **Events** are recorded at each free once the pool knows more than one stream, and not at all
///   before.
///
/// Any thread may free any block. Upstream and streams must not call the pool back.
///
/// Dropping the pool waits for what was freed and gives all chunks back, live blocks or not.
pub struct SubAllocator<U: Upstream, S: Streams> {
    core: Mutex<Core<U, S>>,
}

impl<U: Upstream, S: Streams> SubAllocator<U, S> {
    /// Makes a pool, with its initial chunk.
    ///
    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for sizes that are no multiples of
    /// 256 or a maximum less than the initial size;
    /// [`OutOfMemory`](offheap::ErrorKind::OutOfMemory) when upstream refuses the initial chunk.
    pub fn new(upstream: U, streams: S, options: SubAllocatorOptions) -> Result<Self> {
        options.check()?;
        let mut core = Core::new(options, upstream, streams);
        core.take_initial()?;
        Ok(Self {
            core: Mutex::new(core),
        })
    }

    fn lock(&self) -> Result<MutexGuard<'_, Core<U, S>>> {
        // Upstream or a stream panicked while blocks were moved: nothing is certain any more.
        self.core
            .lock()
            .map_err(|_| Error::closed("the sub-allocating pool, in which a call panicked,"))
    }

    /// The address of a new block of `size` bytes, a multiple of 256, ready for work given to
    /// `stream`. 0 bytes: address 0, and nothing happens.
    ///
    /// # Errors
    /// [`OutOfMemory`](offheap::ErrorKind::OutOfMemory), with the numbers; see
    /// [`out_of_memory_report`](Self::out_of_memory_report). What the driver says when a wait cannot
    /// be given to the stream.
    pub fn allocate(&self, size: u64, stream: StreamId) -> Result<u64> {
        self.lock()?.allocate(size, 1, stream)
    }

    /// As [`allocate`](Self::allocate), at a multiple of `alignment`. More than 256 is not taken from
    /// slabs.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate), and
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for an alignment that is not a power
    /// of two.
    pub fn allocate_aligned(&self, size: u64, alignment: u64, stream: StreamId) -> Result<u64> {
        if !alignment.is_power_of_two() {
            return Err(Error::invalid_argument(
                "alignment",
                alignment,
                "a power of two",
            ));
        }
        self.lock()?.allocate(size, alignment, stream)
    }

    /// Frees a block, from any thread, after the work given to `stream` so far: that stream may get
    /// the memory again at once, others wait for it. All other use of the block must come before, by
    /// its streams' order or by [`record_stream`](Self::record_stream).
    ///
    /// `stream` need not be the one that the block was allocated for (RMM's `set_stream`).
    ///
    /// # Errors
    /// [`Corruption`](offheap::ErrorKind::Corruption) for what is not a live block of that size
    /// (a double free, say); what the driver says when neither an event can be recorded nor the
    /// device waited for. The block is then still live.
    pub fn free(&self, address: u64, size: u64, stream: StreamId) -> Result<()> {
        self.lock()?.free(address, size, stream)
    }

    /// Notes that a live block is used for another number of bytes from now on, if it has room for
    /// them and would not be of another size if it were allocated for them. Whether it does.
    ///
    /// # Errors
    /// [`Corruption`](offheap::ErrorKind::Corruption) for what is not a live block of that size.
    pub fn resize(&self, address: u64, old_size: u64, new_size: u64) -> Result<bool> {
        self.lock()?.resize(address, old_size, new_size)
    }

    /// Calls `body` with upstream, under the lock: it must not call the pool.
    pub fn with_upstream<R>(&self, body: impl FnOnce(&U) -> R) -> R {
        body(&self.peek().upstream)
    }

    /// Notes that another stream uses a live block (PyTorch's `record_stream`): after it is freed,
    /// it is not used again before the work given to `stream` until then is complete. Nobody waits;
    /// the block is found to be free by a later call.
    ///
    /// # Errors
    /// [`Corruption`](offheap::ErrorKind::Corruption) for what is not a live block of that size.
    pub fn record_stream(&self, address: u64, size: u64, stream: StreamId) -> Result<()> {
        self.lock()?.record_stream(address, size, stream)
    }

    /// Tells that a stream is about to be destroyed. Its free memory stays in the pool, for other
    /// streams to take. Without this the pool keeps the stream's place, and may have to wait for the
    /// whole device once.
    ///
    /// # Errors
    /// What the driver says when neither an event can be recorded nor the device waited for.
    pub fn retire_stream(&self, stream: StreamId) -> Result<()> {
        self.lock()?.retire_stream(stream)
    }

    /// Gives a stream a free block of at least `bytes`, from upstream if it has none, so that its
    /// first allocations neither grow the pool nor take from other streams (RMM#841: what makes
    /// kernels wait for each other).
    ///
    /// # Errors
    /// [`OutOfMemory`](offheap::ErrorKind::OutOfMemory) when upstream or the maximum refuse.
    pub fn prewarm(&self, stream: StreamId, bytes: u64) -> Result<()> {
        let mut core = self.lock()?;
        let arena = core.arena_of(stream)?;
        core.prewarm(arena, bytes)
    }

    /// Gives free chunks back to upstream as long as the pool keeps at least `bytes_to_keep`
    /// (`cuMemPoolTrimTo`). Blocks the caller until the streams that used them are done. Returns the
    /// bytes given back. O(blocks).
    ///
    /// # Errors
    /// What the driver or upstream says; the chunks given back before that stay given back.
    pub fn trim(&self, bytes_to_keep: u64) -> Result<u64> {
        self.lock()?.trim(bytes_to_keep)
    }

    /// The counters, all of one moment.
    pub fn statistics(&self) -> SubAllocatorStatistics {
        self.peek().statistics()
    }

    /// Makes all peaks what is current.
    pub fn reset_peaks(&self) {
        let mut core = self.peek();
        let statistics = &mut core.statistics;
        for count in [
            &mut statistics.requested,
            &mut statistics.allocated,
            &mut statistics.reserved,
            &mut statistics.blocks,
            &mut statistics.chunks,
        ] {
            count.reset_peak();
        }
    }

    /// The numbers of the last request that failed for want of memory.
    pub fn out_of_memory_report(&self) -> Option<OutOfMemoryReport> {
        self.peek().report.clone()
    }

    /// The lock, also after a panic: for what only reads.
    fn peek(&self) -> MutexGuard<'_, Core<U, S>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places for streams, used or not.
    #[cfg(test)]
    pub(super) fn arenas(&self) -> usize {
        self.peek().arenas.len()
    }

    /// Compares every structure with every other.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.peek().check();
    }
}

impl<U: Upstream, S: Streams> Drop for SubAllocator<U, S> {
    fn drop(&mut self) {
        self.peek().release();
    }
}

impl<U: Upstream, S: Streams> fmt::Debug for SubAllocator<U, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.peek();
        f.debug_struct("SubAllocator")
            .field("options", &core.options)
            .field("statistics", &core.statistics())
            .finish()
    }
}

//! A sub-allocating pool as the source of offheap's pools.

use super::bytes::{Bytes, HostBytes};
use super::options::GRANULARITY;
use super::pool::SubAllocator;
use super::pool_upstream::PoolUpstream;
use super::streams::{StreamId, Streams};
use offheap::{Alignment, BackendStatistics, Error, Location, MemoryPool, Padding, Pool, Result};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The blocks of one stream of a [`SubAllocator`] as a [`MemoryPool`]: accounting, limits, hooks and
/// buffers on top of it are those of all pools. The sources of several streams share one allocator.
///
/// A block is freed in the order of the source's stream. Cost beside the allocator's own: a virtual
/// call.
///
/// ```
/// use offheap::{MutableBuffer, Pool, system_memory_pool};
/// use offheap_cuda::sub_allocator::{
///     NoStreams, PoolUpstream, StreamId, SubAllocator, SubAllocatorOptions, SubAllocatorSource,
/// };
///
/// let upstream = PoolUpstream::new(system_memory_pool().limit(1 << 30));
/// let options = SubAllocatorOptions::new().maximum(64 << 20);
/// let allocator = SubAllocator::new(upstream, NoStreams, options)?;
/// let pool = Pool::custom(SubAllocatorSource::on_host(allocator.into(), StreamId(0))?);
/// let buffer = MutableBuffer::zeroed(1000, &pool)?;
/// assert_eq!((buffer.address() % 256, pool.bytes_allocated()), (0, 1000));
/// # Ok::<(), offheap::Error>(())
/// ```
pub struct SubAllocatorSource<S: Streams + 'static, B = HostBytes> {
    allocator: Arc<SubAllocator<PoolUpstream, S>>,
    upstream: Pool,
    stream: StreamId,
    bytes: B,
}

impl<S: Streams> SubAllocatorSource<S> {
    /// A source of memory that the CPU reads and writes, such as pinned memory.
    ///
    /// # Errors
    /// [`NotSupported`](offheap::ErrorKind::NotSupported) for memory that it cannot reach.
    pub fn on_host(
        allocator: Arc<SubAllocator<PoolUpstream, S>>,
        stream: StreamId,
    ) -> Result<Self> {
        let source = Self::on_device(allocator, stream, HostBytes);
        if !source.upstream.is_cpu() {
            return Err(Error::not_supported(format!(
                "the CPU cannot fill or copy the memory of {:?}",
                source.upstream.location()
            )));
        }
        Ok(source)
    }
}

impl<S: Streams, B: Bytes> SubAllocatorSource<S, B> {
    /// A source of a device's memory, which `bytes` fills and copies.
    pub fn on_device(
        allocator: Arc<SubAllocator<PoolUpstream, S>>,
        stream: StreamId,
        bytes: B,
    ) -> Self {
        let upstream = allocator.with_upstream(|upstream| upstream.pool().clone());
        Self {
            allocator,
            upstream,
            stream,
            bytes,
        }
    }

    /// The allocator, for what pools do not have: its statistics, [`trim`](SubAllocator::trim),
    /// [`record_stream`](SubAllocator::record_stream).
    pub fn allocator(&self) -> &Arc<SubAllocator<PoolUpstream, S>> {
        &self.allocator
    }

    /// Frees a block, in the order of the source's stream.
    ///
    /// # Errors
    /// As [`SubAllocator::free`].
    pub(crate) fn give(&self, ptr: NonNull<u8>, size: usize) -> Result<()> {
        self.allocator
            .free(ptr.as_ptr().addr() as u64, size as u64, self.stream)
    }

    /// As [`SubAllocator::resize`].
    pub(crate) fn resize(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
    ) -> Result<bool> {
        let address = ptr.as_ptr().addr() as u64;
        self.allocator
            .resize(address, old_size as u64, new_size as u64)
    }
}

// SAFETY: blocks of the sub-allocator do not overlap and lie in chunks of the upstream pool, which
// stay valid as long as the allocator, which this holds; their size is a multiple of 256, so it has
// room for the padding; `Bytes` zeroes and copies, and is the CPU's for memory of the CPU only.
unsafe impl<S: Streams, B: Bytes> MemoryPool for SubAllocatorSource<S, B> {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let alignment = (alignment.get() as u64).max(GRANULARITY);
        let address = self
            .allocator
            .allocate_aligned(size as u64, alignment, self.stream)?;
        NonNull::new(ptr::with_exposed_provenance_mut(address as usize))
            .ok_or_else(|| Error::invalid_argument("size", size, "more than 0"))
    }

    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        let block = self.allocate(size, alignment)?;
        let address = block.as_ptr().addr() as u64;
        let bytes = (size as u64).next_multiple_of(64);
        // SAFETY: a new block of at least that many bytes that nobody else knows.
        let zeroed = unsafe { self.bytes.zero(address, bytes, self.stream) };
        match zeroed {
            Ok(()) => Ok(block),
            Err(error) => {
                // The reason why it cannot be used says more than why it cannot be freed.
                let _ = self.give(block, size);
                Err(error)
            }
        }
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        let from = ptr.as_ptr().addr() as u64;
        if self.resize(ptr, old_size, new_size)? {
            return Ok(ptr);
        }
        let block = self.allocate(new_size, alignment)?;
        let to = block.as_ptr().addr() as u64;
        let bytes = old_size.min(new_size) as u64;
        // SAFETY: both blocks are live and at least that large, they are different ones, and the
        // caller promises that nobody uses the old one.
        let copied = unsafe { self.bytes.copy(from, to, bytes, self.stream) };
        let done = copied.and_then(|()| self.give(ptr, old_size));
        match done {
            Ok(()) => Ok(block),
            Err(error) => {
                let _ = self.give(block, new_size);
                Err(error)
            }
        }
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, _alignment: Alignment) {
        // A block whose order nobody can tell any more, since the driver fails, stays allocated.
        let _ = self.give(ptr, size);
    }

    unsafe fn free_checked(
        &self,
        ptr: NonNull<u8>,
        size: usize,
        _alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        if self.give(ptr, size).is_err() {
            *freed = None;
        }
    }

    fn padding(&self) -> Padding {
        Padding::Passed
    }

    fn location(&self) -> Location {
        self.upstream.location()
    }

    fn upstream(&self) -> Option<&Pool> {
        Some(&self.upstream)
    }

    fn backend_name(&self) -> &str {
        "sub-allocator"
    }

    fn release_unused(&self) {
        // As far as it is possible.
        let _ = self.allocator.trim(0);
    }

    fn backend_statistics(&self) -> BackendStatistics {
        self.allocator.statistics().into()
    }
}

impl<S: Streams, B> fmt::Debug for SubAllocatorSource<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubAllocatorSource")
            .field("stream", &self.stream)
            .field("allocator", &self.allocator)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NoStreams, SubAllocatorOptions};
    use super::*;
    use crate::sub_allocator::simulated::SimulatedStreams;
    use offheap::{DeviceType, ErrorKind, MutableBuffer, system_memory_pool};
    use std::sync::Mutex;

    const STREAM: StreamId = StreamId(1);
    const MIB: usize = 1 << 20;

    fn host(chunks: &Pool) -> (Pool, Arc<SubAllocator<PoolUpstream, NoStreams>>) {
        let upstream = PoolUpstream::new(chunks.clone());
        let options = SubAllocatorOptions::new().name("pinned");
        let allocator = Arc::new(SubAllocator::new(upstream, NoStreams, options).unwrap());
        let source = SubAllocatorSource::on_host(allocator.clone(), STREAM).unwrap();
        (Pool::custom(source), allocator)
    }

    #[test]
    fn buffers_live_in_it_and_count_exactly() {
        let chunks = system_memory_pool().limit(1 << 30);
        let (pool, allocator) = host(&chunks);
        let mut buffers = Vec::new();
        for size in [1, 100, 4096, 40_000, 3 * MIB] {
            let buffer = MutableBuffer::zeroed(size, &pool).unwrap();
            assert!(buffer.iter().all(|&byte| byte == 0));
            assert_eq!(buffer.address() % 256, 0);
            buffers.push(buffer);
        }
        let requested = allocator.statistics().requested.current;
        assert_eq!(requested, pool.bytes_allocated());
        assert_eq!(requested, 1 + 100 + 4096 + 40_000 + 3 * MIB as u64);
        assert_eq!(
            chunks.bytes_allocated(),
            allocator.statistics().reserved.current
        );
        drop(buffers);
        assert_eq!(
            (
                pool.bytes_allocated(),
                allocator.statistics().blocks.current
            ),
            (0, 0)
        );
        pool.release_unused();
        assert_eq!(chunks.bytes_allocated(), 0);
    }

    #[test]
    fn used_memory_is_zeroed_and_growing_keeps_bytes() {
        let (pool, allocator) = host(&system_memory_pool());
        for size in [200, 40_000, 2 * MIB] {
            let mut buffer = MutableBuffer::zeroed(size, &pool).unwrap();
            let address = buffer.address();
            buffer.fill(0xA5);
            drop(buffer);
            let buffer = MutableBuffer::zeroed(size, &pool).unwrap();
            assert_eq!(buffer.address(), address, "the same memory again");
            assert!(buffer.iter().all(|&byte| byte == 0));
        }
        // A byte more fits in place, much more moves.
        let alignment = Alignment::DEFAULT;
        let block = pool.allocate(1000, alignment).unwrap();
        // SAFETY: the block just allocated, with its sizes, used by nobody else.
        unsafe {
            block.write_bytes(7, 1000);
            let same = pool.reallocate(block, 1000, 1020, alignment).unwrap();
            assert_eq!(same, block);
            assert_eq!(allocator.statistics().requested.current, 1020);
            let moved = pool.reallocate(same, 1020, 500_000, alignment).unwrap();
            assert!((0..1000).all(|at| moved.add(at).read() == 7));
            let back = pool.reallocate(moved, 500_000, 10, alignment).unwrap();
            assert!((0..10).all(|at| back.add(at).read() == 7));
            pool.free(back, 10, alignment);
        }
        assert_eq!(allocator.statistics().requested.current, 0);
        assert_eq!(allocator.statistics().blocks.current, 0);
    }

    #[test]
    fn limits_above_and_below_hold() {
        let chunks = system_memory_pool().limit(4 << 20);
        let (pool, _) = host(&chunks);
        let limited = pool.limit(1 << 20);
        assert!(limited.allocate(2 * MIB, Alignment::DEFAULT).is_err());
        let error = pool.allocate(8 * MIB, Alignment::DEFAULT).unwrap_err();
        assert!(error.is_out_of_memory(), "{error}");
        assert!(
            error.to_string().contains("pinned (0 bytes reserved"),
            "{error}"
        );
    }

    /// Addresses without memory, far from any.
    #[derive(Debug)]
    struct Device(Mutex<usize>);

    // SAFETY: device addresses that nobody may use on the CPU, each given once.
    unsafe impl MemoryPool for Device {
        fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
            let mut next = self.0.lock().unwrap();
            let address = next.next_multiple_of(alignment.get());
            *next = address + size;
            Ok(NonNull::new(ptr::without_provenance_mut(address)).unwrap())
        }
        fn allocate_zeroed(&self, _size: usize, _alignment: Alignment) -> Result<NonNull<u8>> {
            Err(Error::not_supported("zeroed chunks"))
        }
        unsafe fn reallocate(
            &self,
            _ptr: NonNull<u8>,
            _old_size: usize,
            _new_size: usize,
            _alignment: Alignment,
        ) -> Result<NonNull<u8>> {
            Err(Error::not_supported("reallocating chunks"))
        }
        unsafe fn free(&self, _ptr: NonNull<u8>, _size: usize, _alignment: Alignment) {}
        fn backend_name(&self) -> &str {
            "device"
        }
        fn location(&self) -> Location {
            Location::device(DeviceType::CUDA, 0)
        }
    }

    #[derive(Debug, Default, Clone)]
    struct Calls(Arc<Mutex<Vec<String>>>);

    // SAFETY: nobody looks at memory that is not there.
    unsafe impl Bytes for Calls {
        unsafe fn zero(&self, _address: u64, size: u64, stream: StreamId) -> Result<()> {
            self.0
                .lock()
                .unwrap()
                .push(format!("zero {size} {stream:?}"));
            match size {
                640 => Err(Error::not_supported("640 bytes")),
                _ => Ok(()),
            }
        }
        unsafe fn copy(&self, from: u64, to: u64, size: u64, _stream: StreamId) -> Result<()> {
            assert_ne!(from, to);
            self.0.lock().unwrap().push(format!("copy {size}"));
            Ok(())
        }
    }

    #[test]
    fn device_memory_is_never_touched() {
        let device = Pool::custom(Device(Mutex::new(1 << 46)));
        let upstream = PoolUpstream::new(device);
        let streams = Arc::new(SimulatedStreams::new());
        let options = SubAllocatorOptions::new();
        let allocator = Arc::new(SubAllocator::new(upstream, streams, options).unwrap());
        let refused = SubAllocatorSource::on_host(allocator.clone(), STREAM).unwrap_err();
        assert_eq!(refused.code(), "ERR_OFFHEAP_NOT_SUPPORTED");

        let calls = Calls::default();
        let pools = [1, 2].map(|stream| {
            let source =
                SubAllocatorSource::on_device(allocator.clone(), StreamId(stream), calls.clone());
            Pool::custom(source)
        });
        let pool = &pools[0];
        assert_eq!(pool.location(), Location::device(DeviceType::CUDA, 0));
        let error = pool.allocate(100, Alignment::DEFAULT).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotSupported { .. }));
        let alignment = Alignment::DEFAULT;
        let block = pool.allocate_on_device(100, alignment, true).unwrap();
        let error = pool.allocate_on_device(600, alignment, true).unwrap_err();
        assert_eq!(error.to_string(), "640 bytes");
        assert_eq!(allocator.statistics().blocks.current, 1);
        // SAFETY: the block just allocated; the sources do not touch the memory.
        unsafe {
            let block = pool.reallocate(block, 100, 5000, alignment).unwrap();
            pool.free(block, 5000, alignment);
        }
        assert_eq!(
            *calls.0.lock().unwrap(),
            ["zero 128 StreamId(1)", "zero 640 StreamId(1)", "copy 100"]
        );
        // The other stream gets the same memory, and waits.
        let other = pools[1]
            .allocate_on_device(3 * MIB, alignment, false)
            .unwrap();
        assert_eq!(allocator.statistics().streams, 2);
        // SAFETY: the block just allocated.
        unsafe { pools[1].free(other, 3 * MIB, alignment) };
        assert_eq!(allocator.statistics().blocks.current, 0);
    }
}

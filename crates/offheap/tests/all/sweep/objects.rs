//! Objects to fail on, and the check that a failure leaves them as they were.

use crate::counted::Counted;
use offheap::{
    Alignment, BitmapBuilder, Buffer, BufferBuilder, BufferOutputStream, Domain, Error, ErrorKind,
    Failing, FailingOptions, MemoryPool, Pool, PoolGlobalAlloc, ResizableBuffer,
    TypedBufferBuilder,
};
use std::ffi::c_void;
use std::fmt::Debug;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// Runs an operation; when it fails, what `look` says of the object must be what it was.
pub(super) fn unchanged<O, S: PartialEq + Debug, T>(
    object: &mut O,
    look: impl Fn(&O) -> S,
    operation: impl FnOnce(&mut O) -> Result<T>,
) -> Result<()> {
    let before = look(object);
    let result = operation(object);
    if result.is_err() {
        assert_eq!(
            look(object),
            before,
            "an operation that failed changed its object"
        );
    }
    result.map(drop)
}

pub(super) fn no_memory() -> Error {
    Error::new(ErrorKind::OutOfMemory {
        requested: 0,
        limit: None,
        allocated: 0,
        pool: "null".to_owned(),
    })
}

pub(super) fn never_options() -> FailingOptions {
    FailingOptions {
        after: Some(u64::MAX),
        ..Default::default()
    }
}

pub(super) fn never() -> Result<Arc<Failing>> {
    Failing::new(never_options())
}

/// A source with nothing but what a source must have.
#[derive(Debug)]
pub(super) struct Forwards(pub(super) Pool);

// SAFETY: a pool keeps the promises.
unsafe impl MemoryPool for Forwards {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.0.allocate(size, alignment)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        // SAFETY: the caller's promise; the block is the pool's.
        unsafe { self.0.reallocate(ptr, old_size, new_size, alignment) }
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise; the block is the pool's.
        unsafe { self.0.free(ptr, size, alignment) };
    }

    fn backend_name(&self) -> &str {
        "forwards"
    }
}

/// The figures of a pool that a refusal must leave.
pub(super) fn look_at_pool(pool: &Pool) -> [u64; 5] {
    [
        pool.bytes_allocated(),
        pool.peak_bytes(),
        pool.total_bytes_allocated(),
        pool.num_allocations(),
        pool.live_allocations(),
    ]
}

/// Allocates several blocks from a pool, which must be as it was after a refusal.
pub(super) fn allocates(
    pool: &Pool,
    allocate: impl Fn(&Pool, usize, Alignment) -> Result<NonNull<u8>>,
) -> Result<()> {
    for (size, alignment) in [(100, Alignment::DEFAULT), (5000, Alignment::new(4096)?)] {
        let mut made = None;
        unchanged(&mut pool.clone(), look_at_pool, |pool| {
            made = Some(allocate(pool, size, alignment)?);
            Ok(())
        })?;
        if let Some(block) = made {
            // SAFETY: the block just allocated.
            unsafe { pool.free(block, size, alignment) };
        }
    }
    Ok(())
}

/// A live block of a pool, by hand.
pub(super) struct Held<'a> {
    pool: &'a Pool,
    block: NonNull<u8>,
    size: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: a live block with its size.
        unsafe { self.pool.free(self.block, self.size, Alignment::DEFAULT) };
    }
}

/// Reallocates a block of a pool; after a refusal both must be as they were.
pub(super) fn reallocates(
    pool: &Pool,
    reallocate: impl Fn(NonNull<u8>, usize, usize) -> Result<NonNull<u8>>,
) -> Result<()> {
    let mut held = Held {
        pool,
        block: pool.allocate(100, Alignment::DEFAULT)?,
        size: 100,
    };
    // SAFETY: the block just allocated.
    unsafe { held.block.write_bytes(7, 100) };
    let look = |held: &Held<'_>| {
        // SAFETY: the block always has its first 80 bytes, which were written.
        let bytes = unsafe { std::slice::from_raw_parts(held.block.as_ptr(), 80) };
        (look_at_pool(held.pool), held.block, bytes.to_vec())
    };
    [90, 5000, 80].into_iter().try_for_each(|new| {
        unchanged(&mut held, look, |held| {
            held.block = reallocate(held.block, held.size, new)?;
            held.size = new;
            Ok(())
        })
    })
}

/// Uses a pool that was made from the sweep's, or that a domain has.
pub(super) fn works(pool: &Pool) -> Result<()> {
    resizable(pool, |buffer| buffer.resize(5000, true))
}

/// Allocates small and large blocks from every domain.
pub(super) fn in_domains(allocate: impl Fn(Domain, usize) -> *mut u8) -> Result<()> {
    for domain in Domain::ALL {
        for size in [40, 5000] {
            let block = allocate(domain, size);
            if block.is_null() {
                return Err(no_memory());
            }
            // SAFETY: a live block of this domain.
            unsafe { domain.free(block) };
        }
    }
    Ok(())
}

/// Allocates by functions like C's.
pub(super) fn with_malloc(
    malloc: impl Fn(usize) -> *mut c_void,
    free: impl Fn(*mut c_void),
) -> Result<()> {
    for size in [40, 5000] {
        let block = malloc(size);
        if block.is_null() {
            return Err(no_memory());
        }
        free(block);
    }
    Ok(())
}

/// A global allocator, of nobody, over a pool.
pub(super) fn global_over(pool: &Pool) -> Result<PoolGlobalAlloc> {
    let global = PoolGlobalAlloc::system();
    global.install(pool)?;
    Ok(global)
}

/// Allocates through a C function of a domain.
#[cfg(feature = "c-abi")]
pub(super) fn in_c(allocate: impl Fn(usize) -> *mut c_void, domain: Domain) -> Result<()> {
    // SAFETY: live blocks of this domain.
    with_malloc(allocate, |block| unsafe { domain.free(block.cast()) })
}

/// Grows a block of `size` bytes by a function like C's, and returns the new one; null when memory
/// ran out, and the old one, which must be whole, is then freed.
///
/// # Safety
/// - `block` is null or has `size` bytes that may be written, `realloc` resizes it, and `free` frees
///   it.
pub(super) unsafe fn regrown(
    block: *mut u8,
    size: usize,
    realloc: impl FnOnce(usize) -> *mut u8,
    free: impl FnOnce(*mut u8),
) -> *mut u8 {
    if block.is_null() {
        return block;
    }
    // SAFETY: the caller's promise.
    unsafe { block.write_bytes(7, size) };
    let grown = realloc(9000);
    let now = if grown.is_null() { block } else { grown };
    // SAFETY: a failed reallocation leaves the old block, another one moves its bytes.
    let bytes = unsafe { std::slice::from_raw_parts(now, size) };
    assert!(bytes.iter().all(|byte| *byte == 7), "the block's bytes");
    if grown.is_null() {
        free(block);
    }
    grown
}

/// Makes something over foreign bytes, whose owner must be dropped once, also after an error.
pub(super) fn foreign<T>(make: impl FnOnce(NonNull<[u8]>, Counted) -> Result<T>) -> Result<()> {
    let drops = Arc::new(AtomicUsize::new(0));
    let owner = Counted(vec![1, 2, 3], Arc::clone(&drops));
    let bytes = NonNull::from(&owner.0[..]);
    let made = make(bytes, owner).map(drop);
    assert_eq!(drops.load(Ordering::SeqCst), 1, "drops of the owner");
    made
}

pub(super) fn with_buffer(
    pool: &Pool,
    operation: impl FnOnce(&mut Buffer) -> Result<()>,
) -> Result<()> {
    let mut buffer = Buffer::copy_from(&[7; 100], pool)?;
    let look = |buffer: &Buffer| (buffer.to_vec(), buffer.address(), buffer.strong_count());
    unchanged(&mut buffer, look, operation)
}

pub(super) fn resizable<T>(
    pool: &Pool,
    operation: impl FnOnce(&mut ResizableBuffer) -> Result<T>,
) -> Result<()> {
    let mut buffer = ResizableBuffer::zeroed(100, pool)?;
    buffer.fill(7);
    let look = |buffer: &ResizableBuffer| (buffer.to_vec(), buffer.capacity(), buffer.address());
    unchanged(&mut buffer, look, operation)
}

pub(super) fn look_at_bytes(builder: &BufferBuilder) -> (Vec<u8>, usize, usize) {
    let bytes = builder.as_slice().to_vec();
    (bytes, builder.capacity(), builder.address())
}

pub(super) fn bytes<T>(
    pool: &Pool,
    operation: impl FnOnce(&mut BufferBuilder) -> Result<T>,
) -> Result<()> {
    let mut builder = BufferBuilder::new(pool);
    builder.append(&[7; 100])?;
    builder.reserve(100)?;
    unchanged(&mut builder, look_at_bytes, operation)
}

pub(super) fn look_at_numbers(builder: &TypedBufferBuilder<u32>) -> (Vec<u32>, usize) {
    (builder.as_slice().to_vec(), builder.capacity())
}

pub(super) fn numbers<T>(
    pool: &Pool,
    operation: impl FnOnce(&mut TypedBufferBuilder<u32>) -> Result<T>,
) -> Result<()> {
    let mut builder = TypedBufferBuilder::new(pool);
    builder.append_values(&[70_000; 40])?;
    builder.reserve(40)?;
    unchanged(&mut builder, look_at_numbers, operation)
}

pub(super) fn look_at_bits(builder: &BitmapBuilder) -> (Vec<Option<bool>>, usize, usize) {
    let bits = (0..=builder.len()).map(|i| builder.get(i)).collect();
    (bits, builder.false_count(), builder.capacity())
}

pub(super) fn bits<T>(
    pool: &Pool,
    operation: impl FnOnce(&mut BitmapBuilder) -> Result<T>,
) -> Result<()> {
    let mut builder = BitmapBuilder::new(pool);
    (0..690).try_for_each(|i| builder.append(i % 3 == 0))?;
    unchanged(&mut builder, look_at_bits, operation)
}

/// A stream to which 100 bytes were written.
pub(super) fn written(pool: &Pool) -> Result<BufferOutputStream> {
    let mut stream = BufferOutputStream::create(110, pool)?;
    stream.write(&[3; 100])?;
    Ok(stream)
}

pub(super) fn stream<T>(
    mut stream: BufferOutputStream,
    operation: impl FnOnce(&mut BufferOutputStream) -> Result<T>,
) -> Result<()> {
    let look = |stream: &BufferOutputStream| {
        let position = stream.position().map_err(|error| error.to_string());
        (position, stream.capacity(), stream.is_closed())
    };
    let position = stream.position()?;
    let result = unchanged(&mut stream, look, operation);
    // What was written before can still be had, where that takes no memory.
    if result.is_err()
        && let Ok(bytes) = stream.finish(false)
    {
        assert_eq!(bytes[..], vec![3; position]);
    }
    result
}

/// The crate's own error in one of `std::io`.
pub(super) fn error_of(error: std::io::Error) -> Error {
    let inner = error.into_inner().expect("an error of the crate");
    *inner.downcast().expect("an error of the crate")
}

//! What is wrong in arrow-buffer 60.1.0, or was fixed there, and is not here: `reference/rust.md`,
//! section 1.2. Each test says what arrow-rs does.

use crate::every_pool::own;
use crate::refusing::PanicsOnGrowth;
use offheap::{
    Alignment, Buffer, BufferBuilder, MutableBuffer, Pool, ResizableBuffer, TypedBufferBuilder,
    system_memory_pool,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;

/// A reservation leaks when a buffer shrinks to nothing: `shrink_to_fit` leaves 128 bytes "used".
#[test]
fn shrinking_to_nothing_gives_everything_back() {
    for pool in own() {
        let mut buffer = ResizableBuffer::with_capacity(100, Alignment::DEFAULT, &pool).unwrap();
        assert_eq!(pool.bytes_allocated(), 100);
        buffer.resize(0, true).unwrap();
        assert_eq!((buffer.capacity(), pool.bytes_allocated()), (0, 0));
        drop(buffer);
        let mut builder = BufferBuilder::with_capacity(100, &pool).unwrap();
        builder.resize(0, true).unwrap();
        assert_eq!((builder.capacity(), pool.bytes_allocated()), (0, 0));
        builder.reserve(100).unwrap();
        let buffer = builder.finish(true).unwrap();
        assert_eq!((buffer.capacity(), pool.bytes_allocated()), (0, 0));
    }
}

/// A claimed buffer of 1 MiB shows as one byte after `truncate(1)`, while it holds 1 MiB.
#[test]
fn what_is_held_is_counted() {
    for pool in own() {
        let mut buffer = ResizableBuffer::zeroed(1 << 20, &pool).unwrap();
        buffer.resize(1, false).unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (1, 1 << 20));
        assert_eq!(pool.bytes_allocated(), 1 << 20);
        buffer.resize(1, true).unwrap();
        assert_eq!(pool.bytes_allocated(), 1);
        let mut builder = BufferBuilder::with_capacity(1 << 20, &pool).unwrap();
        builder.append(b"1").unwrap();
        assert_eq!(pool.bytes_allocated(), 1 + (1 << 20));
        let frozen = builder.finish(false).unwrap().freeze();
        let slice = frozen.slice(0, 1).unwrap();
        drop(frozen);
        assert_eq!(pool.bytes_allocated(), 1 + (1 << 20));
        drop((buffer, slice));
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// `from_len_zeroed(100)` has a capacity of 100, though the documentation says multiples of 64.
#[test]
fn every_capacity_is_padded_to_64() {
    for pool in own() {
        for size in [1, 63, 64, 65, 100, 1000] {
            let padded = size + (64 - size % 64) % 64;
            assert_eq!(
                MutableBuffer::zeroed(size, &pool).unwrap().capacity(),
                padded
            );
            assert_eq!(
                ResizableBuffer::zeroed(size, &pool).unwrap().capacity(),
                padded
            );
            assert_eq!(
                Buffer::copy_from(&vec![1; size], &pool).unwrap().capacity(),
                padded
            );
            let mut buffer = ResizableBuffer::zeroed(0, &pool).unwrap();
            buffer.resize(size, true).unwrap();
            assert_eq!(buffer.capacity(), padded);
        }
    }
}

/// `Buffer::from_vec` has whatever alignment the vector had, and nothing says so.
#[test]
fn foreign_memory_says_its_alignment_and_can_be_aligned() {
    for pool in own() {
        let buffer = Buffer::from_owner(vec![1_u8; 100]).unwrap();
        assert!(buffer.check_alignment(buffer.block().alignment()));
        let odd = buffer.slice_from(1).unwrap();
        let aligned = odd.ensure_alignment(Alignment::DEFAULT, &pool).unwrap();
        assert!(aligned.check_alignment(Alignment::DEFAULT));
        assert_eq!(aligned, odd);
        assert_eq!(Buffer::copy_from(&odd, &pool).unwrap().address() % 64, 0);
    }
}

/// `MemoryPool::reserve` cannot refuse, so a limit is a race between `available` and `reserve`
/// (#10753).
#[test]
fn a_reservation_can_be_refused_and_is_atomic() {
    let pool = system_memory_pool().limit(1000);
    let start = Barrier::new(4);
    let granted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let before = pool.available();
                    start.wait();
                    // All four saw room for theirs.
                    assert_eq!(before, Some(1000));
                    let buffer = MutableBuffer::zeroed(600, &pool);
                    start.wait();
                    usize::from(buffer.is_ok())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!((granted, pool.peak_bytes()), (1, 600));
}

/// A lock and a box for each counted buffer, taken at every resize: here many threads count at once,
/// and the sum is right.
#[test]
fn counting_from_many_threads_adds_up() {
    for pool in own() {
        std::thread::scope(|scope| {
            for i in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    let mut buffer = ResizableBuffer::zeroed(i, pool).unwrap();
                    for size in (0..2000).chain((0..2000).rev()) {
                        buffer.resize(size, size % 3 == 0).unwrap();
                    }
                });
            }
        });
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
        assert!(pool.peak_bytes() >= 1999 && pool.peak_bytes() <= 4 * 1999);
    }
}

/// #10932: a panic in a program's own pool, while a buffer is resized, left a pointer to freed
/// memory.
#[test]
fn bug_10932_a_pool_that_panics_leaves_the_buffer_whole() {
    let source = Pool::custom(PanicsOnGrowth);
    for pool in [
        source.proxy(),
        source.limit(1 << 20),
        source.limit(1 << 21).limit(1 << 20),
    ] {
        let mut buffer = ResizableBuffer::zeroed(100, &pool).unwrap();
        buffer.fill(7);
        let mut builder = BufferBuilder::with_capacity(100, &pool).unwrap();
        builder.append(&[8; 128]).unwrap();
        let mut typed = TypedBufferBuilder::<u32>::new(&pool);
        typed.append_copies(9, 16).unwrap();
        let before = (pool.statistics(), buffer.address(), builder.address());
        for _ in 0..3 {
            let panics = [
                catch_unwind(AssertUnwindSafe(|| buffer.resize(1000, true))),
                catch_unwind(AssertUnwindSafe(|| buffer.reserve(1000))),
                catch_unwind(AssertUnwindSafe(|| builder.append(&[1; 1000]))),
                catch_unwind(AssertUnwindSafe(|| builder.reserve(1000))),
                catch_unwind(AssertUnwindSafe(|| typed.append(1))),
                catch_unwind(AssertUnwindSafe(|| typed.append_iter([1, 2]))),
            ];
            assert!(panics.iter().all(Result::is_err));
        }
        assert_eq!(
            (pool.statistics(), buffer.address(), builder.address()),
            before
        );
        assert_eq!(buffer[..], [7; 100]);
        assert_eq!(builder.as_slice(), [8; 128]);
        assert_eq!(typed.as_slice(), [9; 16]);
        // Shrinking and freeing still work, and the account is even.
        buffer.resize(10, true).unwrap();
        let finished = builder.finish(true).unwrap();
        drop((buffer, finished, builder, typed));
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
        assert_eq!(pool.available(), pool.limit_bytes());
    }
}

/// #10301: two threads that claim one shared buffer count it twice.
#[test]
fn bug_10301_a_shared_buffer_is_counted_once() {
    for pool in own() {
        let buffer = Buffer::copy_from(&[5; 1000], &pool).unwrap();
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for i in 0..4 {
                let (buffer, pool, start) = (buffer.clone(), &pool, &start);
                scope.spawn(move || {
                    start.wait();
                    for j in 0..1000 {
                        let slice = buffer.slice((i + j) % 900, 100).unwrap();
                        assert_eq!(slice.clone()[..], [5; 100]);
                        assert_eq!(pool.bytes_allocated(), 1000);
                    }
                });
            }
        });
        assert_eq!((pool.bytes_allocated(), pool.peak_bytes()), (1000, 1000));
        assert_eq!((buffer.strong_count(), pool.num_allocations()), (1, 1));
        drop(buffer);
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// #9289: lengths whose bytes overflow reach unsafe code.
#[test]
fn bug_9289_lengths_that_overflow_are_errors() {
    /// Promises more than there is, and more than memory can hold.
    struct Liar(usize);
    impl Iterator for Liar {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            self.0 = self.0.checked_sub(1)?;
            Some(self.0 as u64)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (usize::MAX, None)
        }
    }
    for pool in own() {
        let mut builder = TypedBufferBuilder::<u64>::new(&pool);
        builder.append_iter(Liar(3)).unwrap();
        assert_eq!(builder.as_slice(), [2, 1, 0]);
        // Eight times this is 8 modulo 2^64.
        let wraps = (usize::MAX >> 3) + 2;
        for result in [
            builder.reserve(wraps),
            builder.append_copies(1, wraps),
            builder.advance(wraps),
            builder.resize(wraps, false),
        ] {
            assert!(result.unwrap_err().is_out_of_memory());
        }
        assert!(builder.finish_with_length(wraps, true).is_err());
        assert!(TypedBufferBuilder::<u64>::with_capacity(wraps, &pool).is_err());
        let mut buffer = ResizableBuffer::zeroed(8, &pool).unwrap();
        assert!(buffer.resize_typed::<u64>(wraps, true).is_err());
        assert!(buffer.reserve_typed::<u64>(wraps).is_err());
        assert_eq!((buffer.len(), builder.len()), (8, 3));
    }
}

//! What is wrong in Arrow C++ 26.0.1 and is not here: `reference/arrow-cpp.md`, sections 1 and 5.
//! Each test says what Arrow does.

use crate::every_pool::{backends, own};
use offheap::buffer::count_set_bits;
use offheap::{
    Alignment, BitmapBuilder, Buffer, BufferBuilder, BufferOutputStream, ErrorKind,
    FixedSizeBufferWriter, MutableBuffer, Pool, ResizableBuffer, TypedBufferBuilder,
    system_memory_pool,
};
use std::sync::Barrier;

/// 1: `CappedMemoryPool` reads, compares and then allocates: eight threads got 1.2 MB from a cap of
/// 1 MB in 18 of 50 rounds. (`limits` has the long version.)
#[test]
fn bug_1_no_race_exceeds_a_limit() {
    for base in backends() {
        for _ in 0..50 {
            let pool = base.limit(1_000_000);
            let (start, end) = (Barrier::new(8), Barrier::new(8));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        // Ten of these fit, and sixteen are asked for.
                        let held = [(); 2].map(|()| {
                            ResizableBuffer::with_capacity(100_000, Alignment::DEFAULT, &pool)
                        });
                        end.wait();
                        assert_eq!(pool.bytes_allocated(), 1_000_000);
                        start.wait();
                        drop(held);
                    });
                }
            });
            assert_eq!((pool.bytes_allocated(), pool.peak_bytes()), (0, 1_000_000));
            assert_eq!(pool.num_allocations(), 10);
        }
    }
}

/// 1: a cap counts what its parent holds, so others eat it up.
#[test]
fn bug_1_a_limit_counts_its_own_bytes() {
    let parent = system_memory_pool().proxy();
    let _others = MutableBuffer::zeroed(1000, &parent).unwrap();
    let limit = parent.limit(1000);
    let buffer = MutableBuffer::zeroed(1000, &limit).unwrap();
    assert_eq!(
        (parent.bytes_allocated(), limit.bytes_allocated()),
        (2000, 1000)
    );
    drop(buffer);
}

/// 2: a buffer has a raw pointer to its pool, and crashes when the pool went first (ARROW-4825,
/// #42902).
#[test]
fn bug_2_a_pool_outlives_its_buffers() {
    for base in backends() {
        let (buffer, mut resizable, mut builder, slice) = {
            let process = base.limit(1 << 20);
            let query = process.proxy().limit(1 << 20);
            let buffer = Buffer::copy_from(&[1; 1000], &query).unwrap();
            let slice = buffer.slice(10, 10).unwrap();
            let resizable = ResizableBuffer::zeroed(10, &query).unwrap();
            (buffer, resizable, BufferBuilder::new(&query), slice)
        };
        // Every handle to the pools is gone; what they gave still grows, and is still limited.
        resizable.resize(10_000, true).unwrap();
        builder.append(&[7; 1000]).unwrap();
        let pool = buffer.pool().unwrap().clone();
        assert_eq!(pool.bytes_allocated(), 1000 + 10_000 + 1024);
        assert!(
            resizable
                .resize(1 << 21, true)
                .unwrap_err()
                .is_out_of_memory()
        );
        drop((buffer, resizable, builder));
        // The slice still holds its parent's bytes.
        assert_eq!(
            (pool.bytes_allocated(), pool.parent().is_some()),
            (1000, true)
        );
        drop(pool);
        assert_eq!(slice[..], [1; 10]);
    }
}

/// 2: closing says what is alive.
#[test]
fn bug_2_close_reports_what_is_alive() {
    let pool = system_memory_pool().limit_named(1000, Some("request 7"));
    let leaked = MutableBuffer::zeroed(100, &pool).unwrap();
    let report = pool.close().unwrap();
    assert_eq!(
        (report.pool.as_str(), report.bytes, report.allocations),
        ("request 7", 100, 1)
    );
    drop(leaked);
    assert!(pool.close().unwrap().is_empty());
}

/// 5: `LoggingMemoryPool::Reallocate` and `STLMemoryPool` drop the alignment (64 of 64 and 33 of 64
/// blocks were misaligned).
#[test]
fn bug_5_adaptors_keep_the_alignment() {
    for pool in own() {
        for pool in [
            pool.clone(),
            pool.proxy(),
            pool.limit(1 << 30),
            Pool::custom(pool),
        ] {
            for shift in 0..=12 {
                let alignment = Alignment::new(1 << shift).unwrap();
                // Many at once: one alone is often aligned by luck.
                let mut held: Vec<_> = (0..16)
                    .map(|_| ResizableBuffer::zeroed_aligned(100, alignment, &pool).unwrap())
                    .collect();
                for size in [101, 1000, 5000, 50] {
                    for buffer in &mut held {
                        buffer.resize(size, true).unwrap();
                        assert!(alignment.is_aligned(buffer.address()), "{size} {alignment}");
                        assert_eq!(buffer.address() % 64, 0);
                    }
                }
            }
        }
    }
}

/// 5: an alignment that is no power of two is "out of memory" in the mimalloc pool (arcae#175).
#[test]
fn bug_5_a_wrong_alignment_is_an_invalid_argument() {
    for bytes in [0, 3, 100, 1000] {
        let error = Alignment::new(bytes).unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::InvalidArgument {
                argument: "alignment",
                ..
            }
        ));
    }
}

/// 6: a mutable slice forgets where its memory came from, and its padding is its parent's bytes.
#[test]
fn bug_6_mutable_slices_belong_to_their_parent() {
    for pool in own() {
        let whole = MutableBuffer::copy_from(&[5; 1000], &pool).unwrap();
        let (front, back) = whole.split_at(100).unwrap();
        let (mut middle, back) = back.split_at(300).unwrap();
        for part in [&front, &middle, &back] {
            assert_eq!((part.pool(), part.capacity()), (Some(&pool), part.len()));
        }
        drop(front);
        assert_eq!(pool.bytes_allocated(), 1000);
        middle.fill(6);
        middle.zero_padding();
        assert_eq!((&middle[..], back[0]), (&[6; 300][..], 5));
        let (middle, back) = (middle.freeze(), back.freeze());
        assert!(middle.block().ptr_eq(back.block()));
        drop(middle);
        assert_eq!(pool.bytes_allocated(), 1000);
        drop(back);
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// 8: sums of lengths overflow unnoticed; negative reserves are accepted.
#[test]
fn bug_8_builder_arithmetic_is_checked() {
    for pool in own() {
        let mut bytes = BufferBuilder::new(&pool);
        bytes.append(b"kept").unwrap();
        let mut typed = TypedBufferBuilder::<u64>::new(&pool);
        typed.append(1).unwrap();
        let mut bits = BitmapBuilder::new(&pool);
        bits.append(true).unwrap();
        let held = pool.statistics();
        for n in [
            usize::MAX,
            usize::MAX - 3,
            isize::MAX as usize,
            isize::MAX as usize - 3,
        ] {
            for result in [
                bytes.reserve(n),
                bytes.append_copies(0, n),
                bytes.advance(n),
                bytes.resize(n, true),
                typed.reserve(n),
                typed.append_copies(0, n),
                typed.advance(n),
                typed.resize(n, false),
                bits.reserve(n),
                bits.append_copies(true, n),
                bits.advance(n),
                bits.resize(n, false),
            ] {
                assert!(result.unwrap_err().is_out_of_memory(), "{n}");
            }
            assert!(bytes.finish_with_length(n, true).is_err());
            assert!(typed.finish_with_length(n, true).is_err());
            assert!(bits.finish_with_length(n, true).is_err());
        }
        let now = pool.statistics();
        assert_eq!(now.num_allocations, held.num_allocations);
        assert_eq!(now.bytes_allocated, held.bytes_allocated);
        assert_eq!(bytes.as_slice(), b"kept");
        assert_eq!(typed.as_slice(), [1]);
        assert_eq!((bits.len(), bits.false_count()), (1, 0));
    }
}

/// 8: `Rewind(100)` on 6 bytes is accepted.
#[test]
fn bug_8_rewind_is_checked() {
    let mut builder = BufferBuilder::new(&system_memory_pool());
    builder.append(b"abcdef").unwrap();
    for position in [7, 64, 100, usize::MAX] {
        assert_eq!(
            builder.rewind(position).unwrap_err().code(),
            "ERR_OFFHEAP_OUT_OF_RANGE"
        );
    }
    builder.rewind(6).unwrap();
    builder.rewind(2).unwrap();
    assert_eq!(builder.as_slice(), b"ab");
}

/// 8: `Append(copies, value)` reserves the length twice: with room for just 100 more, 100 copies
/// took a capacity of 1104 to 2208.
#[test]
fn bug_8_copies_reserve_what_they_need() {
    for pool in own() {
        let mut typed = TypedBufferBuilder::<u8>::with_capacity(1104, &pool).unwrap();
        typed.append_copies(1, 1052).unwrap();
        let capacity = typed.capacity();
        typed.append_copies(2, capacity - 1052).unwrap();
        assert_eq!((typed.capacity(), pool.num_allocations()), (capacity, 1));
        assert_eq!(typed.len(), capacity);
    }
}

/// 8: `Reserve` of the bool builder resizes on every append.
#[test]
fn bug_8_bit_appends_allocate_only_to_grow() {
    let pool = system_memory_pool().proxy();
    let mut bits = BitmapBuilder::new(&pool);
    for i in 0..100_000 {
        bits.append(i % 7 == 0).unwrap();
    }
    // 64 bytes, doubled up to 16 KiB.
    assert_eq!(pool.num_allocations(), 9);
    assert_eq!(bits.false_count(), 100_000 - 14_286);
    let buffer = bits.finish(true).unwrap();
    assert_eq!(count_set_bits(&buffer, 0, 100_000), 14_286);
}

/// 8: a finished stream keeps 1 MiB for 600,000 bytes.
#[test]
fn bug_8_a_finished_stream_can_shrink() {
    for pool in own() {
        for (shrink, counted) in [(true, 600_000), (false, 1 << 20)] {
            let mut stream = BufferOutputStream::create(1024, &pool).unwrap();
            for _ in 0..600 {
                stream.write(&[3; 1000]).unwrap();
            }
            let buffer = stream.finish(shrink).unwrap();
            assert_eq!((buffer.len(), pool.bytes_allocated()), (600_000, counted));
        }
    }
}

/// A second `Finish` of a stream dereferences null.
#[test]
fn a_second_finish_is_refused() {
    let mut stream = BufferOutputStream::create(10, &system_memory_pool()).unwrap();
    stream.finish(true).unwrap();
    assert_eq!(
        stream.finish(true).unwrap_err().code(),
        "ERR_OFFHEAP_CLOSED"
    );
}

/// `CopySlice` aborts the process for a bad range.
#[test]
fn copy_slice_out_of_range_is_an_error() {
    let buffer = Buffer::from_owner("data").unwrap();
    let error = buffer.copy_slice(3, 2, &system_memory_pool()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "offset 3 with length 2 is outside of 4 bytes"
    );
}

/// Closing line: a closed `FixedSizeBufferWriter` writes all the same, and says OK.
#[test]
fn closed_writers_always_refuse() {
    let buffer = MutableBuffer::zeroed(100, &system_memory_pool()).unwrap();
    let mut writer = FixedSizeBufferWriter::new(buffer);
    writer.write(b"before").unwrap();
    writer.close();
    writer.close();
    for error in [
        writer.write(b"after").unwrap_err(),
        writer.write(b"").unwrap_err(),
        writer.write_at(0, b"after").unwrap_err(),
        writer.seek(0).unwrap_err(),
        writer.position().unwrap_err(),
    ] {
        assert_eq!(error.code(), "ERR_OFFHEAP_CLOSED");
    }
    assert!(std::io::Write::write(&mut writer, b"after").is_err());
    assert!(writer.is_closed());
    let buffer = writer.into_inner();
    assert_eq!((&buffer[..6], &buffer[6..]), (&b"before"[..], &[0; 94][..]));
}

/// Closing line: an unknown backend's error names the valid ones.
#[test]
fn an_unknown_backend_names_the_valid_ones() {
    let error = offheap::pool::memory_pool_named("nonexistent").unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
    for name in offheap::supported_memory_backends() {
        assert!(error.to_string().contains(&format!("'{name}'")), "{error}");
    }
}

/// Closing line: `jemalloc_get_stat`'s error prints a pointer in place of the key.
#[cfg(feature = "jemalloc")]
#[test]
fn a_jemalloc_error_names_the_key() {
    for key in [
        "nonexistent.key",
        "stats.nonexistent",
        "stats.alloc\0ated",
        "arenas.create",
        "",
    ] {
        let error = offheap::pool::jemalloc::stat(key).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
        assert!(error.to_string().contains(&format!("'{key}'")), "{error}");
    }
}

/// Closing line: "out of memory" has no figures that a program could use.
#[test]
fn out_of_memory_carries_its_figures() {
    let pool = system_memory_pool().limit_named(1000, Some("query"));
    let _held = MutableBuffer::zeroed(600, &pool).unwrap();
    let error = MutableBuffer::zeroed(401, &pool).unwrap_err();
    let ErrorKind::OutOfMemory {
        requested,
        limit,
        allocated,
        pool,
    } = error.into_kind()
    else {
        panic!("another kind");
    };
    assert_eq!(
        (requested, limit, allocated, pool.as_str()),
        (401, Some(1000), 600, "query")
    );
}

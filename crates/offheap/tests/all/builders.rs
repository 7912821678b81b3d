//! Builders: Arrow's cases 38 to 46 (`buffer_test.cc`).

use crate::every_pool::own;
use offheap::builder::Native;
use offheap::{Alignment, BitmapBuilder, BufferBuilder, Pool, TypedBufferBuilder};

fn resize_and_reserve(builder: &mut BufferBuilder, pool: &Pool) {
    builder.append(b"some data").unwrap();
    assert_eq!((builder.len(), builder.capacity()), (9, 64));
    builder.resize(128, true).unwrap();
    assert_eq!((builder.len(), builder.capacity()), (9, 128));
    builder.resize(64, false).unwrap();
    assert_eq!(builder.capacity(), 128);
    builder.resize(64, true).unwrap();
    assert_eq!(builder.capacity(), 64);
    builder.reserve(60).unwrap();
    assert_eq!(builder.capacity(), 128);
    assert_eq!(
        (builder.as_slice(), pool.bytes_allocated()),
        (&b"some data"[..], 128)
    );
}

/// Case 38: capacities after appends, resizes and reserves.
#[test]
fn case_38_resize_and_reserve() {
    for pool in own() {
        resize_and_reserve(&mut BufferBuilder::new(&pool), &pool);
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// Case 39: the alignment holds through all of case 38.
#[test]
fn case_39_alignment() {
    for pool in own() {
        for bytes in [128, 512, 4096, 1 << 16] {
            let alignment = Alignment::new(bytes).unwrap();
            let mut builder = BufferBuilder::with_alignment(alignment, &pool);
            resize_and_reserve(&mut builder, &pool);
            for size in [200, 5000, 70_000, 100] {
                builder.resize(size, true).unwrap();
                assert_eq!(builder.address() % bytes, 0, "{size}");
            }
            let buffer = builder.finish(true).unwrap();
            assert_eq!(buffer.address() % bytes, 0);
            // So do the next one's bytes.
            builder.append_copies(1, 10).unwrap();
            assert_eq!(builder.address() % bytes, 0);
            let mut typed = TypedBufferBuilder::<i64>::with_alignment(alignment, &pool);
            typed.append_iter(0..10_000).unwrap();
            assert_eq!(typed.finish(true).unwrap().address() % bytes, 0);
            let mut bits = BitmapBuilder::with_alignment(alignment, &pool);
            bits.advance(100_000).unwrap();
            assert_eq!(bits.finish(true).unwrap().address() % bytes, 0);
        }
    }
}

/// Case 40: a finish that shrinks and one that does not. The pool counts the 18 bytes, where Arrow
/// counts 64.
#[test]
fn case_40_finish() {
    for pool in own() {
        for (shrink, capacity, counted) in [(true, 64, 18), (false, 1024, 1024)] {
            let mut builder = BufferBuilder::new(&pool);
            builder.append(b"some data").unwrap();
            builder.append(b"some data").unwrap();
            let buffer = builder.finish(shrink).unwrap();
            assert_eq!((buffer.len(), buffer.capacity()), (18, 64));
            assert!(builder.is_empty() && builder.capacity() == 0);
            drop(buffer);
            // And again, in the same builder.
            builder.reserve(1024).unwrap();
            assert_eq!(builder.capacity(), 1024);
            // What lies behind the bytes must not show in the padding.
            builder.append_copies(0xFF, 1024).unwrap();
            builder.rewind(0).unwrap();
            builder.append(b"some data").unwrap();
            builder.append(b"some data").unwrap();
            let buffer = builder.finish(shrink).unwrap();
            assert_eq!((buffer.len(), buffer.capacity()), (18, capacity));
            assert_eq!(pool.bytes_allocated(), counted);
            assert_eq!(&buffer[..], b"some datasome data");
            // SAFETY: the padding is zero after a finish, so initialised.
            let all = unsafe { std::slice::from_raw_parts(buffer.as_ptr(), capacity) };
            assert!(all[18..].iter().all(|byte| *byte == 0));
        }
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// Case 41: finishing without a byte.
#[test]
fn case_41_finish_empty() {
    for pool in own() {
        for (shrink, capacity) in [(true, 0), (false, 1024)] {
            let mut builder = BufferBuilder::new(&pool);
            let buffer = builder.finish(shrink).unwrap();
            assert_eq!((buffer.len(), buffer.capacity()), (0, 0));
            assert_ne!(buffer.address(), 0);
            builder.reserve(1024).unwrap();
            let buffer = builder.finish(shrink).unwrap();
            assert_eq!((buffer.len(), buffer.capacity()), (0, capacity));
        }
    }
}

fn typed_basics<T: Native + PartialEq + std::fmt::Debug>(values: [T; 5], pool: &Pool) {
    let mut builder = TypedBufferBuilder::<T>::new(pool);
    builder.append(values[0]).unwrap();
    assert_eq!(builder.len(), 1);
    assert_eq!(builder.capacity(), 64 / size_of::<T>());
    builder.append_values(&values[1..]).unwrap();
    assert_eq!(builder.as_slice(), values);
    builder.reserve(1000).unwrap();
    let room = builder.capacity();
    assert!(room >= 1005);
    // SAFETY: there is room for 1000 more.
    unsafe { builder.append_unchecked(values[3]) };
    assert_eq!((builder.len(), builder.capacity()), (6, room));
    let buffer = builder.finish(true).unwrap();
    assert_eq!(buffer.len(), 6 * size_of::<T>());
    assert_eq!(pool.bytes_allocated(), buffer.len() as u64);
    assert!(builder.is_empty());
    builder.append(values[4]).unwrap();
    builder.reset();
    assert_eq!((builder.len(), builder.capacity()), (0, 0));
}

/// Case 42: numbers of every type.
#[test]
fn case_42_typed_basics() {
    for pool in own() {
        typed_basics::<i8>([1, -2, 3, i8::MIN, i8::MAX], &pool);
        typed_basics::<u8>([1, 2, 3, 4, 255], &pool);
        typed_basics::<i16>([1, -2, 3, i16::MIN, i16::MAX], &pool);
        typed_basics::<u16>([1, 2, 3, 4, u16::MAX], &pool);
        typed_basics::<i32>([1, -2, 3, i32::MIN, i32::MAX], &pool);
        typed_basics::<u32>([1, 2, 3, 4, u32::MAX], &pool);
        typed_basics::<i64>([1, -2, 3, i64::MIN, i64::MAX], &pool);
        typed_basics::<u64>([1, 2, 3, 4, u64::MAX], &pool);
        typed_basics::<f32>([1.0, -2.5, 0.0, f32::MIN, f32::INFINITY], &pool);
        typed_basics::<f64>([1.0, -2.5, 0.0, f64::MIN, f64::INFINITY], &pool);
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// Case 43: copies of a value.
#[test]
fn case_43_typed_append_copies() {
    for pool in own() {
        let mut builder = TypedBufferBuilder::<u32>::new(&pool);
        builder.append_copies(1, 13).unwrap();
        builder.append_copies(0, 17).unwrap();
        builder.append_copies(9, 0).unwrap();
        assert_eq!(builder.len(), 30);
        assert!(
            builder
                .as_slice()
                .iter()
                .enumerate()
                .all(|(i, v)| *v == u32::from(i < 13))
        );
    }
}

/// Case 44: a bit, then bytes of which two are 0.
#[test]
fn case_44_bool_basics() {
    for pool in own() {
        let mut builder = BitmapBuilder::new(&pool);
        builder.append(false).unwrap();
        assert_eq!((builder.len(), builder.capacity()), (1, 512));
        builder.append_bytes(&[1, 0, 2, 3]).unwrap();
        assert_eq!((builder.len(), builder.false_count()), (5, 2));
        let buffer = builder.finish(true).unwrap();
        assert_eq!((buffer.len(), buffer[0]), (1, 0b1_1010));
        assert_eq!(pool.bytes_allocated(), 1);
        // Arrow's own: bytes 0, 1, 2, 3 after the first bit, which is true.
        builder.append(true).unwrap();
        builder.append_bytes(&[0, 1, 2, 3]).unwrap();
        builder.append(false).unwrap();
        assert_eq!(builder.false_count(), 2);
    }
}

/// Case 45: copies of a bit.
#[test]
fn case_45_bool_append_copies() {
    for pool in own() {
        let mut builder = BitmapBuilder::new(&pool);
        builder.append_copies(true, 13).unwrap();
        builder.append_copies(false, 17).unwrap();
        assert_eq!((builder.len(), builder.false_count()), (30, 17));
        assert!((0..30).all(|i| builder.get(i) == Some(i < 13)));
        assert_eq!(builder.get(30), None);
        let buffer = builder.finish(true).unwrap();
        assert_eq!(buffer[..], [0xFF, 0x1F, 0, 0]);
    }
}

/// Case 46: bits into reserved room take no memory.
#[test]
fn case_46_bool_reserve() {
    for pool in own() {
        let mut builder = BitmapBuilder::new(&pool);
        builder.append_copies(true, 13).unwrap();
        builder.append_copies(false, 17).unwrap();
        builder.reserve(1024).unwrap();
        assert!(builder.capacity() >= 1054);
        let (capacity, allocations) = (builder.capacity(), pool.num_allocations());
        for i in 0..1024 {
            builder.append(i % 3 == 0).unwrap();
        }
        assert_eq!(
            (builder.capacity(), pool.num_allocations()),
            (capacity, allocations)
        );
        assert_eq!(
            (builder.len(), builder.false_count()),
            (1054, 17 + 1024 - 342)
        );
        let buffer = builder.finish_with_length(30, true).unwrap();
        assert_eq!(buffer[..], [0xFF, 0x1F, 0, 0]);
    }
}

/// What an iterator or a function gives, in every mix with single appends.
#[test]
fn bits_of_iterators_and_functions() {
    let bit = |i: usize| i.wrapping_mul(0x9E37_79B9) >> 7 & 3 == 0;
    for pool in own() {
        for start in [0, 1, 63, 64, 65, 130] {
            for n in [0, 1, 63, 64, 65, 127, 128, 200] {
                let mut builder = BitmapBuilder::new(&pool);
                let mut model: Vec<bool> = (0..start).map(bit).collect();
                builder.append_iter(model.iter().copied()).unwrap();
                builder.append_from_fn(n, |i| bit(i + 7)).unwrap();
                model.extend((0..n).map(|i| bit(i + 7)));
                // An iterator that does not say how long it is.
                let some = (0..2 * n).filter(|i| i % 2 == 1);
                builder.append_iter(some.clone().map(bit)).unwrap();
                model.extend(some.map(bit));
                let got: Vec<_> = (0..builder.len()).map_while(|i| builder.get(i)).collect();
                assert_eq!(got, model, "{n} after {start}");
                let zeros = model.iter().filter(|bit| !**bit).count();
                assert_eq!(builder.false_count(), zeros);
                let buffer = builder.finish(true).unwrap();
                let packed = |i: &usize| buffer[i / 8] >> (i % 8) & 1 != 0;
                assert!((0..model.len()).all(|i| packed(&i) == model[i]));
            }
        }
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// An append that fails or panics in the middle leaves what was there before.
#[test]
fn a_half_done_append_leaves_the_builder_usable() {
    for base in own() {
        let pool = base.limit(128);
        let mut bits = BitmapBuilder::new(&pool);
        bits.append_values(&[true, false, true]).unwrap();
        let endless = std::iter::repeat_with(|| true);
        assert!(bits.append_iter(endless).unwrap_err().is_out_of_memory());
        assert!(bits.append_from_fn(1022, |_| unreachable!()).is_err());
        assert_eq!((bits.len(), bits.false_count()), (3, 1));
        assert_eq!((bits.get(2), bits.get(3)), (Some(true), None));
        assert_eq!(bits.finish(true).unwrap()[..], [0b101]);

        let mut values = TypedBufferBuilder::<i32>::new(&pool);
        values.append_values(&[1, 2]).unwrap();
        assert!(values.append_iter(0..).unwrap_err().is_out_of_memory());
        assert!(values.append_from_fn(31, |_| unreachable!()).is_err());
        let mut stops = || {
            values.append_from_fn(9, |i| {
                if i < 5 {
                    9
                } else {
                    panic!("the function's own")
                }
            })
        };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut stops));
        assert!(caught.is_err());
        assert_eq!(values.as_slice(), [1, 2]);
        values.append_from_fn(3, |i| i as i32 * 10).unwrap();
        assert_eq!(values.as_slice(), [1, 2, 0, 10, 20]);
    }
}

/// Appends of a few bytes are copied in another way than longer ones.
#[test]
fn appends_of_every_length_keep_their_bytes() {
    let source: Vec<u8> = (1..=40).collect();
    for pool in own() {
        let mut builder = BufferBuilder::new(&pool);
        let mut model = Vec::new();
        for n in 0..=source.len() {
            for from in [0, 1, source.len() - n] {
                let bytes = source.get(from..from + n).unwrap_or_default();
                builder.append(bytes).unwrap();
                model.extend(bytes);
            }
        }
        assert_eq!(builder.as_slice(), model);
    }
}

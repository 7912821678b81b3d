//! Buffers: Arrow's cases 17 to 37 and 47 to 51 (`buffer_test.cc`), 74 to 77
//! (`align_util_test.cc`). The memory managers of 17, 33 and 34 come with devices.

use crate::counted::Counted;
use crate::every_pool::{backends, own};
use offheap::buffer::{
    allocate_bitmap, allocate_empty_bitmap, bytes_for_bits, count_set_bits, get_bit, set_bit_to,
};
use offheap::{
    Alignment, Block, Buffer, MutableBuffer, ResizableBuffer, UninitBuffer, default_memory_pool,
    system_memory_pool,
};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const OUT_OF_RANGE: &str = "ERR_OFFHEAP_OUT_OF_RANGE";

fn alignment(bytes: usize) -> Alignment {
    Alignment::new(bytes).unwrap()
}

fn copy_of(bytes: &[u8]) -> Buffer {
    Buffer::copy_from(bytes, &default_memory_pool()).unwrap()
}

/// Case 17, the pool's part: a buffer knows its pool and keeps it.
#[test]
fn case_17_allocate_basics() {
    for pool in own() {
        let buffer = MutableBuffer::zeroed(1024, &pool).unwrap();
        assert_eq!(buffer.pool(), Some(&pool));
        assert_eq!((buffer.len(), buffer.capacity()), (1024, 1024));
        let name = pool.name().to_owned();
        drop(pool);
        assert_eq!(buffer.pool().unwrap().name(), name);
    }
    let buffer = MutableBuffer::zeroed(1, &default_memory_pool()).unwrap();
    assert_eq!(buffer.pool(), Some(&default_memory_pool()));
}

/// Case 18: a bitmap's size is rounded up to bytes, its capacity to 64.
#[test]
fn case_18_bitmap() {
    let bitmap = allocate_bitmap(100, &system_memory_pool()).unwrap();
    assert_eq!(bitmap.len(), 13);
    let bitmap = bitmap.fill(0xFF);
    assert_eq!(bitmap.capacity() % 8, 0);
    // The bits past the end are 0 before the first write.
    let mut bitmap = allocate_bitmap(12, &system_memory_pool()).unwrap();
    // SAFETY: the last byte is always written.
    assert_eq!(unsafe { bitmap.as_uninit()[1].assume_init() }, 0);
    assert_eq!(allocate_bitmap(0, &system_memory_pool()).unwrap().len(), 0);
}

/// Case 19: an empty bitmap is zero up to its capacity.
#[test]
fn case_19_empty_bitmap() {
    for pool in own() {
        drop(MutableBuffer::copy_from(&[0xFF; 64], &pool).unwrap());
        let bitmap = allocate_empty_bitmap(100, &pool).unwrap();
        assert_eq!((bitmap.len(), bitmap.capacity()), (13, 64));
        // SAFETY: the capacity of a zeroed buffer is initialised.
        let all = unsafe { std::slice::from_raw_parts(bitmap.as_ptr(), bitmap.capacity()) };
        assert!(all.iter().all(|byte| *byte == 0));
    }
}

/// Case 20: a string's bytes, without a copy.
#[test]
fn case_20_from_string() {
    let text = "hello, world".to_owned();
    let address = text.as_ptr().addr();
    let buffer = Buffer::from_owner(text).unwrap();
    assert_eq!(
        (&buffer[..], buffer.address()),
        (&b"hello, world"[..], address)
    );
    assert_eq!((buffer.len(), buffer.pool()), (12, None));
}

/// Case 21: an alignment of 1024.
#[test]
fn case_21_alignment() {
    for pool in own() {
        let buffer = UninitBuffer::allocate(512, alignment(1024), &pool).unwrap();
        assert_eq!(buffer.address() % 1024, 0);
        assert_eq!(buffer.len(), 512);
    }
}

/// Cases 22 and 31: the buffer owns the string it was made from, and does not let it be written.
#[test]
fn case_22_31_from_a_string_that_goes_away() {
    let drops = Arc::new(AtomicUsize::new(0));
    let buffer = {
        let source = Counted(b"hello, world".to_vec(), Arc::clone(&drops));
        Buffer::from_owner(source).unwrap()
    };
    assert_eq!(
        (&buffer[..], drops.load(Ordering::SeqCst)),
        (&b"hello, world"[..], 0)
    );
    // Nobody else holds it, and still it is not ours to write.
    let buffer = buffer.try_into_mutable().unwrap_err();
    drop(buffer);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

/// Cases 23 and 24: equal by content, in whole and by their first bytes.
#[test]
fn case_23_24_equals() {
    let [first, same, longer, other] = [
        &b"some data"[..],
        b"some data",
        b"some data and more",
        b"some dato",
    ]
    .map(copy_of);
    assert_eq!(first, same);
    assert_ne!(first.address(), same.address());
    assert_ne!(first, longer);
    assert_ne!(first, other);
    for buffer in [&first, &same] {
        assert!(first.equals_n(buffer, 9));
        assert!(!first.equals_n(buffer, 10));
        assert!(first.equals_n(buffer, 0));
    }
    assert!(first.equals_n(&longer, 9) && first.equals_n(&other, 8));
    assert!(!first.equals_n(&other, 9) && !first.equals_n(&longer, usize::MAX));
    assert!(first < longer && longer < other);
    assert_eq!(first.slice(0, 0).unwrap(), other.slice(9, 0).unwrap());
}

/// Case 25: a copy of a part, with zero padding.
#[test]
fn case_25_copy_slice() {
    for pool in own() {
        let buffer = copy_of(b"some data to copy");
        let copy = buffer.copy_slice(5, 4, &pool).unwrap();
        assert_eq!((&copy[..], copy.capacity()), (&b"data"[..], 64));
        // SAFETY: the padding of a new buffer is zero.
        let all = unsafe { std::slice::from_raw_parts(copy.as_ptr(), 64) };
        assert!(all[4..].iter().all(|byte| *byte == 0));
        assert_ne!(copy.address(), buffer.address() + 5);
        assert_eq!(pool.bytes_allocated(), 4);
        // Arrow aborts.
        for (offset, length) in [(0, 18), (18, 0), (17, 1), (usize::MAX, 2)] {
            let error = buffer.copy_slice(offset, length, &pool).unwrap_err();
            assert_eq!(error.code(), OUT_OF_RANGE);
        }
    }
}

/// Case 26: copies of no bytes.
#[test]
fn case_26_copy_slice_empty() {
    let pool = system_memory_pool().proxy();
    let buffer = copy_of(b"some data");
    for offset in [0, 9] {
        assert!(buffer.copy_slice(offset, 0, &pool).unwrap().is_empty());
    }
    assert_eq!((pool.bytes_allocated(), pool.num_allocations()), (0, 2));
}

/// Cases 27 and 118: upper-case hexadecimal digits.
#[test]
fn case_27_118_hex() {
    assert_eq!(
        copy_of(b"\x07\x30\x68\xff\x00\xa9").to_hex(),
        "073068FF00A9"
    );
    assert_eq!(copy_of(b"").to_hex(), "");
    assert_eq!(copy_of(b"test").slice(1, 2).unwrap().to_hex(), "6573");
}

/// Case 28: a slice shares the memory and keeps it.
#[test]
fn case_28_slice() {
    for pool in own() {
        let buffer = Buffer::copy_from(b"some data to slice", &pool).unwrap();
        let slice = buffer.slice(5, 4).unwrap();
        assert_eq!(buffer.strong_count(), 2);
        assert!(slice.block().ptr_eq(buffer.block()));
        assert_eq!(
            (&slice[..], slice.address()),
            (&b"data"[..], buffer.address() + 5)
        );
        let of_slice = slice.slice(1, 2).unwrap();
        assert_eq!((&of_slice[..], buffer.strong_count()), (&b"at"[..], 3));
        // Slices count nothing.
        assert_eq!(pool.bytes_allocated(), 18);
        drop((buffer, slice));
        assert_eq!((&of_slice[..], pool.bytes_allocated()), (&b"at"[..], 18));
        drop(of_slice);
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// Case 29: ranges are checked and never clamped.
#[test]
fn case_29_slice_out_of_range() {
    let buffer = copy_of(b"some data to slice");
    let size = buffer.len();
    for (offset, length) in [(5, 4), (0, 4), (0, 0), (4, 0), (size, 0), (0, size)] {
        let slice = buffer.slice(offset, length).unwrap();
        assert_eq!(slice[..], buffer[offset..offset + length]);
    }
    // Arrow's negative numbers cannot be written in Rust; as unsigned ones they are large.
    const MINUS_1: usize = usize::MAX;
    for (offset, length) in [
        (MINUS_1, 0),
        (0, MINUS_1),
        (MINUS_1, MINUS_1),
        (0, size + 1),
        (2, size - 1),
        (size + 1, 0),
        (3, isize::MAX as usize - 2),
        (3, usize::MAX - 2),
    ] {
        let error = buffer.slice(offset, length).unwrap_err();
        assert_eq!(error.code(), OUT_OF_RANGE);
        assert!(error.to_string().contains(&format!("{offset}")), "{error}");
    }
    for offset in [0, 5, size] {
        assert_eq!(buffer.slice_from(offset).unwrap()[..], buffer[offset..]);
    }
    for offset in [size + 1, MINUS_1] {
        assert_eq!(buffer.slice_from(offset).unwrap_err().code(), OUT_OF_RANGE);
    }
    assert_eq!(buffer.strong_count(), 1);
}

/// Cases 30 and 119: writing through a mutable buffer over foreign memory is seen by its owner, and
/// the other way round.
#[test]
fn case_30_119_wrap_writes_through() {
    let mut values = vec![1_i32, 2, 3].into_boxed_slice();
    let start = NonNull::from(&mut values[0]);
    // SAFETY: the box lives longer than the block, and is not touched but through `start`.
    let block = unsafe { Block::foreign(start.cast(), 12, ()) }.unwrap();
    // SAFETY: 12 initialised bytes that nobody else uses while the buffer is.
    let mut buffer = unsafe { MutableBuffer::from_block(block, 0, 12) };
    assert_eq!((buffer.len(), buffer.capacity()), (12, 12));
    buffer[4..8].copy_from_slice(&4_i32.to_ne_bytes());
    // SAFETY: the second of three values; the buffer is not used meanwhile.
    unsafe {
        assert_eq!(start.add(1).read(), 4);
        start.add(2).write(5);
    }
    assert_eq!(buffer[8..], 5_i32.to_ne_bytes());
    drop(buffer);
    assert_eq!(values[..], [1, 4, 5]);
}

/// Case 32: parts of a mutable buffer are mutable, and share its memory.
#[test]
fn case_32_mutable_slices() {
    for pool in own() {
        let mut buffer = MutableBuffer::copy_from(b"some data to slice", &pool).unwrap();
        let address = buffer.address();
        let slice = buffer.slice_mut(5, 4).unwrap();
        assert_eq!(
            (slice.as_ptr().addr(), &*slice),
            (address + 5, &b"data"[..])
        );
        slice.copy_from_slice(b"DATA");
        assert_eq!(&buffer[..], b"some DATA to slice");
        for (offset, length) in [(18, 1), (19, 0), (2, usize::MAX), (0, 19)] {
            assert_eq!(
                buffer.slice_mut(offset, length).unwrap_err().code(),
                OUT_OF_RANGE
            );
        }
        // Parts that live on their own: each is written, neither sees the other.
        let (mut front, mut back) = buffer.split_at(5).unwrap();
        assert_eq!(back.address(), address + 5);
        front.fill(b'x');
        back[0] = b'd';
        assert_eq!((&front[..], &back[..5]), (&b"xxxxx"[..], &b"dATA "[..]));
        assert_eq!((front.pool(), back.pool()), (Some(&pool), Some(&pool)));
        assert_eq!(pool.bytes_allocated(), 18);
        // A part's capacity ends where it ends: its padding is the other's memory.
        assert_eq!((front.capacity(), back.capacity()), (5, 13));
        front.zero_padding();
        assert_eq!(back[0], b'd');
        drop(front);
        assert_eq!(pool.bytes_allocated(), 18);
        assert!(back.split_at(14).is_err());
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// Cases 35, 36 and 116: buffers of no bytes share one address that is not null.
#[test]
fn case_35_36_116_zero_size() {
    for pool in own() {
        let start = pool.bytes_allocated();
        let first = MutableBuffer::zeroed(0, &pool).unwrap();
        let second = UninitBuffer::allocate(0, Alignment::DEFAULT, &pool)
            .unwrap()
            .fill(1);
        let third = ResizableBuffer::zeroed(0, &pool).unwrap();
        let fourth = Buffer::copy_from(b"", &pool).unwrap();
        for (address, len) in [
            (first.address(), first.len()),
            (second.address(), second.len()),
            (third.address(), third.len()),
            (fourth.address(), fourth.len()),
        ] {
            assert_eq!((address, len), (first.address(), 0));
            assert_ne!(address, 0);
        }
        assert_eq!(pool.num_allocations(), 4);
        drop((first, second, third, fourth));
        assert_eq!(
            (pool.bytes_allocated(), pool.live_allocations()),
            (start, 0)
        );
    }
    let foreign = Buffer::from_owner(Vec::new()).unwrap();
    assert_ne!(foreign.address(), 0);
}

/// Case 37: a resize to nothing gives the memory back.
#[test]
fn case_37_zero_resize() {
    for pool in own() {
        let start = pool.bytes_allocated();
        let mut buffer = ResizableBuffer::zeroed(1000, &pool).unwrap();
        assert_eq!(pool.bytes_allocated(), start + 1000);
        buffer.resize(0, true).unwrap();
        assert_ne!(buffer.address(), 0);
        assert!(pool.bytes_allocated() < start + 1000);
        assert_eq!(buffer.capacity(), 0);
        buffer.resize(10, true).unwrap();
        assert_eq!(buffer[..], [0; 10]);
        drop(buffer);
        assert_eq!(pool.bytes_allocated(), start);
    }
}

/// Whether a type has a trait, answered by which constant the compiler finds.
struct Has<T>(PhantomData<T>);

trait Absent {
    const MUTABLE: bool = false;
    const HASH: bool = false;
    const DEFAULT: bool = false;
    const CLONE: bool = false;
}

impl<T> Absent for T {}

impl<T: std::ops::DerefMut<Target = [u8]>> Has<T> {
    const MUTABLE: bool = true;
}

impl<T: std::hash::Hash> Has<T> {
    const HASH: bool = true;
}

impl<T: Default> Has<T> {
    const DEFAULT: bool = true;
}

impl<T: Clone> Has<T> {
    const CLONE: bool = true;
}

/// Cases 47 and 126: only mutable buffers can be written, and only immutable ones shared: the types
/// say so.
#[test]
fn case_47_126_mutability_is_in_the_type() {
    const {
        assert!(!Has::<Buffer>::MUTABLE && Has::<Buffer>::CLONE);
        assert!(Has::<MutableBuffer>::MUTABLE && !Has::<MutableBuffer>::CLONE);
        assert!(Has::<ResizableBuffer>::MUTABLE && !Has::<ResizableBuffer>::CLONE);
    }
    // Frozen and back without a copy, while nobody shares it.
    let buffer = MutableBuffer::copy_from(b"data", &system_memory_pool()).unwrap();
    let address = buffer.address();
    let frozen = buffer.freeze();
    let shared = frozen.clone();
    let frozen = frozen.try_into_mutable().unwrap_err();
    drop(shared);
    let mut buffer = frozen.try_into_mutable().unwrap();
    buffer[0] = b'D';
    assert_eq!((&buffer[..], buffer.address()), (&b"Data"[..], address));
    // A slice of it is not the whole, even alone.
    let slice = buffer.freeze().slice(1, 3).unwrap();
    assert!(slice.try_into_mutable().is_err());
}

/// Cases 125 and 130: buffers are no keys, and come from a pool or an owner only.
#[test]
fn case_125_130_no_hash_and_no_constructor() {
    const {
        assert!(!Has::<Buffer>::HASH && !Has::<MutableBuffer>::HASH);
        assert!(!Has::<Buffer>::DEFAULT && !Has::<MutableBuffer>::DEFAULT);
        assert!(Has::<u8>::HASH && Has::<u8>::DEFAULT);
    }
}

/// Case 48: sizes and capacities of a resizable buffer. The pool counts sizes, so after a resize
/// that shrinks, 50, where Arrow counts 64.
#[test]
fn case_48_resize() {
    for pool in own() {
        let mut buffer = ResizableBuffer::zeroed(0, &pool).unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (0, 0));
        buffer.resize(100, true).unwrap();
        assert_eq!(
            (buffer.len(), buffer.capacity(), pool.bytes_allocated()),
            (100, 128, 100)
        );
        buffer.fill(5);
        buffer.resize(200, true).unwrap();
        assert_eq!(
            (buffer.len(), buffer.capacity(), pool.bytes_allocated()),
            (200, 256, 200)
        );
        assert_eq!((buffer[99], buffer[100], buffer[199]), (5, 0, 0));
        buffer.resize(50, true).unwrap();
        assert_eq!(
            (buffer.len(), buffer.capacity(), pool.bytes_allocated()),
            (50, 64, 50)
        );
        buffer.resize(100, true).unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (100, 128));
        buffer.resize(50, false).unwrap();
        assert_eq!(
            (buffer.len(), buffer.capacity(), pool.bytes_allocated()),
            (50, 128, 100)
        );
        // What was cut is not seen again.
        buffer.fill(6);
        buffer.resize(40, false).unwrap();
        buffer.resize(60, false).unwrap();
        assert_eq!((buffer[39], buffer[40], buffer[59]), (6, 0, 0));
    }
}

/// A size within the padding moves nothing, and is counted all the same.
#[test]
fn growth_into_the_padding_is_counted() {
    for base in backends() {
        let pool = base.limit(128);
        let mut buffer = ResizableBuffer::zeroed(100, &pool).unwrap();
        let address = buffer.address();
        for (size, counted) in [(120, 120), (70, 70), (128, 128)] {
            buffer.resize(size, true).unwrap();
            assert_eq!(
                (pool.bytes_allocated(), buffer.address()),
                (counted, address)
            );
        }
        buffer.resize(100, true).unwrap();
        buffer.reserve(110).unwrap();
        assert_eq!(
            (buffer.len(), buffer.spare().len(), pool.bytes_allocated()),
            (100, 10, 110)
        );
        let _rest = MutableBuffer::zeroed(18, &pool).unwrap();
        assert!(buffer.resize(111, false).unwrap_err().is_out_of_memory());
        assert!(buffer.reserve(111).unwrap_err().is_out_of_memory());
        buffer.resize(110, false).unwrap();
    }
}

/// Case 49: sizes in values.
#[test]
fn case_49_typed_resize() {
    for pool in own() {
        let mut buffer = ResizableBuffer::zeroed(0, &pool).unwrap();
        for (count, shrink, size, capacity) in [
            (100, true, 800, 832),
            (200, true, 1600, 1600),
            (50, true, 400, 448),
            (100, true, 800, 832),
            (50, false, 400, 832),
        ] {
            buffer.resize_typed::<f64>(count, shrink).unwrap();
            assert_eq!((buffer.len(), buffer.capacity()), (size, capacity));
        }
        buffer.reserve_typed::<u16>(1000).unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (400, 2048));
        assert_eq!(pool.bytes_allocated(), 2000);
        for error in [
            buffer
                .resize_typed::<f64>(usize::MAX / 4, true)
                .unwrap_err(),
            buffer.reserve_typed::<f64>(usize::MAX).unwrap_err(),
        ] {
            assert!(error.is_out_of_memory());
        }
    }
}

/// Case 50: sizes that cannot be had leave the buffer as it was.
#[test]
fn case_50_resize_out_of_memory() {
    for pool in own() {
        let mut buffer = ResizableBuffer::zeroed(100, &pool).unwrap();
        buffer.fill(7);
        let before = (buffer.address(), buffer.len(), buffer.capacity());
        for size in [isize::MAX as usize - 63, isize::MAX as usize, usize::MAX] {
            assert!(buffer.resize(size, true).unwrap_err().is_out_of_memory());
            assert!(buffer.reserve(size).unwrap_err().is_out_of_memory());
        }
        assert_eq!((buffer.address(), buffer.len(), buffer.capacity()), before);
        assert_eq!(buffer[..], [7; 100]);
        assert_eq!(pool.bytes_allocated(), 100);
    }
}

/// Case 51: buffers one after the other, empty ones among them.
#[test]
fn case_51_concat() {
    for pool in own() {
        let parts = [&b"hello"[..], b"", b", ", b"world", b""].map(copy_of);
        let whole = Buffer::concat(&parts, &pool).unwrap();
        assert_eq!(
            (&whole[..], pool.bytes_allocated()),
            (&b"hello, world"[..], 12)
        );
        assert!(Buffer::concat::<Buffer>(&[], &pool).unwrap().is_empty());
        assert_eq!(&Buffer::concat(&["a", "b"], &pool).unwrap()[..], b"ab");
    }
}

/// A part whose length changes from call to call is an error, not an overrun.
#[test]
fn concat_survives_a_part_that_changes() {
    struct Fickle(AtomicUsize, usize, usize);
    impl AsRef<[u8]> for Fickle {
        fn as_ref(&self) -> &[u8] {
            let first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
            &[7; 100][..if first { self.1 } else { self.2 }]
        }
    }
    let pool = system_memory_pool().proxy();
    for (first, second) in [(10, 90), (90, 10)] {
        let parts = [Fickle(AtomicUsize::new(0), first, second)];
        assert_eq!(
            Buffer::concat(&parts, &pool).unwrap_err().code(),
            OUT_OF_RANGE
        );
    }
    assert_eq!(pool.bytes_allocated(), 0);
}

/// Cases 74 and 75: aligned memory comes back as it is, other memory as a copy at a multiple of 64
/// at least; only powers of two are alignments.
#[test]
fn case_74_75_ensure_alignment() {
    for pool in own() {
        let buffer = Buffer::copy_from(&[3; 1000], &pool).unwrap();
        let aligned = buffer.slice(128, 100).unwrap();
        let same = aligned.ensure_alignment(alignment(64), &pool).unwrap();
        assert_eq!(same.address(), aligned.address());
        assert!(same.block().ptr_eq(buffer.block()));
        let odd = buffer.slice_from(1).unwrap();
        assert!(!odd.check_alignment(alignment(2)) && odd.check_alignment(alignment(1)));
        // 2048 is more than the buffer's size.
        for bytes in [2, 8, 64, 256, 2048] {
            let copy = odd.ensure_alignment(alignment(bytes), &pool).unwrap();
            assert!(copy.check_alignment(alignment(bytes.max(64))));
            assert_ne!(copy.address(), odd.address());
            assert_eq!(copy, odd);
        }
        assert_eq!(
            odd.ensure_alignment(alignment(1), &pool).unwrap().address(),
            odd.address()
        );
    }
    for bytes in [0, 3, usize::MAX] {
        let error = Alignment::new(bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("alignment must be a power of two of at most 4 GiB, got {bytes}")
        );
    }
}

/// Cases 76 and 77: ranges of bits that start and end inside of words and bytes, and those that
/// do not.
#[test]
fn case_76_77_bit_ranges_aligned_and_not() {
    let mut bitmap = allocate_empty_bitmap(300, &system_memory_pool()).unwrap();
    let model: Vec<bool> = (0..300_u32)
        .map(|i| i.wrapping_mul(2_654_435_761) >> 31 != 0)
        .collect();
    for (i, bit) in model.iter().enumerate() {
        set_bit_to(&mut bitmap, i, *bit);
    }
    assert!((0..300).all(|i| get_bit(&bitmap, i) == model[i]));
    for offset in 0..200 {
        for length in [0, 1, 7, 8, 9, 63, 64, 65, 100] {
            let expected = model[offset..offset + length]
                .iter()
                .filter(|bit| **bit)
                .count();
            assert_eq!(
                count_set_bits(&bitmap, offset, length),
                expected,
                "{offset} {length}"
            );
        }
    }
    assert_eq!(count_set_bits(&bitmap, 304, 0), 0);
    set_bit_to(&mut bitmap, 9, true);
    set_bit_to(&mut bitmap, 9, false);
    assert!(!get_bit(&bitmap, 9));
    assert_eq!([0, 1, 8, 9, 100].map(bytes_for_bits), [0, 1, 1, 2, 13]);
    assert_eq!(bytes_for_bits(usize::MAX), usize::MAX / 8 + 1);
    let bytes = &bitmap[..];
    for (offset, length) in [(300, 5), (0, 305), (usize::MAX, 2)] {
        let panics = std::panic::catch_unwind(|| count_set_bits(bytes, offset, length));
        assert!(panics.is_err(), "{offset} {length}");
    }
}

/// What was borrowed becomes a slice, if it is the buffer's own.
#[test]
fn a_borrowed_part_becomes_a_slice() {
    let buffer = copy_of(b"key=value;");
    let end = buffer.iter().position(|byte| *byte == b'=').unwrap();
    let value = &buffer[end + 1..9];
    let kept = buffer.slice_ref(value).unwrap();
    assert_eq!(
        (&kept[..], kept.address()),
        (&b"value"[..], buffer.address() + 4)
    );
    assert_eq!(buffer.strong_count(), 2);
    drop(buffer);
    assert_eq!(&kept[..], b"value");
    // Parts of parts, and all of it.
    assert_eq!(&kept.slice_ref(&kept[1..3]).unwrap()[..], b"al");
    assert_eq!(kept.slice_ref(&kept).unwrap().len(), 5);
    assert!(kept.slice_ref(&kept[5..]).unwrap().is_empty());
    assert!(kept.slice_ref(&[]).unwrap().is_empty());

    // Bytes of others, and bytes around a slice that are its parent's.
    let whole = copy_of(b"0123456789");
    let part = whole.slice(3, 4).unwrap();
    let equal = b"3456".to_vec();
    for other in [
        &equal[..],
        &whole[2..4],
        &whole[3..8],
        &whole[7..],
        &whole[..1],
    ] {
        assert_eq!(part.slice_ref(other).unwrap_err().code(), OUT_OF_RANGE);
    }
    assert_eq!(
        part.slice_ref(&whole[3..7]).unwrap().address(),
        part.address()
    );
}

/// Numbers are read and written in place.
#[test]
fn typed_data_is_in_place_and_checked() {
    let mut buffer = MutableBuffer::zeroed(16, &default_memory_pool()).unwrap();
    buffer.typed_data_mut::<i32>().unwrap()[1] = -2;
    assert_eq!(buffer.typed_data::<i32>().unwrap(), [0, -2, 0, 0]);
    let buffer = buffer.freeze();
    let values = buffer.typed_data::<i32>().unwrap();
    assert_eq!(
        (values, values.as_ptr().addr()),
        (&[0, -2, 0, 0][..], buffer.address())
    );
    assert_eq!(buffer.typed_data::<u8>().unwrap().len(), 16);
    for (offset, length, argument) in [(2, 8, "address"), (0, 10, "size"), (0, 3, "size")] {
        let part = buffer.slice(offset, length).unwrap();
        let error = part.typed_data::<i32>().unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
        assert!(error.to_string().contains(argument), "{error}");
    }
    // No bytes are no values, wherever they are.
    assert!(
        buffer
            .slice(1, 0)
            .unwrap()
            .typed_data::<f64>()
            .unwrap()
            .is_empty()
    );
}

/// The last of several references frees, whether it was the first or a clone.
#[test]
fn clones_and_originals_go_in_any_order() {
    for pool in own() {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let first = MutableBuffer::copy_from(b"abc", &pool).unwrap().freeze();
            let second = first.clone();
            let third = second.slice(1, 2).unwrap();
            assert!(second.block().ptr_eq(first.block()) && third.block().ptr_eq(first.block()));
            let mut buffers = [Some(first), Some(second), Some(third)];
            for (gone, index) in order.into_iter().enumerate() {
                assert_eq!(pool.bytes_allocated(), 3);
                let buffer = buffers[index].take().unwrap();
                assert_eq!(buffer.strong_count(), 3 - gone);
                assert_eq!(buffer.block().is_unique(), gone == 2);
            }
            assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
        }
        // A clone that is alone is as good as the first one.
        let buffer = MutableBuffer::copy_from(b"abc", &pool).unwrap().freeze();
        let clone = buffer.clone();
        drop(buffer);
        let mut buffer = ResizableBuffer::try_from(clone.try_into_mutable().unwrap()).unwrap();
        buffer.resize(5000, false).unwrap();
        assert_eq!((&buffer[..4], buffer.len()), (&b"abc\0"[..], 5000));
    }
}

/// The first bytes of an empty buffer are new ones, and a refusal leaves it empty.
#[test]
fn an_empty_buffer_grows_by_zero_bytes() {
    for base in own() {
        let pool = base.limit(3 << 20);
        let page = alignment(4096);
        let mut buffer = ResizableBuffer::zeroed_aligned(0, page, &pool).unwrap();
        assert!(
            buffer
                .resize((3 << 20) + 1, false)
                .unwrap_err()
                .is_out_of_memory()
        );
        assert_eq!(
            (buffer.len(), buffer.capacity(), pool.bytes_allocated()),
            (0, 0, 0)
        );
        buffer.resize(3 << 20, false).unwrap();
        assert_eq!((buffer.address() % 4096, pool.live_allocations()), (0, 1));
        assert!(buffer.iter().all(|byte| *byte == 0));
        assert_eq!(
            (pool.bytes_allocated(), pool.available()),
            (3 << 20, Some(0))
        );
        // Emptied and used again.
        buffer.resize(0, true).unwrap();
        buffer.resize(100, true).unwrap();
        assert_eq!(buffer[..], [0; 100]);
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (100, 1));
    }
}

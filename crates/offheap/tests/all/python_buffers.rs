//! Buffers as Python sees them: Arrow's cases 115 to 132 (`test_io.py`). Those that share their test
//! with a C++ case (116, 118, 119, 125, 126, 130) are in `buffers`; 120 and 129 need what there is
//! not: strided memory, and memory that is not the CPU's.

use crate::counted::Counted;
use offheap::{
    Alignment, Buffer, MutableBuffer, Pool, ResizableBuffer, UninitBuffer, default_memory_pool,
    system_memory_pool,
};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const OUT_OF_RANGE: &str = "ERR_OFFHEAP_OUT_OF_RANGE";

fn copy_of(bytes: &[u8]) -> Buffer {
    Buffer::copy_from(bytes, &default_memory_pool()).unwrap()
}

/// Case 115: what holds bytes becomes an immutable buffer; to write, there are mutable ones.
#[test]
fn case_115_from_bytes() {
    for buffer in [
        Buffer::from_owner(&b"bytes"[..]).unwrap(),
        Buffer::from_owner("bytes").unwrap(),
        Buffer::from_owner(b"bytes".to_vec()).unwrap(),
        Buffer::from_owner(b"bytes".to_vec().into_boxed_slice()).unwrap(),
        Buffer::from_owner(*b"bytes").unwrap(),
    ] {
        assert_eq!(&buffer[..], b"bytes");
    }
    let mut buffer = MutableBuffer::copy_from(b"bytes", &default_memory_pool()).unwrap();
    buffer.make_ascii_uppercase();
    assert_eq!(buffer.as_ref(), b"BYTES");
}

/// Cases 117 and 127: the owner of foreign memory is kept until the last slice goes, and freed once.
#[test]
fn case_117_127_foreign_memory_keeps_its_owner() {
    let drops = Arc::new(AtomicUsize::new(0));
    let owner = Counted(vec![1, 2, 3, 4, 5], Arc::clone(&drops));
    let start = NonNull::from(&owner.0[0]);
    // SAFETY: the owner keeps the bytes, and nobody writes them.
    let buffer = unsafe { Buffer::from_foreign(start, 5, owner) }.unwrap();
    assert_eq!(buffer.address(), start.addr().get());
    let slice = buffer.slice(1, 3).unwrap();
    let copy = buffer.clone();
    drop(buffer);
    drop(copy);
    assert_eq!(
        (&slice[..], drops.load(Ordering::SeqCst)),
        (&[2, 3, 4][..], 0)
    );
    let threads: Vec<_> = (0..4)
        .map(|i| slice.slice(i % 3, 1).unwrap())
        .map(|slice| std::thread::spawn(move || slice[0]))
        .collect();
    drop(slice);
    let sum: u8 = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    assert_eq!((sum, drops.load(Ordering::SeqCst)), (2 + 3 + 4 + 2, 1));
}

/// Case 121: two buffers over one memory have one address.
#[test]
fn case_121_address() {
    let bytes: &'static [u8] = b"some bytes";
    let [first, second] = [bytes; 2].map(|bytes| Buffer::from_owner(bytes).unwrap());
    assert_eq!(
        (first.address(), second.address()),
        (bytes.as_ptr().addr(), first.address())
    );
    assert!(!first.block().ptr_eq(second.block()));
}

/// Case 122: a buffer equals whatever holds the same bytes.
#[test]
fn case_122_equals_other_holders() {
    let buffer = copy_of(&[1, 0, 0, 0, 2, 0, 0, 0]);
    let numbers: Vec<u8> = [1_i32, 2].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(buffer, Buffer::from_owner(numbers).unwrap());
    assert_eq!(&buffer[..], &[1, 0, 0, 0, 2, 0, 0, 0]);
    assert_ne!(&buffer[..], b"other");
}

/// Case 123: bytes by index, from the end too.
#[test]
fn case_123_at() {
    let buffer = copy_of(b"buffer");
    for (index, byte) in [(0, b'b'), (5, b'r'), (-1, b'r'), (-6, b'b')] {
        assert_eq!(buffer.at(index).unwrap(), byte);
    }
    for index in [6, -7, isize::MAX, isize::MIN] {
        let error = buffer.at(index).unwrap_err();
        assert_eq!(error.code(), OUT_OF_RANGE);
        assert!(error.to_string().contains(&index.to_string()));
    }
    assert!(copy_of(b"").at(-1).is_err());
}

/// Case 124: every range agrees with the slice's own.
#[test]
fn case_124_slices_agree_with_ranges() {
    let buffer = copy_of(b"0123456");
    let size = buffer.len();
    for start in 0..2 * size {
        for end in 0..2 * size {
            let slice = end
                .checked_sub(start)
                .map(|length| buffer.slice(start, length));
            match (slice, buffer.get(start..end)) {
                (Some(Ok(slice)), Some(bytes)) => assert_eq!(&slice[..], bytes),
                (None | Some(Err(_)), None) => {}
                other => panic!("{start}..{end}: {other:?}"),
            }
        }
    }
}

/// Case 128: a new buffer is mutable and whole; a resizable one changes its size.
#[test]
fn case_128_allocate() {
    let pool = system_memory_pool().proxy();
    let mut buffer = UninitBuffer::allocate(100, Alignment::DEFAULT, &pool)
        .unwrap()
        .fill(1);
    buffer[99] = 2;
    assert_eq!((buffer.len(), buffer.freeze().strong_count()), (100, 1));
    let mut buffer = ResizableBuffer::zeroed(100, &pool).unwrap();
    buffer.resize(200, true).unwrap();
    assert_eq!(buffer.len(), 200);
    // Any whole buffer of a pool can become resizable; a part cannot.
    let buffer = buffer.into_mutable();
    let mut buffer = ResizableBuffer::try_from(buffer).unwrap();
    buffer.resize(50, true).unwrap();
    let (front, back) = buffer.into_mutable().split_at(20).unwrap();
    let front = ResizableBuffer::try_from(front).unwrap_err();
    drop(back);
    assert_eq!(ResizableBuffer::try_from(front).unwrap().len(), 20);
}

/// Case 132: conversions leave no reference behind.
#[test]
fn case_132_reference_count_is_stable() {
    let pool = system_memory_pool().proxy();
    let buffer = Buffer::copy_from(b"data", &pool).unwrap();
    for _ in 0..10 {
        let reader = offheap::BufferReader::new(buffer.clone());
        assert_eq!(buffer.strong_count(), 2);
        drop(reader);
        let shared = buffer.clone().try_into_mutable().unwrap_err();
        drop((shared, buffer.slice(1, 2).unwrap()));
        assert_eq!(buffer.strong_count(), 1);
    }
    let pools = Pool::custom(pool.clone());
    drop(pools);
    drop(buffer);
    assert_eq!(pool.live_allocations(), 0);
}

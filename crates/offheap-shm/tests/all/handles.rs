//! Handles that are not what their creator made.

use crate::why;
use offheap_shm::{
    OpenOptions, SharedBufferHandle, SharedMemory, SharedMemoryHandle, SharedMemoryOptions, import,
};
use proptest::prelude::*;

const RO: OpenOptions = OpenOptions { read_only: true };
const INVALID: &str = "ERR_OFFHEAP_INVALID_ARGUMENT";
const GONE: &str = "ERR_OFFHEAP_DISPOSED";

fn made() -> (SharedMemory, SharedMemoryHandle) {
    let memory = SharedMemory::create(10_000, &SharedMemoryOptions::default()).unwrap();
    let handle = memory.handle().unwrap();
    (memory, handle)
}

fn open(handle: &SharedMemoryHandle) -> String {
    match SharedMemory::open(handle, RO) {
        Ok(_) => "opened".to_owned(),
        Err(error) => crate::peer::describe(&error),
    }
}

/// The handle with a hex digit of its key changed.
fn flip(handle: &SharedMemoryHandle, at: usize) -> SharedMemoryHandle {
    let mut key = handle.key.clone().into_bytes();
    key[at] = if key[at] == b'0' { b'1' } else { b'0' };
    SharedMemoryHandle {
        key: String::from_utf8(key).unwrap(),
        ..handle.clone()
    }
}

#[test]
fn every_digit_of_a_key_counts() {
    let (_memory, handle) = made();
    assert_eq!(open(&handle), "opened");
    for at in 0..handle.key.len() {
        let result = open(&flip(&handle, at));
        // Of the secret, and of what kind of handle it is.
        if !(4..68).contains(&at) {
            assert_eq!(result, INVALID, "digit {at}");
        } else {
            assert_ne!(result, "opened", "digit {at}");
        }
    }
}

#[test]
fn numbers_that_lie_are_found_out_before_anything_is_mapped() {
    let (memory, handle) = made();
    let sizes = [
        0,
        1,
        9_999,
        10_001,
        12_224,
        12_225,
        1 << 40,
        (1 << 53) - 1,
        1 << 53,
        u64::MAX,
    ];
    for size in sizes {
        let lying = SharedMemoryHandle {
            size,
            ..handle.clone()
        };
        assert_eq!(open(&lying), INVALID, "{size}");
    }
    let truncated = SharedMemoryHandle {
        key: handle.key[..98].into(),
        ..handle.clone()
    };
    assert_eq!(open(&truncated), INVALID);
    // A key of another memory, which is there as well.
    let (_other, foreign) = made();
    let mixed = SharedMemoryHandle {
        key: foreign.key,
        ..handle.clone()
    };
    assert_ne!(open(&mixed), "opened");
    drop(memory);
    assert_eq!(open(&handle), GONE);
}

#[test]
fn ranges_of_buffers_lie_inside_of_their_memory() {
    let (_memory, handle) = made();
    let import_of = |offset, length| {
        let handle = SharedBufferHandle {
            memory: handle.clone(),
            offset,
            length,
        };
        // SAFETY: nobody writes the memory.
        unsafe { import(&handle) }
    };
    assert_eq!(import_of(10_000, 0).unwrap().len(), 0);
    assert_eq!(import_of(0, 10_000).unwrap().len(), 10_000);
    for (offset, length) in [
        (0, 10_001),
        (10_000, 1),
        (10_001, 0),
        (1, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
    ] {
        assert_eq!(why(import_of(offset, length)), INVALID);
    }
}

proptest! {
    #[test]
    fn any_text_is_a_handle_or_a_typed_error(text in ".{0,200}") {
        if let Err(error) = text.parse::<SharedMemoryHandle>() {
            prop_assert_eq!(error.code(), INVALID);
        }
        if let Err(error) = text.parse::<SharedBufferHandle>() {
            prop_assert_eq!(error.code(), INVALID);
        }
    }

    #[test]
    fn text_like_a_handle_is_read_as_it_is_written(
        process: u32, descriptor: u32, size in 0..1_u64 << 53, key in "[0-9a-f]{0,120}",
    ) {
        let handle = SharedMemoryHandle { process, descriptor, size, key };
        prop_assert_eq!(handle.to_string().parse::<SharedMemoryHandle>().unwrap(), handle);
    }

    /// Whatever a handle says of another process, opening it is refused with a type.
    #[test]
    fn any_handle_is_refused_with_a_type(
        process: u32, descriptor in 0..40_u32, size: u64, key in "4c01[0-9a-f]{96}",
    ) {
        let result = open(&SharedMemoryHandle { process, descriptor, size, key });
        prop_assert!(result.starts_with("ERR_OFFHEAP_"), "{}", result);
    }

    /// A true handle with some of it changed.
    #[test]
    fn a_changed_handle_is_refused(
        digits in proptest::collection::vec(0..100_usize, 0..4),
        process in proptest::option::of(any::<u32>()),
        descriptor in proptest::option::of(0..200_u32),
        size in proptest::option::of(any::<u64>()),
    ) {
        let (_memory, handle) = made();
        let mut changed = handle.clone();
        for at in digits {
            changed = flip(&changed, at);
        }
        changed.process = process.unwrap_or(changed.process);
        changed.descriptor = descriptor.unwrap_or(changed.descriptor);
        changed.size = size.unwrap_or(changed.size);
        let result = open(&changed);
        if changed == handle {
            prop_assert_eq!(result, "opened");
        } else {
            prop_assert!(result.starts_with("ERR_OFFHEAP_"), "{}", result);
        }
    }
}

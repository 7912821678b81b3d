//! `mr_ref_test_basic.hpp`, `mr_ref_test_allocation.hpp` (with `mr_ref_test.hpp`), `host_mr_ref_tests.cpp`,
//! `stream_allocator_adaptor_tests.cpp`: what every kind of memory does, on every kind of stream.

use crate::kinds::{KIB, Kind, MIB, Random, TOO_MUCH, code, cuda_alignment, kinds};
use crate::where_it_runs::gpu;
use offheap::{Alignment, Block, DeviceType, MemoryManager};

/// Each kind of memory on the legacy default stream and one that was made; managers take no thread's own default
/// stream (case 83 of the suite `gpu`).
pub(crate) fn kinds_on_streams() -> Vec<(&'static str, Kind)> {
    let gpu = gpu();
    let streams = [
        ("default stream", gpu.default_stream()),
        ("stream", gpu.create_stream(None).unwrap()),
    ];
    let on = |kind: &Kind| {
        let places = if kind.cuda.is_some() { 2 } else { 1 };
        streams[..places]
            .iter()
            .map(|(name, stream)| (*name, kind.on(stream)))
            .collect::<Vec<_>>()
    };
    kinds().iter().flat_map(on).collect()
}

/// RMM's `test_various_allocations`; for 1 GiB here 64 MiB, since four threads share a double's 4 GiB.
pub(crate) fn various_allocations(kind: &Kind) {
    for size in [0, 4, KIB, MIB, 64 * MIB] {
        kind.check_allocation(size);
    }
    let refused = kind.block(TOO_MUCH).unwrap_err();
    assert!(refused.is_out_of_memory(), "{}: {refused}", kind.name);
    assert!(
        refused.to_string().contains(&TOO_MUCH.to_string()),
        "{}: {refused}",
        kind.name
    );
}

/// RMM's `test_random_allocations`.
pub(crate) fn random_allocations(kind: &Kind, most: usize) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let blocks: Vec<Block> = (0..100)
        .map(|_| {
            let block = kind.block(1 + random.below(most)).unwrap();
            assert!(cuda_alignment().is_aligned(block.as_ptr().addr().get()));
            block
        })
        .collect();
    check_apart(kind, &blocks);
}

/// RMM's `test_mixed_random_allocation_free`.
pub(crate) fn mixed_random_allocation_free(kind: &Kind, most: usize) {
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    let mut blocks: Vec<Block> = Vec::new();
    let mut allocations = 0;
    for _ in 0..200 {
        let allocates = blocks.is_empty() || random.below(100) < 53;
        if allocates && allocations < 100 {
            allocations += 1;
            blocks.push(kind.block(1 + random.below(most)).unwrap());
            check_apart(kind, &blocks);
        } else if !blocks.is_empty() {
            drop(blocks.swap_remove(random.below(blocks.len())));
        }
    }
    assert_eq!(allocations, 100);
}

fn check_apart(kind: &Kind, blocks: &[Block]) {
    let mut ranges: Vec<(usize, usize)> = blocks
        .iter()
        .map(|block| (block.as_ptr().addr().get(), block.size()))
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{}: overlap", kind.name);
    }
}

/// `SelfEquality`, `EqualityWithSamePool`, and that memory of another pool is not equal (`DifferentPoolsUnequal`,
/// `unequal_resources`).
#[test]
fn self_equality() {
    let managed = || gpu().managed_manager().unwrap();
    assert!(managed().equals(&managed()));
    let (all, others) = (kinds(), kinds());
    for (at, kind) in all.iter().enumerate() {
        assert!(kind.manager.equals(&*kind.manager), "{}", kind.name);
        assert!(kind.manager.equals(&*kind.over(&kind.pool()).manager));
        for other in all.iter().skip(at + 1).chain(&others) {
            assert!(!kind.manager.equals(&*other.manager), "{}", kind.name);
        }
    }
}

/// `AllocationsAreDifferent`, `AsyncAllocationsAreDifferentDefaultStream`, `AsyncAllocationsAreDifferent` (RMM#861).
#[test]
fn allocations_are_different() {
    for (stream, kind) in kinds_on_streams() {
        let (first, second) = (kind.block(8).unwrap(), kind.block(8).unwrap());
        assert_ne!(first.as_ptr(), second.as_ptr(), "{} {stream}", kind.name);
    }
}

/// `AllocateDefault`, `AllocateDefaultStream`, `AllocateOnStream`; `AllocateZeroBytes`, `AllocateWord`,
/// `AllocateKB`, `AllocateMB`, `AllocateGB`, `AllocateTooMuch` of the host's.
#[test]
fn allocate() {
    for (stream, kind) in kinds_on_streams() {
        various_allocations(&kind);
        assert_eq!(kind.pool().bytes_allocated(), 0, "{} {stream}", kind.name);
    }
}

/// `RandomAllocations`, `RandomAllocationsDefaultStream`, `RandomAllocationsStream`.
#[test]
fn random() {
    for (stream, kind) in kinds_on_streams() {
        random_allocations(&kind, 5 * MIB);
        assert_eq!(kind.pool().live_allocations(), 0, "{} {stream}", kind.name);
    }
}

/// `MixedRandomAllocationFree`, `MixedRandomAllocationFreeDefaultStream`, `MixedRandomAllocationFreeStream`.
#[test]
fn mixed_random() {
    for (stream, kind) in kinds_on_streams() {
        mixed_random_allocation_free(&kind, 5 * MIB);
        assert_eq!(kind.pool().live_allocations(), 0, "{} {stream}", kind.name);
    }
}

/// `AlignmentTest` of the host's memory, on every kind.
#[test]
fn alignments() {
    let mut random = Random(7);
    for kind in kinds() {
        for power in 4..=12 {
            let alignment = Alignment::new(1 << power).unwrap();
            for _ in 0..10 {
                let size = 1 + random.below(MIB);
                let block = kind.manager.allocate(size, alignment, false).unwrap();
                assert!(
                    alignment.is_aligned(block.as_ptr().addr().get()),
                    "{}",
                    kind.name
                );
            }
        }
    }
}

/// `isPinned`; and the CPU writes and reads it (`AllocatedPointerIsAccessibleFromHost`).
#[test]
fn page_locked_memory_is_the_cpus() {
    let kind = kinds().pop().unwrap();
    let mut buffer = offheap::MutableDeviceBuffer::zeroed(400, &kind.manager).unwrap();
    assert_eq!(buffer.location().device_type, DeviceType::CUDA_HOST);
    buffer.as_mut_slice().unwrap()[399] = 9;
    assert_eq!(buffer.freeze().as_cpu().unwrap()[399], 9);
}

/// `BasicAllocateDeallocate`, `AllocatedPointerIsManaged`, `MultipleAllocationsAreManaged`,
/// `AllocatedPointerIsAccessibleFromHost` of `cuda_async_managed_mr_tests.cpp`.
#[test]
fn managed_memory_is_both_sides() {
    let managed = kinds()
        .into_iter()
        .find(|kind| kind.name == "managed")
        .unwrap();
    let buffers = [512, 1024, 256].map(|size| {
        let buffer = offheap::MutableDeviceBuffer::zeroed(size, &managed.manager).unwrap();
        assert_eq!(buffer.location().device_type, DeviceType::CUDA_MANAGED);
        buffer
    });
    let concurrent = gpu().properties().unwrap().has_concurrent_managed_access;
    for mut buffer in buffers {
        assert_eq!(buffer.is_cpu(), concurrent);
        if concurrent {
            buffer.as_mut_slice().unwrap().fill(50);
            let mut found = [0];
            buffer.freeze().read(255, &mut found).unwrap();
            assert_eq!(found, [50]);
        } else {
            assert_eq!(code(buffer.as_mut_slice()), "ERR_OFFHEAP_NOT_SUPPORTED");
        }
    }
}

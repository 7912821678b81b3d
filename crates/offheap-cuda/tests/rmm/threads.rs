//! `mr_ref_test_mt.hpp`: four threads at once, and blocks that end on another thread than they began on.

use crate::kinds::{Kind, MIB, Random, kinds};
use crate::mr_ref::{
    kinds_on_streams, mixed_random_allocation_free, random_allocations, various_allocations,
};
use crate::where_it_runs::gpu;
use offheap::{Block, MutableDeviceBuffer};
use offheap_cuda::{CopyRange, CudaStream, fill_async};
use std::sync::mpsc::sync_channel;

/// RMM's `spawn`.
fn on_four_threads(kind: &Kind, act: impl Fn(&Kind) + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| act(kind));
        }
    });
    assert_eq!(
        (
            kind.pool().live_allocations(),
            kind.pool().bytes_allocated()
        ),
        (0, 0),
        "{}",
        kind.name
    );
}

/// `Allocate`, `AllocateDefaultStream`, `AllocateOnStream`.
#[test]
fn allocate() {
    for (_, kind) in kinds_on_streams() {
        on_four_threads(&kind, various_allocations);
    }
}

/// `RandomAllocations`, `RandomAllocationsDefaultStream`, `RandomAllocationsStream`.
#[test]
fn random() {
    for (_, kind) in kinds_on_streams() {
        on_four_threads(&kind, |kind| random_allocations(kind, MIB));
    }
}

/// `MixedRandomAllocationFree`, `MixedRandomAllocationFreeDefaultStream`, `MixedRandomAllocationFreeStream`.
#[test]
fn mixed_random() {
    for (_, kind) in kinds_on_streams() {
        on_four_threads(&kind, |kind| mixed_random_allocation_free(kind, MIB));
    }
}

/// A GPU's work on memory that no buffer keeps, as a kernel's is.
fn fill(stream: &CudaStream, block: &Block, byte: u8) {
    let (start, size) = (block.as_ptr(), block.size());
    // SAFETY: the test keeps the memory, or frees it in the stream's order; nobody reads it meanwhile.
    let all = unsafe { Block::foreign_at(start, size, block.location(), ()) }.unwrap();
    let range = CopyRange {
        block: all,
        offset: 0,
    };
    // SAFETY: as above.
    unsafe { fill_async(stream, range, byte, size, || ()) }.unwrap();
}

/// RMM's `test_async_allocate_free_different_threads`: one thread allocates and uses blocks in `made_on`, another
/// uses them in `freed_on` and lets them go. What frees them is their own stream, so it is made to wait for the other.
fn allocate_and_free_on_different_threads(
    kind: &Kind,
    made_on: &CudaStream,
    freed_on: &CudaStream,
) {
    let maker = kind.on(made_on);
    let (give, take) = sync_channel(4);
    std::thread::scope(|scope| {
        let (kind, taken_from) = (&maker, take);
        scope.spawn(move || {
            let mut random = Random(3);
            for _ in 0..100 {
                let size = 1 + random.below(MIB);
                let buffer = MutableDeviceBuffer::allocate(size, &kind.manager)
                    .unwrap()
                    .freeze();
                fill(made_on, buffer.block(), size as u8);
                give.send((buffer, made_on.record().unwrap())).unwrap();
            }
        });
        scope.spawn(move || {
            for (buffer, event) in taken_from {
                freed_on.wait(&event).unwrap();
                let size = buffer.len();
                fill(freed_on, buffer.block(), !(size as u8));
                freed_on.synchronize().unwrap();
                let mut last = [0];
                buffer.read(size - 1, &mut last).unwrap();
                assert_eq!(last, [!(size as u8)], "{}", kind.name);
                made_on.wait_stream(freed_on).unwrap();
                drop(buffer);
            }
        });
    });
    assert_eq!(maker.pool().live_allocations(), 0, "{}", maker.name);
    gpu().synchronize().unwrap();
}

/// `AllocFreeDifferentThreadsDefaultStream`,
/// `AllocFreeDifferentThreadsSameStream`, `AllocFreeDifferentThreadsDifferentStream`.
#[test]
fn alloc_free_different_threads() {
    let gpu = gpu();
    let (a, b) = (
        gpu.create_stream(None).unwrap(),
        gpu.create_stream(None).unwrap(),
    );
    for kind in kinds() {
        allocate_and_free_on_different_threads(&kind, &gpu.default_stream(), &gpu.default_stream());
        allocate_and_free_on_different_threads(&kind, &a, &a);
        allocate_and_free_on_different_threads(&kind, &a, &b);
    }
}

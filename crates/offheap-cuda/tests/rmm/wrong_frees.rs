//! What was never given out is not taken back, and is told, whatever the allocator.

use crate::kinds::{KIB, MIB, code, cuda_alignment, kinds};
use offheap::Alignment;

/// `DeallocWrongBytes` of the tracking tests is another size here, which the cached allocators see by themselves; the
/// driver is not told any size.
#[test]
fn wrong_pointers_and_sizes_are_not_counted_as_freed() {
    for kind in kinds() {
        let pool = kind.pool();
        let alignment = cuda_alignment();
        // One of a slab, where there are slabs, and a large one.
        for size in [2 * KIB, MIB] {
            let block = pool.allocate_on_device(size, alignment, false).unwrap();
            let is_cached = ["pool", "pinned"].contains(&kind.name);
            let inside = block.map_addr(|start| start.checked_add(256).unwrap());
            let mut wrong = vec![(inside, size)];
            if is_cached {
                wrong.push((block, size + 4096));
                wrong.push((block, 256));
            }
            for (pointer, size) in wrong {
                // SAFETY: not a block: every source of these pools refuses what it has not given out, by its own
                // books or by the driver's. Nobody uses the memory.
                unsafe { pool.free(pointer, size, alignment) };
                assert_eq!(
                    (pool.live_allocations(), pool.bytes_allocated()),
                    (
                        1,
                        if is_cached {
                            pool.bytes_allocated()
                        } else {
                            size as u64
                        }
                    ),
                    "{}",
                    kind.name
                );
            }
            let before = pool.bytes_allocated();
            // SAFETY: the block, with its size.
            unsafe { pool.free(block, size, alignment) };
            assert_eq!(pool.live_allocations(), 0, "{}", kind.name);
            assert_eq!((before, pool.bytes_allocated()), (size as u64, 0));
            // The allocator goes on.
            drop(kind.block(size).unwrap());
        }
    }
}

/// What is aligned behind the driver's address is still found after a refused free.
#[test]
fn wrong_frees_of_aligned_blocks() {
    for kind in kinds() {
        let pool = kind.pool();
        let alignment = Alignment::new(2 * MIB).unwrap();
        let before = pool.allocate_on_device(256, cuda_alignment(), false);
        let block = pool.allocate_on_device(KIB, alignment, false).unwrap();
        let inside = block.map_addr(|start| start.checked_add(256).unwrap());
        // SAFETY: as above.
        unsafe { pool.free(inside, KIB, alignment) };
        assert_eq!(pool.live_allocations(), 2, "{}", kind.name);
        // SAFETY: both blocks, with their sizes.
        unsafe {
            pool.free(block, KIB, alignment);
            pool.free(before.unwrap(), 256, cuda_alignment());
        }
        assert_eq!(pool.live_allocations(), 0, "{}", kind.name);
    }
}

/// A block that the allocator does not know cannot grow, either.
#[test]
fn wrong_reallocations_are_errors() {
    for kind in kinds() {
        if !["pool", "pinned"].contains(&kind.name) {
            continue;
        }
        let pool = kind.pool();
        let alignment = cuda_alignment();
        let block = pool.allocate_on_device(KIB, alignment, false).unwrap();
        // SAFETY: the block with a size that it does not have, which the allocator's books tell.
        let grown = unsafe { pool.reallocate(block, 4 * KIB, 8 * KIB, alignment) };
        assert_eq!(code(grown), "ERR_OFFHEAP_CORRUPTION", "{}", kind.name);
        assert_eq!(pool.live_allocations(), 1);
        // SAFETY: the block; the rest of its granule is its own.
        let same = unsafe { pool.reallocate(block, KIB, KIB - 10, alignment) }.unwrap();
        assert_eq!(same, block, "{}: no copy where there is room", kind.name);
        // SAFETY: the block, with its size.
        unsafe { pool.free(same, KIB - 10, alignment) };
        assert_eq!(pool.bytes_allocated(), 0, "{}", kind.name);
    }
}

//! RMM's tests of its pool (`pool_mr_tests.cpp`) and of its arena's structures
//! (`arena_mr_tests.cpp`), where they apply: there is no global arena here, and superblocks are
//! chunks.

use super::*;
use offheap::ErrorKind;

#[test]
fn maximum_less_than_initial_is_refused() {
    let upstream = Arc::new(SimulatedUpstream::new(MIB, BASE));
    let options = SubAllocatorOptions::new().initial(1024).maximum(256);
    let error = SubAllocator::new(upstream.clone(), SimulatedStreams::new(), options).unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
    assert_eq!(upstream.calls(), 0);
}

#[test]
fn sizes_that_are_not_aligned_are_refused() {
    for (initial, maximum) in [(1_000_031, 1_000_192), (1_000_192, 1_000_200)] {
        let options = SubAllocatorOptions::new().initial(initial).maximum(maximum);
        let upstream = SimulatedUpstream::new(MIB, BASE);
        assert!(SubAllocator::new(upstream, SimulatedStreams::new(), options).is_err());
    }
}

#[test]
fn initial_and_maximum_may_be_equal() {
    let options = SubAllocatorOptions::new()
        .initial(1_000_192)
        .maximum(1_000_192);
    let rig = rig(MIB, options);
    rig.pool.allocate(1000, A).unwrap();
    assert_eq!(rig.upstream.calls(), 1);
}

#[test]
fn ninety_percent_can_be_allocated() {
    let total = 16 * 1024 * MIB;
    let ninety = total / 10 * 9 / 256 * 256;
    let rig = rig(total, SubAllocatorOptions::new().initial(ninety));
    let address = rig.pool.allocate(ninety, A).unwrap();
    assert_eq!(address, BASE);
    rig.pool.free(address, ninety, A).unwrap();
}

#[test]
fn two_large_buffers() {
    let free = 8 * 1024 * MIB;
    let rig = rig(free, SubAllocatorOptions::new().initial(free / 2));
    let blocks = [(); 2].map(|()| rig.pool.allocate(free / 4, A).unwrap());
    for block in blocks {
        rig.pool.free(block, free / 4, A).unwrap();
    }
    assert_eq!(rig.pool.statistics().largest_free, free / 2);
    assert_eq!(rig.upstream.calls(), 1);
}

#[test]
fn forced_growth() {
    let rig = rig(6000, SubAllocatorOptions::new().minimum_growth(256));
    for size in [1000, 4000, 500] {
        rig.pool.allocate(size, A).unwrap();
    }
    let error = rig.pool.allocate(2000, A).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    let report = rig.pool.out_of_memory_report().unwrap();
    assert_eq!((report.requested, report.maximum), (2000, None));
    assert_eq!(report.reserved, rig.upstream.bytes());
    assert!(report.upstream.unwrap().contains("simulated device"));
    rig.pool.check();
}

#[test]
fn forced_growth_with_a_maximum() {
    let options = SubAllocatorOptions::new().minimum_growth(256).maximum(8192);
    let rig = rig(6000, options.name("device 0"));
    rig.pool.allocate(1000, A).unwrap();
    let error = rig.pool.allocate(4000, A).unwrap_err();
    assert_eq!(
        *error.kind(),
        ErrorKind::OutOfMemory {
            requested: 4000,
            limit: Some(8192),
            allocated: 1024,
            pool: "device 0 (4096 bytes reserved, largest free block 3072 bytes)".into(),
        }
    );
    rig.pool.allocate(500, A).unwrap();
    rig.pool.allocate(2000, A).unwrap();
    rig.pool.check();
}

#[test]
fn the_memory_of_a_deleted_stream_is_used_again() {
    for retires in [false, true] {
        let rig = rig(MIB, plain().maximum(16 * KIB));
        let address = rig.pool.allocate(10_000, A).unwrap();
        let work = rig.streams.launch(A);
        rig.pool.free(address, 10_000, A).unwrap();
        if retires {
            rig.pool.retire_stream(A).unwrap();
        }
        rig.streams.destroy(A);
        assert_eq!(rig.pool.allocate(10_000, B).unwrap(), address);
        assert!(rig.streams.is_ordered(B, A, work));
        // Told in time, the pool need not wait for the whole device.
        assert_eq!(rig.streams.calls().2, u64::from(!retires));
        rig.pool.check();
    }
}

#[test]
fn a_block_freed_on_a_stream_that_is_gone_is_free_after_the_device_is_done() {
    let rig = rig(MIB, plain());
    let address = rig.pool.allocate(1000, A).unwrap();
    let other = rig.pool.allocate(1000, B).unwrap();
    let work = rig.streams.launch(A);
    rig.streams.destroy(A);
    rig.pool.free(address, 1000, A).unwrap();
    assert!(rig.streams.is_ordered(B, A, work));
    rig.pool.free(other, 1000, B).unwrap();
    rig.pool.check();
}

#[test]
fn a_pool_is_an_upstream_of_another() {
    struct Inner(Pool);
    impl crate::sub_allocator::Upstream for Inner {
        fn allocate_chunk(&self, size: u64) -> offheap::Result<u64> {
            self.0.allocate(size, A)
        }
        fn free_chunk(&self, address: u64, size: u64) -> offheap::Result<()> {
            self.0.free(address, size, A)
        }
    }
    let rig = rig(64 * MIB, SubAllocatorOptions::new());
    let outer = SubAllocator::new(
        Inner(rig.pool),
        SimulatedStreams::new(),
        SubAllocatorOptions::new(),
    )
    .unwrap();
    let address = outer.allocate(1024, A).unwrap();
    outer.free(address, 1024, A).unwrap();
    drop(outer);
    assert_eq!(rig.upstream.bytes(), 0);
}

#[test]
fn allocate_deallocate() {
    let rig = rig(4 * MIB, SubAllocatorOptions::new().initial(MIB));
    let address = rig.pool.allocate(4096, A).unwrap();
    assert_ne!(address, 0);
    rig.pool.free(address, 4096, A).unwrap();
    assert!(rig.pool.statistics().reserved.current >= MIB);
}

#[test]
fn nothing_is_a_block_without_an_address() {
    let rig = rig(MIB, plain());
    assert_eq!(rig.pool.allocate(0, A).unwrap(), 0);
    rig.pool.free(0, 0, A).unwrap();
    rig.pool.record_stream(0, 0, A).unwrap();
    assert_eq!(rig.upstream.calls(), 0);
    assert_eq!(rig.pool.statistics(), Default::default());
}

#[test]
fn extra_large_is_refused_twice() {
    let rig = rig(MIB, plain());
    for size in [1 << 50, u64::MAX, 2 * MIB] {
        for _ in 0..2 {
            assert!(rig.pool.allocate(size, A).unwrap_err().is_out_of_memory());
        }
    }
    assert_eq!(rig.pool.statistics().out_of_memory, 6);
    assert!(rig.pool.allocate_aligned(256, 1 << 62, A).is_err());
    assert!(rig.pool.allocate_aligned(256, 3, A).is_err());
    rig.pool.check();
}

/// Allocates as the arena tests do: 1 KiB and 2 KiB blocks in a pool of 1 MiB.
fn small_pool() -> Rig {
    rig(MIB, plain().initial(MIB).maximum(MIB))
}

#[test]
fn first_fit_in_the_order_of_addresses() {
    let rig = small_pool();
    let first = rig.pool.allocate(KIB, A).unwrap();
    let second = rig.pool.allocate(2 * KIB, A).unwrap();
    assert_eq!((first, second), (BASE, BASE + KIB));
    rig.pool.free(first, KIB, A).unwrap();
    assert_eq!(rig.pool.allocate(512, A).unwrap(), BASE);
}

#[test]
fn coalesce_after_full() {
    let rig = small_pool();
    let first = rig.pool.allocate(MIB / 2, A).unwrap();
    rig.pool.allocate(MIB / 2, A).unwrap();
    assert_eq!(rig.pool.statistics().largest_free, 0);
    rig.pool.free(first, MIB / 2, A).unwrap();
    assert_eq!(rig.pool.allocate(MIB / 2, A).unwrap(), first);
}

#[test]
fn coalesce_merges_next() {
    let rig = small_pool();
    let first = rig.pool.allocate(MIB / 2, A).unwrap();
    rig.pool.free(first, MIB / 2, A).unwrap();
    assert_eq!(rig.pool.allocate(MIB, A).unwrap(), BASE);
}

#[test]
fn coalesce_merges_previous() {
    let rig = small_pool();
    let [first, second, _third] = [(); 3].map(|()| rig.pool.allocate(KIB, A).unwrap());
    rig.pool.free(first, KIB, A).unwrap();
    rig.pool.free(second, KIB, A).unwrap();
    assert_eq!(rig.pool.allocate(2 * KIB, A).unwrap(), BASE);
    rig.pool.check();
}

#[test]
fn coalesce_merges_previous_and_next() {
    let rig = small_pool();
    let [first, second, third] = [(); 3].map(|()| rig.pool.allocate(KIB, A).unwrap());
    for address in [first, third, second] {
        rig.pool.free(address, KIB, A).unwrap();
        rig.pool.check();
    }
    assert_eq!(rig.pool.statistics().free_blocks, 1);
    assert_eq!(rig.pool.allocate(MIB, A).unwrap(), BASE);
}

#[test]
fn the_largest_free_block_is_known() {
    let rig = small_pool();
    let first = rig.pool.allocate(MIB / 4, A).unwrap();
    rig.pool.allocate(MIB / 4, A).unwrap();
    rig.pool.free(first, MIB / 4, A).unwrap();
    assert_eq!(rig.pool.statistics().largest_free, MIB / 2);
}

#[test]
fn chunks_are_never_joined() {
    let rig = rig(MIB, plain());
    let [first, second] = [(); 2].map(|()| rig.pool.allocate(256, A).unwrap());
    // The simulated chunks touch.
    assert_eq!(second, first + 256);
    assert_eq!(rig.upstream.chunks().len(), 2);
    rig.pool.free(first, 256, A).unwrap();
    rig.pool.free(second, 256, A).unwrap();
    let statistics = rig.pool.statistics();
    assert_eq!((statistics.free_blocks, statistics.largest_free), (2, 256));
    assert!(rig.pool.allocate(512, A).unwrap() > second);
    rig.pool.check();
}

#[test]
fn free_chunks_are_released_and_used_ones_stay() {
    let rig = rig(64 * MIB, plain().minimum_growth(2 * MIB));
    let sizes = [MIB, 2 * MIB, 4 * MIB, 4 * MIB];
    let blocks = sizes.map(|size| rig.pool.allocate(size, A).unwrap());
    let chunks = rig.upstream.chunks().len();
    rig.pool.free(blocks[1], sizes[1], A).unwrap();
    rig.pool.free(blocks[3], sizes[3], A).unwrap();
    let reserved = rig.upstream.bytes();
    assert_eq!(rig.pool.trim(reserved).unwrap(), 0);
    let released = rig.pool.trim(0).unwrap();
    assert!(released > 0);
    assert_eq!(rig.upstream.bytes(), reserved - released);
    assert!(rig.upstream.chunks().len() < chunks);
    rig.pool.check();
    rig.pool.free(blocks[0], sizes[0], A).unwrap();
    rig.pool.free(blocks[2], sizes[2], A).unwrap();
    rig.pool.trim(0).unwrap();
    assert_eq!(rig.upstream.bytes(), 0);
    rig.pool.check();
    rig.pool.allocate(MIB, A).unwrap();
}

#[test]
fn the_pool_grows_as_rmm_does() {
    let growth = |options: SubAllocatorOptions, capacity, sizes: &[u64]| -> Vec<u64> {
        let rig = rig(capacity, options);
        for &size in sizes {
            rig.pool.allocate(size, A).unwrap();
        }
        rig.upstream
            .chunks()
            .iter()
            .map(|&(_, size)| size)
            .collect()
    };
    // Without a maximum: as much as there is.
    assert_eq!(growth(plain(), MIB, &[1024; 4]), [1024, 1024, 2048]);
    // With a maximum: half of the rest.
    assert_eq!(
        growth(plain().maximum(64 * KIB), MIB, &[16 * KIB; 3]),
        [32 * KIB, 16 * KIB]
    );
    // Refused: half of that, down to what is needed.
    assert_eq!(
        growth(plain(), 9 * KIB, &[4 * KIB, 2 * KIB, 2 * KIB]),
        [4 * KIB, 4 * KIB]
    );
    assert_eq!(
        growth(plain(), 7 * KIB, &[4 * KIB, KIB]),
        [4 * KIB, 2 * KIB]
    );
    // The least that is asked for.
    let options = SubAllocatorOptions::new();
    assert_eq!(growth(options, 64 * MIB, &[100]), [2 * MIB]);
}

#[test]
fn what_upstream_could_use_better_is_given_back_before_a_refusal() {
    let rig = rig(16 * KIB, plain());
    let first = rig.pool.allocate(8 * KIB, A).unwrap();
    let second = rig.pool.allocate(8 * KIB, A).unwrap();
    rig.pool.free(first, 8 * KIB, A).unwrap();
    rig.pool.free(second, 8 * KIB, A).unwrap();
    rig.pool.allocate(16 * KIB, A).unwrap();
    assert_eq!(rig.upstream.chunks().len(), 1);
    rig.pool.check();
}

#[test]
fn what_is_no_live_block_is_refused_and_changes_nothing() {
    let rig = rig(8 * MIB, SubAllocatorOptions::new());
    for size in [256, 3 * KIB, 2 * MIB] {
        let address = rig.pool.allocate(size, A).unwrap();
        let before = rig.pool.statistics();
        for (wrong, bytes) in [
            (address + 256, size),
            (address + 1, size),
            (address, size + 256),
            (1 << 60, size),
            (address, u64::MAX),
        ] {
            let error = rig.pool.free(wrong, bytes, A).unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_CORRUPTION");
            assert!(rig.pool.record_stream(wrong, bytes, B).is_err());
        }
        assert_eq!(rig.pool.statistics(), before);
        rig.pool.free(address, size, A).unwrap();
        assert!(rig.pool.free(address, size, A).is_err(), "freed twice");
        rig.pool.check();
    }
}

#[test]
fn alignment_is_kept() {
    let rig = rig(256 * MIB, SubAllocatorOptions::new());
    for power in 0..24 {
        let alignment = 1 << power;
        let address = rig.pool.allocate_aligned(1000, alignment, A).unwrap();
        assert_eq!(address % alignment.max(256), 0);
        rig.pool.check();
        if power % 2 == 0 {
            rig.pool.free(address, 1000, A).unwrap();
        }
    }
}

#[test]
fn small_blocks_share_slabs_and_give_them_up() {
    let rig = rig(64 * MIB, SubAllocatorOptions::new().initial(8 * MIB));
    let blocks: Vec<_> = (0..1000)
        .map(|_| rig.pool.allocate(300, A).unwrap())
        .collect();
    let statistics = rig.pool.statistics();
    assert_eq!(statistics.allocated.current, 512_000);
    assert_eq!(statistics.requested.current, 300_000);
    assert!(statistics.slabs <= 1000 / 128 + 1, "{}", statistics.slabs);
    rig.pool.check();
    for block in blocks {
        rig.pool.free(block, 300, A).unwrap();
    }
    rig.pool.check();
    assert_eq!(
        rig.pool.statistics().slabs,
        1,
        "one stays for the next block"
    );
    // It does not stand in the way of a large block.
    assert_eq!(rig.pool.allocate(8 * MIB, A).unwrap(), BASE);
    assert_eq!(rig.upstream.calls(), 1);
    rig.pool.check();
}

//! `pool_mr_tests.cpp`, `pinned_host_pool_mr_tests.cpp`, `cuda_async_mr_tests.cpp`, `binning_mr_tests.cpp`, on the
//! driver; `src/sub_allocator/tests/rmm.rs` has the pool's own on a simulated device.

use crate::kinds::{KIB, Kind, MIB, code, device_managers, kinds};
use crate::where_it_runs::gpu;
use offheap::{MemoryManager, Pool};
use offheap_cuda::sub_allocator::{
    NoStreams, PoolUpstream, StreamId, SubAllocator, SubAllocatorOptions, SubAllocatorSource,
};
use offheap_cuda::{AllocatorStatistics, DriverPoolOptions, devices};
use std::sync::Arc;

fn pool(options: SubAllocatorOptions) -> offheap::Result<Kind> {
    Ok(Kind::of("pool", gpu().pool_manager(options)?))
}

fn options() -> SubAllocatorOptions {
    SubAllocatorOptions::new()
}

/// A part of the GPU's memory that other tests leave to this one.
fn share() -> u64 {
    let (free, _) = gpu().memory_info().unwrap();
    (free / 4).min(1 << 30) / 256 * 256
}

/// `ThrowMaxLessThanInitial`, `NonAlignedPoolSize`, `InitialAndMaxPoolSizeEqual`; `ReferenceThrowMaxLessThanInitial`.
#[test]
fn sizes_of_pools() {
    let wrong = [(1024, 256), (1_000_031, 1_000_192), (1_000_192, 1_000_200)];
    for (initial, maximum) in wrong {
        let refused = pool(options().initial(initial).maximum(maximum));
        assert_eq!(code(refused), "ERR_OFFHEAP_INVALID_ARGUMENT");
    }
    let kind = pool(options().initial(1_000_192).maximum(1_000_192)).unwrap();
    drop(kind.block(1000).unwrap());
}

/// `AllocateNinetyPercent`, `TwoLargeBuffers`, of what other tests leave free; `SmallMediumLarge` of the arena.
#[test]
fn large_shares() {
    let share = share();
    let ninety = share / 10 * 9 / 256 * 256;
    drop(pool(options().initial(ninety)).unwrap());
    let kind = pool(options().initial(share / 512 * 256)).unwrap();
    let quarter = usize::try_from(share / 4).unwrap();
    drop([kind.block(quarter).unwrap(), kind.block(quarter).unwrap()]);
    let (small, medium) = (kind.block(256).unwrap(), kind.block(64 * MIB).unwrap());
    let large = kind.block(quarter).unwrap();
    drop((small, medium, large));
    assert_eq!(kind.pool().bytes_allocated(), 0);
}

/// `ForceGrowth`, both halves: under a limit of upstream's, and with a maximum too.
#[test]
fn force_growth() {
    let sizes = |maximum: Option<u64>, sizes: &[(usize, bool)]| {
        for kind in kinds() {
            // Cut by our allocator, whatever the memory.
            let limited = kind.pool().limit(6000);
            let options = options().minimum_growth(256).small_limit(0);
            let options = match maximum {
                Some(maximum) => options.maximum(maximum),
                None => options,
            };
            let upstream = PoolUpstream::new(limited);
            let allocator = SubAllocator::new(upstream, NoStreams, options).unwrap();
            let mut blocks = Vec::new();
            for (size, fits) in sizes {
                let block = allocator.allocate(*size as u64, StreamId(0));
                assert_eq!(block.is_ok(), *fits, "{} of {size}", kind.name);
                blocks.extend(block.map(|address| (address, *size as u64)));
            }
            for (address, size) in blocks {
                allocator.free(address, size, StreamId(0)).unwrap();
            }
            drop(allocator);
            assert_eq!(kind.pool().bytes_allocated(), 0, "{}", kind.name);
        }
    };
    sizes(
        None,
        &[(1000, true), (4000, true), (500, true), (2000, false)],
    );
    let with_maximum = [(1000, true), (4000, false), (500, true), (2000, true)];
    sizes(Some(8192), &with_maximum);
}

/// `DeletedStream`: also when the memory is all there is.
#[test]
fn deleted_stream() {
    for (name, manager) in device_managers() {
        let stream = gpu().create_stream(None).unwrap();
        let block = Kind::of(name, manager.on(&stream).unwrap()).block(10_000);
        drop((block.unwrap(), stream));
        drop(Kind::of(name, manager).block(10_000).unwrap());
    }
    let kind = pool(options().initial(MIB as u64).maximum(MIB as u64)).unwrap();
    for _ in 0..20 {
        let stream = gpu().create_stream(None).unwrap();
        drop(kind.on(&stream).block(MIB).unwrap());
    }
    drop(kind.block(MIB).unwrap());
}

/// `UpstreamDoesntSupportMemInfo`: a pool cut from a pool.
#[test]
fn a_pool_over_a_pool() {
    for kind in kinds() {
        let upstream = PoolUpstream::new(kind.pool());
        let allocator = SubAllocator::new(upstream, NoStreams, options()).unwrap();
        let address = allocator.allocate(1024, StreamId(0)).unwrap();
        allocator.free(address, 1024, StreamId(0)).unwrap();
        drop(allocator);
        assert_eq!(kind.pool().bytes_allocated(), 0, "{}", kind.name);
    }
}

/// `MultidevicePool`, where there are two.
#[test]
fn multidevice_pool() {
    let pools: Vec<Kind> = devices()
        .iter()
        .take(2)
        .map(|gpu| {
            let options = options().initial(MIB as u64).maximum(MIB as u64);
            Kind::of("pool", gpu.pool_manager(options).unwrap())
        })
        .collect();
    let blocks: Vec<_> = pools.iter().map(|kind| kind.block(16).unwrap()).collect();
    for (block, kind) in blocks.iter().zip(&pools) {
        assert_eq!(block.location(), kind.pool().location());
    }
    if let [first, second] = &pools[..] {
        assert_ne!(first.pool().location(), second.pool().location());
        second.check_allocation(KIB);
        first.check_allocation(KIB);
    }
}

/// `PoolMemoryResourceTest`: `AllocateDeallocate`, `SharedOwnership`, `Equality`, `PoolSize`.
#[test]
fn pool_memory_resource() {
    let kind = pool(options().initial(MIB as u64)).unwrap();
    let other = pool(options().initial(MIB as u64)).unwrap();
    let copy = kind.clone();
    assert!(kind.manager.equals(&*copy.manager));
    assert!(!kind.manager.equals(&*other.manager));
    let block = kind.block(4096).unwrap();
    drop((kind, other));
    let manager = copy.cuda.as_ref().unwrap();
    let AllocatorStatistics::SubAllocator(now) = manager.allocator_statistics().unwrap() else {
        panic!("another allocator");
    };
    assert!(now.reserved.current >= MIB as u64);
    drop(copy);
    drop(block);
}

/// `PinnedPoolTest` `ThrowOutOfMemory`, `InitialAndMaxPoolSizeEqual`, `NonAlignedPoolSize`: our allocator over
/// page-locked chunks.
#[test]
fn pinned_pool() {
    let pinned = kinds().pop().unwrap();
    let made = |options: SubAllocatorOptions| {
        let upstream = PoolUpstream::new(pinned.pool());
        let allocator = Arc::new(SubAllocator::new(upstream, NoStreams, options)?);
        SubAllocatorSource::on_host(allocator, StreamId(0)).map(Pool::custom)
    };
    for (initial, maximum) in [(1024, 256), (1_000_031, 1_000_192), (1_000_192, 1_000_200)] {
        let refused = made(options().initial(initial).maximum(maximum));
        assert_eq!(code(refused), "ERR_OFFHEAP_INVALID_ARGUMENT");
    }
    let pool = made(options().initial(1_000_192).maximum(1_000_192)).unwrap();
    drop(offheap::MutableBuffer::zeroed(1000, &pool).unwrap());
    let pool = made(options().maximum(1024)).unwrap();
    let buffer = offheap::MutableBuffer::zeroed(1024, &pool).unwrap();
    let refused = offheap::MutableBuffer::zeroed(1024, &pool).unwrap_err();
    assert!(refused.is_out_of_memory(), "{refused}");
    drop(buffer);
}

/// `AsyncMRTest`: `ExplicitInitialPoolSize`, `ExplicitReleaseThreshold`, `DefaultReleaseThresholdIsUint64Max`,
/// `ExplicitReleaseThresholdIsApplied` (by what it does: what is kept when the stream was waited for),
/// `DifferentPoolsUnequal`.
#[test]
fn driver_pools() {
    let made = |initial_size, release_threshold| {
        let options = DriverPoolOptions {
            initial_size,
            release_threshold,
            ..DriverPoolOptions::default()
        };
        gpu().driver_pool_manager(&options).unwrap()
    };
    assert_eq!(DriverPoolOptions::default().release_threshold, u64::MAX);
    let (keeps, gives_back) = (made(100, u64::MAX), made(100, 0));
    assert!(!keeps.equals(&gives_back));
    for (manager, is_kept) in [(keeps, true), (gives_back, false)] {
        let kind = Kind::of("driver pool", manager.clone());
        drop(kind.block(100).unwrap());
        manager.stream().synchronize().unwrap();
        let reserved = kind.pool().backend_statistics().reserved.current.unwrap();
        assert_eq!(reserved > 0, is_kept, "{reserved} bytes");
    }
}

/// `BinningTest` `ExplicitBinMR`, `ZeroByteAllocationsUseBinResource`: small sizes come from slabs, large ones do not, and
/// nothing from neither.
#[test]
fn bins() {
    let manager = gpu().pool_manager(options().small_limit(1024)).unwrap();
    let kind = Kind::of("pool", manager.clone());
    let slabs = || match manager.allocator_statistics().unwrap() {
        AllocatorStatistics::SubAllocator(now) => (now.slabs, now.blocks.current),
        other => panic!("{other:?}"),
    };
    let nothing = kind.block(0).unwrap();
    assert_eq!(slabs(), (0, 0));
    let large = kind.block(1025).unwrap();
    assert_eq!(slabs(), (0, 1));
    let small = [kind.block(512).unwrap(), kind.block(512).unwrap()];
    assert_eq!(slabs(), (1, 3));
    drop((nothing, large, small));
    assert_eq!(slabs().1, 0);
}

//! What allocators tell of themselves, through a pool's figures.

use crate::kinds::{KIB, MIB, device_managers, kinds};
use crate::where_it_runs::gpu;
use offheap::{BackendCount, BackendStatistics};
use offheap_cuda::sub_allocator::SubAllocatorOptions;

/// Requested, allocated and reserved bytes: now, at the peak and in total, where the allocator counts them.
#[test]
fn device_pools_tell_what_their_allocators_count() {
    for (name, manager) in device_managers() {
        let pool = manager.cuda_pool().clone();
        let adapted = pool.limit(1 << 30).scoped_statistics();
        let blocks = [1000, 100_000, 3 * MIB].map(|size| {
            let alignment = crate::kinds::cuda_alignment();
            offheap::Block::allocate_on_device(size, alignment, &pool, false).unwrap()
        });
        let requested = 101_000 + 3 * MIB as u64;
        let now = adapted.backend_statistics();
        assert_eq!(now, pool.statistics().backend, "{name}: through adaptors");
        match name {
            "driver pool" => {
                assert_eq!(now.requested, BackendCount::default());
                assert!(now.usable.unwrap() >= requested, "{now:?}");
                assert!(now.resident >= now.usable, "{now:?}");
                assert_eq!((now.allocated.total, now.reserved.total), (None, None));
            }
            "pool" => {
                assert_eq!(now.requested.current, Some(requested));
                assert_eq!(now.requested.total, Some(requested));
                assert!(now.usable.unwrap() >= requested, "{now:?}");
                assert!(now.allocated.total >= now.allocated.current);
                assert!(now.reserved.total >= now.reserved.current);
            }
            _ => assert_eq!(now, BackendStatistics::default(), "{name}: nobody counts"),
        }
        if now != BackendStatistics::default() {
            assert_eq!(now.usable, now.allocated.current, "{name}");
            assert_eq!(now.resident, now.reserved.current, "{name}");
            assert_eq!(
                now.retained.unwrap(),
                now.resident.unwrap() - now.usable.unwrap()
            );
        }
        drop(blocks);
        manager.stream().synchronize().unwrap();
        let after = pool.backend_statistics();
        if now != BackendStatistics::default() {
            assert_eq!(after.usable, Some(0), "{name}");
            assert_eq!(after.allocated.peak, now.allocated.current, "{name}");
            assert_eq!(after.resident, now.resident, "{name}: kept");
            manager.trim(0).unwrap();
            manager.reset_allocator_peaks().unwrap();
            let end = pool.backend_statistics();
            assert_eq!(end.resident, Some(0), "{name}");
            assert_eq!((end.allocated.peak, end.reserved.peak), (Some(0), Some(0)));
        }
    }
}

/// One allocator has one set of figures, whichever stream's pool is asked; the accounts are each pool's own.
#[test]
fn streams_share_the_figures_of_their_allocator() {
    let gpu = gpu();
    let manager = gpu.pool_manager(SubAllocatorOptions::new()).unwrap();
    let other = manager.on(&gpu.create_stream(None).unwrap()).unwrap();
    let (pool, others) = (manager.cuda_pool(), other.cuda_pool());
    let alignment = crate::kinds::cuda_alignment();
    let block = offheap::Block::allocate_on_device(KIB, alignment, others, false).unwrap();
    assert_eq!(
        (pool.bytes_allocated(), others.bytes_allocated()),
        (0, 1024)
    );
    assert_eq!(pool.backend_statistics(), others.backend_statistics());
    assert_eq!(pool.backend_statistics().requested.current, Some(1024));
    drop(block);
    assert_eq!(pool.backend_statistics().requested.current, Some(0));
    assert_eq!(pool.backend_statistics().requested.peak, Some(1024));
}

/// Page-locked memory has them, too: it is cut by the same allocator.
#[test]
fn page_locked_memory_has_figures() {
    let kind = kinds().pop().unwrap();
    let block = kind.block(MIB).unwrap();
    // Other tests use the same memory meanwhile.
    let now = kind.pool().backend_statistics();
    assert!(now.requested.total.unwrap() >= MIB as u64, "{now:?}");
    assert!(now.reserved.peak.unwrap() >= MIB as u64, "{now:?}");
    drop(block);
}

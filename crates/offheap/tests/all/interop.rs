//! Allocators as pools and pools as allocators: Arrow's cases of its STL part, and more of what
//! collections do.

use crate::conformance::conforms;
use crate::every_pool::{backends, own};
use allocator_api2::alloc::{AllocError, Allocator, Global, Layout};
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use hashbrown::{DefaultHashBuilder, HashMap};
use offheap::{Alignment, AllocatorPool, GlobalAllocPool, MutableBuffer, Pool, PoolAllocator};
use std::alloc::{GlobalAlloc, System};
use std::ptr::NonNull;

/// Pools over every kind of allocator.
fn allocators() -> std::vec::Vec<Pool> {
    let mut pools = vec![
        Pool::from_allocator(Global),
        Pool::custom(GlobalAllocPool::new(System)),
        Pool::from_global_alloc(System).limit(1 << 40),
    ];
    for base in own() {
        let once = Pool::custom(AllocatorPool::new(PoolAllocator::new(&base)));
        let twice = Pool::from_allocator(PoolAllocator::new(&once.proxy()));
        pools.extend([once, twice]);
    }
    pools
}

/// STLMemoryPool.Base.
#[test]
fn case_53_a_pool_over_an_allocator() {
    for pool in allocators() {
        let block = pool.allocate(100, Alignment::DEFAULT).unwrap();
        assert_eq!(pool.bytes_allocated(), 100);
        // SAFETY: the block just allocated.
        unsafe {
            let block = pool
                .reallocate(block, 100, 150, Alignment::DEFAULT)
                .unwrap();
            assert_eq!(pool.bytes_allocated(), 150);
            pool.free(block, 150, Alignment::DEFAULT);
        }
        assert_eq!((pool.peak_bytes(), pool.bytes_allocated()), (150, 0));
    }
}

/// stl_allocator.MemoryTracking.
#[test]
fn case_54_a_vector_is_counted_to_the_byte() {
    for pool in own() {
        let mut values = Vec::with_capacity_in(100, PoolAllocator::new(&pool));
        assert_eq!(pool.bytes_allocated(), 800);
        values.extend(0..100_u64);
        assert_eq!((pool.bytes_allocated(), pool.num_allocations()), (800, 1));
        values.push(100);
        assert_eq!(pool.bytes_allocated(), 8 * values.capacity() as u64);
        assert_eq!(pool.live_allocations(), 1);
        values.shrink_to_fit();
        assert_eq!(pool.bytes_allocated(), 808);
        assert!(values.iter().copied().eq(0..=100));
        drop(values);
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    }
}

/// stl_allocator.TestOOM: Arrow throws `std::bad_alloc`.
#[test]
fn case_55_out_of_memory_is_a_value() {
    for pool in own() {
        let allocator = PoolAllocator::new(&pool);
        let most = Layout::array::<u64>(isize::MAX as usize / 8).unwrap();
        assert_eq!(allocator.allocate(most), Err(AllocError));
        let mut values: Vec<u64, _> = Vec::new_in(allocator);
        assert!(values.try_reserve(isize::MAX as usize / 8).is_err());
        assert!(values.try_reserve(usize::MAX).is_err());
        assert_eq!((pool.bytes_allocated(), pool.num_allocations()), (0, 0));
    }
}

/// stl_allocator.MaxMemory.
#[test]
fn case_56_the_peak() {
    for pool in own() {
        let allocator = PoolAllocator::new(&pool);
        let layout = Layout::array::<u8>(1000).unwrap();
        let blocks = [0; 2].map(|_| allocator.allocate(layout).unwrap());
        for block in blocks {
            // SAFETY: a block just allocated.
            unsafe { allocator.deallocate(block.cast(), layout) };
        }
        assert_eq!((pool.peak_bytes(), pool.bytes_allocated()), (2000, 0));
    }
}

#[test]
fn pools_over_allocators_conform() {
    allocators().iter().for_each(conforms);
}

/// Arrow's `STLMemoryPool` forgets the alignment: 33 of 64 of its buffers are not at a multiple of
/// 64.
#[test]
fn no_buffer_over_an_allocator_is_misaligned() {
    for pool in allocators() {
        let buffers: std::vec::Vec<_> = (0..64)
            .map(|i| MutableBuffer::zeroed(1 + i * 37, &pool).unwrap())
            .collect();
        assert!(buffers.iter().all(|buffer| buffer.address() % 64 == 0));
    }
}

/// An allocator that gives blocks until it has none left, and then keeps what it gave.
struct Tight {
    left: std::cell::Cell<usize>,
}

// SAFETY: forwards to System, or refuses.
unsafe impl GlobalAlloc for Tight {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.left.get().checked_sub(1) {
            // SAFETY: the caller's promise.
            Some(left) => unsafe {
                self.left.set(left);
                System.alloc(layout)
            },
            None => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) };
    }
}

// SAFETY: the test below uses it from one thread.
unsafe impl Sync for Tight {}

#[test]
fn a_reallocation_that_an_allocator_refuses_leaves_the_block() {
    let tight = Tight {
        left: std::cell::Cell::new(1),
    };
    let pool = Pool::from_global_alloc(tight);
    let alignment = Alignment::new(4096).unwrap();
    let block = pool.allocate(100, alignment).unwrap();
    // SAFETY: the block just allocated.
    unsafe {
        block.write_bytes(3, 100);
        for size in [101_usize, 200, 5000, 1] {
            let result = pool.reallocate(block, 100, size, alignment);
            // Within the padding nothing moves.
            if let Ok(same) = result {
                assert_eq!(size.div_ceil(64), 2);
                pool.reallocate(same, size, 100, alignment).unwrap();
            } else {
                assert!(result.unwrap_err().is_out_of_memory());
            }
            assert_eq!(std::slice::from_raw_parts(block.as_ptr(), 100), [3; 100]);
            assert_eq!(pool.bytes_allocated(), 100);
        }
        pool.free(block, 100, alignment);
    }
    assert_eq!(pool.live_allocations(), 0);
}

#[test]
fn boxes_hold_their_pool() {
    let pool = backends()[0].proxy();
    let boxed = Box::new_in([7_u8; 1000], PoolAllocator::new(&pool));
    let zeroed = Box::<u64, _>::new_zeroed_in(PoolAllocator::from(pool.clone()));
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (1008, 2));
    let watch = pool.clone();
    drop(pool);
    // SAFETY: zero is a u64.
    assert_eq!(unsafe { *zeroed.assume_init() }, 0);
    assert!(boxed.iter().all(|byte| *byte == 7));
    drop(boxed);
    assert_eq!(watch.live_allocations(), 0);
    assert!(Box::try_new_in([0_u8; 100], PoolAllocator::new(&watch.limit(99))).is_err());
}

/// Types of every alignment, and of no bytes.
#[test]
fn elements_are_aligned() {
    #[repr(align(1024))]
    #[derive(Clone, Copy)]
    struct Wide(u8);

    let pool = backends()[0].proxy();
    let mut wide = Vec::new_in(PoolAllocator::new(&pool));
    let mut nothing = Vec::new_in(PoolAllocator::new(&pool));
    for i in 0..100 {
        wide.push(Wide(i));
        nothing.push(());
        assert_eq!(wide.as_ptr().addr() % 1024, 0);
        assert_eq!(pool.bytes_allocated(), 1024 * wide.capacity() as u64);
    }
    assert!(wide.iter().enumerate().all(|(i, value)| value.0 == i as u8));
    assert_eq!((nothing.len(), pool.live_allocations()), (100, 1));
}

#[test]
fn a_hash_map_is_limited_as_a_vector_is() {
    let pool = backends()[0].limit(100_000);
    let mut map: HashMap<u64, [u8; 8], DefaultHashBuilder, _> =
        HashMap::new_in(PoolAllocator::new(&pool));
    let mut inserted = 0;
    while map.try_reserve(1).is_ok() {
        map.insert(inserted, inserted.to_le_bytes());
        inserted += 1;
    }
    // A table of 2^12 slots of 17 bytes beside one of half as many is more than 100,000 bytes.
    assert!((1000..5000).contains(&inserted), "{inserted}");
    assert!(pool.peak_bytes() <= 100_000 && pool.bytes_allocated() > 17 * inserted);
    assert!((0..inserted).all(|key| map[&key] == key.to_le_bytes()));
    let copy = pool.bytes_allocated();
    map.clear();
    map.shrink_to_fit();
    assert_eq!((pool.bytes_allocated(), copy > 0), (0, true));
}

/// A vector given to another thread frees its memory there, into the same pool.
#[test]
fn collections_move_between_threads() {
    let pool = backends()[0].proxy();
    let threads: std::vec::Vec<_> = (0..4_u64)
        .map(|i| {
            let allocator = PoolAllocator::new(&pool);
            std::thread::spawn(move || {
                let mut values = Vec::new_in(allocator);
                values.extend((0..10_000).map(|j| i * j));
                values
            })
        })
        .collect();
    for thread in threads {
        let values = thread.join().unwrap();
        assert_eq!(values.len(), 10_000);
    }
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
}

/// Memory of one kind of allocator, given back through another handle of the same pool.
#[test]
fn an_equal_allocator_frees_what_the_other_gave() {
    let pool = backends()[0].proxy();
    let layout = Layout::from_size_align(100, 16).unwrap();
    let (one, other) = (PoolAllocator::new(&pool), PoolAllocator::new(&pool));
    assert_eq!(one, other);
    let block: NonNull<[u8]> = one.allocate(layout).unwrap();
    // SAFETY: the block just allocated, of the same pool.
    unsafe { other.deallocate(block.cast(), layout) };
    assert_eq!(pool.live_allocations(), 0);
}

/// What an adaptor and the pools under it see is what the collection asked for.
#[cfg(feature = "hooks")]
#[test]
fn adaptors_and_limits_under_them_see_exact_sizes() {
    use allocator_api2::alloc::{Allocator, Layout};
    use offheap::{Block, Hook, Request};
    use std::sync::{Arc, Mutex};

    #[derive(Debug, Default)]
    struct Sizes(Mutex<Vec<(usize, bool)>>);
    impl Hook for Sizes {
        fn before(&self, request: &Request, _: &Pool) -> offheap::Result<()> {
            if let Request::Allocate { size, zeroed, .. } = *request {
                self.0.lock().unwrap().push((size, zeroed));
            }
            Ok(())
        }
    }
    let sizes = Arc::new(Sizes::default());
    let limit = offheap::system_memory_pool().limit(100);
    let pool = limit.hook(sizes.clone());
    let allocator = PoolAllocator::new(&pool);
    let layout = Layout::array::<u8>(100).unwrap();
    for zeroed in [false, true] {
        let block = match zeroed {
            false => allocator.allocate(layout),
            true => allocator.allocate_zeroed(layout),
        };
        let block = block.expect("100 bytes are free").cast();
        assert_eq!(
            (limit.bytes_allocated(), pool.bytes_allocated()),
            (100, 100)
        );
        // SAFETY: the block just allocated, with its layout.
        unsafe { allocator.deallocate(block, layout) };
        assert_eq!((limit.bytes_allocated(), pool.bytes_allocated()), (0, 0));
    }
    drop(Block::allocate(100, Default::default(), &pool, true).unwrap());
    assert_eq!(
        *sizes.0.lock().unwrap(),
        [(100, false), (100, true), (100, true)]
    );
}

//! Pools of memory that the CPU cannot reach.

use super::fake::FakeMemory;
use super::{FAKE, code};
use offheap::{
    Alignment, Block, BufferBuilder, BufferOutputStream, MutableBuffer, Pool, ResizableBuffer,
    TypedBufferBuilder, UninitBuffer, set_default_memory_pool,
};

fn pool() -> Pool {
    Pool::custom(FakeMemory(FAKE))
}

/// Every adaptor over it.
fn adapted(pool: &Pool) -> Vec<Pool> {
    vec![
        pool.clone(),
        pool.proxy(),
        pool.limit(1 << 20),
        pool.limit(1 << 20).proxy().limit(1 << 19),
        Pool::custom(pool.clone()),
        #[cfg(feature = "hooks")]
        crate::every_pool::hooked(pool),
        #[cfg(feature = "hooks")]
        crate::every_pool::logged(pool),
        #[cfg(feature = "hooks")]
        pool.track(offheap::TrackOptions::default()).limit(1 << 20),
        #[cfg(feature = "hooks")]
        pool.scoped_statistics(),
    ]
}

#[test]
fn accounts_and_adaptors_work_as_on_the_cpu() {
    let base = pool();
    for pool in adapted(&base) {
        assert_eq!(pool.location(), FAKE);
        assert!(!pool.is_cpu());
        assert_eq!(pool.backend_name(), "fake");
        let before = pool.statistics();
        let a = Block::allocate_on_device(100, Alignment::DEFAULT, &pool, false).unwrap();
        let mut b =
            Block::allocate_on_device(50, Alignment::new(512).unwrap(), &pool, true).unwrap();
        assert!(b.as_ptr().addr().get().is_multiple_of(512));
        assert_eq!((a.location(), a.is_cpu()), (FAKE, false));
        b.reallocate(200).unwrap();
        assert_eq!(base.bytes_allocated(), 300);
        let empty = Block::allocate_on_device(0, Alignment::DEFAULT, &pool, false).unwrap();
        drop((a, b, empty));
        let after = pool.statistics();
        assert_eq!(after.bytes_allocated, 0);
        assert_eq!(after.live_allocations, 0);
        assert_eq!(after.num_allocations - before.num_allocations, 4);
        assert_eq!(
            after.total_bytes_allocated - before.total_bytes_allocated,
            300
        );
        let parked = Block::allocate_on_device(8192, Alignment::DEFAULT, &pool, false)
            .unwrap()
            .park();
        assert_eq!(parked.discard_pages(), 0);
    }
    assert_eq!(base.live_allocations(), 0);
}

#[test]
fn limits_are_exact() {
    let limited = pool().limit(1000);
    let a = Block::allocate_on_device(600, Alignment::DEFAULT, &limited, false).unwrap();
    let refused = Block::allocate_on_device(401, Alignment::DEFAULT, &limited, false);
    assert_eq!(code(refused), "ERR_OFFHEAP_OUT_OF_MEMORY");
    let b = Block::allocate_on_device(400, Alignment::DEFAULT, &limited, false).unwrap();
    drop((a, b));
    assert_eq!(limited.peak_bytes(), 1000);
}

/// Nothing that reads or writes bytes takes its memory from there.
#[test]
fn case_129_the_cpu_gets_no_block() {
    use allocator_api2::alloc::{Allocator, Layout};
    for pool in adapted(&pool()) {
        let before = pool.num_allocations();
        assert_eq!(
            pool.allocate(10, Alignment::DEFAULT)
                .unwrap_err()
                .to_string(),
            format!(
                "pool '{}' has memory of ext_dev:3, which the CPU cannot read or write",
                pool.name()
            )
        );
        let not_supported = "ERR_OFFHEAP_NOT_SUPPORTED";
        assert_eq!(code(pool.allocate(0, Alignment::DEFAULT)), not_supported);
        assert_eq!(
            code(pool.allocate_zeroed(10, Alignment::DEFAULT)),
            not_supported
        );
        assert_eq!(
            code(Block::allocate(10, Alignment::DEFAULT, &pool, true)),
            not_supported
        );
        assert_eq!(
            code(UninitBuffer::allocate(10, Alignment::DEFAULT, &pool)),
            not_supported
        );
        assert_eq!(code(MutableBuffer::zeroed(10, &pool)), not_supported);
        assert_eq!(code(ResizableBuffer::zeroed(10, &pool)), not_supported);
        assert_eq!(code(BufferBuilder::with_capacity(10, &pool)), not_supported);
        let mut builder = TypedBufferBuilder::<u64>::new(&pool);
        assert_eq!(code(builder.append(1)), not_supported);
        assert_eq!(code(BufferOutputStream::create(10, &pool)), not_supported);
        assert_eq!(code(set_default_memory_pool(&pool)), not_supported);
        let layout = Layout::new::<u64>();
        assert!(offheap::PoolAllocator::new(&pool).allocate(layout).is_err());
        let malloc = offheap::PoolMalloc::new(&pool);
        assert!(malloc.malloc(10).is_null() && malloc.calloc(2, 5).is_null());
        assert_eq!(pool.num_allocations(), before);
    }
}

#[cfg(feature = "hooks")]
#[test]
fn debug_hooks_and_domains_refuse_it() {
    let debugged = pool().debug(offheap::DebugOptions::default());
    let refused = Block::allocate_on_device(10, Alignment::DEFAULT, &debugged, false);
    assert_eq!(code(refused), "ERR_OFFHEAP_NOT_SUPPORTED");
    for domain in [
        offheap::Domain::Raw,
        offheap::Domain::Mem,
        offheap::Domain::Object,
    ] {
        assert_eq!(
            code(domain.set_allocator(&pool())),
            "ERR_OFFHEAP_NOT_SUPPORTED"
        );
        assert!(domain.wrap(|_| pool()).is_err());
    }
}

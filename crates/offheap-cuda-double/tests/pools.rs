//! Memory pools and stream-ordered allocation.

#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "calls of the double: wrong arguments are errors, not crashes"
)]

mod support;

use offheap_cuda_double::api::{event, memory, pool};
use support::*;

const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
const MIB: u64 = 1 << 20;

fn properties(handle_types: u32, maximum: usize) -> CUmemPoolProps {
    CUmemPoolProps {
        allocType: CU_MEM_ALLOCATION_TYPE_PINNED,
        handleTypes: handle_types,
        location: CUmemLocation {
            type_: CU_MEM_LOCATION_TYPE_DEVICE,
            id: 0,
        },
        win32SecurityAttributes: NULL,
        maxSize: maximum,
        usage: 0,
        reserved: [0; 54],
    }
}

fn create(maximum: usize) -> CUmemoryPool {
    let mut result = NULL;
    assert_eq!(
        unsafe { pool::cuMemPoolCreate(&mut result, &properties(0, maximum)) },
        0
    );
    result
}

fn default_pool() -> CUmemoryPool {
    let mut result = NULL;
    assert_eq!(
        unsafe { pool::cuDeviceGetDefaultMemPool(&mut result, 0) },
        0
    );
    result
}

fn try_allocate_from(pool: CUmemoryPool, size: u64, stream: CUstream) -> Result<u64, u32> {
    let mut address = 0;
    match unsafe { memory::cuMemAllocFromPoolAsync(&mut address, size as usize, pool, stream) } {
        0 => Ok(address),
        code => Err(code),
    }
}

fn allocate_from(pool: CUmemoryPool, size: u64, stream: CUstream) -> u64 {
    try_allocate_from(pool, size, stream).unwrap()
}

fn get(pool: CUmemoryPool, attribute: u32) -> u64 {
    let mut value = 0_u64;
    assert_eq!(
        unsafe { pool::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()) },
        0
    );
    value
}

fn set(pool: CUmemoryPool, attribute: u32, mut value: u64) -> u32 {
    unsafe { pool::cuMemPoolSetAttribute(pool, attribute, (&raw mut value).cast()) }
}

/// Reserved, its high-water mark, used, its high-water mark.
fn figures(pool: CUmemoryPool) -> [u64; 4] {
    [
        get(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT),
        get(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH),
        get(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT),
        get(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH),
    ]
}

fn free_bytes() -> u64 {
    let (mut free, mut total) = (0, 0);
    assert_eq!(unsafe { memory::cuMemGetInfo_v2(&mut free, &mut total) }, 0);
    free as u64
}

#[test]
fn a_pool_keeps_what_its_threshold_says() {
    let _double = Double::new(&[]);
    let (pool, stream, before) = (create(0), new_stream(), free_bytes());
    let first = allocate_from(pool, MIB, stream);
    assert_eq!(figures(pool), [32 * MIB, 32 * MIB, MIB, MIB]);
    assert_eq!(free_bytes(), before - 32 * MIB);
    assert_eq!(free_async(first, stream), 0);
    assert_eq!(figures(pool)[2], MIB, "the free has not run");
    sync(stream);
    assert_eq!(
        figures(pool),
        [0, 32 * MIB, 0, MIB],
        "threshold 0 keeps nothing across a synchronisation"
    );
    assert_eq!(free_bytes(), before);

    assert_eq!(set(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX), 0);
    let second = allocate_from(pool, 40 * MIB, stream);
    free_async(second, stream);
    sync(stream);
    assert_eq!(figures(pool)[0], 64 * MIB);
    assert_eq!(unsafe { pool::cuMemPoolTrimTo(pool, 64 * MIB as usize) }, 0);
    assert_eq!(figures(pool)[0], 64 * MIB);
    assert_eq!(unsafe { pool::cuMemPoolTrimTo(pool, 0) }, 0);
    assert_eq!(figures(pool), [0, 64 * MIB, 0, 40 * MIB]);
    assert_eq!(set(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, 0), 0);
    assert_eq!(set(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0), 0);
    assert_eq!(figures(pool), [0; 4]);
}

#[test]
fn memory_in_use_is_not_trimmed() {
    let _double = Double::new(&[]);
    let (pool, stream) = (create(0), new_stream());
    let blocks = [
        allocate_from(pool, 32 * MIB, stream),
        allocate_from(pool, 32 * MIB, stream),
    ];
    free_async(blocks[0], stream);
    sync(stream);
    assert_eq!(figures(pool)[0], 32 * MIB);
    assert_eq!(fill_async(blocks[1], 1, 64, stream), 0);
    assert_eq!(sync(stream), 0);
}

#[test]
fn attributes_are_checked() {
    let _double = Double::new(&[]);
    let pool = create(0);
    assert_eq!(
        set(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, 0),
        INVALID_VALUE
    );
    assert_eq!(set(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, 5), INVALID_VALUE);
    assert_eq!(set(pool, 99, 0), INVALID_VALUE);
    assert_eq!(get(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC), 1);
    assert_eq!(set(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, 0), 0);
    assert_eq!(get(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC), 0);
    assert_eq!(
        unsafe { pool::cuMemPoolDestroy(default_pool()) },
        INVALID_VALUE
    );
    assert_eq!(unsafe { pool::cuMemPoolDestroy(NULL) }, INVALID_VALUE);
    assert_eq!(unsafe { pool::cuMemPoolDestroy(pool) }, 0);
    assert_eq!(unsafe { pool::cuMemPoolDestroy(pool) }, INVALID_VALUE);
    assert_eq!(try_allocate_from(pool, 64, NULL), Err(INVALID_VALUE));
    let mut wrong = NULL;
    assert_eq!(
        unsafe { pool::cuMemPoolCreate(&mut wrong, &properties(2, 0)) },
        801
    );
}

#[test]
fn a_stream_takes_back_at_once_what_it_freed() {
    let _double = Double::new(&[]);
    let (pool, stream) = (create(0), new_stream());
    let first = allocate_from(pool, 4096, stream);
    fill_async(first, 1, 4096, stream);
    free_async(first, stream);
    let second = allocate_from(pool, 4096, stream);
    assert_eq!(second, first);
    let mut bytes = vec![0; 4096];
    download_async(&mut bytes, second, stream);
    assert_eq!(sync(stream), 0);
    assert_eq!(bytes, [0xDB; 4096], "poisoned in stream order");
}

#[test]
fn another_stream_takes_it_when_an_event_orders_them() {
    let _double = Double::new(&[]);
    let (pool, first, second) = (create(0), new_stream(), new_stream());
    assert_eq!(
        set(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, 0),
        0
    );
    let event = new_event(CU_EVENT_DISABLE_TIMING);
    let block = allocate_from(pool, 4096, first);
    free_async(block, first);
    assert_ne!(allocate_from(pool, 4096, second), block);
    record(event, first);
    wait_event(second, event);
    let taken = allocate_from(pool, 4096, second);
    assert_eq!(taken, block);
    fill_async(taken, 2, 4096, second);
    assert_eq!(sync(second), 0, "the free ran first: the event says so");
    assert_eq!(download(taken, 1), [2]);

    assert_eq!(
        set(pool, CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES, 0),
        0
    );
    free_async(taken, first);
    record(event, first);
    wait_event(second, event);
    assert_ne!(allocate_from(pool, 4096, second), taken);
}

#[test]
fn a_full_device_makes_streams_wait_for_each_other() {
    let _double = Double::new(&[("MEMORY", "4194304")]);
    let (pool, first, second) = (create(0), new_stream(), new_stream());
    let block = allocate_from(pool, 4 * MIB, first);
    fill_async(block, 1, 4 * MIB as usize, first);
    assert_eq!(try_allocate_from(pool, 4 * MIB, second), Err(OUT_OF_MEMORY));
    free_async(block, first);
    assert_eq!(
        set(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, 0),
        0
    );
    assert_eq!(try_allocate_from(pool, 4 * MIB, second), Err(OUT_OF_MEMORY));
    assert_eq!(
        set(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, 1),
        0
    );
    let taken = allocate_from(pool, 4 * MIB, second);
    fill_async(taken, 2, 4 * MIB as usize, second);
    assert_eq!(sync(second), 0);
    assert_eq!(violations(), 0);
    assert_eq!(download(taken, 1), [2]);
}

#[test]
fn pools_and_plain_memory_share_the_device() {
    let _double = Double::new(&[("MEMORY", "67108864")]);
    let (pool, stream) = (create(0), new_stream());
    assert_eq!(set(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX), 0);
    let block = allocate_from(pool, 40 * MIB, stream);
    free_async(block, stream);
    sync(stream);
    assert_eq!(
        try_allocate(40 * MIB as usize),
        Err(OUT_OF_MEMORY),
        "the pool holds it"
    );
    assert_eq!(unsafe { pool::cuMemPoolTrimTo(pool, 0) }, 0);
    allocate(40 * MIB as usize);
}

#[test]
fn a_maximum_holds() {
    let _double = Double::new(&[]);
    let (pool, stream) = (create(4 << 20), new_stream());
    let block = allocate_from(pool, 3 * MIB, stream);
    assert_eq!(try_allocate_from(pool, 3 * MIB, stream), Err(OUT_OF_MEMORY));
    free_async(block, stream);
    assert_eq!(try_allocate_from(pool, 5 * MIB, stream), Err(OUT_OF_MEMORY));
    allocate_from(pool, 3 * MIB, stream);
}

#[test]
fn a_destroyed_pool_lives_as_long_as_its_blocks() {
    let _double = Double::new(&[]);
    let (pool, stream, before) = (create(0), new_stream(), free_bytes());
    let block = allocate_from(pool, MIB, stream);
    assert_eq!(unsafe { pool::cuMemPoolDestroy(pool) }, 0);
    assert_eq!(fill_async(block, 1, MIB as usize, stream), 0);
    assert_eq!(free_async(block, stream), 0);
    assert_eq!(sync(stream), 0);
    assert_eq!(free_bytes(), before);
}

#[test]
fn frees_cross_over() {
    let _double = Double::new(&[]);
    let (stream, before) = (new_stream(), free_bytes());
    let plain = allocate(MIB as usize);
    fill_async(plain, 1, MIB as usize, stream);
    assert_eq!(free_async(plain, stream), 0);
    assert_eq!(free_async(plain, stream), INVALID_VALUE);
    let pooled = allocate_async(MIB as usize, stream);
    assert_eq!(sync(stream), 0);
    assert_eq!(free(pooled), 0);
    assert_eq!(sync(stream), 0);
    assert_eq!((live_blocks(), free_bytes()), (0, before));
}

#[test]
fn a_device_has_a_current_pool() {
    let _double = Double::new(&[]);
    let (pool, stream) = (create(0), new_stream());
    assert_eq!(unsafe { pool::cuDeviceSetMemPool(0, pool) }, 0);
    assert_eq!(unsafe { pool::cuDeviceSetMemPool(1, pool) }, INVALID_VALUE);
    allocate_async(64, stream);
    assert_eq!(figures(pool)[2], 512);
    assert_eq!(unsafe { pool::cuMemPoolDestroy(pool) }, 0);
    let mut current = NULL;
    assert_eq!(unsafe { pool::cuDeviceGetMemPool(&mut current, 0) }, 0);
    assert_eq!(current, default_pool());
}

#[test]
fn access_is_kept() {
    let _double = Double::new(&[]);
    let pool = create(0);
    let describe = |id, flags| CUmemAccessDesc {
        location: CUmemLocation {
            type_: CU_MEM_LOCATION_TYPE_DEVICE,
            id,
        },
        flags,
    };
    let access = |id| {
        let mut flags = 99;
        let mut location = CUmemLocation {
            type_: CU_MEM_LOCATION_TYPE_DEVICE,
            id,
        };
        assert_eq!(
            unsafe { pool::cuMemPoolGetAccess(&mut flags, pool, &mut location) },
            0
        );
        flags
    };
    assert_eq!([access(0), access(1)], [3, 0]);
    assert_eq!(
        unsafe { pool::cuMemPoolSetAccess(pool, &describe(1, 3), 1) },
        0
    );
    assert_eq!([access(0), access(1)], [3, 3]);
    assert_eq!(
        unsafe { pool::cuMemPoolSetAccess(pool, &describe(0, 0), 1) },
        INVALID_VALUE
    );
    assert_eq!(
        unsafe { pool::cuMemPoolSetAccess(pool, &describe(1, 1), 1) },
        INVALID_VALUE
    );
}

/// Many blocks on many streams: no two overlap, and nothing is lost.
#[test]
fn random_work_adds_up() {
    let _double = Double::new(&[("MEMORY", "268435456")]);
    let (pool, before) = (create(0), free_bytes());
    let streams: Vec<CUstream> = (0..4).map(|_| new_stream()).collect();
    let event = new_event(CU_EVENT_DISABLE_TIMING);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut live: Vec<(u64, u64, usize, u8)> = Vec::new();
    for turn in 0..4_000_u32 {
        let stream = random(4) as usize;
        match random(8) {
            0..4 => {
                let size = 1 + random(200_000);
                let address = allocate_from(pool, size, streams[stream]);
                for &(other, length, _, _) in &live {
                    assert!(
                        address + size <= other || other + length <= address,
                        "blocks overlap"
                    );
                }
                assert_eq!(
                    fill_async(address, turn as u8, size as usize, streams[stream]),
                    0
                );
                live.push((address, size, stream, turn as u8));
            }
            4..7 if !live.is_empty() => {
                let (address, size, stream, byte) =
                    live.swap_remove(random(live.len() as u64) as usize);
                let mut last = [0];
                download_async(&mut last, address + size - 1, streams[stream]);
                free_async(address, streams[stream]);
                if random(16) == 0 {
                    assert_eq!(sync(streams[stream]), 0);
                    assert_eq!(last, [byte]);
                } else {
                    // The target must outlive the copy.
                    assert_eq!(record(event, streams[stream]), 0);
                    assert_eq!(unsafe { event::cuEventSynchronize(event) }, 0);
                    assert_eq!(last, [byte]);
                }
            }
            _ => {
                record(event, streams[stream]);
                wait_event(streams[random(4) as usize], event);
            }
        }
    }
    for (address, _, stream, _) in live {
        free_async(address, streams[stream]);
    }
    for &stream in &streams {
        assert_eq!(sync(stream), 0);
    }
    let [reserved, reserved_high, used, used_high] = figures(pool);
    assert_eq!((reserved, used, violations(), live_blocks()), (0, 0, 0, 0));
    assert!(used_high > 0 && reserved_high >= used_high);
    assert_eq!(free_bytes(), before);
}

#[test]
fn a_pool_for_several_processes_keeps_its_memory_to_its_end() {
    let _double = Double::new(&[]);
    let mut shared = NULL;
    let handles = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    assert_eq!(
        unsafe { pool::cuMemPoolCreate(&mut shared, &properties(handles, 0)) },
        0
    );
    let stream = new_stream();
    assert_eq!(
        free_async(allocate_from(shared, 40 * MIB, stream), stream),
        0
    );
    assert_eq!(sync(stream), 0);
    let reserved = get(shared, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
    assert!(reserved >= 40 * MIB, "the threshold is 0: {reserved}");
    assert_eq!(unsafe { pool::cuMemPoolTrimTo(shared, 0) }, 0);
    assert_eq!(get(shared, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), reserved);
    assert_eq!(unsafe { pool::cuMemPoolDestroy(shared) }, 0);
    // All that the device has can be had again.
    let all = allocate((4 << 30) - 512);
    assert_eq!(free(all), 0);
}

#[test]
fn without_handles_there_is_no_pool_for_several_processes() {
    let _double = Double::new(&[("POOL_HANDLES", "0")]);
    let mut shared = NULL;
    let handles = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    assert_eq!(
        unsafe { pool::cuMemPoolCreate(&mut shared, &properties(handles, 0)) },
        801
    );
    assert!(!create(0).is_null());
}

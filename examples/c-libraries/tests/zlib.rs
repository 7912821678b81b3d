//! zlib: each stream in a pool of its own.

use libz_sys::Z_MEM_ERROR;
use offheap::{PoolMalloc, system_memory_pool};
use offheap_c_libraries::zlib::{compress, decompress};

fn text() -> Vec<u8> {
    (0..200_000_u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_string().into_bytes())
        .collect()
}

#[test]
fn a_streams_memory_is_the_pools() {
    let memory = PoolMalloc::new(&system_memory_pool().limit(1 << 20));
    let text = text();
    let compressed = compress(&text, &memory).unwrap();
    assert!(compressed.len() < text.len());
    // deflate's default is some 256 KiB: (1 << (15 + 2)) + (1 << (8 + 9)), and its state.
    let peak = memory.pool().peak_bytes();
    assert!((256 << 10..300_000).contains(&peak), "{peak}");
    assert_eq!(memory.pool().bytes_allocated(), 0);

    memory.pool().reset_peak();
    assert_eq!(decompress(&compressed, &memory).unwrap(), text);
    let peak = memory.pool().peak_bytes();
    assert!((32 << 10..64 << 10).contains(&peak), "{peak}");
    assert_eq!(memory.pool().live_allocations(), 0);
}

#[test]
fn a_limit_is_zlibs_own_error() {
    let plenty = PoolMalloc::new(&system_memory_pool().proxy());
    let text = text();
    let compressed = compress(&text, &plenty).unwrap();
    type Run = fn(&[u8], &PoolMalloc) -> Result<Vec<u8>, std::ffi::c_int>;
    for (run, input, step) in [
        (compress as Run, &text, 5000),
        (decompress as Run, &compressed, 500),
    ] {
        let (mut refused, mut worked) = (0, 0);
        for limit in (0..400_000).step_by(step) {
            let memory = PoolMalloc::new(&system_memory_pool().limit(limit));
            match run(input, &memory) {
                Ok(_) => worked += 1,
                Err(code) => {
                    assert_eq!((code, worked), (Z_MEM_ERROR, 0), "{limit}");
                    refused += 1;
                }
            }
            assert_eq!(memory.pool().live_allocations(), 0, "{limit}");
            if worked == 3 {
                break;
            }
        }
        assert!(refused > 5 && worked == 3, "{refused} {worked}");
    }
}

/// Two streams at once, each with its own limit.
#[test]
fn streams_do_not_share_a_pool() {
    let (wide, tight) = (1 << 20, 1000);
    let wide = PoolMalloc::new(&system_memory_pool().limit(wide));
    let tight = PoolMalloc::new(&system_memory_pool().limit(tight));
    let text = text();
    std::thread::scope(|scope| {
        let works = scope.spawn(|| compress(&text, &wide));
        let fails = scope.spawn(|| compress(&text, &tight));
        assert!(works.join().unwrap().is_ok());
        assert_eq!(fails.join().unwrap(), Err(Z_MEM_ERROR));
    });
    assert_eq!(
        wide.pool().bytes_allocated() + tight.pool().bytes_allocated(),
        0
    );
}

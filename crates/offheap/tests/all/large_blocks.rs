//! Blocks of 1 MiB and more, which are mapped by offheap unless somebody says otherwise.

use crate::alone::{alone, is_alone, run};
use crate::every_pool::backends;
use offheap::pool::{memory_pool_named, memory_pool_named_with};
use offheap::{
    Alignment, MutableBuffer, Pool, PoolOptions, ResizableBuffer, mapped_memory_pool,
    supported_memory_backends, system_memory_pool, total_allocated_bytes,
};

const MIB: usize = 1 << 20;
const PLAIN: PoolOptions = PoolOptions::DEFAULT.without_large_blocks();

fn with_and_without() -> impl Iterator<Item = Pool> {
    supported_memory_backends().into_iter().flat_map(|name| {
        [PoolOptions::default(), PLAIN]
            .map(|options| memory_pool_named_with(name, &options).unwrap())
    })
}

/// Sizes on both sides of the threshold, in both directions, at every alignment.
#[test]
fn contents_survive_the_threshold() {
    for pool in with_and_without() {
        let pool = pool.proxy();
        for alignment in [64, 4096, 2 * MIB, 8 * MIB] {
            let alignment = Alignment::new(alignment).unwrap();
            let mut size = 900_000;
            let mut block = pool.allocate(size, alignment).unwrap();
            // SAFETY: the block has `size` bytes.
            unsafe { block.write_bytes(0xA5, size) };
            for new in [
                MIB - 64,
                MIB,
                3 * MIB,
                MIB + 1,
                MIB - 1,
                20 * MIB,
                1000,
                MIB,
            ] {
                // SAFETY: the block is the one of the line before, with its size.
                block = unsafe { pool.reallocate(block, size, new, alignment) }.unwrap();
                assert!(block.addr().get().is_multiple_of(alignment.get()));
                // SAFETY: the bytes that both had are filled.
                let kept = unsafe { std::slice::from_raw_parts(block.as_ptr(), size.min(new)) };
                assert!(kept.iter().all(|byte| *byte == 0xA5), "{size} -> {new}");
                // SAFETY: the block has `new` bytes.
                unsafe { block.write_bytes(0xA5, new) };
                size = new;
                assert_eq!(pool.bytes_allocated(), size as u64);
            }
            // SAFETY: as above.
            unsafe { pool.free(block, size, alignment) };
        }
        assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    }
}

/// Pages of a parked large block can be given back, huge ones, too; whoever writes there later does
/// no harm, and the block that comes next is zero where it should be.
#[cfg(target_os = "linux")]
#[test]
fn parked_large_blocks_give_their_pages_back() {
    for pool in with_and_without() {
        let pool = pool.proxy();
        let size = 9 * MIB + 64;
        let block = offheap::Block::allocate(size, Alignment::DEFAULT, &pool, true).unwrap();
        let start = block.as_ptr();
        // SAFETY: the block has `size` bytes.
        unsafe { start.write_bytes(7, size) };
        let parked = block.park();
        assert!(parked.discard_pages() >= 9 * MIB - 4096);
        // SAFETY: the parked reference keeps the memory; a late writer does this.
        unsafe { start.write_bytes(9, size) };
        drop(parked);
        let buffer = MutableBuffer::zeroed(size, &pool).unwrap();
        assert!(buffer.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn zeroed_blocks_are_zero_also_when_others_had_the_memory() {
    for pool in with_and_without() {
        for _ in 0..3 {
            let mut buffer = MutableBuffer::zeroed(5 * MIB, &pool).unwrap();
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(1);
        }
    }
}

/// A pool without large blocks of ours is another pool over the same allocator.
#[test]
fn without_large_blocks_a_backend_is_another_pool() {
    alone(
        "large_blocks::without_large_blocks_a_backend_is_another_pool",
        || {
            for name in supported_memory_backends() {
                let usual = memory_pool_named(name).unwrap();
                let plain = memory_pool_named_with(name, &PLAIN).unwrap();
                assert_eq!(
                    memory_pool_named_with(name, &PoolOptions::default()).unwrap(),
                    usual
                );
                assert_eq!(plain.backend_name(), name);
                if name == "mapped" {
                    assert_eq!(plain, usual);
                    continue;
                }
                assert_ne!(plain, usual);
                let total = total_allocated_bytes();
                let buffer = MutableBuffer::zeroed(3 * MIB, &plain).unwrap();
                assert_eq!(plain.bytes_allocated(), 3 << 20);
                assert_eq!(usual.bytes_allocated(), 0);
                assert_eq!(total_allocated_bytes(), total + (3 << 20));
                drop(buffer);
                assert_eq!(plain.backend_statistics().cached, None);
                assert_eq!(usual.backend_statistics().cached, Some(0));
                assert_eq!(
                    plain.close().unwrap_err().code(),
                    "ERR_OFFHEAP_INVALID_ARGUMENT"
                );
            }
            let unknown = memory_pool_named_with("nonexistent", &PLAIN).unwrap_err();
            assert_eq!(unknown.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
        },
    );
}

/// Live large blocks are in the backend's figures, freed ones are told apart, and go when asked to.
#[test]
fn statistics_tell_live_and_cached_apart() {
    alone(
        "large_blocks::statistics_tell_live_and_cached_apart",
        || {
            for pool in backends() {
                let before = pool.backend_statistics();
                assert_eq!(before.cached, Some(0));
                let buffer = MutableBuffer::zeroed(32 * MIB, &pool).unwrap();
                let live = pool.backend_statistics();
                assert_eq!(live.cached, Some(0));
                if let (Some(before), Some(live)) = (before.usable, live.usable) {
                    assert!(live >= before + (32 << 20));
                }
                drop(buffer);
                let freed = pool.backend_statistics();
                assert_eq!(freed.cached, Some(32 << 20));
                assert_eq!(
                    system_memory_pool().backend_statistics().cached,
                    freed.cached
                );
                if let (Some(live), Some(freed)) = (live.usable, freed.usable) {
                    assert!(freed <= live - (32 << 20));
                }
                pool.proxy().release_unused();
                assert_eq!(pool.backend_statistics().cached, Some(0));
            }
        },
    );
}

/// `mapped` has whole pages for every block, and knows how many.
#[test]
fn mapped_blocks_are_whole_pages() {
    alone("large_blocks::mapped_blocks_are_whole_pages", || {
        let pool = mapped_memory_pool();
        let mut buffers: Vec<_> = (1..=50)
            .map(|n| ResizableBuffer::zeroed(n * 700, &pool).unwrap())
            .collect();
        for buffer in &mut buffers {
            assert!(buffer.as_ptr().addr().is_multiple_of(4096));
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(3);
        }
        let statistics = pool.backend_statistics();
        assert!(statistics.usable.unwrap() >= pool.bytes_allocated());
        assert!(statistics.usable.unwrap().is_multiple_of(4096));
        for (index, buffer) in buffers.iter_mut().enumerate() {
            let old = buffer.len();
            buffer.resize(100_000 - index * 1500, true).unwrap();
            assert!(
                buffer[..old.min(buffer.len())]
                    .iter()
                    .all(|byte| *byte == 3)
            );
        }
        drop(buffers);
        assert_eq!(pool.backend_statistics().usable, Some(0));
    });
}

/// `OFFHEAP_LARGE_BLOCKS=0` leaves large blocks to every allocator that has a way of its own.
#[test]
fn the_environment_leaves_large_blocks_to_the_allocators() {
    let name = "large_blocks::the_environment_leaves_large_blocks_to_the_allocators";
    if is_alone() {
        drop(MutableBuffer::zeroed(5 * MIB, &system_memory_pool()).unwrap());
        for pool in backends() {
            println!("{} <{:?}>", pool.name(), pool.backend_statistics().cached);
        }
        return;
    }
    for (value, leaves, warns) in [
        ("0", true, false),
        ("false", true, false),
        ("1", false, false),
        ("true", false, false),
        ("", false, false),
        ("off", false, true),
    ] {
        let output = run(name, &[("OFFHEAP_LARGE_BLOCKS", value)]);
        assert!(output.status.success());
        let (stdout, stderr) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        for backend in supported_memory_backends() {
            let cached = match (leaves, backend) {
                (true, "mapped") => "Some(0)",
                (true, _) => "None",
                (false, _) => "Some(5242880)",
            };
            let line = format!("{backend} <{cached}>");
            assert!(stdout.contains(&line), "{value}: {stdout}");
        }
        assert_eq!(stderr.lines().count(), usize::from(warns), "{stderr}");
        assert_eq!(stderr.contains("'off'"), warns);
    }
}

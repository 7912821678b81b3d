//! Programs over stacks of adaptors, with a model of every block and counter.

use crate::{check, fill, size};
use arbitrary::Unstructured;
use offheap::{
    Alignment, DebugOptions, FailingOptions, LogFormat, LogSink, OnError, Pool, TrackOptions,
    mapped_memory_pool, mimalloc_memory_pool, system_memory_pool,
};
use std::ptr::NonNull;

struct Block {
    ptr: NonNull<u8>,
    size: usize,
    alignment: Alignment,
    seed: u8,
}

fn stack(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<Pool>> {
    let base = match u.int_in_range(0..=2)? {
        0 => system_memory_pool(),
        1 => mapped_memory_pool(),
        _ => mimalloc_memory_pool().unwrap_or_else(|_| system_memory_pool()),
    };
    let mut pools = vec![base.proxy()];
    for _ in 0..u.int_in_range(0..=5)? {
        let Some(top) = pools.last() else { break };
        let next = match u.int_in_range(0..=7)? {
            0 => top.limit(u.int_in_range(0..=3_000_000)?),
            1 => top.proxy(),
            2 => Pool::custom(top.clone()),
            3 => top.track(TrackOptions::default().stack_depth(0)),
            4 => {
                let after = u.int_in_range(0..=60)?;
                let options = FailingOptions {
                    after: Some(after),
                    count: Some(3),
                    ..Default::default()
                };
                top.failing(options).expect("valid options")
            }
            5 => top.debug(DebugOptions {
                on_error: OnError::Abort,
                quarantine_bytes: 100_000,
                stack_depth: 0,
            }),
            6 => top
                .log(LogFormat::Json, LogSink::Writer(Box::new(std::io::sink())))
                .expect("a sink that takes everything"),
            _ => top.scoped_statistics(),
        };
        pools.push(next);
    }
    Ok(pools)
}

fn run(u: &mut Unstructured<'_>, pool: &Pool, live: &mut Vec<Block>) -> arbitrary::Result<()> {
    let mut seed = 0_u8;
    let mut bytes = 0_u64;
    while !u.is_empty() && live.len() < 300 {
        seed = seed.wrapping_add(1);
        match u.int_in_range(0..=7)? {
            0..=3 => {
                let size = size(u)?;
                let alignment =
                    Alignment::new(1 << u.int_in_range(0..=13)?).expect("a power of two");
                let zeroed: bool = u.arbitrary()?;
                let made = if zeroed {
                    pool.allocate_zeroed(size, alignment)
                } else {
                    pool.allocate(size, alignment)
                };
                let Ok(ptr) = made else { continue };
                assert!(alignment.is_aligned(ptr.addr().get()));
                bytes += size as u64;
                // SAFETY: a new block of `size` bytes.
                unsafe {
                    if zeroed {
                        assert!(
                            std::slice::from_raw_parts(ptr.as_ptr(), size)
                                .iter()
                                .all(|byte| *byte == 0)
                        );
                    }
                    fill(ptr.as_ptr(), size, seed);
                }
                live.push(Block {
                    ptr,
                    size,
                    alignment,
                    seed,
                });
            }
            4 | 5 if !live.is_empty() => {
                let index = u.choose_index(live.len())?;
                let block = &mut live[index];
                let new_size = size(u)?;
                // SAFETY: a live block with its size and alignment.
                match unsafe { pool.reallocate(block.ptr, block.size, new_size, block.alignment) } {
                    Ok(ptr) => {
                        assert!(block.alignment.is_aligned(ptr.addr().get()));
                        bytes = bytes - block.size as u64 + new_size as u64;
                        // SAFETY: the first bytes were kept; then the block is filled anew.
                        unsafe {
                            check(ptr.as_ptr(), block.size.min(new_size), block.seed);
                            fill(ptr.as_ptr(), new_size, seed);
                        }
                        (block.ptr, block.size, block.seed) = (ptr, new_size, seed);
                    }
                    // SAFETY: a failure leaves the block.
                    Err(_) => unsafe { check(block.ptr.as_ptr(), block.size, block.seed) },
                }
            }
            _ if !live.is_empty() => {
                let block = live.swap_remove(u.choose_index(live.len())?);
                bytes -= block.size as u64;
                release(pool, block);
            }
            _ => {}
        }
        assert_eq!(
            (pool.bytes_allocated(), pool.live_allocations()),
            (bytes, live.len() as u64)
        );
    }
    Ok(())
}

fn release(pool: &Pool, block: Block) {
    // SAFETY: a live block with its size and alignment, filled by the model.
    unsafe {
        check(block.ptr.as_ptr(), block.size, block.seed);
        pool.free(block.ptr, block.size, block.alignment);
    }
}

/// Runs a program over a random stack of adaptors; at its end no level holds anything.
pub fn pools(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(pools) = stack(&mut u) else { return };
    let Some(top) = pools.last() else { return };
    let mut live = Vec::new();
    // An input that ends early is a shorter program.
    let _ = run(&mut u, top, &mut live);
    for block in live {
        release(top, block);
    }
    // What debug hooks hold back from being used again.
    top.release_unused();
    for pool in &pools {
        assert_eq!(pool.bytes_allocated(), 0, "{pool:?} of {pools:#?}");
    }
}

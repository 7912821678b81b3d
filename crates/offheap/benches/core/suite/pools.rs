//! A block allocated and freed: what a pool adds to its allocator.

use super::measure::{Entry, Extra, Plan, entry};
use super::memory::{HeaderMalloc, Memory, Mimalloc, PosixMemalign, pool_of};
use offheap::pool::memory_pool_named;
use offheap::{Alignment, MemoryPool, Pool, supported_memory_backends};
use std::hint::black_box;

/// Allocates and frees a block `n` times. It is the only live one of its size: in mimalloc that
/// costs twice of what a block among others does, and it is what Arrow C++'s program measures.
fn pairs<M: Memory>(memory: &M, size: usize, n: usize) {
    for _ in 0..n {
        let block = black_box(memory.allocate(size));
        // SAFETY: the block just allocated.
        unsafe { memory.free(block, size) };
    }
}

fn pairs_dyn(pool: &dyn MemoryPool, size: usize, n: usize) {
    for _ in 0..n {
        let block = pool.allocate(size, Alignment::DEFAULT).unwrap();
        black_box(block);
        // SAFETY: the block just allocated.
        unsafe { pool.free(block, size, Alignment::DEFAULT) };
    }
}

/// Blocks that live at once in `batches`.
const BATCH: usize = 64;

/// The same with 64 blocks allocated before the first is freed.
fn batches<M: Memory>(memory: &M, size: usize, n: usize) {
    let mut blocks = [std::ptr::null_mut(); BATCH];
    for _ in 0..n.div_ceil(BATCH) {
        for block in &mut blocks {
            *block = memory.allocate(size);
        }
        black_box(&blocks);
        for block in blocks {
            // SAFETY: allocated above.
            unsafe { memory.free(block, size) };
        }
    }
}

/// mimalloc's plain call: what there is without an alignment.
fn plain_mimalloc(size: usize, n: usize) {
    for _ in 0..n {
        // SAFETY: any size may be asked for; the block is freed once.
        unsafe {
            libmimalloc_sys::mi_free(black_box(libmimalloc_sys::mi_malloc(size)));
        }
    }
}

/// The backend's own calls.
fn raw(backend: &str, size: usize) -> Vec<Entry<'static>> {
    match backend {
        "mimalloc" => vec![
            entry("raw", move |n| pairs(&Mimalloc, size, n)),
            entry("raw-unaligned", move |n| plain_mimalloc(size, n)),
        ],
        #[cfg(feature = "jemalloc")]
        "jemalloc" => vec![entry("raw", move |n| {
            pairs(&super::memory::Jemalloc, size, n);
        })],
        "system" => vec![
            entry("raw", move |n| pairs(&HeaderMalloc, size, n)),
            entry("posix_memalign", move |n| pairs(&PosixMemalign, size, n)),
        ],
        _ => Vec::new(),
    }
}

pub(crate) fn pools(plan: &Plan, _: &[Extra]) {
    let sizes: &[usize] = if plan.quick {
        &[64, 4096, 1 << 20]
    } else {
        &[64, 1024, 4096, 64 << 10, 1 << 20, 16 << 20]
    };
    for threads in [1, 2] {
        for backend in supported_memory_backends() {
            for size in sizes.iter().copied() {
                one(plan, backend, size, threads);
            }
        }
        for size in [64, 4096] {
            among_others(plan, size, threads);
        }
    }
}

fn one(plan: &Plan, backend: &str, size: usize, threads: usize) {
    let base = &memory_pool_named(backend).unwrap();
    let limit = &base.limit(1 << 42);
    let levels = &base.limit(1 << 42).proxy().limit(1 << 42);
    let custom = &Pool::custom(base.clone());
    let plain = &pool_of("no-large-blocks");
    let mut entries = vec![
        entry("offheap", move |n| pairs(base, size, n)),
        entry("offheap-dyn", move |n| pairs_dyn(black_box(base), size, n)),
        entry("offheap-limit", move |n| pairs(limit, size, n)),
        entry("offheap-3-levels", move |n| pairs(levels, size, n)),
        entry("offheap-custom", move |n| pairs(custom, size, n)),
    ];
    if let (Some(plain), "mimalloc", 0x10_0000..) = (plain, backend, size) {
        entries.push(entry("offheap-no-large-blocks", move |n| {
            pairs(plain, size, n);
        }));
    }
    entries.extend(raw(backend, size));
    plan.compare(&format!("allocate-free {backend}"), size, threads, &entries);
}

fn among_others(plan: &Plan, size: usize, threads: usize) {
    let Ok(base) = memory_pool_named("mimalloc") else {
        return;
    };
    let (base, limit) = (&base, &base.limit(1 << 42));
    let entries = [
        entry("offheap", move |n| batches(base, size, n)),
        entry("offheap-limit", move |n| batches(limit, size, n)),
        entry("raw", move |n| batches(&Mimalloc, size, n)),
    ];
    plan.compare("allocate-free-64 mimalloc", size, threads, &entries);
}

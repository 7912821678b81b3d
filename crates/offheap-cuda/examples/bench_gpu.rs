//! Measures the managers and copies on a GPU. Prints a JSON object a line, the first of which says on what.
//!
//! ```text
//! cargo run --release -p offheap-cuda --example bench_gpu -- [allocations|streams|copies]… [--quick]
//! ```
//!
//! - `allocations`: RMM's `random_allocations` (73 % allocations, sizes of 1 byte up to 1 MiB, at most three quarters of
//!   the free memory in use), for 1,000, 10,000 and 100,000 allocations; `ns` is the time of one operation.
//!   `cuda` is `cuMemAlloc`, which stops at 10,000: it takes minutes.
//! - `streams`: an allocation, a fill and a free on each of 1 to 8 streams in turn, RMM's `multi_stream_allocations` without
//!   its kernel; `ns` is the time of one round, the wait for the GPU included.
//! - `copies`: bytes to the GPU and back, page-locked and not, in GB/s (1e9 bytes).
//!
//! `bench/gpu.py` measures CuPy's and PyTorch's pools by the same workload.

use offheap::{Alignment, Block, DeviceBuffer, MemoryManager, MutableBuffer, system_memory_pool};
use offheap_cuda::sub_allocator::SubAllocatorOptions;
use offheap_cuda::{
    CopyRange, CudaDevice, CudaMemoryManager, DriverPoolOptions, Status, copy_async, fill_async,
    status,
};
use std::sync::Arc;
use std::time::Instant;

const MIB: usize = 1 << 20;

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// Nanoseconds of one operation, and how many blocks were live at most.
fn random_allocations(manager: &CudaMemoryManager, count: u64, most_bytes: u64) -> (f64, usize) {
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    let mut live: Vec<(Block, u64)> = Vec::new();
    let (mut allocations, mut bytes, mut operations, mut most) = (0, 0, 0_u64, 0);
    let begin = Instant::now();
    for _ in 0..count * 2 {
        let size = 1 + random.below(MIB as u64);
        let chance = random.below(100);
        let allocates =
            live.is_empty() || (chance < 73 && allocations < count && bytes + size < most_bytes);
        let block = allocates
            .then(|| {
                manager
                    .allocate(size as usize, Alignment::DEFAULT, false)
                    .ok()
            })
            .flatten();
        if let Some(block) = block {
            live.push((block, size));
            most = most.max(live.len());
            allocations += 1;
            bytes += size;
        } else if !live.is_empty() {
            let index = random.below(live.len() as u64) as usize;
            let (block, size) = live.swap_remove(index);
            drop(block);
            bytes -= size;
        }
        operations += 1;
    }
    manager.stream().synchronize().expect("a stream that works");
    let ns = begin.elapsed().as_secs_f64() * 1e9 / operations as f64;
    (ns, most)
}

fn managers(gpu: &CudaDevice) -> offheap::Result<[(&'static str, CudaMemoryManager); 3]> {
    Ok([
        ("cuda", gpu.plain_manager()?),
        (
            "offheap driver pool",
            gpu.driver_pool_manager(&DriverPoolOptions::default())?,
        ),
        (
            "offheap pool",
            gpu.pool_manager(SubAllocatorOptions::new())?,
        ),
    ])
}

fn allocations(gpu: &CudaDevice, quick: bool) -> offheap::Result<()> {
    let (free, _) = gpu.memory_info()?;
    let counts: &[u64] = if quick {
        &[1000]
    } else {
        &[1000, 10_000, 100_000]
    };
    for &count in counts {
        for (name, manager) in managers(gpu)? {
            if name == "cuda" && count > 10_000 {
                continue;
            }
            // Once cold, then warm: pools keep what they have.
            for round in ["cold", "warm"] {
                let (ns, most) = random_allocations(&manager, count, free / 4 * 3);
                println!(
                    "{{\"bench\":\"random_allocations\",\"allocations\":{count},\"max_mib\":1,\"peer\":\"{name}\",\"round\":\"{round}\",\"ns\":{ns:.1},\"most_live\":{most}}}"
                );
            }
        }
    }
    Ok(())
}

fn streams(gpu: &CudaDevice, quick: bool) -> offheap::Result<()> {
    let rounds = if quick { 20 } else { 1000 };
    for number in [1, 2, 4, 8] {
        for (name, manager) in managers(gpu)? {
            let each: Vec<CudaMemoryManager> = (0..number)
                .map(|_| manager.on(&gpu.create_stream(None)?))
                .collect::<offheap::Result<_>>()?;
            let round = || -> offheap::Result<()> {
                for manager in &each {
                    let block = manager.allocate(MIB, Alignment::DEFAULT, false)?;
                    let target = CopyRange {
                        block: block.clone(),
                        offset: 0,
                    };
                    // SAFETY: nobody else uses the block, which goes back in the stream's order.
                    unsafe { fill_async(manager.stream(), target, 1, MIB, || {})? };
                }
                Ok(())
            };
            round()?;
            gpu.synchronize()?;
            let begin = Instant::now();
            for _ in 0..rounds {
                round()?;
            }
            gpu.synchronize()?;
            let ns = begin.elapsed().as_secs_f64() * 1e9 / f64::from(rounds);
            println!(
                "{{\"bench\":\"multi_stream\",\"streams\":{number},\"peer\":\"{name}\",\"ns\":{ns:.0}}}"
            );
        }
    }
    Ok(())
}

fn copies(gpu: &CudaDevice, quick: bool) -> offheap::Result<()> {
    let manager = gpu.manager()?;
    let host: Arc<dyn MemoryManager> = Arc::new(gpu.host_manager()?);
    let sizes: &[usize] = if quick {
        &[MIB, 16 * MIB]
    } else {
        &[64 << 10, MIB, 16 * MIB, 256 * MIB, 1024 * MIB]
    };
    for &size in sizes {
        let pageable =
            DeviceBuffer::from(MutableBuffer::zeroed(size, &system_memory_pool())?.freeze());
        let pinned = pageable.copy_to(&host)?;
        let there = manager.allocate(size, Alignment::DEFAULT, true)?;
        for (kind, source) in [("pageable", &pageable), ("pinned", &pinned)] {
            for to_gpu in [true, false] {
                let range = |block: &Block, offset| CopyRange {
                    block: block.clone(),
                    offset,
                };
                let once = || {
                    let (cpu, gpu) = (range(source.block(), source.offset()), range(&there, 0));
                    let (target, from) = if to_gpu { (gpu, cpu) } else { (cpu, gpu) };
                    // SAFETY: nobody uses either side before the stream was waited for.
                    unsafe { copy_async(manager.stream(), target, from, size, || {}) }
                };
                once()?;
                manager.stream().synchronize()?;
                let rounds = (if quick { 64 * MIB } else { 4096 * MIB } / size).clamp(3, 1000);
                let begin = Instant::now();
                for _ in 0..rounds {
                    once()?;
                }
                manager.stream().synchronize()?;
                let rate = (size * rounds) as f64 / begin.elapsed().as_secs_f64() / 1e9;
                let direction = if to_gpu { "to GPU" } else { "to CPU" };
                println!(
                    "{{\"bench\":\"copy\",\"bytes\":{size},\"host\":\"{kind}\",\"direction\":\"{direction}\",\"gb_per_s\":{rate:.2}}}"
                );
            }
        }
    }
    Ok(())
}

fn main() -> offheap::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted = |name: &str| {
        let named = arguments.iter().filter(|argument| *argument != "--quick");
        named.clone().count() == 0 || named.clone().any(|argument| argument == name)
    };
    let info = match status() {
        Status::Available(info) => info,
        Status::Unavailable(reason) => {
            println!(
                "{{\"bench\":\"none\",\"why\":\"{}\"}}",
                reason.to_string().replace('"', "'")
            );
            return Ok(());
        }
    };
    let gpu = CudaDevice::new(0)?;
    println!(
        "{{\"bench\":\"device\",\"name\":\"{}\",\"driver\":{},\"library\":\"{}\",\"quick\":{quick}}}",
        gpu.properties()?.name,
        info.version,
        info.library.rsplit('/').next().unwrap_or_default()
    );
    if wanted("allocations") {
        allocations(&gpu, quick)?;
    }
    if wanted("streams") {
        streams(&gpu, quick)?;
    }
    if wanted("copies") {
        copies(&gpu, quick)?;
    }
    Ok(())
}

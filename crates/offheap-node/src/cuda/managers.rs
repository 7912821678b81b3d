//! Managers of memory that GPUs use, by the ids of managers.

use super::devices::gpu;
use super::memory::cuda_manager;
use super::state::Cuda;
use crate::arguments::size;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::managers::adopt_manager;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::{Error, MemoryManager, Pool, Result};
use offheap_cuda::sub_allocator::{SubAllocatorOptions, SubAllocatorStatistics};
use offheap_cuda::{
    AllocatorStatistics, CudaHostMemoryManager, CudaMemoryManager, DriverPoolOptions, memory_key,
};
use std::any::Any;
use std::sync::Arc;

/// What was given for a size; -1 for nothing.
fn given(name: &'static str, value: f64) -> Result<Option<u64>> {
    if value == -1.0 {
        return Ok(None);
    }
    size(name, value).map(|bytes| Some(bytes as u64))
}

/// A new manager of a GPU's memory; only pools of the driver's can be exportable.
#[napi(catch_unwind)]
pub fn cuda_manager_create(
    env: Env,
    device: f64,
    kind: String,
    initial_size: f64,
    max_size: f64,
    release_threshold: f64,
    exportable: bool,
) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let create = || {
        let gpu = gpu(state, device)?;
        let initial = given("initialSize", initial_size)?;
        let max = given("maxSize", max_size)?;
        let threshold = given("releaseThreshold", release_threshold)?;
        let manager = match kind.as_str() {
            // To the driver that is no limit at all.
            "driver-pool" if max == Some(0) => {
                return Err(Error::invalid_argument(
                    "maxSize",
                    0,
                    "an integer from 1 to 2^53 - 1",
                ));
            }
            "driver-pool" => {
                let usual = DriverPoolOptions::default();
                gpu.driver_pool_manager(&DriverPoolOptions {
                    release_threshold: threshold.unwrap_or(usual.release_threshold),
                    initial_size: initial.unwrap_or(usual.initial_size),
                    max_size: max.unwrap_or(usual.max_size),
                    exportable,
                })?
            }
            "pool" => {
                let mut options = SubAllocatorOptions::new().name("cuda pool");
                if let Some(bytes) = initial {
                    options = options.initial(bytes);
                }
                if let Some(bytes) = max {
                    options = options.maximum(bytes);
                }
                gpu.pool_manager(options)?
            }
            "plain" => gpu.plain_manager()?,
            _ => {
                return Err(Error::invalid_argument(
                    "kind",
                    &kind,
                    "driver-pool, pool or plain",
                ));
            }
        };
        adopt_manager(state, Arc::new(manager))
    };
    create().or_throw(env)
}

/// A manager of memory that the CPU and the GPU use.
#[napi(catch_unwind)]
pub fn cuda_manager_of(env: Env, device: f64, kind: String) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let find = || {
        let gpu = gpu(state, device)?;
        let manager: Arc<dyn MemoryManager> = match kind.as_str() {
            "host" => Arc::new(gpu.host_manager()?),
            "managed" => Arc::new(gpu.managed_manager()?),
            _ => {
                return Err(Error::invalid_argument("kind", &kind, "host or managed"));
            }
        };
        adopt_manager(state, manager)
    };
    find().or_throw(env)
}

/// One of the two classes of managers.
enum Manager<'a> {
    Gpu(&'a CudaMemoryManager),
    Host(&'a CudaHostMemoryManager),
}

/// Does something with a manager of this crate's.
fn with<T>(state: &Environment, id: f64, act: impl FnOnce(Manager<'_>) -> Result<T>) -> Result<T> {
    let manager = state.manager(id)?;
    if let Some(manager) = cuda_manager(&*manager) {
        return act(Manager::Gpu(manager));
    }
    let any: &dyn Any = &*manager;
    match any.downcast_ref() {
        Some(host) => act(Manager::Host(host)),
        None => Err(Error::invalid_argument(
            "manager",
            "another kind of manager",
            "a manager of a GPU's",
        )),
    }
}

/// How a manager gets its memory.
#[napi(catch_unwind)]
pub fn cuda_manager_kind(env: Env, manager: f64) -> napi::Result<String> {
    let state = Environment::of(env)?;
    with(state, manager, |manager| {
        Ok(match manager {
            Manager::Host(_) => "host",
            Manager::Gpu(manager) => match manager.cuda_pool().backend_name() {
                "cuda driver pool" => "driver-pool",
                "cuda pool" => "pool",
                "cuda managed" => "managed",
                _ => "plain",
            },
        }
        .to_owned())
    })
    .or_throw(env)
}

/// The GPU that a manager's memory is for, by its number.
#[napi(catch_unwind)]
pub fn cuda_manager_ordinal(env: Env, manager: f64) -> napi::Result<i32> {
    let state = Environment::of(env)?;
    with(state, manager, |manager| {
        Ok(match manager {
            Manager::Host(manager) => manager.cuda_device().ordinal(),
            Manager::Gpu(manager) => manager.cuda_device().ordinal(),
        })
    })
    .or_throw(env)
}

/// The same manager for another stream.
#[napi(catch_unwind)]
pub fn cuda_manager_on(env: Env, manager: f64, stream: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let stream = Cuda::of(state).stream(stream).or_throw(env)?;
    with(state, manager, |manager| match manager {
        Manager::Gpu(manager) => adopt_manager(state, Arc::new(manager.on(&stream)?)),
        Manager::Host(_) => Err(Error::not_supported(
            "page-locked memory belongs to no stream",
        )),
    })
    .or_throw(env)
}

/// A figure: now, at its peak, in total; `None` where nobody counts it.
type Figure = [Option<u64>; 3];

fn figures(pool: &Pool, [allocated, reserved]: [Figure; 2]) -> [Figure; 3] {
    let requested = [
        pool.bytes_allocated(),
        pool.peak_bytes(),
        pool.total_bytes_allocated(),
    ];
    [requested.map(Some), allocated, reserved]
}

fn of_sub_allocator(found: &SubAllocatorStatistics) -> [Figure; 2] {
    [found.allocated, found.reserved]
        .map(|count| [Some(count.current), Some(count.peak), Some(count.total)])
}

/// Requested, allocated and reserved bytes in words 0 to 8; -1 for what nobody counts.
#[napi(catch_unwind)]
pub fn cuda_manager_stats(env: Env, manager: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let found = with(state, manager, |manager| match manager {
        Manager::Host(manager) => Ok(figures(
            manager.cuda_pool(),
            of_sub_allocator(&manager.allocator_statistics()?),
        )),
        Manager::Gpu(manager) => {
            let pool = manager.cuda_pool();
            let rest = match manager.allocator_statistics()? {
                AllocatorStatistics::DriverPool(found) => [
                    [Some(found.used), Some(found.used_peak), None],
                    [Some(found.reserved), Some(found.reserved_peak), None],
                ],
                AllocatorStatistics::SubAllocator(found) => of_sub_allocator(&found),
                _ => [[None; 3]; 2],
            };
            Ok(figures(pool, rest))
        }
    })
    .or_throw(env)?;
    for (word, figure) in found.into_iter().flatten().enumerate() {
        state.set_number(word, figure.map_or(-1.0, |bytes| bytes as f64));
    }
    Ok(())
}

/// What stands for the memory that a pool leads to, the same for all pools and streams of it; 0 for memory of no GPU's.
#[napi(catch_unwind)]
pub fn cuda_memory_of_pool(env: Env, pool: f64) -> napi::Result<f64> {
    let pool = Environment::of(env)?.pool(pool).or_throw(env)?;
    Ok(memory_key(&pool).map_or(0.0, |key| key as f64))
}

/// The same for a manager's memory.
#[napi(catch_unwind)]
pub fn cuda_memory_of_manager(env: Env, manager: f64) -> napi::Result<f64> {
    let manager = Environment::of(env)?.manager(manager).or_throw(env)?;
    let key = manager.pool().as_ref().and_then(memory_key);
    Ok(key.map_or(0.0, |key| key as f64))
}

/// Makes a manager's peaks what is current.
#[napi(catch_unwind)]
pub fn cuda_manager_reset_peaks(env: Env, manager: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    with(state, manager, |manager| match manager {
        Manager::Host(manager) => {
            manager.cuda_pool().reset_peak();
            manager.reset_allocator_peaks()
        }
        Manager::Gpu(manager) => {
            manager.cuda_pool().reset_peak();
            manager.reset_allocator_peaks()
        }
    })
    .or_throw(env)
}

/// Gives memory that no buffer uses back, but for some bytes.
#[napi(catch_unwind)]
pub fn cuda_manager_trim(env: Env, manager: f64, keep_bytes: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    with(state, manager, |manager| {
        let keep = size("keepBytes", keep_bytes)? as u64;
        match manager {
            Manager::Host(manager) => manager.trim(keep),
            Manager::Gpu(manager) => manager.trim(keep),
        }
    })
    .or_throw(env)
}

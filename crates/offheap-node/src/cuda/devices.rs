//! GPUs by the ids of devices.

use super::state::Cuda;
use crate::buffers;
use crate::devices::adopt_device;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::handle::Handle;
use crate::views::unknown;
use napi::bindgen_prelude::{BigInt, Env, Unknown};
use napi_derive::napi;
use offheap::{Device, Error, Result};
use offheap_cuda::CudaDevice;
use std::any::Any;
use std::fmt::Write;
use std::sync::Arc;

/// What does not change about a GPU.
#[derive(Debug)]
#[napi(object)]
pub struct NativeCudaProperties {
    /// What its maker calls it.
    pub name: String,
    /// The same everywhere, in groups of hexadecimal digits.
    pub uuid: String,
    /// Where it is plugged in.
    pub pci_bus_id: String,
    /// Its compute capability's first number.
    pub compute_major: i32,
    /// Its compute capability's second number.
    pub compute_minor: i32,
    /// How many multiprocessors it has.
    pub multiprocessors: i32,
    /// Bytes of memory.
    pub total_bytes: f64,
    /// Whether it uses the CPU's memory.
    pub integrated: bool,
    /// Whether the driver has pools of its memory.
    pub memory_pools: bool,
    /// Whether other processes can open these.
    pub exportable_memory_pools: bool,
    /// Whether it has managed memory.
    pub managed_memory: bool,
    /// Whether the CPU may use that while the GPU works.
    pub concurrent_managed_access: bool,
}

/// A UUID as tools write it, without `GPU-`.
pub(super) fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The GPU of a device's id.
pub(super) fn gpu(state: &Environment, id: f64) -> Result<CudaDevice> {
    let device = state.device(id)?;
    let device: &dyn Any = &*device;
    device
        .downcast_ref::<CudaDevice>()
        .copied()
        .ok_or_else(|| Error::invalid_argument("device", "another kind of device", "a GPU"))
}

/// The GPU with a number.
#[napi(catch_unwind)]
pub fn cuda_device(env: Env, ordinal: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let found = || {
        let ordinal = crate::arguments::size("ordinal", ordinal)?;
        let device: Arc<dyn Device> =
            Arc::new(CudaDevice::new(i64::try_from(ordinal).unwrap_or(i64::MAX))?);
        adopt_device(state, device)
    };
    found().or_throw(env)
}

/// Memory of a GPU that another library has. The TypeScript layer keeps its owner.
#[napi(
    catch_unwind,
    ts_args_type = "device: number, address: bigint, size: number"
)]
pub fn cuda_foreign(env: Env, device: f64, address: BigInt, size: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    foreign(state, device, &address, size).or_throw(env)
}

fn foreign(state: &Environment, device: f64, address: &BigInt, size: f64) -> Result<f64> {
    let size = crate::arguments::size("size", size)?;
    let gpu = gpu(state, device)?;
    let (negative, word, lossless) = address.get_u64();
    if negative || !lossless {
        let wanted = "an address of 64 bits";
        return Err(Error::invalid_argument("address", "another number", wanted));
    }
    // SAFETY: `unsafeForeign` trusts its caller; the TypeScript layer keeps the owner as long as a handle lives.
    let buffer = unsafe { gpu.foreign(word, size, ())? };
    let mut handle = Handle::of_device_buffer(&buffer.freeze());
    handle.is_mutable = true;
    handle.is_lent = true;
    buffers::adopt(state, handle)
}

/// What does not change about a GPU.
#[napi(catch_unwind)]
pub fn cuda_device_properties(env: Env, device: f64) -> napi::Result<NativeCudaProperties> {
    let state = Environment::of(env)?;
    let found = gpu(state, device)
        .and_then(|gpu| gpu.properties())
        .or_throw(env)?;
    Ok(NativeCudaProperties {
        name: found.name,
        uuid: uuid_text(&found.uuid),
        pci_bus_id: found.pci_bus_id,
        compute_major: found.compute_capability.0,
        compute_minor: found.compute_capability.1,
        multiprocessors: found.multiprocessors,
        total_bytes: found.total_memory as f64,
        integrated: found.is_integrated,
        memory_pools: found.has_memory_pools,
        exportable_memory_pools: found.has_exportable_memory_pools,
        managed_memory: found.has_managed_memory,
        concurrent_managed_access: found.has_concurrent_managed_access,
    })
}

/// Free and all bytes, in words 0 and 1.
#[napi(catch_unwind)]
pub fn cuda_memory_info(env: Env, device: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let (free, total) = gpu(state, device)
        .and_then(|gpu| gpu.memory_info())
        .or_throw(env)?;
    state.set_word(0, free);
    state.set_word(1, total);
    Ok(())
}

/// Whether a GPU reaches another's memory.
#[napi(catch_unwind)]
pub fn cuda_can_access_peer(env: Env, device: f64, peer: f64) -> napi::Result<bool> {
    let state = Environment::of(env)?;
    gpu(state, device)
        .and_then(|device| device.can_access_peer(&gpu(state, peer)?))
        .or_throw(env)
}

/// Settled when the GPU has done what this process gave it: a thread waits, for there is nothing to ask the driver to
/// call then.
#[napi(catch_unwind, ts_return_type = "Promise<void>")]
pub fn cuda_synchronize_device<'a>(env: Env, device: f64) -> napi::Result<Unknown<'a>> {
    let state = Environment::of(env)?;
    let gpu = gpu(state, device).or_throw(env)?;
    let promise = Cuda::of(state)
        .promises
        .start(env, Vec::new(), Vec::new(), move |settler| {
            std::thread::Builder::new()
                .name("offheap-cuda-wait".into())
                .spawn(move || settler.settle(gpu.synchronize()))
                .map(drop)
                .map_err(|error| Error::busy(format!("no thread can be started: {error}")))
        })?;
    Ok(unknown(env, promise))
}

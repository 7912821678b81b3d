//! Devices by id.

use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::managers;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::{Device, DeviceType, Error, Result, cpu_device};
use std::sync::Arc;

/// Takes a device in. Word 0 is its type's code, word 1 its number among those, word 2 whether the CPU reads
/// its memory.
///
/// The bindings of a device's crate call this with theirs.
#[expect(clippy::cast_precision_loss, reason = "numbers of devices are small")]
pub(crate) fn adopt_device(state: &Environment, device: Arc<dyn Device>) -> Result<f64> {
    let location = device.location();
    state.set_number(0, f64::from(location.device_type.code()));
    state.set_number(1, location.device_id as f64);
    state.set_number(2, f64::from(u8::from(device.is_cpu())));
    state.devices_mut().insert(device).map_err(|_| {
        Error::not_supported("more than 67 million devices are alive in this environment")
    })
}

/// The CPU.
#[napi(catch_unwind)]
pub fn device_cpu(env: Env) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    adopt_device(state, cpu_device()).or_throw(env)
}

/// Lets a device's handle go.
#[napi(catch_unwind)]
pub fn device_drop(env: Env, device: f64) -> napi::Result<()> {
    let gone = Environment::of(env)?.devices_mut().remove(device);
    drop(gone);
    Ok(())
}

/// The kind of device, as a word.
#[napi(catch_unwind)]
pub fn device_type_name(env: Env, device: f64) -> napi::Result<String> {
    let device = Environment::of(env)?.device(device).or_throw(env)?;
    Ok(device.type_name().to_owned())
}

/// Where the device's memory lies: `cpu`, `cuda:0`, `shm`.
#[napi(catch_unwind)]
pub fn device_location(env: Env, device: f64) -> napi::Result<String> {
    let device = Environment::of(env)?.device(device).or_throw(env)?;
    let location = device.location();
    // That code is every extension's; each has a name.
    if location.device_type == DeviceType::EXT_DEV {
        let (name, id) = (device.type_name(), location.device_id);
        return Ok(if id < 0 {
            name.to_owned()
        } else {
            format!("{name}:{id}")
        });
    }
    Ok(location.to_string())
}

/// Whether both are the same device.
#[napi(catch_unwind)]
pub fn device_equals(env: Env, device: f64, other: f64) -> napi::Result<bool> {
    let state = Environment::of(env)?;
    let (device, other) = (state.device(device), state.device(other));
    Ok(device.or_throw(env)?.equals(&*other.or_throw(env)?))
}

/// The device's manager for whoever names no other.
#[napi(catch_unwind)]
pub fn device_default_manager(env: Env, device: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    state
        .device(device)
        .and_then(|device| managers::adopt_manager(state, device.default_memory_manager()?))
        .or_throw(env)
}

/// The device's manager of a pool.
#[napi(catch_unwind)]
pub fn device_manager(env: Env, device: f64, pool: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let found = || {
        let manager = state.device(device)?.memory_manager(&state.pool(pool)?)?;
        managers::adopt_manager(state, manager)
    };
    found().or_throw(env)
}

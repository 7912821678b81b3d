//! Memory of the CPU that is page-locked later.

use super::state::Cuda;
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::{Error, Result};
use offheap_cuda::{CudaDevice, RegisteredMemory};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A registration that JavaScript has.
pub(super) type Registration = Arc<RegisteredMemory>;

/// Where registered memory is, of all environments: start, end.
struct Place {
    start: usize,
    end: usize,
    memory: Weak<RegisteredMemory>,
}

static PLACES: Mutex<Vec<Place>> = Mutex::new(Vec::new());

fn places() -> MutexGuard<'static, Vec<Place>> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registration of `length` bytes at `address`.
pub(super) fn find(address: usize, length: usize) -> Option<Arc<RegisteredMemory>> {
    let end = address.checked_add(length)?;
    places()
        .iter()
        .find(|place| place.start <= address && end <= place.end && place.memory.strong_count() > 0)
        .and_then(|place| place.memory.upgrade())
}

/// Page-locks the memory of a buffer.
#[napi(catch_unwind)]
pub fn cuda_register_host(env: Env, buffer: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    register(state, buffer).or_throw(env)
}

fn register(state: &Environment, buffer: f64) -> Result<f64> {
    let gpu = CudaDevice::new(0)?;
    let (block, start) = {
        let handles = state.handles();
        let handle = handles.get(buffer).ok_or_else(|| disposed("buffer"))?;
        // Says which memory cannot be reached.
        handle.cpu_ptr()?;
        (handle.block.clone(), handle.address() - handle.offset)
    };
    let end = start + block.size();
    let mut all = places();
    all.retain(|place| place.memory.strong_count() > 0);
    if all
        .iter()
        .any(|place| place.start < end && start < place.end)
    {
        return Err(Error::busy("the memory is registered already"));
    }
    let memory = Arc::new(gpu.register_host(&block)?);
    all.push(Place {
        start,
        end,
        memory: Arc::downgrade(&memory),
    });
    drop(all);
    Cuda::of(state).adopt_registration(memory)
}

/// Lets a registration go; copies that are under way keep it.
#[napi(catch_unwind)]
pub fn cuda_unregister_host(env: Env, registration: f64) -> napi::Result<()> {
    Cuda::of(Environment::of(env)?).drop_registration(registration);
    Ok(())
}

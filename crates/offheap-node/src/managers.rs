//! Memory managers by id, and what they do with buffers.

use crate::arguments::{Bytes, alignment, size};
use crate::buffers::{self, flags};
use crate::devices::adopt_device;
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::handle::Handle;
use crate::pools;
use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use offheap::{DeviceBuffer, Error, ErrorKind, MemoryManager, Notice, Result, memory_manager_of};
use std::sync::Arc;

/// Takes a manager in; word 0 is its key: equal keys are the same manager.
///
/// The bindings of a device's crate call this with theirs.
pub(crate) fn adopt_manager(state: &Environment, manager: Arc<dyn MemoryManager>) -> Result<f64> {
    // An address that nothing else has while the slab keeps the manager.
    state.set_word(0, Arc::as_ptr(&manager).addr() as u64);
    state.managers_mut().insert(manager).map_err(|_| {
        Error::not_supported("more than 67 million memory managers are alive in this environment")
    })
}

/// Takes a device's buffer in, as a handle that the words describe; with `is_mutable`, nobody else may have
/// it.
///
/// The bindings of a device's crate call this with theirs.
pub(crate) fn adopt_device_buffer(
    env: Env,
    state: &Environment,
    buffer: DeviceBuffer,
    is_mutable: bool,
) -> Result<f64> {
    let block = buffer.block();
    let is_all = buffer.offset() == 0 && buffer.len() == block.size();
    let is_whole = is_all && block.pool().is_some() && block.is_unique();
    let mut handle = Handle::of_device_buffer(&buffer);
    drop(buffer);
    handle.is_whole = is_whole;
    handle.is_mutable = is_mutable;
    if !is_whole {
        return buffers::adopt(state, handle);
    }
    // What a manager made may be frozen already.
    let notice = if is_mutable {
        Notice::Unsealed
    } else {
        Notice::Sealed
    };
    handle.block.notice(notice);
    buffers::adopt_new(env, state, handle)
}

/// The bytes of a buffer, for managers. Nothing of the environment is borrowed while those work.
pub(crate) fn device_buffer(state: &Environment, id: f64) -> Result<DeviceBuffer> {
    let handles = state.handles();
    let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
    handle.to_device_buffer()
}

/// The manager of the CPU's memory over what is the default pool at each call.
#[napi(catch_unwind)]
pub fn manager_default_cpu(env: Env) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    adopt_manager(state, offheap::default_cpu_memory_manager()).or_throw(env)
}

/// The manager of a pool of the CPU's memory.
#[napi(catch_unwind)]
pub fn manager_cpu(env: Env, pool: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    state
        .pool(pool)
        .and_then(|pool| adopt_manager(state, offheap::cpu_memory_manager(&pool)?))
        .or_throw(env)
}

/// The manager of a pool, wherever its memory lies.
#[napi(catch_unwind)]
pub fn manager_of_pool(env: Env, pool: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    state
        .pool(pool)
        .and_then(|pool| adopt_manager(state, memory_manager_of(&pool)?))
        .or_throw(env)
}

/// Lets a manager's handle go.
#[napi(catch_unwind)]
pub fn manager_drop(env: Env, manager: f64) -> napi::Result<()> {
    let gone = Environment::of(env)?.managers_mut().remove(manager);
    // Not under the borrow: the last reference may be a pool's.
    drop(gone);
    Ok(())
}

/// The manager's device.
#[napi(catch_unwind)]
pub fn manager_device(env: Env, manager: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    state
        .manager(manager)
        .and_then(|manager| adopt_device(state, manager.device()))
        .or_throw(env)
}

/// The pool that allocations come from; 0 for none.
#[napi(catch_unwind)]
pub fn manager_pool(env: Env, manager: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let found = || match state.manager(manager)?.pool() {
        Some(pool) => pools::adopt(state, pool),
        None => Ok(0.0),
    };
    found().or_throw(env)
}

/// Whether the CPU may read and write its memory.
#[napi(catch_unwind)]
pub fn manager_is_cpu(env: Env, manager: f64) -> napi::Result<bool> {
    let manager = Environment::of(env)?.manager(manager).or_throw(env)?;
    Ok(manager.is_cpu())
}

/// Whether both manage the same device's memory from the same pool.
#[napi(catch_unwind)]
pub fn manager_equals(env: Env, manager: f64, other: f64) -> napi::Result<bool> {
    let state = Environment::of(env)?;
    let (manager, other) = (state.manager(manager), state.manager(other));
    Ok(manager.or_throw(env)?.equals(&*other.or_throw(env)?))
}

/// A new mutable buffer of a manager's memory.
#[napi(catch_unwind)]
pub fn manager_allocate(
    env: Env,
    manager: f64,
    size: f64,
    alignment: f64,
    flags: u32,
) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    allocate(env, state, manager, size, alignment, flags).or_throw(env)
}

fn allocate(
    env: Env,
    state: &Environment,
    manager: f64,
    bytes: f64,
    align: f64,
    flags: u32,
) -> Result<f64> {
    let (len, alignment) = (size("size", bytes)?, alignment(align)?);
    let manager = state.manager(manager)?;
    let zeroed = flags & flags::ZERO_FILL != 0;
    let block = manager.allocate(len, alignment, zeroed)?;
    // SAFETY: a new block of the manager's that nobody else holds; what JavaScript may read is never taken
    // for uninitialised.
    let buffer = unsafe { DeviceBuffer::from_block(block, 0, len, manager) };
    let mut handle = Handle::of_device_buffer(&buffer);
    drop(buffer);
    handle.is_mutable = true;
    handle.is_whole = true;
    if handle.is_cpu() && !zeroed {
        handle.zero_padding()?;
    }
    buffers::adopt_new(env, state, handle)
}

/// The manager that a buffer came with; 0 for that of its pool, or without a pool of the CPU.
#[napi(catch_unwind)]
pub fn buffer_manager(env: Env, buffer: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let found = || {
        let handles = state.handles();
        let handle = handles.get(buffer).ok_or_else(|| disposed("buffer"))?;
        match handle.own_manager().cloned() {
            Some(manager) => adopt_manager(state, manager),
            None => Ok(0.0),
        }
    };
    found().or_throw(env)
}

/// A copy of bytes in new memory of a manager; mutable, unless the flags say otherwise.
#[napi(
    catch_unwind,
    ts_args_type = "source: number | Uint8Array, manager: number, flags: number"
)]
pub fn buffer_copy_to(
    env: Env,
    source: Unknown<'_>,
    manager: f64,
    flags: u32,
) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    copy_to(env, state, source, manager, flags).or_throw(env)
}

fn copy_to(
    env: Env,
    state: &Environment,
    source: Unknown<'_>,
    manager: f64,
    flags: u32,
) -> Result<f64> {
    let manager = state.manager(manager)?;
    let copy = match Bytes::id(env, &source) {
        Some(id) => device_buffer(state, id)?.copy_to(&manager)?,
        None => {
            let bytes = Bytes::of(env, state, source)?;
            // SAFETY: managers run no JavaScript.
            DeviceBuffer::copy_from(unsafe { bytes.as_slice() }, &manager)?
        }
    };
    adopt_device_buffer(env, state, copy, flags & flags::IMMUTABLE == 0)
}

/// A buffer's bytes as memory of a manager, without a copy, as mutable as the buffer.
#[napi(catch_unwind)]
pub fn buffer_view_on(env: Env, buffer: f64, manager: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    view_on(state, buffer, manager).or_throw(env)
}

fn view_on(state: &Environment, id: f64, manager: f64) -> Result<f64> {
    let view = device_buffer(state, id)?.view_on(&state.manager(manager)?)?;
    adopt_view(state, id, &view)
}

/// Takes a view of the buffer named `id` in.
fn adopt_view(state: &Environment, id: f64, view: &DeviceBuffer) -> Result<f64> {
    let mut handle = Handle::of_device_buffer(view);
    {
        let mut handles = state.handles_mut();
        let source = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
        handle.is_mutable = source.is_mutable;
        handle.is_lent = source.is_lent;
        // The memory is the source's: V8 knows of it as long as either lives.
        handle.told = source.told.share();
    }
    buffers::adopt(state, handle)
}

/// A view where that is possible, else a copy, as mutable as the buffer; word 4 says which: 1 for a view.
#[napi(catch_unwind)]
pub fn buffer_view_or_copy_to(env: Env, buffer: f64, manager: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    view_or_copy_to(env, state, buffer, manager).or_throw(env)
}

fn view_or_copy_to(env: Env, state: &Environment, id: f64, manager: f64) -> Result<f64> {
    let manager = state.manager(manager)?;
    let source = device_buffer(state, id)?;
    let (made, is_view) = match source.view_on(&manager) {
        Ok(view) => (adopt_view(state, id, &view)?, true),
        // As `view_or_copy_to`, which does not say what it did: running out of memory is no reason to copy.
        Err(error) if matches!(error.kind(), ErrorKind::NotSupported { .. }) => {
            let is_mutable = state
                .handles()
                .get(id)
                .ok_or_else(|| disposed("buffer"))?
                .is_mutable;
            let copy = source.copy_to(&manager)?;
            (adopt_device_buffer(env, state, copy, is_mutable)?, false)
        }
        Err(error) => return Err(error),
    };
    state.set_word(4, u64::from(is_view));
    Ok(made)
}

//! Memory shared between processes.

use crate::arguments::size;
use crate::devices::adopt_device;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::managers::{adopt_device_buffer, device_buffer};
use crate::pools;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::{DeviceBuffer, Error, Pool, Result};
use offheap_shm::{
    OpenOptions, SharedMemory, SharedMemoryHandle, SharedMemoryOptions, SharedMemorySource, export,
    memory_under, shared_memory_device, shared_memory_pool,
};

/// Where other processes find a buffer: plain data, made for JSON.
#[derive(Debug)]
#[napi(object)]
pub struct NativeSharedMemoryHandle {
    /// The process that made the memory.
    pub process: f64,
    /// Its descriptor of the memory; 0 where there is none.
    pub descriptor: f64,
    /// Bytes of the memory.
    pub size: f64,
    /// Hexadecimal digits, 128 bits of which are random.
    pub key: String,
    /// Where the buffer's first byte is in the memory.
    pub offset: f64,
    /// Bytes of the buffer.
    pub length: f64,
}

/// The device of shared memory.
#[napi(catch_unwind)]
pub fn shm_device(env: Env) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    adopt_device(state, shared_memory_device()).or_throw(env)
}

/// The pool of the device's default manager.
#[napi(catch_unwind)]
pub fn shm_default_pool(env: Env) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    pools::adopt(state, shared_memory_pool()).or_throw(env)
}

/// A new pool of shared memory.
#[napi(catch_unwind)]
pub fn shm_pool(env: Env, label: String, reserve: bool) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let options = SharedMemoryOptions {
        label,
        reserve,
        freezable: true,
    };
    SharedMemorySource::new(options)
        .and_then(|source| pools::adopt(state, Pool::custom(source)))
        .or_throw(env)
}

/// The shared memory in which a buffer lies; `None` for a buffer of no bytes that needs none.
fn memory_of(buffer: &DeviceBuffer) -> Result<Option<SharedMemory>> {
    // SAFETY: nothing is written by it, and what others write is, for a buffer of JavaScript's, a data race of
    // the user's, as with a SharedArrayBuffer: see `opened`.
    let memory = unsafe { memory_under(buffer) };
    if memory.is_none() {
        // Says what is wrong with a buffer of other memory.
        export(buffer)?;
    }
    Ok(memory)
}

/// Names a buffer for other processes.
#[napi(catch_unwind)]
pub fn shm_export(env: Env, buffer: f64) -> napi::Result<NativeSharedMemoryHandle> {
    let state = Environment::of(env)?;
    device_buffer(state, buffer)
        .and_then(|buffer| named(&buffer))
        .or_throw(env)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the crate's numbers are below 2^53"
)]
fn named(buffer: &DeviceBuffer) -> Result<NativeSharedMemoryHandle> {
    let (memory, offset, length) = match memory_of(buffer)? {
        // Not by `export`, which freezes: here that is `shm_seal`.
        Some(memory) => {
            let offset = buffer.address() - memory.as_ptr().addr().get();
            (memory.handle()?, offset as u64, buffer.len() as u64)
        }
        None => {
            let handle = export(buffer)?;
            (handle.memory, handle.offset, handle.length)
        }
    };
    Ok(NativeSharedMemoryHandle {
        process: f64::from(memory.process),
        descriptor: f64::from(memory.descriptor),
        size: memory.size as f64,
        key: memory.key,
        offset: offset as f64,
        length: length as f64,
    })
}

/// Opens a buffer of another process.
#[napi(catch_unwind)]
pub fn shm_open(env: Env, handle: NativeSharedMemoryHandle, read_only: bool) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    opened(&handle, read_only)
        .and_then(|buffer| adopt_device_buffer(env, state, buffer, !read_only))
        .or_throw(env)
}

fn small(name: &'static str, number: f64) -> Result<u32> {
    u32::try_from(size(name, number)?)
        .map_err(|_| Error::invalid_argument(name, number, "an integer of 32 bits"))
}

fn opened(handle: &NativeSharedMemoryHandle, read_only: bool) -> Result<DeviceBuffer> {
    let memory = SharedMemoryHandle {
        process: small("process", handle.process)?,
        descriptor: small("descriptor", handle.descriptor)?,
        size: size("size", handle.size)? as u64,
        key: handle.key.clone(),
    };
    let (offset, length) = (
        size("offset", handle.offset)?,
        size("length", handle.length)?,
    );
    let whole = size("size", handle.size)?;
    if offset.checked_add(length).is_none_or(|end| end > whole) {
        return Err(Error::invalid_argument(
            "handle",
            format_args!("one of {length} bytes from {offset} of {whole}"),
            "one of a range of its memory",
        ));
    }
    let memory = if read_only {
        // JavaScript's views can always be written, and must not end the process.
        SharedMemory::open_privately(&memory)?
    } else {
        SharedMemory::open(&memory, OpenOptions { read_only: false })?
    };
    // SAFETY: as `Handle::to_device_buffer`: the bytes are initialised, and no call here reads them by a
    // reference while JavaScript of this thread runs. Another process that writes meanwhile is a data race of
    // the user's, as with a SharedArrayBuffer.
    unsafe { memory.buffer(offset, length) }
}

/// Ends all handles of the memory in which a buffer lies.
#[napi(catch_unwind)]
pub fn shm_revoke(env: Env, buffer: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let revoked = || match memory_of(&device_buffer(state, buffer)?)? {
        Some(memory) => memory.revoke(),
        None => Ok(()),
    };
    revoked().or_throw(env)
}

/// Forbids to open the memory in which a buffer lies for writing.
#[napi(catch_unwind)]
pub fn shm_seal(env: Env, buffer: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let sealed = || match memory_of(&device_buffer(state, buffer)?)? {
        Some(memory) => memory.freeze(),
        None => Ok(()),
    };
    sealed().or_throw(env)
}

//! Memory and events of other processes.

use super::devices::uuid_text;
use super::state::{Cuda, Event};
use crate::arguments::size;
use crate::environment::Environment;
use crate::errors::OrThrow;
use crate::managers::{adopt_device_buffer, device_buffer};
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::{Error, Result};
use offheap_cuda::{
    CudaIpcEventHandle, CudaIpcHandle, export_event, export_memory, open_event, open_memory, status,
};
use std::cell::Cell;
use std::fmt::Write;

/// Where another process finds memory of a GPU.
#[derive(Debug)]
#[napi(object)]
pub struct NativeCudaMemoryHandle {
    /// The GPU's UUID.
    pub device: String,
    /// Text that names the allocation: the driver's handle in hexadecimal, or where its maker can be asked.
    pub handle: String,
    /// Where the buffer begins in the allocation.
    pub offset: f64,
    /// Its bytes.
    pub length: f64,
}

/// Where another process finds an event.
#[derive(Debug)]
#[napi(object)]
pub struct NativeCudaEventHandle {
    /// The GPU's UUID.
    pub device: String,
    /// The driver's handle in hexadecimal.
    pub handle: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// As many bytes as hexadecimal digits say; dashes between groups are passed over.
fn bytes<const N: usize>(name: &'static str, text: &str) -> Result<[u8; N]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut bytes = [0; N];
    let wrong = || {
        Error::invalid_argument(
            name,
            "another text",
            "the hexadecimal digits that an export gave",
        )
    };
    if digits.len() != 2 * N {
        return Err(wrong());
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or_else(wrong);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// Says why there is no GPU, before anything is said of arguments.
fn must_be_available() -> Result<()> {
    match status() {
        offheap_cuda::Status::Available(_) => Ok(()),
        offheap_cuda::Status::Unavailable(why) => Err(why.into()),
    }
}

/// Names a buffer's memory for other processes.
#[napi(catch_unwind)]
pub fn cuda_export_memory(env: Env, buffer: f64) -> napi::Result<NativeCudaMemoryHandle> {
    let state = Environment::of(env)?;
    let export = || {
        must_be_available()?;
        let found = export_memory(&device_buffer(state, buffer)?)?;
        Ok(NativeCudaMemoryHandle {
            device: uuid_text(&found.device),
            handle: found.handle.to_string(),
            offset: found.offset as f64,
            length: found.length as f64,
        })
    };
    export().or_throw(env)
}

/// Opens what another process named: a mutable buffer.
#[napi(catch_unwind)]
pub fn cuda_open_memory(env: Env, handle: NativeCudaMemoryHandle) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let open = || {
        must_be_available()?;
        let handle = CudaIpcHandle {
            device: bytes("handle.device", &handle.device)?,
            handle: handle.handle.parse()?,
            offset: size("handle.offset", handle.offset)? as u64,
            length: size("handle.length", handle.length)? as u64,
        };
        // SAFETY: bytes that JavaScript reads are never taken for anything but bytes; two processes that write are in
        // a data race of the user's, as with a SharedArrayBuffer.
        let opened = unsafe { open_memory(&handle)? };
        adopt_device_buffer(env, state, opened.freeze(), true)
    };
    open().or_throw(env)
}

/// Names an event for other processes.
#[napi(catch_unwind)]
pub fn cuda_export_event(env: Env, event: f64) -> napi::Result<NativeCudaEventHandle> {
    let cuda = Cuda::of(Environment::of(env)?);
    let export = || {
        let event = cuda.event(event)?;
        if !event.is_shared {
            return Err(Error::not_supported(
                "the event was not made to be shared with other processes",
            ));
        }
        let found = export_event(&event.event)?;
        Ok(NativeCudaEventHandle {
            device: uuid_text(&found.device),
            handle: hex(&found.handle),
        })
    };
    export().or_throw(env)
}

/// Opens an event that another process named.
#[napi(catch_unwind)]
pub fn cuda_open_event(env: Env, handle: NativeCudaEventHandle) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let open = || {
        must_be_available()?;
        let event = open_event(&CudaIpcEventHandle {
            device: bytes("handle.device", &handle.device)?,
            handle: bytes("handle.handle", &handle.handle)?,
        })?;
        Cuda::of(state).adopt_event(Event {
            event,
            has_time: false,
            is_recorded: Cell::new(true),
            is_shared: false,
        })
    };
    open().or_throw(env)
}

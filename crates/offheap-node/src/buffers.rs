//! Buffers by id: making and describing them.

mod bytes;
mod resizing;

use crate::arguments::{Bytes, alignment, elements, position, size};
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::handle::Handle;
use napi::bindgen_prelude::{BigInt, Env, Unknown};
use napi_derive::napi;
use offheap::{Alignment, Block, Error, Notice, Pool, Result};
use std::ptr::{self, NonNull};

/// Bits of `flags`.
pub(crate) mod flags {
    pub(crate) const ZERO_FILL: u32 = 1;
    pub(super) const RESIZABLE: u32 = 2;
    pub(crate) const IMMUTABLE: u32 = 4;
    /// Refuse a pool whose memory the CPU cannot write.
    pub(super) const FOR_CPU: u32 = 8;
}

/// What word 3 is for a buffer that the CPU cannot read: a flag of the TypeScript layer's handles.
const NOT_CPU: u64 = 4;

/// Sets the words that describe a buffer: address, capacity, size, and whether the CPU cannot read it.
fn describe(state: &Environment, handle: &Handle) {
    state.set_word(0, handle.address() as u64);
    state.set_word(1, handle.capacity() as u64);
    state.set_word(2, handle.len as u64);
    state.set_word(3, if handle.is_cpu() { 0 } else { NOT_CPU });
}

/// Takes a handle in and describes it.
pub(crate) fn adopt(state: &Environment, handle: Handle) -> Result<f64> {
    describe(state, &handle);
    state.handles_mut().insert(handle).map_err(|_| {
        Error::not_supported("more than 67 million buffers are alive in this environment")
    })
}

/// As [`adopt`], for a block that nobody has shown V8 yet. A device's memory is none of V8's business.
pub(crate) fn adopt_new(env: Env, state: &Environment, mut handle: Handle) -> Result<f64> {
    if handle.is_cpu() && handle.block.pool().is_some() {
        let size = handle.block.size();
        let change = handle.told.set(size);
        state.adjust_external(env, change);
    }
    adopt(state, handle)
}

/// A new block of the CPU's whose padding is zero.
fn new_block(len: usize, alignment: Alignment, pool: &Pool, zeroed: bool) -> Result<Handle> {
    let handle = Handle::whole(Block::allocate(len, alignment, pool, zeroed)?, len);
    if !zeroed {
        handle.zero_padding()?;
    }
    Ok(handle)
}

/// A new block filled with `bytes`.
fn block_of(bytes: Bytes, alignment: Alignment, pool: &Pool) -> Result<Handle> {
    let handle = new_block(bytes.len, alignment, pool, false)?;
    // SAFETY: the source is live (no JavaScript ran since it was resolved), the new block has as
    // many bytes and overlaps nothing.
    unsafe { ptr::copy_nonoverlapping(bytes.ptr, handle.cpu_ptr()?.as_ptr(), bytes.len) };
    Ok(handle)
}

/// A new mutable buffer.
#[inline]
pub(crate) fn allocate(
    env: Env,
    state: &Environment,
    pool: f64,
    bytes: f64,
    align: f64,
    flags: u32,
) -> Result<f64> {
    let (len, alignment) = (size("size", bytes)?, alignment(align)?);
    let pool = state.pool(pool)?;
    let zeroed = flags & flags::ZERO_FILL != 0;
    let is_resizable = flags & flags::RESIZABLE != 0;
    let mut handle = if pool.is_cpu() || is_resizable || flags & flags::FOR_CPU != 0 {
        new_block(len, alignment, &pool, zeroed)?
    } else {
        let block = Block::allocate_on_device(len, alignment, &pool, zeroed)?;
        Handle::whole(block, len)
    };
    handle.is_resizable = is_resizable;
    adopt_new(env, state, handle)
}

/// A new buffer with a copy of `bytes`.
#[napi(
    catch_unwind,
    ts_args_type = "pool: number, bytes: number | Uint8Array, flags: number"
)]
pub fn buffer_from_bytes(env: Env, pool: f64, bytes: Unknown<'_>, flags: u32) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let made = || {
        let pool = state.pool(pool)?;
        let bytes = Bytes::of(env, state, bytes)?;
        let mut handle = block_of(bytes, Alignment::DEFAULT, &pool)?;
        handle.is_mutable = flags & flags::IMMUTABLE == 0;
        if !handle.is_mutable {
            handle.block.notice(Notice::Sealed);
        }
        adopt_new(env, state, handle)
    };
    made().or_throw(env)
}

/// A buffer over memory that somebody else owns, at an address that the caller vouches for.
#[napi(catch_unwind)]
pub fn buffer_foreign(env: Env, address: BigInt, size: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    foreign(state, &address, size).or_throw(env)
}

fn foreign(state: &Environment, address: &BigInt, bytes: f64) -> Result<f64> {
    let len = size("size", bytes)?;
    let (negative, word, lossless) = address.get_u64();
    let end = usize::try_from(word)
        .ok()
        .and_then(|start| start.checked_add(len));
    let start = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(
        usize::try_from(word).unwrap_or_default(),
    ));
    match (start, end) {
        (Some(start), Some(end))
            if !negative && lossless && isize::try_from(len).is_ok() && end < 1 << 53 =>
        {
            // SAFETY: `unsafeForeign` trusts its caller for the range; the TypeScript layer keeps
            // the owner as long as a handle or a view lives.
            let block = unsafe { Block::foreign(start, len, ())? };
            let mut handle = Handle::whole(block, len);
            handle.is_lent = true;
            adopt(state, handle)
        }
        _ => Err(Error::invalid_argument(
            "address",
            word,
            "the address of as many bytes",
        )),
    }
}

/// A part of a buffer, over the same memory.
pub(crate) fn slice(
    state: &Environment,
    id: f64,
    offset: f64,
    length: f64,
    mutable: bool,
) -> Result<f64> {
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
    if mutable {
        handle.must_be_mutable("make a mutable slice")?;
    }
    let at = position("offset", offset, handle.len)?;
    #[expect(clippy::float_cmp, reason = "the exact value that stands for the rest")]
    let len = if length == -1.0 {
        handle
            .len
            .checked_sub(at)
            .ok_or_else(|| Error::position("offset", at, handle.len))?
    } else {
        position("length", length, handle.len)?
    };
    handle.check_range(at, len)?;
    let mut slice = handle.part(at, len);
    slice.is_mutable = mutable;
    drop(handles);
    adopt(state, slice)
}

/// A new mutable buffer with a copy of a range of bytes.
#[napi(
    catch_unwind,
    ts_args_type = "source: number | Uint8Array, offset: number, length: number, pool: number, alignment: number"
)]
pub fn buffer_copy(
    env: Env,
    source: Unknown<'_>,
    offset: f64,
    length: f64,
    pool: f64,
    alignment: f64,
) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    copy(env, state, source, (offset, length), pool, alignment).or_throw(env)
}

fn copy(
    env: Env,
    state: &Environment,
    source: Unknown<'_>,
    (offset, length): (f64, f64),
    pool: f64,
    align: f64,
) -> Result<f64> {
    let (alignment, pool) = (alignment(align)?, state.pool(pool)?);
    let source = Bytes::of(env, state, source)?;
    let (at, len) = (
        position("offset", offset, source.len)?,
        position("length", length, source.len)?,
    );
    if at.checked_add(len).is_none_or(|end| end > source.len) {
        return Err(Error::range(at, len, source.len));
    }
    // SAFETY: just checked.
    let ptr = unsafe { source.ptr.add(at) };
    let part = Bytes { ptr, len };
    adopt_new(env, state, block_of(part, alignment, &pool)?)
}

/// A new mutable buffer with the bytes of all parts.
#[napi(
    catch_unwind,
    ts_args_type = "pool: number, parts: Array<number | Uint8Array>"
)]
pub fn buffer_concat(env: Env, pool: f64, parts: Unknown<'_>) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    concat(env, state, pool, parts).or_throw(env)
}

fn concat(env: Env, state: &Environment, pool: f64, parts: Unknown<'_>) -> Result<f64> {
    let pool = state.pool(pool)?;
    // All elements first: a getter may run JavaScript, so nothing is resolved before.
    let values = elements(env, parts)
        .ok_or_else(|| Error::invalid_argument("parts", "another value", "an array"))?;
    let parts = values
        .into_iter()
        .map(|value| Bytes::of_raw(env, state, value))
        .collect::<Result<Vec<_>>>()?;
    let total = parts
        .iter()
        .try_fold(0_usize, |sum, part| sum.checked_add(part.len))
        .unwrap_or(usize::MAX);
    let whole = new_block(total, Alignment::DEFAULT, &pool, false)?;
    let target = whole.cpu_ptr()?;
    let mut at = 0;
    for part in parts {
        // SAFETY: the parts are live (no JavaScript ran since), their lengths add up to the new
        // block's, which overlaps nothing.
        unsafe { ptr::copy_nonoverlapping(part.ptr, target.add(at).as_ptr(), part.len) };
        at += part.len;
    }
    adopt_new(env, state, whole)
}

/// The pool that a buffer's memory came from; 0 for foreign memory.
#[napi(catch_unwind)]
pub fn buffer_pool(env: Env, buffer: f64) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let found = || {
        let handles = state.handles();
        let handle = handles.get(buffer).ok_or_else(|| disposed("buffer"))?;
        match handle.block.pool().cloned() {
            Some(pool) => crate::pools::adopt(state, pool),
            None => Ok(0.0),
        }
    };
    found().or_throw(env)
}

/// Sets the words that describe a buffer.
#[napi(catch_unwind)]
pub fn buffer_describe(env: Env, buffer: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let handles = state.handles();
    let handle = handles
        .get(buffer)
        .ok_or_else(|| disposed("buffer"))
        .or_throw(env)?;
    describe(state, handle);
    Ok(())
}

/// Refuses a buffer that the CPU cannot read or write.
#[napi(catch_unwind)]
pub fn buffer_check_cpu(env: Env, buffer: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let handles = state.handles();
    let checked = handles
        .get(buffer)
        .ok_or_else(|| disposed("buffer"))
        .and_then(|handle| handle.cpu_ptr().map(drop));
    checked.or_throw(env)
}

/// Where a buffer lies: `cpu`, `cuda:0`.
#[napi(catch_unwind)]
pub fn buffer_location(env: Env, buffer: f64) -> napi::Result<String> {
    let state = Environment::of(env)?;
    let handles = state.handles();
    handles
        .get(buffer)
        .map(|handle| handle.location().to_string())
        .ok_or_else(|| disposed("buffer"))
        .or_throw(env)
}

//! Buffers by id.

use crate::arguments::{Bytes, alignment, elements, position, size, typed_array};
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::gate::Gate;
use crate::handle::Handle;
use crate::views::{Shown, end_all, end_copies, end_now, is_idle};
use napi::JsValue;
use napi::bindgen_prelude::{BigInt, Env, Unknown};
use napi_derive::napi;
use offheap::{Alignment, Block, Error, ErrorKind, Notice, Pool, Result};
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

/// How a handle's memory changes.
enum Change {
    /// Only the size.
    InPlace,
    /// The block is reallocated: nobody else holds it and no view shows it.
    Reallocate(usize),
    /// A new block takes the bytes over, because views, or work on old views, hold the old one.
    Move(usize),
}

/// Decides how the block gets `size` bytes.
fn change_to(handle: &Handle, size: usize) -> Result<Change> {
    let others = handle.others();
    if others > 0 {
        return Err(Error::busy(format!(
            "the memory cannot move: {others} other handles (slices, shared tickets) hold it"
        )));
    }
    Ok(if handle.block.is_unique() {
        Change::Reallocate(size)
    } else {
        Change::Move(size)
    })
}

/// A new block of `size` bytes with the handle's bytes, as many as fit.
fn moved(handle: &Handle, size: usize) -> Result<Block> {
    let pool = handle
        .block
        .pool()
        .ok_or_else(|| Error::not_supported("foreign memory cannot be resized"))?;
    let source = handle.cpu_ptr()?;
    let block = Block::allocate(size, handle.block.alignment(), pool, false)?;
    let new = Handle::whole(block, size);
    let bytes = handle.len.min(size);
    // SAFETY: both blocks have as many bytes and more; a new block overlaps nothing.
    unsafe { ptr::copy_nonoverlapping(source.as_ptr(), new.cpu_ptr()?.as_ptr(), bytes) };
    Ok(new.block)
}

/// Reallocates a block that is shown where there is no room for a second one: its views end first,
/// so that nothing can show the old memory. `refused` is the error where that is no way either.
fn squeeze(
    env: Env,
    state: &Environment,
    id: f64,
    size: usize,
    shown: &Shown,
    gate_state: u32,
    refused: Error,
) -> Result<()> {
    {
        // Only where a limit has no room for two blocks, but for one.
        if !matches!(
            refused.kind(),
            ErrorKind::OutOfMemory { limit: Some(_), .. }
        ) {
            return Err(refused);
        }
        let handles = state.handles();
        let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
        let more = size.saturating_sub(handle.block.size()) as u64;
        let fits = handle
            .block
            .pool()
            .and_then(Pool::available)
            .is_none_or(|available| more <= available);
        if !fits
            || !matches!(state.gate, Gate::Idle(_))
            || !is_idle(state, handle, gate_state)
            || !shown.are_attached(env, handle)
        {
            return Err(refused);
        }
    }
    if !end_now(env, state, id, shown, gate_state)?.is_empty() {
        return Err(refused);
    }
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
    if !handle.block.is_unique() {
        return Err(refused);
    }
    handle.block.reallocate(size)
}

/// Carries a change out, ends the views, and sets the size. An error leaves everything as it was
/// (except that views may have ended where memory was too short even to try).
fn apply(
    env: Env,
    state: &Environment,
    id: f64,
    change: &Change,
    len: usize,
    shown: &Shown,
    gate_state: u32,
) -> Result<()> {
    let mut old = None;
    {
        let mut handles = state.handles_mut();
        let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
        match *change {
            Change::InPlace => {}
            Change::Reallocate(size) => handle.block.reallocate(size)?,
            Change::Move(size) => match moved(handle, size) {
                Ok(block) => old = Some(std::mem::replace(&mut handle.block, block)),
                Err(error) if handle.view.is_some() => {
                    drop(handles);
                    squeeze(env, state, id, size, shown, gate_state, error)?;
                }
                Err(error) => return Err(error),
            },
        }
    }
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
    handle.len = len;
    let windows = std::mem::take(&mut handle.windows);
    let views = handle.view.take().into_iter().chain(windows);
    let told = if handle.is_whole && handle.block.pool().is_some() {
        let size = handle.block.size();
        handle.told.set(size)
    } else {
        0
    };
    describe(state, handle);
    let copied_at = handle.copied_at.take();
    let block = handle.block.clone();
    drop(handles);
    end_copies(env, state, copied_at, shown, gate_state);
    state.adjust_external(env, told);
    end_all(env, state, &block, old, views, shown, gate_state);
    Ok(())
}

/// Changes a buffer's size; true when its views ended.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, size: number, shrinkToFit: boolean, views: Array<ArrayBuffer>, state: number"
)]
pub fn buffer_resize(
    env: Env,
    buffer: f64,
    size: f64,
    shrink_to_fit: bool,
    views: Unknown<'_>,
    state: u32,
) -> napi::Result<bool> {
    let environment = Environment::of(env)?;
    let shown = Shown::list(env, views);
    resize(env, environment, buffer, size, shrink_to_fit, &shown, state).or_throw(env)
}

fn resize(
    env: Env,
    state: &Environment,
    id: f64,
    bytes: f64,
    shrink_to_fit: bool,
    shown: &Shown,
    gate_state: u32,
) -> Result<bool> {
    let len = size("size", bytes)?;
    let change = {
        let handles = state.handles();
        let handle = resizable(handles.get(id))?;
        // As in the core: growth into the padding moves nothing, but what is used is counted.
        let counted = handle.block.size();
        if len > counted || (shrink_to_fit && len <= handle.len && len != counted) {
            change_to(handle, len)?
        } else if len == handle.len {
            describe(state, handle);
            return Ok(false);
        } else {
            Change::InPlace
        }
    };
    apply(env, state, id, &change, len, shown, gate_state)?;
    Ok(true)
}

fn resizable(handle: Option<&Handle>) -> Result<&Handle> {
    let handle = handle.ok_or_else(|| disposed("buffer"))?;
    handle.must_be_mutable("resize")?;
    if handle.is_resizable {
        Ok(handle)
    } else {
        Err(Error::not_supported(
            "the buffer has a fixed size: make resizable ones by allocateResizableBuffer",
        ))
    }
}

/// Makes room for `capacity` bytes; true when the views ended.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, capacity: number, views: Array<ArrayBuffer>, state: number"
)]
pub fn buffer_reserve(
    env: Env,
    buffer: f64,
    capacity: f64,
    views: Unknown<'_>,
    state: u32,
) -> napi::Result<bool> {
    let environment = Environment::of(env)?;
    let shown = Shown::list(env, views);
    reserve(env, environment, buffer, capacity, &shown, state).or_throw(env)
}

fn reserve(
    env: Env,
    state: &Environment,
    id: f64,
    capacity: f64,
    shown: &Shown,
    gate_state: u32,
) -> Result<bool> {
    let capacity = size("capacity", capacity)?;
    let (change, len) = {
        let handles = state.handles();
        let handle = resizable(handles.get(id))?;
        if capacity <= handle.block.size() {
            describe(state, handle);
            return Ok(false);
        }
        (change_to(handle, capacity)?, handle.len)
    };
    apply(env, state, id, &change, len, shown, gate_state)?;
    Ok(true)
}

/// Ends a buffer's views and makes it immutable; true when views ended.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, views: Array<ArrayBuffer>, state: number"
)]
pub fn buffer_freeze(env: Env, buffer: f64, views: Unknown<'_>, state: u32) -> napi::Result<bool> {
    let environment = Environment::of(env)?;
    let shown = Shown::list(env, views);
    freeze(env, environment, buffer, &shown, state).or_throw(env)
}

fn freeze(env: Env, state: &Environment, id: f64, shown: &Shown, gate_state: u32) -> Result<bool> {
    let has_views = state
        .handles()
        .get(id)
        .ok_or_else(|| disposed("buffer"))?
        .view
        .is_some();
    if has_views || !state.external_buffers {
        let rest = if state.external_buffers {
            &end_now(env, state, id, shown, gate_state)?
        } else {
            shown
        };
        let (change, len) = {
            let handles = state.handles();
            let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
            // A view that cannot end now would go on writing: the immutable bytes move away.
            let change = match handle.block.pool() {
                Some(_) if handle.view.is_some() && handle.is_whole => {
                    Change::Move(handle.block.size())
                }
                _ => Change::InPlace,
            };
            (change, handle.len)
        };
        apply(env, state, id, &change, len, rest, gate_state)?;
    }
    let mut handles = state.handles_mut();
    let handle = handles.get_mut(id).ok_or_else(|| disposed("buffer"))?;
    handle.is_mutable = false;
    // Mutable slices, and tickets of this buffer, may still write.
    if handle.others() == 0 {
        handle.block.notice(Notice::Sealed);
    }
    describe(state, handle);
    Ok(has_views)
}

/// Whether two ranges hold the same bytes.
#[napi(
    catch_unwind,
    ts_args_type = "a: number | Uint8Array, b: number | Uint8Array"
)]
pub fn bytes_equal(env: Env, a: Unknown<'_>, b: Unknown<'_>) -> napi::Result<bool> {
    let state = Environment::of(env)?;
    let (a, b) = pair(env, state, a, b).or_throw(env)?;
    // SAFETY: no JavaScript runs until the comparison is done.
    Ok(a.len == b.len && (a.ptr == b.ptr || unsafe { a.as_slice() == b.as_slice() }))
}

fn pair(env: Env, state: &Environment, a: Unknown<'_>, b: Unknown<'_>) -> Result<(Bytes, Bytes)> {
    Ok((Bytes::of(env, state, a)?, Bytes::of(env, state, b)?))
}

/// -1, 0 or 1: the order of two byte strings.
#[napi(
    catch_unwind,
    ts_args_type = "a: number | Uint8Array, b: number | Uint8Array"
)]
pub fn bytes_compare(env: Env, a: Unknown<'_>, b: Unknown<'_>) -> napi::Result<i32> {
    let state = Environment::of(env)?;
    let (a, b) = pair(env, state, a, b).or_throw(env)?;
    // SAFETY: no JavaScript runs until the comparison is done.
    Ok(unsafe { a.as_slice().cmp(b.as_slice()) } as i32)
}

/// Upper-case hexadecimal digits.
#[napi(catch_unwind, ts_args_type = "a: number | Uint8Array")]
pub fn bytes_to_hex(env: Env, a: Unknown<'_>) -> napi::Result<String> {
    let state = Environment::of(env)?;
    let made = || {
        let bytes = Bytes::of(env, state, a)?;
        // V8's longest string has 2^29 - 24 characters.
        if bytes.len > (1 << 28) - 12 {
            return Err(Error::not_supported(format!(
                "{} bytes make a longer string than JavaScript has",
                bytes.len
            )));
        }
        // SAFETY: no JavaScript runs until the string is made.
        offheap::buffer::try_to_hex(unsafe { bytes.as_slice() })
    };
    made().or_throw(env)
}

/// One byte; -1 is the last.
#[napi(catch_unwind, ts_args_type = "a: number | Uint8Array, index: number")]
pub fn bytes_at(env: Env, a: Unknown<'_>, index: f64) -> napi::Result<u32> {
    let state = Environment::of(env)?;
    let found = || {
        let bytes = Bytes::of(env, state, a)?;
        if index.fract() != 0.0 || !index.is_finite() {
            return Err(Error::invalid_argument("index", index, "an integer"));
        }
        #[expect(clippy::cast_precision_loss, reason = "sizes are below 2^53")]
        let at = if index < 0.0 {
            index + bytes.len as f64
        } else {
            index
        };
        match size("index", at) {
            // SAFETY: inside of a live range.
            Ok(at) if at < bytes.len => Ok(u32::from(unsafe { bytes.ptr.add(at).read() })),
            _ => Err(Error::position("index", index, bytes.len)),
        }
    };
    found().or_throw(env)
}

/// Sets the bytes of `[start, end)`.
#[napi(catch_unwind)]
pub fn buffer_fill(env: Env, buffer: f64, byte: f64, start: f64, end: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let filled = || {
        let handles = state.handles();
        let handle = handles.get(buffer).ok_or_else(|| disposed("buffer"))?;
        handle.must_be_mutable("fill")?;
        let value = size("byte", byte)
            .ok()
            .and_then(|value| u8::try_from(value).ok())
            .ok_or_else(|| Error::invalid_argument("byte", byte, "an integer from 0 to 255"))?;
        let (start, end) = (
            position("start", start, handle.len)?,
            position("end", end, handle.len)?,
        );
        let length = end
            .checked_sub(start)
            .ok_or_else(|| Error::range(start, "a negative number", handle.len))?;
        // SAFETY: the range was checked; JavaScript shares the bytes only with itself.
        unsafe { handle.range(start, length)?.write_bytes(value, length) };
        Ok(())
    };
    filled().or_throw(env)
}

/// Zeroes the bytes between the size and the capacity.
#[napi(catch_unwind)]
pub fn buffer_zero_padding(env: Env, buffer: f64) -> napi::Result<()> {
    let state = Environment::of(env)?;
    let zeroed = || {
        let handles = state.handles();
        let handle = handles.get(buffer).ok_or_else(|| disposed("buffer"))?;
        handle.must_be_mutable("zero the padding")?;
        handle.zero_padding()
    };
    zeroed().or_throw(env)
}

/// Copies bytes into a buffer; past the end nothing is written.
#[napi(
    catch_unwind,
    ts_args_type = "buffer: number, position: number, bytes: number | Uint8Array"
)]
pub fn buffer_write(env: Env, buffer: f64, position: f64, bytes: Unknown<'_>) -> napi::Result<()> {
    let state = Environment::of(env)?;
    write(env, state, buffer, position, bytes).or_throw(env)
}

fn write(env: Env, state: &Environment, id: f64, at: f64, bytes: Unknown<'_>) -> Result<()> {
    let bytes = Bytes::of(env, state, bytes)?;
    let handles = state.handles();
    let handle = handles.get(id).ok_or_else(|| disposed("buffer"))?;
    handle.must_be_mutable("write")?;
    let target = handle.range(position("position", at, handle.len)?, bytes.len)?;
    // SAFETY: both ranges are live and as long; they may overlap.
    unsafe { ptr::copy(bytes.ptr, target.as_ptr(), bytes.len) };
    Ok(())
}

/// Copies bytes out of a buffer until `target` is full.
#[napi(
    catch_unwind,
    ts_args_type = "source: number | Uint8Array, position: number, target: Uint8Array"
)]
pub fn buffer_read(
    env: Env,
    source: Unknown<'_>,
    position: f64,
    target: Unknown<'_>,
) -> napi::Result<()> {
    let state = Environment::of(env)?;
    read(env, state, source, position, target).or_throw(env)
}

fn read(
    env: Env,
    state: &Environment,
    source: Unknown<'_>,
    at: f64,
    target: Unknown<'_>,
) -> Result<()> {
    let source = Bytes::of(env, state, source)?;
    let (target, length) = typed_array(env, target.raw())
        .ok_or_else(|| Error::invalid_argument("target", "another value", "a Uint8Array"))?;
    let at = position("position", at, source.len)?;
    if at.checked_add(length).is_none_or(|end| end > source.len) {
        return Err(Error::range(at, length, source.len));
    }
    if length > 0 {
        // SAFETY: both ranges are live and as long; they may overlap.
        unsafe { ptr::copy(source.ptr.add(at), target, length) };
    }
    Ok(())
}

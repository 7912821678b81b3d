//! Streams.

use core::ffi::{c_int, c_uint, c_ulonglong, c_void};

use crate::abi::{
    CU_STREAM_NON_BLOCKING, CUcontext, CUdeviceptr, CUevent, CUhostFn, CUstream, CUstreamCallback,
};
use crate::block::Kind;
use crate::driver::{Driver, STREAM, State, as_handle, handle, lock};
use crate::engine::{advance, attempt, depend, submit};
use crate::entry::{Outcome, cuda_api, store};
use crate::result::{CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_READY, CUresult};
use crate::stream::{HostCall, Stream, Work};

fn create(driver: &mut Driver, flags: c_uint, priority: c_int) -> Result<u64, CUresult> {
    let context = driver.current()?;
    let device = driver.current_device()?;
    if flags & !CU_STREAM_NON_BLOCKING != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let id = handle(STREAM);
    // Priorities beyond the range count as the nearest that is in it.
    driver.streams.insert(
        id,
        Stream::new(context, device, flags, priority.clamp(-5, 0)),
    );
    Ok(id)
}

/// The work of a destroyed stream still runs; nothing more can be submitted.
fn destroy(driver: &mut Driver, stream: CUstream) -> Outcome {
    let id = driver.stream(stream)?;
    let default = driver.contexts.values().any(|context| {
        context.legacy == id
            || context
                .per_thread
                .values()
                .any(|&per_thread| per_thread == id)
    });
    if default {
        return Err(crate::result::CUDA_ERROR_INVALID_HANDLE);
    }
    let Some(stream) = driver.streams.get_mut(&id) else {
        return Ok(());
    };
    stream.destroyed = true;
    if stream.is_idle() && !stream.running {
        driver.streams.remove(&id);
    }
    Ok(())
}

fn synchronize(stream: CUstream) -> Outcome {
    let mut guard = lock();
    let driver = guard.state();
    let id = driver.stream(stream)?;
    let (device, submitted) = driver
        .streams
        .get(&id)
        .map_or((0, 0), |stream| (stream.device, stream.submitted));
    guard = advance(guard, vec![(id, submitted)]);
    let driver = guard.state();
    driver.trim_pools(device);
    driver.current().map(|_| ())
}

fn query(stream: CUstream) -> Outcome {
    let mut guard = lock();
    let driver = guard.state();
    let id = driver.stream(stream)?;
    let limit = if driver.speed > 0 { 0 } else { driver.queries };
    let Some(stream) = driver.streams.get_mut(&id) else {
        return Ok(());
    };
    if stream.is_idle() {
        return Ok(());
    }
    stream.queries += 1;
    if limit == 0 || stream.queries <= limit {
        return Err(CUDA_ERROR_NOT_READY);
    }
    let point = (id, stream.submitted);
    let reached;
    (guard, reached) = attempt(guard, point);
    guard.state().current()?;
    if reached {
        Ok(())
    } else {
        Err(CUDA_ERROR_NOT_READY)
    }
}

fn wait_event(driver: &mut Driver, stream: CUstream, event: CUevent) -> Outcome {
    let id = driver.stream(stream)?;
    let event = driver.event(event)?;
    if let Some((event, generation)) = event.foreign() {
        submit(driver, id, Work::WaitShared { event, generation })?;
        return Ok(());
    }
    // An event that was never recorded holds nobody up.
    match event.record.clone() {
        Some(record) => depend(driver, id, record.point, Some(record)),
        None => Ok(()),
    }
}

cuda_api! {
    /// Makes a stream.
    [Driver] fn cuStreamCreate(phStream: *mut CUstream, Flags: c_uint) {
        if phStream.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let id = create(lock().state(), Flags, 0)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(phStream, as_handle(id)) }
    }

    /// Makes a stream with a priority. The double keeps it and does not act on it.
    [Driver] fn cuStreamCreateWithPriority(phStream: *mut CUstream, flags: c_uint, priority: c_int) {
        if phStream.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let id = create(lock().state(), flags, priority)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(phStream, as_handle(id)) }
    }

    /// Destroys a stream.
    [Driver] fn cuStreamDestroy_v2(hStream: CUstream) {
        destroy(lock().state(), hStream)
    }

    /// Waits for a stream.
    [Driver] fn cuStreamSynchronize(hStream: CUstream) {
        synchronize(hStream)
    }

    /// Whether a stream has run all its work.
    [Driver] fn cuStreamQuery(hStream: CUstream) {
        query(hStream)
    }

    /// Makes a stream wait for an event.
    [Driver] fn cuStreamWaitEvent(hStream: CUstream, hEvent: CUevent, Flags: c_uint) {
        if Flags & !1 != 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        wait_event(lock().state(), hStream, hEvent)
    }

    /// The flags of a stream.
    [Driver] fn cuStreamGetFlags(hStream: CUstream, flags: *mut c_uint) {
        let mut guard = lock();
        let driver = guard.state();
        let id = driver.stream(hStream)?;
        let found = driver.streams.get(&id).map_or(0, |stream| stream.flags);
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(flags, found) }
    }

    /// A number that no other stream of the process has.
    [Driver] fn cuStreamGetId(hStream: CUstream, streamId: *mut c_ulonglong) {
        let id = lock().state().stream(hStream)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(streamId, id) }
    }

    /// The priority of a stream.
    [Driver] fn cuStreamGetPriority(hStream: CUstream, priority: *mut c_int) {
        let mut guard = lock();
        let driver = guard.state();
        let id = driver.stream(hStream)?;
        let found = driver.streams.get(&id).map_or(0, |stream| stream.priority);
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(priority, found) }
    }

    /// The context of a stream.
    [Driver] fn cuStreamGetCtx(hStream: CUstream, pctx: *mut CUcontext) {
        let mut guard = lock();
        let driver = guard.state();
        let id = driver.stream(hStream)?;
        let found = driver.streams.get(&id).map_or(0, |stream| stream.context);
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pctx, as_handle(found)) }
    }

    /// Calls a function of the host in stream order, on a thread of the driver.
    [Driver] fn cuLaunchHostFunc(hStream: CUstream, r#fn: CUhostFn, userData: *mut c_void) {
        let mut guard = lock();
        let driver = guard.state();
        let id = driver.stream(hStream)?;
        if r#fn.is_none() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let call = HostCall::Function(r#fn);
        submit(driver, id, Work::Host { call, argument: userData.expose_provenance() })?;
        Ok(())
    }

    /// Calls a function of the host in stream order, on a thread of the driver, also after a failure.
    [Driver] fn cuStreamAddCallback(
        hStream: CUstream,
        callback: CUstreamCallback,
        userData: *mut c_void,
        flags: c_uint,
    ) {
        let mut guard = lock();
        let driver = guard.state();
        let id = driver.stream(hStream)?;
        if callback.is_none() || flags != 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let call = HostCall::Callback(callback, hStream.addr());
        submit(driver, id, Work::Host { call, argument: userData.expose_provenance() })?;
        Ok(())
    }

    /// Attaches managed memory to a stream: a place in its order, nothing else here.
    [Driver] fn cuStreamAttachMemAsync(hStream: CUstream, dptr: CUdeviceptr, length: usize, flags: c_uint) {
        let mut guard = lock();
        let driver = guard.state();
        let id = driver.stream(hStream)?;
        let block = driver.block(dptr).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let whole = block.address == dptr && (length == 0 || length as u64 == block.size);
        if !matches!(block.kind, Kind::Managed) || !whole || !matches!(flags, 1 | 2 | 4) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        submit(driver, id, Work::Nothing)?;
        Ok(())
    }
}

//! Primary contexts, and the one that a thread has bound.

use core::ffi::{c_int, c_uint};
use std::collections::{HashMap, HashSet};

use crate::abi::{CUcontext, CUdevice};
use crate::context::{self, Context};
use crate::driver::{
    CONTEXT, Driver, Guard, STREAM, State, as_handle, as_number, handle, lock, settings,
};
use crate::engine::{advance, everything};
use crate::entry::{Outcome, cuda_api, store};
use crate::result::{
    CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED,
    CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, CUresult,
};
use crate::stream::Stream;

fn retain(driver: &mut Driver, ordinal: CUdevice) -> Result<u64, CUresult> {
    let device = driver.device_mut(ordinal)?;
    device.retained += 1;
    if let Some(token) = device.primary {
        return Ok(token);
    }
    let (token, legacy) = (handle(CONTEXT), handle(STREAM));
    device.primary = Some(token);
    let ordinal = device.ordinal;
    let context = Context {
        device: ordinal,
        legacy,
        per_thread: HashMap::new(),
        error: 0,
        peers: HashSet::new(),
    };
    driver.contexts.insert(token, context);
    driver
        .streams
        .insert(legacy, Stream::new(token, ordinal, 0, 0));
    Ok(token)
}

fn release(mut guard: Guard, ordinal: CUdevice, all: bool) -> Outcome {
    let device = guard.state().device_mut(ordinal)?;
    let Some(token) = device.primary else {
        return if all {
            Ok(())
        } else {
            Err(CUDA_ERROR_INVALID_CONTEXT)
        };
    };
    if device.retained > 1 && !all {
        device.retained -= 1;
        return Ok(());
    }
    let targets = everything(guard.state(), Some(token));
    guard = advance(guard, targets);
    let driver = guard.state();
    // Another thread may have retained it while the work ran.
    let device = driver.device_mut(ordinal)?;
    if device.primary != Some(token) || device.retained > 1 && !all {
        device.retained = device.retained.saturating_sub(1);
        return Ok(());
    }
    device.primary = None;
    device.retained = 0;
    destroy(driver, token);
    Ok(())
}

/// Everything of a context goes with it.
fn destroy(driver: &mut Driver, token: u64) {
    let addresses: Vec<u64> = driver
        .blocks
        .iter()
        .filter(|(_, block)| block.context == token)
        .map(|(address, _)| *address)
        .collect();
    for address in addresses {
        if let Some(block) = driver.blocks.remove(&address) {
            crate::api::memory::forget(driver, &block);
        }
    }
    driver.streams.retain(|_, stream| stream.context != token);
    driver.events.retain(|_, event| event.context != token);
    driver.contexts.remove(&token);
    for context in driver.contexts.values_mut() {
        context.peers.remove(&token);
    }
}

fn peer(driver: &mut Driver, handle: CUcontext) -> Result<(u64, u64), CUresult> {
    let (own, other) = (driver.current()?, as_number(handle));
    if own == other || !driver.contexts.contains_key(&other) {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    Ok((own, other))
}

cuda_api! {
    /// Retains a device's primary context, which the first retain makes.
    [Driver] fn cuDevicePrimaryCtxRetain(pctx: *mut CUcontext, dev: CUdevice) {
        if pctx.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let token = retain(lock().state(), dev)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pctx, as_handle(token)) }
    }

    /// Releases it. The last release destroys it, with all memory, streams and events.
    [Driver] fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) {
        release(lock(), dev, false)
    }

    /// Destroys it whoever retains it.
    [Driver] fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) {
        release(lock(), dev, true)
    }

    /// Whether it is retained, and its flags.
    [Driver] fn cuDevicePrimaryCtxGetState(dev: CUdevice, flags: *mut c_uint, active: *mut c_int) {
        let mut guard = lock();
        let device = guard.state().device(dev)?;
        let (is_active, found) = (device.primary.is_some(), device.flags);
        // SAFETY: the caller's promise for out-parameters.
        unsafe {
            store(flags, found)?;
            store(active, c_int::from(is_active))
        }
    }

    /// Sets its flags: how the host waits. Kept, without effect.
    [Driver] fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: c_uint) {
        // One way to wait at most: spin 1, yield 2, block 4; the others are mapping, local memory, dumps.
        if flags & !0xFF != 0 || (flags & 7).count_ones() > 1 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        lock().state().device_mut(dev)?.flags = flags;
        Ok(())
    }

    /// The context that the thread has bound, or null.
    [Driver] fn cuCtxGetCurrent(pctx: *mut CUcontext) {
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pctx, as_handle(context::current().unwrap_or(0))) }
    }

    /// Binds a context to the thread, or with null unbinds the one that is bound.
    [Driver] fn cuCtxSetCurrent(ctx: CUcontext) {
        let token = as_number(ctx);
        if token != 0 && !lock().state().contexts.contains_key(&token) {
            return Err(CUDA_ERROR_INVALID_CONTEXT);
        }
        context::set_current((token != 0).then_some(token));
        Ok(())
    }

    /// Binds a context on top of what is bound.
    [Driver] fn cuCtxPushCurrent_v2(ctx: CUcontext) {
        let token = as_number(ctx);
        if !lock().state().contexts.contains_key(&token) {
            return Err(CUDA_ERROR_INVALID_CONTEXT);
        }
        context::push(token);
        Ok(())
    }

    /// Unbinds the top of what is bound.
    [Driver] fn cuCtxPopCurrent_v2(pctx: *mut CUcontext) {
        let token = context::pop()?;
        if pctx.is_null() {
            return Ok(());
        }
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pctx, as_handle(token)) }
    }

    /// The device of the bound context.
    [Driver] fn cuCtxGetDevice(device: *mut CUdevice) {
        let ordinal = lock().state().current_device()?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(device, ordinal as CUdevice) }
    }

    /// Waits for all work of the bound context.
    [Driver] fn cuCtxSynchronize() {
        let mut guard = lock();
        let token = guard.state().current()?;
        let targets = everything(guard.state(), Some(token));
        guard = advance(guard, targets);
        let driver = guard.state();
        let device = driver.current_device()?;
        driver.trim_pools(device);
        Ok(())
    }

    /// The range of stream priorities, from the least to the greatest.
    [Driver] fn cuCtxGetStreamPriorityRange(leastPriority: *mut c_int, greatestPriority: *mut c_int) {
        lock().state().current()?;
        // SAFETY: the caller's promise for out-parameters; either may be null.
        unsafe {
            if !leastPriority.is_null() {
                store(leastPriority, 0)?;
            }
            if !greatestPriority.is_null() {
                store(greatestPriority, -5)?;
            }
        }
        Ok(())
    }

    /// Lets the bound context access another's memory.
    [Driver] fn cuCtxEnablePeerAccess(peerContext: CUcontext, Flags: c_uint) {
        let mut guard = lock();
        let driver = guard.state();
        let (own, other) = peer(driver, peerContext)?;
        if Flags != 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        if !settings().config.peers {
            return Err(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
        }
        match driver.contexts.get_mut(&own).map(|context| context.peers.insert(other)) {
            Some(true) => Ok(()),
            _ => Err(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED),
        }
    }

    /// Ends it.
    [Driver] fn cuCtxDisablePeerAccess(peerContext: CUcontext) {
        let mut guard = lock();
        let driver = guard.state();
        let (own, other) = peer(driver, peerContext)?;
        match driver.contexts.get_mut(&own).map(|context| context.peers.remove(&other)) {
            Some(true) => Ok(()),
            _ => Err(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED),
        }
    }
}

//! Events.

use core::ffi::c_uint;
use std::sync::Arc;

use crate::abi::{CU_EVENT_DISABLE_TIMING, CU_EVENT_INTERPROCESS, CUevent, CUstream};
use crate::driver::{Driver, EVENT, State, as_handle, as_number, handle, lock};
use crate::engine::{advance, attempt, order, submit};
use crate::entry::{Outcome, cuda_api, store};
use crate::event::{Event, Record};
use crate::result::{
    CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_READY, CUresult,
};
use crate::shared_event::SharedEvent;
use crate::stream::Work;

fn create(driver: &mut Driver, flags: c_uint) -> Result<u64, CUresult> {
    let context = driver.current()?;
    let interprocess = flags & CU_EVENT_INTERPROCESS != 0;
    if flags & !7 != 0 || interprocess && flags & CU_EVENT_DISABLE_TIMING == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let shared = if interprocess {
        Some(Arc::new(SharedEvent::create()?))
    } else {
        None
    };
    let id = handle(EVENT);
    driver.events.insert(
        id,
        Event {
            context,
            flags,
            record: None,
            shared,
            imported: false,
            queries: 0,
        },
    );
    Ok(id)
}

fn destroy(driver: &mut Driver, event: CUevent) -> Outcome {
    driver.current()?;
    let event = driver
        .events
        .remove(&as_number(event))
        .ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    let Some(shared) = event.shared else {
        return Ok(());
    };
    if event.imported {
        return Ok(());
    }
    shared.destroy();
    // Another process may wait for a recording that has not run, and nobody can ask for it any more.
    if let Some(record) = event.record.filter(|record| record.time().is_none())
        && let Some(stream) = driver.streams.get_mut(&record.point.0)
    {
        stream.unasked = stream.unasked.max(record.point.1);
        return crate::engine::wake();
    }
    Ok(())
}

fn record(driver: &mut Driver, event: CUevent, stream: CUstream) -> Outcome {
    let id = driver.stream(stream)?;
    let context = driver.event(event)?.context;
    let owner = driver
        .streams
        .get(&id)
        .map(|stream| stream.context)
        .ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    if owner != context {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    // After this nothing comes between: the next number is the recording's.
    order(driver, id)?;
    let stream = driver.streams.get(&id).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    let (point, knows) = ((id, stream.submitted + 1), stream.knows.clone());
    let event = driver.event(event)?;
    let shared = event
        .shared
        .as_ref()
        .map(|shared| (Arc::clone(shared), shared.record()));
    let is_shared = shared.is_some();
    let record = Arc::new(Record::new(point, knows, shared));
    event.record = Some(Arc::clone(&record));
    event.queries = 0;
    submit(driver, id, Work::Record(record))?;
    if is_shared {
        crate::engine::wake()
    } else {
        Ok(())
    }
}

fn query(event: CUevent) -> Outcome {
    let mut guard = lock();
    let driver = guard.state();
    driver.current()?;
    let limit = if driver.speed > 0 { 0 } else { driver.queries };
    let event = driver.event(event)?;
    if let Some((shared, generation)) = event.foreign() {
        if shared.is_complete(generation) {
            return Ok(());
        }
        event.queries += 1;
        // Asking counts: the other process lets its stream run after as many queries as this one would.
        if limit != 0 && event.queries > limit {
            shared.want(generation);
        }
        return Err(CUDA_ERROR_NOT_READY);
    }
    let Some(record) = event
        .record
        .as_ref()
        .filter(|record| record.time().is_none())
    else {
        return Ok(());
    };
    let point = record.point;
    event.queries += 1;
    if limit == 0 || event.queries <= limit {
        return Err(CUDA_ERROR_NOT_READY);
    }
    let reached;
    (guard, reached) = attempt(guard, point);
    guard.state().current()?;
    if reached {
        Ok(())
    } else {
        Err(CUDA_ERROR_NOT_READY)
    }
}

fn synchronize(event: CUevent) -> Outcome {
    let mut guard = lock();
    let driver = guard.state();
    driver.current()?;
    let event = driver.event(event)?;
    if let Some((shared, generation)) = event.foreign() {
        drop(guard);
        while !shared.is_complete(generation) {
            shared.want(generation);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        return Ok(());
    }
    let Some(record) = event.record.clone() else {
        return Ok(());
    };
    let device = driver
        .streams
        .get(&record.point.0)
        .map(|stream| stream.device);
    guard = advance(guard, vec![record.point]);
    let driver = guard.state();
    if let Some(device) = device {
        driver.trim_pools(device);
    }
    driver.current().map(|_| ())
}

fn elapsed(driver: &mut Driver, start: CUevent, end: CUevent) -> Result<f32, CUresult> {
    driver.current()?;
    let mut times = [0; 2];
    for (time, event) in times.iter_mut().zip([start, end]) {
        let event = driver.event(event)?;
        let record = event
            .record
            .as_ref()
            .filter(|_| event.flags & CU_EVENT_DISABLE_TIMING == 0);
        *time = record
            .ok_or(CUDA_ERROR_INVALID_HANDLE)?
            .time()
            .ok_or(CUDA_ERROR_NOT_READY)?;
    }
    Ok((times[1] as f64 - times[0] as f64) as f32 / 1e6)
}

cuda_api! {
    /// Makes an event.
    [Driver] fn cuEventCreate(phEvent: *mut CUevent, Flags: c_uint) {
        if phEvent.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let id = create(lock().state(), Flags)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(phEvent, as_handle(id)) }
    }

    /// Destroys an event; who waits for it goes on waiting for the recording.
    [Driver] fn cuEventDestroy_v2(hEvent: CUevent) {
        destroy(lock().state(), hEvent)
    }

    /// Records an event in a stream.
    [Driver] fn cuEventRecord(hEvent: CUevent, hStream: CUstream) {
        record(lock().state(), hEvent, hStream)
    }

    /// Records an event in a stream. The flag for external work in graphs is not supported.
    [Driver] fn cuEventRecordWithFlags(hEvent: CUevent, hStream: CUstream, flags: c_uint) {
        if flags != 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        record(lock().state(), hEvent, hStream)
    }

    /// Whether the last recording has run. An event that was never recorded counts as complete.
    [Driver] fn cuEventQuery(hEvent: CUevent) {
        query(hEvent)
    }

    /// Waits for the last recording.
    [Driver] fn cuEventSynchronize(hEvent: CUevent) {
        synchronize(hEvent)
    }

    /// Virtual milliseconds between two recordings.
    [Driver] fn cuEventElapsedTime(pMilliseconds: *mut f32, hStart: CUevent, hEnd: CUevent) {
        let time = elapsed(lock().state(), hStart, hEnd)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pMilliseconds, time) }
    }

    /// As `cuEventElapsedTime`.
    [Driver] fn cuEventElapsedTime_v2(pMilliseconds: *mut f32, hStart: CUevent, hEnd: CUevent) {
        let time = elapsed(lock().state(), hStart, hEnd)?;
        // SAFETY: the caller's promise for out-parameters.
        unsafe { store(pMilliseconds, time) }
    }
}

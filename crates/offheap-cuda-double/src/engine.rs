//! Runs the work of streams: for whoever waits, and in the background for slow streams and host functions.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, PoisonError};
use std::time::{Duration, Instant};

use crate::block::Place;
use crate::driver::{Driver, Guard, PROGRESS, State, lock};
use crate::result::{CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_OPERATING_SYSTEM, CUresult};
use crate::stream::{Operation, Point, Work};

/// Something for the background thread.
static BACKGROUND: Condvar = Condvar::new();
static STARTED: AtomicBool = AtomicBool::new(false);

/// Virtual time: every operation takes a microsecond, and a nanosecond for each 10 bytes.
const OPERATION_TIME: u64 = 1_000;
const BYTES_PER_NANOSECOND: u64 = 10;
/// Work that moves less runs under the lock.
const SMALL: usize = 64 << 10;
/// Slow streams move at most this much at once, so that several share the thread.
const SLICE: usize = 1 << 20;
const TICK: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_millis(20);

thread_local! {
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

fn is_background() -> bool {
    IS_BACKGROUND.try_with(Cell::get).unwrap_or(false)
}

/// Appends work to a stream and returns its point. The legacy default stream waits for the blocking streams of its
/// context, and they for it.
///
/// # Errors
/// `CUDA_ERROR_INVALID_HANDLE` when the stream is gone.
pub(crate) fn submit(driver: &mut Driver, id: u64, work: Work) -> Result<Point, CUresult> {
    order(driver, id)?;
    let background = matches!(work, Work::Host { .. });
    let number = push(driver, id, work)?;
    if background && let Some(stream) = driver.streams.get_mut(&id) {
        stream.unasked = number;
    }
    if background || driver.speed > 0 {
        wake()?;
    }
    Ok((id, number))
}

/// Appends the waits that the legacy default stream asks for. The next submission finds them done.
///
/// # Errors
/// As [`submit`].
pub(crate) fn order(driver: &mut Driver, id: u64) -> Result<(), CUresult> {
    let (context, blocking) = match driver.streams.get(&id) {
        Some(stream) => (stream.context, stream.blocking),
        None => return Err(CUDA_ERROR_INVALID_HANDLE),
    };
    let legacy = driver
        .contexts
        .get(&context)
        .map_or(0, |context| context.legacy);
    if id == legacy {
        let others = driver
            .streams
            .iter()
            .filter(|(other, s)| **other != id && s.context == context && s.blocking);
        let points: Vec<Point> = others
            .filter(|(_, stream)| stream.submitted > 0)
            .map(|(other, stream)| (*other, stream.submitted))
            .collect();
        wait_for(driver, id, points);
    } else if blocking && legacy != 0 {
        let submitted = driver
            .streams
            .get(&legacy)
            .map_or(0, |stream| stream.submitted);
        wait_for(driver, id, vec![(legacy, submitted)]);
    }
    Ok(())
}

/// Makes a stream wait for others, unless they have run that far or it knows.
fn wait_for(driver: &mut Driver, id: u64, points: Vec<Point>) {
    let mut unmet = Vec::new();
    for (other, number) in points {
        let executed = driver
            .streams
            .get(&other)
            .map_or(u64::MAX, |stream| stream.executed);
        let Some(stream) = driver.streams.get_mut(&id) else {
            return;
        };
        let known = stream.knows.entry(other).or_default();
        if *known < number {
            *known = number;
            if executed < number {
                unmet.push((other, number));
            }
        }
    }
    if !unmet.is_empty() {
        // The stream exists: it was found in the loop.
        let _ = push(
            driver,
            id,
            Work::Wait {
                points: unmet,
                record: None,
            },
        );
    }
}

fn push(driver: &mut Driver, id: u64, work: Work) -> Result<u64, CUresult> {
    driver.time += OPERATION_TIME;
    let submitted = driver.time;
    let stream = driver
        .streams
        .get_mut(&id)
        .ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    stream.submitted += 1;
    stream.queries = 0;
    let number = stream.submitted;
    stream.queue.push_back(Operation {
        number,
        work,
        submitted,
        started: None,
        moved: 0,
    });
    Ok(number)
}

/// Makes a stream wait for a point of another, as `cuStreamWaitEvent` does.
pub(crate) fn depend(
    driver: &mut Driver,
    id: u64,
    point: Point,
    record: Option<Arc<crate::event::Record>>,
) -> Result<(), CUresult> {
    let knows: HashMap<u64, u64> = record
        .as_ref()
        .map(|record| record.knows.clone())
        .unwrap_or_default();
    let stream = driver
        .streams
        .get_mut(&id)
        .ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    for (other, number) in knows
        .into_iter()
        .chain([point])
        .filter(|(other, _)| *other != id)
    {
        let known = stream.knows.entry(other).or_default();
        *known = number.max(*known);
    }
    submit(
        driver,
        id,
        Work::Wait {
            points: vec![point],
            record,
        },
    )?;
    Ok(())
}

/// What one attempt at a stream's first operation came to.
enum Step {
    Done,
    Blocked(Vec<Point>),
    /// Another thread or another process must act first.
    Wait,
}

/// Runs streams up to the given points. Returns when all have run, with the lock.
pub(crate) fn advance(guard: Guard, targets: Vec<Point>) -> Guard {
    run(guard, targets, true).0
}

/// Runs a stream up to a point as far as that needs nobody else, for a query. Tells whether it is reached.
pub(crate) fn attempt(guard: Guard, point: Point) -> (Guard, bool) {
    let (mut guard, _) = run(guard, vec![point], false);
    let reached = guard
        .state()
        .streams
        .get(&point.0)
        .is_none_or(|stream| stream.executed >= point.1);
    (guard, reached)
}

/// As [`advance`]; without patience it returns when others must act first. Tells whether something ran.
fn run(mut guard: Guard, mut targets: Vec<Point>, patient: bool) -> (Guard, bool) {
    let mut progressed = false;
    while let Some(&(id, number)) = targets.last() {
        let driver = guard.state();
        let slow = driver.speed > 0;
        let Some(stream) = driver
            .streams
            .get(&id)
            .filter(|stream| stream.executed < number)
        else {
            targets.pop();
            continue;
        };
        if stream.running || slow && !is_background() {
            if !patient {
                break;
            }
            guard = wait(guard, PATIENCE);
            continue;
        }
        let step;
        (guard, step) = run_first(guard, id);
        match step {
            Step::Done => progressed = true,
            Step::Blocked(points) => targets.extend(points),
            Step::Wait if patient => guard = wait(guard, TICK),
            Step::Wait => break,
        }
    }
    (guard, progressed)
}

fn wait(guard: Guard, time: Duration) -> Guard {
    PROGRESS
        .wait_timeout(guard, time)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}

fn run_first(mut guard: Guard, id: u64) -> (Guard, Step) {
    let driver = guard.state();
    match first_is_ready(driver, id) {
        Step::Done => {}
        other => return (guard, other),
    }
    let Some(stream) = driver.streams.get_mut(&id) else {
        return (guard, Step::Done);
    };
    let Some(operation) = stream.queue.pop_front() else {
        return (guard, Step::Done);
    };
    let context = stream.context;
    stream.running = true;
    if let Some(what) = misuse(&operation.work) {
        driver.violation(context, what);
    } else {
        match &operation.work {
            Work::Copy { .. } | Work::Set { .. } if operation.work.bytes() > SMALL => {
                drop(guard);
                perform(&operation.work, operation.moved, operation.work.bytes());
                guard = lock();
            }
            // `cuLaunchHostFunc`: "the function will not be called in the event of an error in the CUDA context".
            Work::Host { .. } if driver.has_failed(context) => {}
            Work::Host {
                function: Some(function),
                argument,
            } => {
                drop(guard);
                let pointer = std::ptr::with_exposed_provenance_mut(*argument);
                // SAFETY: the program passed the function and its argument to be called once, here.
                crate::entry::in_host_function(|| unsafe { function(pointer) });
                guard = lock();
            }
            work => perform(work, operation.moved, work.bytes()),
        }
    }
    finish(guard.state(), id, operation);
    PROGRESS.notify_all();
    (guard, Step::Done)
}

/// Whether the first operation of a stream can run now.
fn first_is_ready(driver: &mut Driver, id: u64) -> Step {
    let Some(stream) = driver.streams.get(&id) else {
        return Step::Done;
    };
    if stream.running {
        return Step::Wait;
    }
    match stream.queue.front().map(|operation| &operation.work) {
        Some(Work::Wait { points, .. }) => {
            let behind = |&(other, number): &Point| {
                driver
                    .streams
                    .get(&other)
                    .is_some_and(|s| s.executed < number)
            };
            let unmet: Vec<Point> = points.iter().copied().filter(behind).collect();
            if unmet.is_empty() {
                Step::Done
            } else {
                Step::Blocked(unmet)
            }
        }
        Some(Work::WaitShared { event, generation }) => {
            if event.is_complete(*generation) {
                return Step::Done;
            }
            event.want(*generation);
            Step::Wait
        }
        Some(Work::Host { .. }) if !is_background() => {
            let number = stream.queue.front().map_or(0, |operation| operation.number);
            if let Some(stream) = driver.streams.get_mut(&id) {
                stream.unasked = stream.unasked.max(number);
            }
            // Without the thread nobody can run it: the wait goes on, as on a device that hangs.
            let _ = wake();
            Step::Wait
        }
        _ => Step::Done,
    }
}

/// What is wrong with the memory that an operation is about to touch.
fn misuse(work: &Work) -> Option<&'static str> {
    let bad = |place: &Place| place.block.as_ref().is_some_and(|block| !block.is_usable());
    match work {
        Work::Copy { destination, .. } if bad(destination) => {
            Some("a copy ran whose destination is freed, or not yet allocated in stream order")
        }
        Work::Copy { source, .. } if bad(source) => {
            Some("a copy ran whose source is freed, or not yet allocated in stream order")
        }
        Work::Set { destination, .. } if bad(destination) => {
            Some("a memset ran on memory that is freed, or not yet allocated in stream order")
        }
        _ => None,
    }
}

/// Moves the bytes from `from` to `to` of an operation.
fn perform(work: &Work, from: usize, to: usize) {
    match work {
        Work::Copy {
            destination,
            source,
            ..
        } => {
            // SAFETY: device, host and managed ranges lie in blocks that the operation keeps mapped; the program's
            // own memory is valid by the promise of the copy functions. `copy` allows overlap.
            unsafe {
                std::ptr::copy(
                    (source.data + from) as *const u8,
                    (destination.data + from) as *mut u8,
                    to - from,
                );
            }
        }
        Work::Set {
            destination,
            pattern,
            width,
            ..
        } => {
            if *width == 1 {
                // SAFETY: as above.
                unsafe {
                    std::ptr::write_bytes(
                        (destination.data + from) as *mut u8,
                        pattern[0],
                        to - from,
                    )
                };
                return;
            }
            for index in from..to {
                // SAFETY: as above. `from` is a multiple of no width: the index selects the byte.
                unsafe { *((destination.data + index) as *mut u8) = pattern[index % width] };
            }
        }
        _ => {}
    }
}

/// An operation has run: what follows from it.
fn finish(driver: &mut Driver, id: u64, operation: Operation) {
    let start = match &operation.work {
        Work::Wait { points, record } => {
            let time_of =
                |&(other, _): &Point| driver.streams.get(&other).map_or(0, |stream| stream.time);
            let waited = match record {
                Some(record) => record.time().unwrap_or(0),
                None => points.iter().map(time_of).max().unwrap_or(0),
            };
            waited.max(operation.submitted)
        }
        _ => operation.submitted,
    };
    match &operation.work {
        Work::Allocate(block) => block.allocated.store(true, Ordering::Release),
        Work::Free { block, number } => driver.finish_free(block, Some(*number)),
        _ => {}
    }
    let Some(stream) = driver.streams.get_mut(&id) else {
        return;
    };
    let took = OPERATION_TIME + operation.work.bytes() as u64 / BYTES_PER_NANOSECOND;
    stream.time = stream.time.max(start) + took;
    stream.executed = operation.number;
    stream.running = false;
    if let Work::Record(record) = &operation.work {
        record.complete(stream.time);
    }
    let gone = stream.destroyed && stream.is_idle();
    let time = stream.time;
    driver.time = driver.time.max(time.min(driver.time + took));
    if gone {
        driver.streams.remove(&id);
    }
}

/// Wakes the background thread, which the first call starts.
///
/// # Errors
/// `CUDA_ERROR_OPERATING_SYSTEM` when it cannot be started.
pub(crate) fn wake() -> Result<(), CUresult> {
    if !STARTED.swap(true, Ordering::AcqRel) {
        let thread = std::thread::Builder::new().name("offheap-cuda-double".to_owned());
        if thread.spawn(background).is_err() {
            STARTED.store(false, Ordering::Release);
            return Err(CUDA_ERROR_OPERATING_SYSTEM);
        }
    }
    BACKGROUND.notify_all();
    Ok(())
}

fn background() {
    IS_BACKGROUND.set(true);
    let mut guard = lock();
    loop {
        let driver = guard.state();
        let slow = driver.speed > 0;
        let mut pending = want_shared(driver);
        let mut progressed = false;
        let ids: Vec<u64> = driver
            .streams
            .iter()
            .filter(|(_, s)| !s.queue.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if slow {
                pending = true;
                let moved;
                (guard, moved) = tick(guard, id);
                progressed |= moved;
            } else if let Some(stream) = guard.state().streams.get(&id)
                && stream.executed < stream.unasked
            {
                let unasked = stream.unasked;
                let ran;
                // Waiting here would keep other streams, and other processes, from what they wait for.
                (guard, ran) = run(guard, vec![(id, unasked)], false);
                pending = true;
                progressed |= ran;
            }
        }
        if progressed {
            drop(guard);
            std::thread::yield_now();
            guard = lock();
        } else if pending {
            guard = BACKGROUND
                .wait_timeout(guard, TICK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        } else {
            guard = BACKGROUND
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Lets streams run as far as other processes wait for. Returns whether recordings of shared events are outstanding.
fn want_shared(driver: &mut Driver) -> bool {
    let mut outstanding = false;
    let mut wanted = Vec::new();
    for record in driver
        .events
        .values()
        .filter_map(|event| event.record.as_ref())
    {
        if let Some((event, generation)) = &record.shared
            && record.time().is_none()
        {
            outstanding = true;
            // Somebody may want an earlier recording, which this one completes too.
            if event.wanted() > 0 && !event.is_complete(event.wanted().min(*generation)) {
                wanted.push(record.point);
            }
        }
    }
    for (id, number) in wanted {
        if let Some(stream) = driver.streams.get_mut(&id) {
            stream.unasked = stream.unasked.max(number);
        }
    }
    outstanding
}

/// Gives one slow stream its share: the bytes that its speed allows since the operation began.
fn tick(mut guard: Guard, id: u64) -> (Guard, bool) {
    let driver = guard.state();
    let speed = driver.speed;
    if !matches!(first_is_ready(driver, id), Step::Done) {
        return (guard, false);
    }
    let Some(stream) = driver.streams.get_mut(&id) else {
        return (guard, false);
    };
    let Some(operation) = stream.queue.front_mut() else {
        return (guard, false);
    };
    let total = operation.work.bytes();
    if total == 0 || misuse(&operation.work).is_some() {
        return (run_first(guard, id).0, true);
    }
    let started = *operation.started.get_or_insert_with(Instant::now);
    let allowed = started
        .elapsed()
        .as_nanos()
        .saturating_mul(u128::from(speed))
        / 1_000_000_000;
    let from = operation.moved;
    let to = total
        .min(usize::try_from(allowed).unwrap_or(total))
        .min(from + SLICE);
    if to < total && to - from < SMALL {
        return (guard, false);
    }
    let work = operation.work.clone();
    stream.running = true;
    drop(guard);
    perform(&work, from, to);
    guard = lock();
    let driver = guard.state();
    let Some(stream) = driver.streams.get_mut(&id) else {
        return (guard, true);
    };
    stream.running = false;
    let Some(operation) = stream.queue.front_mut() else {
        return (guard, true);
    };
    operation.moved = to;
    if to == total
        && let Some(operation) = stream.queue.pop_front()
    {
        finish(driver, id, operation);
    }
    PROGRESS.notify_all();
    (guard, true)
}

/// Every stream's last point: of one context, or of all.
pub(crate) fn everything(driver: &Driver, context: Option<u64>) -> Vec<Point> {
    let streams = driver
        .streams
        .iter()
        .filter(|(_, stream)| context.is_none_or(|token| stream.context == token));
    streams
        .filter(|(_, stream)| !stream.is_idle())
        .map(|(id, stream)| (*id, stream.submitted))
        .collect()
}

/// Every stream's last point on one device.
pub(crate) fn everything_on(driver: &Driver, device: usize) -> Vec<Point> {
    let streams = driver
        .streams
        .iter()
        .filter(|(_, stream)| stream.device == device && !stream.is_idle());
    streams
        .map(|(id, stream)| (*id, stream.submitted))
        .collect()
}

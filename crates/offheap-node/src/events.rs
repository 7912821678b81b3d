//! Events on their way to JavaScript: nothing of JavaScript runs inside of an allocator, so what an
//! observer is told waits in its environment's queue.
//!
//! ```text
//!   own thread    call ─▶ pool ─▶ JsObserver ─▶ queue ─┐ after the call, before its caller goes on
//!   other threads ───────▶ pool ─▶ JsObserver ─▶ queue ─┤ takeEvents() ─▶ the observer's functions
//!   finalizers                                    └ wake ┘ in a turn of the event loop of its own
//! ```
//!
//! All of an environment's observers share one queue, so that an address that one thread freed and
//! another got is told in that order.

use crate::wake::Wake;
use offheap::Corruption;
use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many numbers one event is told in.
pub(crate) const STRIDE: usize = 8;

/// Events of other threads and of finalizers that wait at most; what comes then is dropped and
/// counted. The thread's own calls are never dropped: they wait for the end of one call only.
const MOST_WAITING: usize = 16_384;

/// Reports that wait at most: a thousand damaged blocks say what there is to say.
const MOST_REPORTS: usize = 1000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Malloc = 1,
    Realloc = 2,
    Free = 4,
    /// The observer's pool is gone: there will be no more.
    Gone = 8,
}

/// Bits beside the kind.
const ZEROED: u32 = 16;
const FAILED: u32 = 32;
/// Made by a call of the environment's own thread, not by a finalizer.
const IN_CALL: u32 = 64;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) observer: u32,
    pub(crate) kind: Kind,
    pub(crate) zeroed: bool,
    pub(crate) failed: bool,
    pub(crate) in_call: bool,
    pub(crate) thread: u64,
    pub(crate) address: usize,
    pub(crate) size: usize,
    pub(crate) old_address: usize,
    pub(crate) old_size: usize,
    pub(crate) alignment: usize,
}

impl Event {
    pub(crate) fn new(observer: u32, kind: Kind) -> Self {
        Self {
            observer,
            kind,
            zeroed: false,
            failed: false,
            in_call: false,
            thread: 0,
            address: 0,
            size: 0,
            old_address: 0,
            old_size: 0,
            alignment: 0,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "addresses and sizes are below 2^53"
    )]
    fn numbers(&self) -> [f64; STRIDE] {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let kind = self.kind as u32
            | flag(self.zeroed, ZEROED)
            | flag(self.failed, FAILED)
            | flag(self.in_call, IN_CALL);
        [
            f64::from(self.observer),
            f64::from(kind),
            self.thread as f64,
            self.address as f64,
            self.size as f64,
            self.old_address as f64,
            self.old_size as f64,
            self.alignment as f64,
        ]
    }
}

/// Something of this thread's own at an address that no other thread has: cheaper than a `ThreadId`.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.try_with(|mark| ptr::from_ref(mark).addr())
        .unwrap_or_default()
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Of these, events that count against the bound.
    foreign: usize,
}

/// The queue of one environment, which outlives it: observers on other threads hold it.
#[derive(Debug)]
pub(crate) struct Events {
    queue: Mutex<Queue>,
    /// What debug hooks found, for callbacks by their number, or 0 to be thrown.
    reports: Mutex<Vec<(u32, Corruption)>>,
    has_reports: AtomicBool,
    length: AtomicUsize,
    /// False from the end of the environment on.
    is_open: AtomicBool,
    home: usize,
    /// The word that is not 0 while the environment's thread is in a native call that looks at the
    /// queue afterwards. Read on that thread only, while the queue is open.
    in_call: AtomicPtr<f64>,
    is_waking: AtomicBool,
    pub(crate) wake: Wake,
    last_observer: AtomicUsize,
}

impl Events {
    /// A queue of the calling thread's environment.
    ///
    /// # Safety
    /// - `in_call` may be read on this thread until [`close`](Self::close).
    pub(crate) unsafe fn new(in_call: *mut f64) -> Self {
        Self {
            queue: Mutex::default(),
            reports: Mutex::default(),
            has_reports: AtomicBool::new(false),
            length: AtomicUsize::new(0),
            is_open: AtomicBool::new(true),
            home: this_thread(),
            in_call: AtomicPtr::new(in_call),
            is_waking: AtomicBool::new(false),
            wake: Wake::default(),
            last_observer: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for one more observer.
    pub(crate) fn next_observer(&self) -> u32 {
        let last = self.last_observer.fetch_add(1, Ordering::Relaxed);
        u32::try_from(last + 1).unwrap_or(u32::MAX)
    }

    /// Whether the environment still lives.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Whether the calling thread is the environment's.
    pub(crate) fn is_home(&self) -> bool {
        self.home == this_thread()
    }

    /// Whether the calling thread is in a call that looks at the queue afterwards.
    pub(crate) fn is_in_call(&self) -> bool {
        if !self.is_open() || !self.is_home() {
            return false;
        }
        let word = self.in_call.load(Ordering::Relaxed);
        // SAFETY: the promise of `new`: the home thread, and not closed, which only it does.
        unsafe { word.read() != 0.0 }
    }

    /// Ends the queue with its environment.
    pub(crate) fn close(&self) {
        self.is_open.store(false, Ordering::Release);
        let old = std::mem::take(&mut *self.lock());
        self.length.store(0, Ordering::Release);
        drop(old);
        // What nobody will throw is said at least.
        for (_, found) in self.take_reports() {
            eprint!("{found}");
        }
    }

    /// Adds an event; false when it was dropped.
    pub(crate) fn push(&self, mut event: Event) -> bool {
        if !self.is_open() {
            return true;
        }
        let in_call = self.is_in_call();
        event.in_call = in_call;
        {
            let mut queue = self.lock();
            let bounded = !in_call && event.kind != Kind::Gone;
            if (bounded && queue.foreign >= MOST_WAITING) || queue.events.try_reserve(1).is_err() {
                return false;
            }
            queue.foreign += usize::from(!in_call);
            queue.events.push_back(event);
            self.length.store(queue.events.len(), Ordering::Release);
        }
        if !in_call {
            self.wake_up();
        }
        true
    }

    /// Keeps a report for a callback, or, with 0, to be thrown.
    pub(crate) fn push_report(&self, callback: u32, found: &Corruption) {
        if !self.is_open() {
            eprint!("{found}");
            return;
        }
        {
            let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
            if reports.len() < MOST_REPORTS {
                reports.push((callback, found.clone()));
            }
        }
        self.has_reports.store(true, Ordering::Release);
        if !self.is_in_call() {
            self.wake_up();
        }
    }

    /// Whether reports wait.
    #[inline]
    pub(crate) fn has_reports(&self) -> bool {
        self.has_reports.load(Ordering::Acquire)
    }

    /// Takes the reports.
    pub(crate) fn take_reports(&self) -> Vec<(u32, Corruption)> {
        self.has_reports.store(false, Ordering::Release);
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the event loop look at the queue, in a turn of its own.
    pub(crate) fn wake_up(&self) {
        if !self.is_waking.swap(true, Ordering::AcqRel) && !self.wake.call() {
            self.is_waking.store(false, Ordering::Release);
        }
    }

    /// Whether events wait.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.length.load(Ordering::Acquire) == 0
    }

    /// Takes as many events as fit into `target`, [`STRIDE`] numbers each; returns how many.
    pub(crate) fn take(&self, target: &mut [f64]) -> usize {
        self.is_waking.store(false, Ordering::Release);
        let mut taken = 0;
        let mut queue = self.lock();
        for place in target.chunks_exact_mut(STRIDE) {
            let Some(event) = queue.events.pop_front() else {
                break;
            };
            queue.foreign -= usize::from(!event.in_call);
            place.copy_from_slice(&event.numbers());
            taken += 1;
        }
        self.length.store(queue.events.len(), Ordering::Release);
        taken
    }
}

/// How many events of one observer were dropped.
#[derive(Debug, Default)]
pub(crate) struct Dropped(AtomicU64);

impl Dropped {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(address: usize) -> Event {
        Event {
            address,
            ..Event::new(1, Kind::Malloc)
        }
    }

    #[test]
    fn events_come_in_order_and_those_of_others_are_bounded() {
        let mut word = 0.0;
        // SAFETY: the word outlives the queue.
        let events = unsafe { Events::new(&raw mut word) };
        assert!(events.is_empty() && events.is_home() && !events.is_in_call());
        let accepted = (1..=MOST_WAITING + 10)
            .filter(|address| events.push(event(*address)))
            .count();
        assert_eq!(accepted, MOST_WAITING);
        // SAFETY: as above; no reference to the word exists.
        unsafe { events.in_call.load(Ordering::Relaxed).write(1.0) };
        assert!(events.is_in_call());
        assert!(events.push(event(99_999)), "the thread's own call");
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(!events.is_in_call() && !events.push(event(5))));
        });
        let mut addresses = Vec::new();
        let mut target = [0.0; 3 * STRIDE + 1];
        loop {
            let count = events.take(&mut target);
            if count == 0 {
                break;
            }
            addresses.extend((0..count).map(|index| target[index * STRIDE + 3]));
        }
        assert_eq!(addresses.len(), MOST_WAITING + 1);
        assert!(addresses.is_sorted());
        assert!(events.push(event(7)));
        events.close();
        assert!(events.is_empty() && !events.is_open());
        assert!(events.push(event(8)), "nobody is there to miss it");
        assert_eq!(events.take(&mut target), 0);
    }
}

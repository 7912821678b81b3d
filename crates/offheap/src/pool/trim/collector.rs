//! Threads that can be woken to collect their own heaps.

use super::share::{Share, with_share};
use super::timer;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// What others know of such a thread.
pub(super) struct Entry {
    /// Bytes moved since the thread last collected.
    moved: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Entry {
    pub(super) fn add(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }
}

static ENTRIES: Mutex<Vec<Arc<Entry>>> = Mutex::new(Vec::new());

/// Wakes the threads that took or gave back anything worth telling since they last collected, but
/// for the calling one. `false`: not now, a thread is being registered.
pub(super) fn wake_all() -> bool {
    let entries = match ENTRIES.try_lock() {
        Ok(entries) => entries,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return false,
    };
    let own = with_share(Share::entry).unwrap_or(ptr::null());
    for entry in entries.iter() {
        if !ptr::eq(Arc::as_ptr(entry), own) && entry.moved.load(Ordering::Relaxed) != 0 {
            // A panic of the binding's has no place to go on this thread.
            drop(catch_unwind(AssertUnwindSafe(|| (entry.wake)())));
        }
    }
    true
}

/// The registration of a thread with an event loop, for bindings.
///
/// mimalloc's heaps can be swept by their own threads only. When memory that such a thread used has
/// been idle for long enough, or another thread calls
/// [`release_unused`](crate::Pool::release_unused), `wake` is called, on whatever thread: it should
/// have the event loop call [`collect`](Self::collect), without keeping the program alive.
///
/// Dropped, it ends the registration: `wake` is not called any more from then on.
pub struct ThreadCollector {
    entry: Arc<Entry>,
}

impl ThreadCollector {
    /// Registers the calling thread. `wake` must not block, nor register or drop a collector.
    pub fn register(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let entry = Arc::new(Entry {
            moved: AtomicU64::new(0),
            wake: Box::new(wake),
        });
        let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Arc::clone(&entry));
        drop(entries);
        with_share(|share| share.set_entry(Some(Arc::clone(&entry))));
        Self { entry }
    }

    /// Gives back to the system what the calling thread, which should be the registered one, has
    /// freed. Cost: 60 us when there is nothing, some 2 ms for 512 MiB.
    pub fn collect(&self) {
        self.entry.moved.store(0, Ordering::Relaxed);
        with_share(timer::collect_now);
    }
}

impl Drop for ThreadCollector {
    fn drop(&mut self) {
        let own = Arc::as_ptr(&self.entry);
        with_share(|share| {
            if ptr::eq(share.entry(), own) {
                share.set_entry(None);
            }
        });
        let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| !ptr::eq(Arc::as_ptr(entry), own));
    }
}

impl fmt::Debug for ThreadCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadCollector")
            .field("moved", &self.entry.moved)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "mimalloc"))]
mod tests {
    use super::*;
    use crate::pool::backend::Backend;
    use crate::pool::trim::share::{freed, taken};
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    #[test]
    fn a_thread_is_woken_when_it_has_something_to_give_and_is_registered() {
        let woken = Arc::new(AtomicUsize::new(0));
        let (tell, ask) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        let (told, asked) = (tell.1, ask.0);
        let (tell, ask) = (tell.0, ask.1);
        let times = Arc::clone(&woken);
        let thread = std::thread::spawn(move || {
            let collector = ThreadCollector::register(move || {
                times.fetch_add(1, Ordering::SeqCst);
            });
            let step = || {
                tell.send(()).unwrap();
                ask.recv().unwrap();
            };
            step();
            // What it takes and others free is its own to give back, too.
            taken(Backend::Mimalloc, 5 << 20);
            freed(Backend::Mimalloc, 5 << 20);
            step();
            assert!(collector.entry.moved.load(Ordering::SeqCst) > 0);
            collector.collect();
            assert_eq!(collector.entry.moved.load(Ordering::SeqCst), 0);
            step();
            taken(Backend::Mimalloc, 5 << 20);
            freed(Backend::Mimalloc, 5 << 20);
            // Its own call is no reason to wake itself.
            let before = collector.entry.moved.load(Ordering::SeqCst);
            assert!(before > 0);
            drop(collector);
            assert!(with_share(Share::entry).unwrap().is_null());
            step();
        });
        let wake = || while !wake_all() {};
        told.recv().unwrap();
        wake();
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        asked.send(()).unwrap();
        told.recv().unwrap();
        wake();
        let once = woken.load(Ordering::SeqCst);
        assert!(once >= 1);
        asked.send(()).unwrap();
        told.recv().unwrap();
        let at_rest = woken.load(Ordering::SeqCst);
        wake();
        assert_eq!(woken.load(Ordering::SeqCst), at_rest);
        asked.send(()).unwrap();
        told.recv().unwrap();
        let at_end = woken.load(Ordering::SeqCst);
        wake();
        assert_eq!(woken.load(Ordering::SeqCst), at_end);
        asked.send(()).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_panic_of_the_binding_stays_there() {
        let collector = ThreadCollector::register(|| panic!("no event loop"));
        collector.entry.add(1);
        let share = with_share(Share::entry).unwrap();
        assert!(ptr::eq(share, Arc::as_ptr(&collector.entry)));
        std::thread::spawn(|| while !wake_all() {}).join().unwrap();
        // A second registration of a thread takes the place of the first.
        let second = ThreadCollector::register(|| {});
        drop(collector);
        let share = with_share(Share::entry).unwrap();
        assert!(ptr::eq(share, Arc::as_ptr(&second.entry)));
    }
}

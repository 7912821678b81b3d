//! What one thread took and gave back, until it tells.

use super::collector::Entry;
use super::family::{FAMILIES, Family};
use super::ledger::ledger;
use super::own::OwnHeap;
use super::timer;
use crate::pool::backend::Backend;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

/// Bytes of one allocator's that are not told yet.
#[derive(Debug)]
struct Untold {
    taken: Cell<u64>,
    given: Cell<u64>,
}

/// One thread's part.
#[derive(Debug)]
pub(super) struct Share {
    untold: [Untold; FAMILIES],
    pub(super) own: OwnHeap,
    /// How this thread's event loop is told, if it has one that was registered: an `Arc`'s pointer
    /// that owns a count, or null. A thread that ends without having ended its registration leaks it.
    entry: Cell<*const Entry>,
}

thread_local! {
    // Needs no destructor, so it is there to the last moment of a thread.
    static SHARE: Share = const {
        Share {
            untold: [const {
                Untold {
                    taken: Cell::new(0),
                    given: Cell::new(0),
                }
            }; FAMILIES],
            own: OwnHeap::new(),
            entry: Cell::new(ptr::null()),
        }
    };
}

/// The calling thread's part; `None` without thread-local storage.
#[inline]
pub(super) fn with_share<T>(body: impl FnOnce(&Share) -> T) -> Option<T> {
    SHARE.try_with(body).ok()
}

/// Tells that the calling thread gave `bytes` back to `backend`: called now and then, not for every
/// free, by whoever counts (a lease given back, a region freed). No lock may be held that an
/// allocator, or the program's global one, could want.
#[inline]
pub(crate) fn freed(backend: Backend, bytes: usize) {
    let family = Family::of(backend);
    with_share(|share| {
        let untold = &share.untold[family as usize];
        let given = untold.given.get() + bytes as u64;
        untold.given.set(given);
        if given >= ledger(family).setting.step() {
            share.tell(family);
        }
        if cfg!(feature = "mimalloc") && family == Family::Mimalloc {
            let min_bytes = ledger(family).setting.min_bytes();
            if share.own.free(bytes as u64, min_bytes) && share.entry().is_null() {
                timer::collect_own(share);
            }
        }
    });
}

/// Tells that the calling thread took `bytes` of `backend`'s or, negative, gave them back: [`freed`].
#[inline]
pub(crate) fn moved(backend: Backend, bytes: i64) {
    let size = usize::try_from(bytes.unsigned_abs()).unwrap_or(usize::MAX);
    if bytes < 0 {
        freed(backend, size);
    } else {
        taken(backend, size);
    }
}

/// Tells that the calling thread took `bytes` of `backend`'s, as [`freed`] tells the opposite.
#[inline]
pub(super) fn taken(backend: Backend, bytes: usize) {
    let family = Family::of(backend);
    with_share(|share| {
        let untold = &share.untold[family as usize];
        let taken = untold.taken.get() + bytes as u64;
        untold.taken.set(taken);
        if cfg!(feature = "mimalloc") && family == Family::Mimalloc {
            share.own.take(bytes as u64);
        }
        if taken >= ledger(family).setting.step() {
            share.tell(family);
        }
    });
}

impl Share {
    pub(super) fn entry(&self) -> *const Entry {
        self.entry.get()
    }

    pub(super) fn set_entry(&self, entry: Option<Arc<Entry>>) {
        let old = self.entry.replace(entry.map_or(ptr::null(), Arc::into_raw));
        if !old.is_null() {
            // SAFETY: `Arc::into_raw`'s of an earlier call, taken back once.
            drop(unsafe { Arc::from_raw(old) });
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(&self, family: Family) {
        let untold = &self.untold[family as usize];
        let (taken, given) = (untold.taken.take(), untold.given.take());
        if family == Family::Mimalloc {
            // SAFETY: null, or an entry of which this share owns a count.
            if let Some(entry) = unsafe { self.entry.get().as_ref() } {
                entry.add(taken + given);
            }
        }
        if ledger(family).add(taken, given) {
            timer::start();
        }
    }
}

//! What a sweep puts over its pool and over domains.

use crate::adaptor::{Failing, FailingOptions, Hook, Request};
use crate::domain::{AddressMap, Domain, Unhooked};
use crate::error::{Error, Result};
use crate::pool::Pool;
use std::cell::Cell;
use std::hash::BuildHasherDefault;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

thread_local! {
    /// The run that this thread is in, by its number in the process.
    static RUN: Cell<u64> = const { Cell::new(0) };
}

static NEXT_RUN: AtomicU64 = AtomicU64::new(1);

/// The domain, 0 for the pool, and the address.
type Key = (usize, usize);

/// What all watches of a sweep share.
#[derive(Debug)]
pub(super) struct Watched {
    failing: Arc<Failing>,
    /// The run that is on; 0 between runs.
    run: AtomicU64,
    /// The sizes of the blocks that were made in this run and live.
    live: Mutex<AddressMap<Key, usize>>,
}

/// The hook of one pool or domain.
#[derive(Debug)]
pub(super) struct Watch {
    domain: Option<Domain>,
    watched: Arc<Watched>,
}

fn place(domain: Option<Domain>) -> usize {
    domain.map_or(0, |domain| domain as usize + 1)
}

impl Watched {
    pub(super) fn new() -> Result<Arc<Self>> {
        let failing = Failing::new(FailingOptions::default())?;
        failing.disarm();
        Ok(Arc::new(Self {
            failing,
            run: AtomicU64::new(0),
            live: Mutex::new(AddressMap::with_hasher_in(
                BuildHasherDefault::new(),
                Unhooked,
            )),
        }))
    }

    pub(super) fn hook(self: &Arc<Self>, domain: Option<Domain>) -> Arc<Watch> {
        Arc::new(Watch {
            domain,
            watched: Arc::clone(self),
        })
    }

    fn live(&self) -> MutexGuard<'_, AddressMap<Key, usize>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a run on this thread.
    pub(super) fn begin(&self, options: FailingOptions) -> Result<()> {
        self.live().clear();
        self.failing.rearm(options)?;
        let run = NEXT_RUN.fetch_add(1, Ordering::Relaxed);
        RUN.set(run);
        self.run.store(run, Ordering::Release);
        Ok(())
    }

    /// Ends it. Returns how many requests there were, and how many failed.
    pub(super) fn end(&self) -> (u64, u64) {
        self.run.store(0, Ordering::Release);
        self.failing.disarm();
        (self.failing.requests(), self.failing.failures())
    }

    /// Bytes and number of the blocks that the last run left.
    pub(super) fn left(&self, domain: Option<Domain>) -> (i64, i64) {
        let place = place(domain);
        self.live()
            .iter()
            .filter(|((of, _), _)| *of == place)
            .fold((0, 0), |(bytes, blocks), (_, size)| {
                (bytes + *size as i64, blocks + 1)
            })
    }
}

impl Watch {
    /// Whether the calling thread's requests are the sweep's: of a domain, which all threads use,
    /// only those of the thread that runs the code.
    fn counts(&self) -> bool {
        let run = self.watched.run.load(Ordering::Acquire);
        run != 0 && (self.domain.is_none() || RUN.get() == run)
    }

    fn key(&self, ptr: NonNull<u8>) -> Key {
        (place(self.domain), ptr.addr().get())
    }

    fn list(&self, ptr: NonNull<u8>, size: usize) {
        let mut live = self.watched.live();
        // Without memory for an entry, one leak goes unseen.
        if live.try_reserve(1).is_ok() {
            live.insert(self.key(ptr), size);
        }
    }
}

impl Hook for Watch {
    fn before(&self, request: &Request, pool: &Pool) -> Result<()> {
        if let Request::Free { ptr, .. } = request {
            // Blocks of the run end on any thread.
            self.watched.live().remove(&self.key(*ptr));
            return Ok(());
        }
        if self.counts() {
            self.watched.failing.before(request, pool)?;
        }
        Ok(())
    }

    fn after(&self, request: &Request, answer: Result<Option<NonNull<u8>>, &Error>) {
        let Ok(Some(block)) = answer else { return };
        match *request {
            Request::Allocate { size, .. } if self.counts() => self.list(block, size),
            Request::Reallocate { ptr, new_size, .. } => {
                // Another thread may have been given the old address by now: its block is then no
                // longer watched, which hides a leak and invents none.
                let listed = self.watched.live().remove(&self.key(ptr));
                if listed.is_some() {
                    self.list(block, new_size);
                }
            }
            _ => {}
        }
    }
}

//! The thread that waits until memory has been idle, and then gives it back.

use super::collector;
use super::family::{FAMILIES, Family};
use super::ledger::ledger;
use super::policy::TrimPolicy;
use super::share::{Share, with_share};
use super::watch::{Verdict, Watch};
use crate::pool::backend::Backend;
use crate::pool::inside::Inside;
use crate::pool::region;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Whether the thread runs, or is being started. A forked child has none.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);

/// Goes up whenever threads without an event loop are asked to collect their heaps.
static REQUEST: AtomicU32 = AtomicU32::new(0);

/// How long a cached region, or a thread that could not be woken, waits for the next look.
const STEP: Duration = Duration::from_millis(250);

/// Enough for the allocators' own calls.
const STACK: usize = 256 << 10;

#[inline]
pub(super) fn request() -> u32 {
    REQUEST.load(Ordering::Relaxed)
}

/// Starts the thread unless it runs. When the system has none, what was freed so far is forgotten,
/// so that it is tried again once as much has been freed.
#[inline]
pub(super) fn start() {
    if !IS_RUNNING.load(Ordering::Relaxed) {
        start_with(|| {
            thread::Builder::new()
                .name("offheap-trim".to_owned())
                .stack_size(STACK)
                .spawn(run)
                .is_ok()
        });
    }
}

#[cold]
#[inline(never)]
fn start_with(spawn: impl FnOnce() -> bool) {
    if IS_RUNNING.swap(true, Ordering::SeqCst) {
        return;
    }
    // This may be an allocator's call: what a thread needs comes from somewhere else.
    let _inside = Inside::enter();
    restart_in_children();
    if !catch_unwind(AssertUnwindSafe(spawn)).unwrap_or(false) {
        for family in Family::ALL {
            ledger(family).settle();
        }
        IS_RUNNING.store(false, Ordering::SeqCst);
    }
}

/// Has a forked child know that it has no such thread.
fn restart_in_children() {
    #[cfg(unix)]
    {
        unsafe extern "C" fn in_child() {
            IS_RUNNING.store(false, Ordering::SeqCst);
        }
        static REGISTERED: Once = Once::new();
        // SAFETY: the handler only stores a word. (Without memory for it, a child does not trim.)
        REGISTERED.call_once(|| unsafe {
            libc::pthread_atfork(None, None, Some(in_child));
        });
    }
}

/// Keeps this code in memory, however soon the library is closed, while the thread sleeps in it.
fn stay_loaded() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let here = stay_loaded as *const ();
        #[cfg(all(unix, not(target_env = "musl")))]
        {
            let mut found = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
            // SAFETY: an address of our own and room for the answer, which is read when there is
            // one; its name is a C string. Opening what is loaded already only marks it. (The
            // program itself has no such name, and stays anyway.)
            unsafe {
                if libc::dladdr(here.cast(), found.as_mut_ptr()) != 0 {
                    let name = found.assume_init().dli_fname;
                    if !name.is_null() {
                        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
                        libc::dlopen(name, flags);
                    }
                }
            }
        }
        #[cfg(windows)]
        {
            const PIN: u32 = 1;
            const FROM_ADDRESS: u32 = 4;
            #[link(name = "kernel32")]
            unsafe extern "system" {
                fn GetModuleHandleExW(
                    flags: u32,
                    name: *const u16,
                    module: *mut *mut std::ffi::c_void,
                ) -> i32;
            }
            let mut module = std::ptr::null_mut();
            // SAFETY: by these flags, the name is an address in the module; room for the answer.
            unsafe { GetModuleHandleExW(PIN | FROM_ADDRESS, here.cast(), &raw mut module) };
        }
        #[cfg(all(unix, target_env = "musl"))]
        let _ = here; // musl never unloads
    });
}

/// The program's signals are for its own threads.
fn block_signals() {
    #[cfg(unix)]
    {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigfillset` writes the whole set, which is then read.
        unsafe {
            if libc::sigfillset(all.as_mut_ptr()) == 0 {
                libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
            }
        }
    }
}

/// Says that the thread is gone, also when it panics.
struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        IS_RUNNING.store(false, Ordering::SeqCst);
    }
}

fn run() {
    let _inside = Inside::enter();
    block_signals();
    stay_loaded();
    let mut timer = Timer::default();
    loop {
        let running = Running;
        while let Some(wait) = timer.tick(Instant::now()) {
            thread::sleep(wait);
        }
        drop(running);
        // Whoever freed just before saw that the thread was running.
        let is_wanted = Family::ALL.iter().any(|f| ledger(*f).is_worth_it());
        if !is_wanted || IS_RUNNING.swap(true, Ordering::SeqCst) {
            return;
        }
    }
}

/// What the thread remembers from one look to the next.
#[derive(Debug, Default)]
struct Timer {
    watches: [Watch; FAMILIES],
    wakes: bool,
}

impl Timer {
    /// Does what is to be done now; how long to wait for the next look, or `None` when there is
    /// nothing more.
    fn tick(&mut self, now: Instant) -> Option<Duration> {
        let mut wait: Option<Duration> = None;
        let mut wait_for = |time: Duration| wait = Some(wait.map_or(time, |wait| wait.min(time)));
        for (family, watch) in Family::ALL.into_iter().zip(&mut self.watches) {
            let ledger = ledger(family);
            match watch.look(now, &ledger.sample()) {
                Verdict::Wait(time) => wait_for(time),
                Verdict::Rest => {}
                Verdict::Forget => ledger.settle(),
                Verdict::Collect => {
                    ledger.settle();
                    ledger.count_collection();
                    sweep(family);
                    if family == Family::Mimalloc {
                        REQUEST.fetch_add(1, Ordering::Relaxed);
                        self.wakes = true;
                    }
                }
            }
        }
        if self.wakes {
            self.wakes = !collector::wake_all();
            if self.wakes {
                wait_for(STEP);
            }
        }
        // The cache has an age of its own; nobody else looks at it while nothing is allocated.
        if ledger(Family::Regions).setting.get().is_some() && region::decay(now) {
            wait_for(STEP);
        }
        wait
    }
}

/// Gives back what can be given back from the calling thread.
fn sweep(family: Family) {
    if let Some(backend) = backend_of(family) {
        backend.sweep();
    }
}

/// The backend whose own calls sweep an allocator; regions have their own age.
fn backend_of(family: Family) -> Option<Backend> {
    match family {
        #[cfg(feature = "mimalloc")]
        Family::Mimalloc => Some(Backend::Mimalloc),
        #[cfg(feature = "jemalloc")]
        Family::Jemalloc => Some(Backend::Jemalloc),
        Family::System => Some(Backend::System),
        _ => None,
    }
}

/// Collects the calling thread's heap when it is [due](super::own::OwnHeap::is_due).
#[cold]
#[inline(never)]
pub(super) fn collect_own(share: &Share) {
    let now = Instant::now();
    if share.own.is_due(now, request()) {
        collect_at(share, now);
    }
}

/// Collects the calling thread's heap.
pub(super) fn collect_now(share: &Share) {
    collect_at(share, Instant::now());
}

fn collect_at(share: &Share, now: Instant) {
    share.own.settle(now);
    ledger(Family::Mimalloc).count_collection();
    sweep(Family::Mimalloc);
}

/// Has the other threads collect their own, where only they can; to be called by whoever has just
/// swept `backend`.
pub(crate) fn release_unused(backend: Backend) {
    if Family::of(backend) == Family::Mimalloc {
        with_share(|share| share.own.settle(Instant::now()));
        REQUEST.fetch_add(1, Ordering::Relaxed);
        collector::wake_all();
    }
}

/// When the allocator under `backend` is trimmed.
pub(crate) fn policy_of(backend: Backend) -> Option<TrimPolicy> {
    ledger(Family::of(backend)).setting.get()
}

/// Sets when the allocator under `backend` is trimmed; `None` for never.
pub(crate) fn set_policy(backend: Backend, policy: Option<TrimPolicy>) {
    let ledger = ledger(Family::of(backend));
    ledger.setting.set(policy);
    if ledger.is_worth_it() {
        start();
    }
}

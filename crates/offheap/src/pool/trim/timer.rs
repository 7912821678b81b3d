//! The thread that waits until memory has been idle, and then gives it back.

use super::collector;
use super::family::{FAMILIES, Family};
use super::ledger::{Ledger, ledger, ledgers};
use super::policy::TrimPolicy;
use super::share::{Share, with_share};
use super::thread;
use super::watch::{Verdict, Watch};
use crate::pool::backend::Backend;
use crate::pool::inside::Inside;
use crate::pool::region;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
    if !IS_RUNNING.load(Ordering::Relaxed) && !start_with(&IS_RUNNING, spawn) {
        for family in Family::ALL {
            ledger(family).settle();
        }
    }
}

fn spawn() -> bool {
    restart_in_children();
    thread::spawn(run, STACK)
}

/// Calls `spawn` unless what it would start runs; `false` when it has failed.
#[cold]
#[inline(never)]
fn start_with(is_running: &AtomicBool, spawn: impl FnOnce() -> bool) -> bool {
    if is_running.swap(true, Ordering::SeqCst) {
        return true;
    }
    // This may be an allocator's call: what a thread needs comes from somewhere else.
    let _inside = Inside::enter();
    let has_started = catch_unwind(AssertUnwindSafe(spawn)).unwrap_or(false);
    if !has_started {
        is_running.store(false, Ordering::SeqCst);
    }
    has_started
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
    thread::name(c"offheap-trim");
    stay_loaded();
    let mut timer = Timer::default();
    loop {
        let running = Running;
        while let Some(wait) = timer.tick(ledgers(), &mut Process, Instant::now()) {
            std::thread::sleep(wait);
        }
        drop(running);
        // Whoever freed just before saw that the thread was running.
        let is_wanted = Family::ALL.iter().any(|f| ledger(*f).is_worth_it());
        if !is_wanted || IS_RUNNING.swap(true, Ordering::SeqCst) {
            return;
        }
    }
}

/// What the timer does to the process.
trait Means {
    /// Gives back what can be given back from this thread.
    fn sweep(&mut self, family: Family);
    /// Has threads collect their own heaps. `false`: not all could be reached now.
    fn wake_all(&mut self) -> bool;
    /// Gives old cached regions back; whether there are others.
    fn decay(&mut self, now: Instant) -> bool;
}

struct Process;

impl Means for Process {
    fn sweep(&mut self, family: Family) {
        sweep(family);
    }

    fn wake_all(&mut self) -> bool {
        collector::wake_all()
    }

    fn decay(&mut self, now: Instant) -> bool {
        region::decay(now)
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
    fn tick(
        &mut self,
        ledgers: &[Ledger; FAMILIES],
        means: &mut impl Means,
        now: Instant,
    ) -> Option<Duration> {
        let mut wait: Option<Duration> = None;
        let mut wait_for = |time: Duration| wait = Some(wait.map_or(time, |wait| wait.min(time)));
        for (family, watch) in Family::ALL.into_iter().zip(&mut self.watches) {
            let ledger = &ledgers[family as usize];
            match watch.look(now, &ledger.sample()) {
                Verdict::Wait(time) => wait_for(time),
                Verdict::Rest => {}
                Verdict::Forget => ledger.settle(),
                Verdict::Collect => {
                    ledger.settle();
                    means.sweep(family);
                    if family == Family::Mimalloc {
                        REQUEST.fetch_add(1, Ordering::Relaxed);
                        self.wakes = true;
                    }
                }
            }
        }
        if self.wakes {
            self.wakes = !means.wake_all();
            if self.wakes {
                wait_for(STEP);
            }
        }
        // The cache has an age of its own; nobody else looks at it while nothing is allocated.
        if ledgers[Family::Regions as usize].setting.get().is_some() && means.decay(now) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[derive(Default)]
    struct Noted {
        swept: Vec<Family>,
        woken: usize,
        /// How often threads cannot be reached.
        is_deaf: usize,
        /// How often there are still regions.
        cached: usize,
    }

    impl Means for Noted {
        fn sweep(&mut self, family: Family) {
            self.swept.push(family);
        }

        fn wake_all(&mut self) -> bool {
            self.woken += 1;
            self.is_deaf = self.is_deaf.saturating_sub(1);
            self.is_deaf == 0
        }

        fn decay(&mut self, _now: Instant) -> bool {
            self.cached = self.cached.saturating_sub(1);
            self.cached > 0
        }
    }

    fn fresh() -> [Ledger; FAMILIES] {
        [const { Ledger::new() }; FAMILIES]
    }

    /// Ticks as the thread does, until there is nothing more; the time that it took.
    fn run_out(
        timer: &mut Timer,
        ledgers: &[Ledger; FAMILIES],
        means: &mut Noted,
        start: Instant,
    ) -> Duration {
        let mut now = start;
        while let Some(wait) = timer.tick(ledgers, means, now) {
            now += wait;
            assert!(now - start < Duration::from_secs(60), "it never ends");
        }
        now - start
    }

    #[test]
    fn each_allocator_is_swept_once_it_was_idle_and_then_the_thread_ends() {
        let (ledgers, mut timer, mut means) = (fresh(), Timer::default(), Noted::default());
        let start = Instant::now();
        assert_eq!(timer.tick(&ledgers, &mut means, start), None);
        for family in [Family::Mimalloc, Family::System] {
            ledgers[family as usize].add(512 * MIB, 0);
            assert!(ledgers[family as usize].add(0, 512 * MIB));
        }
        ledgers[Family::Jemalloc as usize].add(512 * MIB, 31 * MIB);
        means.is_deaf = 3;
        let took = run_out(&mut timer, &ledgers, &mut means, start);
        assert_eq!(means.swept, [Family::Mimalloc, Family::System]);
        assert_eq!((means.woken, took), (3, Duration::from_millis(1000)));
        assert_eq!(timer.tick(&ledgers, &mut means, start + took), None);
        assert_eq!(means.swept.len(), 2);
    }

    #[test]
    fn cached_regions_age_while_nothing_else_is_to_be_done() {
        let (ledgers, mut timer) = (fresh(), Timer::default());
        let mut means = Noted {
            cached: 5,
            ..Noted::default()
        };
        let took = run_out(&mut timer, &ledgers, &mut means, Instant::now());
        assert_eq!((took, means.swept.len()), (4 * STEP, 0));
        ledgers[Family::Regions as usize].setting.set(None);
        means.cached = 5;
        let took = run_out(&mut timer, &ledgers, &mut means, Instant::now());
        assert_eq!((took, means.cached), (Duration::ZERO, 5));
    }

    #[test]
    fn what_was_switched_off_is_not_swept() {
        let (ledgers, mut timer, mut means) = (fresh(), Timer::default(), Noted::default());
        let ledger = &ledgers[Family::Mimalloc as usize];
        ledger.setting.set(None);
        ledger.add(512 * MIB, 0);
        assert!(!ledger.add(0, 512 * MIB));
        assert_eq!(timer.tick(&ledgers, &mut means, Instant::now()), None);
        // Switched on again, what was freed meanwhile counts.
        ledger.setting.set(Some(TrimPolicy::default()));
        assert!(ledger.is_worth_it());
        run_out(&mut timer, &ledgers, &mut means, Instant::now());
        assert_eq!(means.swept, [Family::Mimalloc]);
    }

    #[test]
    fn a_thread_that_cannot_be_had_is_tried_again() {
        let is_running = AtomicBool::new(false);
        assert!(!start_with(&is_running, || false));
        assert!(!start_with(&is_running, || panic!("no thread")));
        assert!(start_with(&is_running, || true));
        assert!(start_with(&is_running, || panic!("it runs already")));
    }

    #[cfg(all(unix, not(miri)))]
    #[test]
    fn a_forked_child_knows_that_it_has_no_such_thread() {
        restart_in_children();
        let was_running = IS_RUNNING.swap(true, Ordering::SeqCst);
        // SAFETY: the child reads one word and ends.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(i32::from(IS_RUNNING.load(Ordering::SeqCst)));
            }
            child
        };
        if !was_running {
            IS_RUNNING.store(false, Ordering::SeqCst);
        }
        assert!(child > 0);
        let mut status = -1;
        // SAFETY: the child made above; room for its status.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }
}

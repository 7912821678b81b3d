//! Every interleaving, up to a bound of preemptions, of the small concurrent parts: the accounts
//! behind limits, the counts of a block's references, and the swap of a domain's allocator.
//!
//! The files are the crate's own, compiled against loom's atomics and locks by the `sync` below.

mod sync {
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock};

    /// Small enough that leases are used up, revoked and opened again in a few steps.
    pub(crate) const QUANTUM: i64 = 2;
    /// One thread beside the first has a shard, more have none.
    pub(crate) const SLOTS: usize = 1;

    pub(crate) fn spin() {
        loom::thread::yield_now();
    }

    loom::thread_local! {
        static KEY: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }

    /// Set by each thread of a model: threads that ended share a key with later ones, as thread
    /// pointers do.
    pub(crate) fn thread_key() -> usize {
        KEY.with(|key| key.get()) + 1
    }

    pub(crate) fn set_thread_key(key: usize) {
        KEY.with(|own| own.set(key));
    }

    /// A barrier in all threads, as one in both that take part.
    pub(crate) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(crate) fn light_if_asymmetric() {
        fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy() -> bool {
        fence(Ordering::SeqCst);
        true
    }

    pub(crate) fn is_asymmetric() -> bool {
        true
    }

    pub(crate) fn prepare() {}

    /// Threads of the models fold their shards themselves.
    pub(crate) unsafe fn enter(
        _: &AtomicU64,
        _: *const (),
        _: unsafe fn(*const (), usize),
    ) -> bool {
        true
    }

    pub(crate) fn leave(_: &AtomicU64) {}

    /// loom's types cannot be made in a constant.
    macro_rules! const_fn {
        ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
            $(#[$attribute])* $visibility fn $($rest)*
        };
    }
    pub(crate) use const_fn;
}

#[allow(dead_code, unused_imports, reason = "the models use a part of it")]
#[path = "../src/pool/account/mod.rs"]
mod account;
#[allow(dead_code, reason = "the models use a part of it")]
#[path = "../src/buffer/counts.rs"]
mod counts;
#[allow(dead_code, reason = "the models use a part of it")]
#[path = "../src/domain/slot.rs"]
mod slot;

use account::{Account, UNLIMITED};
use counts::{Counts, Released};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use slot::Slot;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Explores all interleavings with at most `preemptions` of them forced.
fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    // A lease changes many words.
    builder.max_branches = 20_000;
    builder.check(move || {
        KEYS.set(1);
        body();
    });
}

/// A chain of accounts: the innermost one, which knows the next.
type Chain = Arc<Level>;

/// An account that keeps those above.
struct Level {
    account: Account,
    above: Option<Arc<Level>>,
}

impl std::ops::Deref for Level {
    type Target = Account;

    fn deref(&self) -> &Account {
        &self.account
    }
}

fn over(limit: u64, above: &Arc<Level>) -> Arc<Level> {
    Arc::new(Level {
        // SAFETY: the level keeps the one above, which does not move.
        account: unsafe { Account::child(limit, above) },
        above: Some(Arc::clone(above)),
    })
}

/// As `Pool::allocate` counts.
fn allocate(chain: &Chain, n: u64) -> bool {
    let reserved = chain.reserve(n).is_ok();
    if reserved {
        chain.commit_allocation(n);
    }
    reserved
}

/// As `Pool::free` counts.
fn free(chain: &Chain, n: u64) {
    chain.commit_free(n);
}

/// As the end of a thread folds its shards.
fn fold(chain: &Chain) {
    let mut level = Some(chain);
    while let Some(at) = level {
        let account: *const Account = &raw const at.account;
        // SAFETY: the account lives, and this thread is the one with the key.
        unsafe { Account::fold(account.cast(), sync::thread_key()) };
        level = at.above.as_ref();
    }
}

fn limit(bytes: u64) -> Arc<Level> {
    Arc::new(Level {
        account: Account::new(bytes),
        above: None,
    })
}

std::thread_local! {
    /// Threads of this model so far: loom runs them all on one thread of the system's.
    static KEYS: std::cell::Cell<usize> = const { std::cell::Cell::new(1) };
}

fn spawn<T: 'static>(body: impl FnOnce() -> T + 'static) -> thread::JoinHandle<T> {
    let key = KEYS.get();
    KEYS.set(key + 1);
    thread::spawn(move || {
        sync::set_thread_key(key);
        body()
    })
}

#[test]
fn two_threads_and_room_for_one() {
    model(3, || {
        let account = limit(10);
        let other = Arc::clone(&account);
        let thread = spawn(move || allocate(&other, 6));
        let mine = allocate(&account, 6);
        let theirs = thread.join().unwrap();
        assert!(mine != theirs, "one of them fits, whoever comes first");
        let now = account.snapshot();
        assert_eq!(
            (now.bytes, now.peak, now.total, now.num_allocations),
            (6, 6, 6, 1)
        );
        assert_eq!(account.available(), Some(4));
    });
}

#[test]
fn three_threads_and_room_for_two() {
    model(2, || {
        let account = limit(10);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let other = Arc::clone(&account);
                spawn(move || allocate(&other, 5))
            })
            .collect();
        let mine = allocate(&account, 5);
        let granted = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .chain([mine])
            .filter(|granted| *granted)
            .count();
        assert_eq!((granted, account.snapshot().bytes), (2, 10));
        assert_eq!(account.available(), Some(0));
    });
}

#[test]
fn what_always_fits_is_never_refused() {
    model(2, || {
        let account = limit(10);
        let other = Arc::clone(&account);
        let thread = spawn(move || {
            for _ in 0..2 {
                assert!(allocate(&other, 5));
                free(&other, 5);
            }
        });
        let mine = Arc::clone(&account);
        assert!(allocate(&mine, 5));
        assert!(account.snapshot().bytes <= 10);
        free(&mine, 5);
        thread.join().unwrap();
        let now = account.snapshot();
        assert_eq!((now.bytes, now.live, account.available()), (0, 0, Some(10)));
        // Another thread's lease may count.
        assert!((5..=10).contains(&now.peak));
    });
}

#[test]
fn a_refusal_above_is_not_seen_below() {
    // 6 of the outer 10 are taken. One thread asks the inner 5 for 5, which the outer one refuses;
    // the other asks it for 4, which fits both at any time.
    model(3, || {
        let outer = limit(10);
        let inner = over(5, &outer);
        assert!(allocate(&outer, 6));
        let other = Arc::clone(&inner);
        let thread = spawn(move || allocate(&other, 5));
        assert!(allocate(&inner, 4));
        assert!(!thread.join().unwrap());
        assert_eq!((inner.snapshot().bytes, outer.snapshot().bytes), (4, 10));
        assert_eq!((inner.available(), outer.available()), (Some(1), Some(0)));
    });
}

#[test]
fn siblings_share_the_outer_limit() {
    model(3, || {
        let outer = limit(10);
        let (left, right) = (over(8, &outer), over(8, &outer));
        let other = Arc::clone(&left);
        let thread = spawn(move || allocate(&other, 7));
        let mine = allocate(&right, 7);
        let theirs = thread.join().unwrap();
        assert!(mine != theirs);
        let held = [&left, &right, &outer].map(|account| account.snapshot().bytes);
        assert_eq!(held, if mine { [0, 7, 7] } else { [7, 0, 7] });
        // The one that was refused has all its room.
        let refused = if mine { &left } else { &right };
        assert_eq!(refused.available(), Some(8));
    });
}

#[test]
fn an_inner_limit_and_the_outer_one_itself() {
    model(2, || {
        let outer = limit(10);
        let proxy = over(UNLIMITED, &outer);
        let inner = over(6, &proxy);
        let other = Arc::clone(&inner);
        // 6 through the inner one and 4 past it fit at any time.
        let thread = spawn(move || {
            assert!(allocate(&other, 6));
            free(&other, 6);
        });
        let mine = Arc::clone(&outer);
        assert!(allocate(&mine, 4));
        free(&mine, 4);
        thread.join().unwrap();
        for account in [&inner, &proxy, &outer] {
            assert_eq!(account.snapshot().bytes, 0);
        }
        assert_eq!((inner.available(), outer.available()), (Some(6), Some(10)));
        assert_eq!(outer.snapshot().total, 10);
    });
}

#[test]
fn three_levels_and_three_threads() {
    model(1, || {
        let outer = limit(9);
        let middle = over(8, &outer);
        let (left, right) = (over(4, &middle), over(6, &middle));
        let threads = [(&left, 4), (&right, 4)].map(|(leaf, n)| {
            let other = Arc::clone(leaf);
            spawn(move || allocate(&other, n))
        });
        // 4 + 4 + 2 is more than 9, but any two fit.
        let mine = allocate(&outer, 2);
        let theirs = threads.map(|thread| thread.join().unwrap());
        let granted = [theirs[0], theirs[1], mine];
        assert_eq!(granted.iter().filter(|granted| **granted).count(), 2);
        let held = 4 * u64::from(theirs[0]) + 4 * u64::from(theirs[1]);
        assert_eq!(middle.snapshot().bytes, held);
        assert_eq!(outer.snapshot().bytes, held + 2 * u64::from(mine));
        assert!(outer.snapshot().peak <= 9);
    });
}

#[test]
fn two_threads_and_room_for_one_in_the_inner_limit() {
    model(3, || {
        let outer = limit(100);
        let inner = over(8, &outer);
        let other = Arc::clone(&inner);
        let thread = spawn(move || allocate(&other, 5));
        let mine = allocate(&inner, 5);
        assert!(mine != thread.join().unwrap());
        assert_eq!((inner.snapshot().bytes, outer.snapshot().bytes), (5, 5));
        assert_eq!((inner.available(), outer.available()), (Some(3), Some(95)));
    });
}

#[test]
fn the_peak_is_exact_when_both_hold() {
    model(3, || {
        let account = limit(UNLIMITED);
        let other = Arc::clone(&account);
        let thread = spawn(move || allocate(&other, 5));
        let mine = Arc::clone(&account);
        allocate(&mine, 7);
        thread.join().unwrap();
        // Both were held at once. Freed first: what is held now is no hint.
        free(&mine, 5);
        free(&mine, 7);
        let now = account.snapshot();
        assert_eq!((now.bytes, now.peak, now.total, now.live), (0, 12, 12, 0));
    });
}

#[test]
fn the_peak_is_exact_when_another_frees() {
    model(3, || {
        let account = limit(UNLIMITED);
        let mine = Arc::clone(&account);
        allocate(&mine, 7);
        let other = Arc::clone(&account);
        let thread = spawn(move || {
            allocate(&other, 5);
            free(&other, 5);
        });
        let seen = account.snapshot().bytes;
        free(&mine, 7);
        thread.join().unwrap();
        let now = account.snapshot();
        assert_eq!((now.bytes, now.total, now.live), (0, 12, 0));
        assert!(now.peak == 7 || now.peak == 12);
        assert!(
            seen <= now.peak,
            "{seen} were held, the peak is {}",
            now.peak
        );
    });
}

#[test]
fn a_reset_peak_is_never_below_what_is_held() {
    model(3, || {
        let account = limit(100);
        let mine = Arc::clone(&account);
        allocate(&mine, 50);
        free(&mine, 50);
        let other = Arc::clone(&account);
        let thread = spawn(move || allocate(&other, 20));
        account.reset_peak();
        thread.join().unwrap();
        assert_eq!(
            (account.snapshot().bytes, account.snapshot().peak),
            (20, 20)
        );
    });
}

/// Everything was given back: the last byte can be had, and none more.
fn check_empty(account: &Arc<Level>, bytes: u64) {
    let now = account.snapshot();
    assert_eq!((now.bytes, now.live), (0, 0));
    assert!(allocate(account, bytes) && !allocate(account, 1));
    free(account, bytes);
    assert_eq!(account.available(), Some(bytes));
}

#[test]
fn a_lease_is_taken_back_while_its_owner_uses_it() {
    model(2, || {
        let account = limit(10);
        // Leases more than it takes.
        assert!(allocate(&account, 1));
        let other = Arc::clone(&account);
        let thread = spawn(move || {
            // All the rest.
            assert!(allocate(&other, 8));
            free(&other, 8);
            fold(&other);
        });
        assert!(allocate(&account, 1));
        free(&account, 1);
        free(&account, 1);
        thread.join().unwrap();
        check_empty(&account, 10);
    });
}

#[test]
fn a_shard_that_is_claimed_while_the_account_is_tight_hides_no_lease() {
    model(2, || {
        let account = limit(6);
        assert!(allocate(&account, 1));
        let (first, second) = (Arc::clone(&account), Arc::clone(&account));
        // Needs the lease of the one that came first.
        let takes = spawn(move || {
            assert!(allocate(&first, 4));
            free(&first, 4);
        });
        let claims = spawn(move || {
            assert!(allocate(&second, 1));
            free(&second, 1);
        });
        takes.join().unwrap();
        claims.join().unwrap();
        assert!(allocate(&account, 5) && !allocate(&account, 1));
        free(&account, 5);
        free(&account, 1);
        check_empty(&account, 6);
    });
}

#[test]
fn a_thread_that_ends_leaves_its_figures() {
    model(2, || {
        let outer = limit(10);
        let inner = over(UNLIMITED, &outer);
        let other = Arc::clone(&inner);
        let thread = spawn(move || {
            assert!(allocate(&other, 3));
            fold(&other);
            // Nobody knows its shard any more: a new one.
            assert!(allocate(&other, 1));
            fold(&other);
        });
        assert!(allocate(&inner, 5));
        free(&inner, 5);
        thread.join().unwrap();
        let now = inner.snapshot();
        assert_eq!((now.bytes, now.total, now.live), (4, 9, 2));
        free(&inner, 3);
        free(&inner, 1);
        check_empty(&outer, 10);
    });
}

/// A block as `buffer/block.rs` has it: memory, an account that is settled, and a free.
struct Shared {
    counts: Counts,
    memory: UnsafeCell<u32>,
    settled: AtomicUsize,
    freed: AtomicUsize,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            counts: Counts::new(),
            memory: UnsafeCell::new(7),
            settled: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
        })
    }

    /// What a reference does while it lives.
    fn read(&self) {
        self.memory.with(|memory| {
            // SAFETY: loom checks that nobody writes meanwhile.
            assert_eq!(unsafe { *memory }, 7);
        });
    }

    fn free(&self) {
        self.memory.with_mut(|memory| {
            // SAFETY: loom checks that nobody reads or writes meanwhile, or has not been seen to
            // have finished.
            unsafe { *memory = 0 };
        });
        assert_eq!(
            self.settled.load(Ordering::Relaxed),
            1,
            "settled before the free"
        );
        self.freed.fetch_add(1, Ordering::Relaxed);
    }

    fn settle(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }

    /// As `Block::drop`.
    fn release(&self) {
        self.released(self.counts.release());
    }

    /// As a clone's drop.
    fn release_clone(&self) {
        self.released(self.counts.release_shared());
    }

    fn released(&self, left: Released) {
        match left {
            Released::Shared => {}
            Released::Free => {
                self.settle();
                self.free();
            }
            Released::Parked => {
                self.settle();
                self.release_parked();
            }
        }
    }

    /// As `Block::park`.
    fn park(&self) {
        self.counts.park();
        self.release();
    }

    /// As `ParkedBlock::drop`.
    fn release_parked(&self) {
        if self.counts.release_parked() {
            self.free();
        }
    }

    fn check(&self) {
        assert_eq!(self.freed.load(Ordering::Relaxed), 1, "freed once");
        assert_eq!(self.settled.load(Ordering::Relaxed), 1, "settled once");
    }
}

/// Runs one thread a body, each with a strong reference of its own, and checks the end.
fn references(preemptions: usize, bodies: &'static [fn(&Shared)]) {
    model(preemptions, move || {
        let shared = Shared::new();
        for _ in 1..bodies.len() {
            shared.counts.retain();
        }
        let threads: Vec<_> = bodies[1..]
            .iter()
            .map(|body| {
                let shared = Arc::clone(&shared);
                spawn(move || body(&shared))
            })
            .collect();
        bodies[0](&shared);
        for thread in threads {
            thread.join().unwrap();
        }
        shared.check();
    });
}

fn read_and_release(shared: &Shared) {
    shared.read();
    shared.release();
}

fn read_and_release_clone(shared: &Shared) {
    shared.read();
    shared.release_clone();
}

fn clone_and_release_both(shared: &Shared) {
    shared.counts.retain();
    shared.release();
    read_and_release(shared);
}

fn park_and_let_go(shared: &Shared) {
    shared.park();
    // Whoever parks still has the address.
    shared.read();
    shared.release_parked();
}

fn write_if_alone_and_release(shared: &Shared) {
    if shared.counts.is_unique() {
        shared.memory.with_mut(|memory| {
            // SAFETY: the only reference; loom checks it.
            unsafe { *memory = 7 };
        });
    }
    shared.release();
}

#[test]
fn the_last_of_three_references_frees() {
    references(3, &[read_and_release, read_and_release, read_and_release]);
}

#[test]
fn clones_of_clones_are_freed_once() {
    references(3, &[clone_and_release_both, clone_and_release_both]);
}

#[test]
fn a_clone_may_be_the_last_reference() {
    references(3, &[read_and_release, read_and_release_clone]);
    references(3, &[read_and_release_clone, read_and_release_clone]);
    references(
        2,
        &[
            park_and_let_go,
            read_and_release_clone,
            read_and_release_clone,
        ],
    );
}

#[test]
fn a_parked_reference_keeps_the_memory_and_settles_once() {
    references(3, &[read_and_release, park_and_let_go]);
    references(2, &[clone_and_release_both, park_and_let_go]);
}

#[test]
fn two_parked_references_and_a_strong_one() {
    references(3, &[park_and_let_go, park_and_let_go]);
    references(2, &[read_and_release, park_and_let_go, park_and_let_go]);
}

#[test]
fn who_is_alone_may_write() {
    references(3, &[write_if_alone_and_release, read_and_release]);
    references(3, &[write_if_alone_and_release, park_and_let_go]);
    references(
        2,
        &[
            write_if_alone_and_release,
            write_if_alone_and_release,
            read_and_release,
        ],
    );
}

/// A domain as `domain.rs` uses its slot: the allocator that is there at first keeps no table, others'
/// blocks are listed.
struct Domain {
    slot: Slot<Arc<Allocator>>,
    initial: Allocator,
    listed: loom::sync::Mutex<Vec<(usize, Arc<Allocator>)>>,
}

/// An allocator that knows its own blocks.
struct Allocator {
    live: loom::sync::Mutex<Vec<usize>>,
}

impl Allocator {
    fn new() -> Self {
        Self {
            live: loom::sync::Mutex::new(Vec::new()),
        }
    }

    fn make(&self, block: usize) {
        self.live.lock().unwrap().push(block);
    }

    fn take_back(&self, block: usize) {
        let mut live = self.live.lock().unwrap();
        let at = live.iter().position(|own| *own == block);
        live.remove(at.expect("a block goes back to the allocator that made it"));
    }
}

impl Domain {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            slot: Slot::new(),
            initial: Allocator::new(),
            listed: loom::sync::Mutex::new(Vec::new()),
        })
    }

    /// As `Domain::make`.
    fn make(&self, block: usize) {
        match self.slot.get() {
            None => self.initial.make(block),
            Some(allocator) => {
                allocator.make(block);
                self.listed.lock().unwrap().push((block, allocator));
            }
        }
    }

    /// As `Domain::free`.
    fn free(&self, block: usize) {
        if !self.slot.was_set() {
            return self.initial.take_back(block);
        }
        let mut listed = self.listed.lock().unwrap();
        let at = listed.iter().position(|(own, _)| *own == block);
        let entry = at.map(|at| listed.remove(at));
        drop(listed);
        match entry {
            Some((_, allocator)) => allocator.take_back(block),
            None => self.initial.take_back(block),
        }
    }

    fn set(&self, allocator: Option<&Arc<Allocator>>) {
        let old = self.slot.change(|_| Ok::<_, ()>(allocator.cloned()));
        drop(old);
    }
}

/// Threads allocate and free, also each other's blocks, while the allocator is replaced and put
/// back.
#[test]
fn blocks_go_back_to_their_maker_while_the_allocator_is_swapped() {
    model(3, || {
        let domain = Domain::new();
        let hook = Arc::new(Allocator::new());
        domain.make(1);
        let (theirs, swapped) = (Arc::clone(&domain), Arc::clone(&domain));
        let allocates = spawn(move || {
            theirs.make(2);
            theirs.free(1);
        });
        let swapper = {
            let hook = Arc::clone(&hook);
            spawn(move || swapped.set(Some(&hook)))
        };
        allocates.join().unwrap();
        domain.free(2);
        swapper.join().unwrap();
        domain.make(3);
        domain.set(None);
        domain.free(3);
        assert!(domain.initial.live.lock().unwrap().is_empty());
        assert!(hook.live.lock().unwrap().is_empty());
    });
}

/// Two that wrap what is there at the same time both stay: PEP 445's get and set could lose one.
#[test]
fn two_wraps_at_once_are_both_kept() {
    model(3, || {
        let slot = Arc::new(Slot::<u32>::new());
        let other = Arc::clone(&slot);
        // As `Domain::wrap`: what was wrapped must still be there.
        let wrap = |slot: &Slot<u32>, digit| {
            loop {
                let before = slot.get();
                let new = before.unwrap_or(0) * 10 + digit;
                let set = slot.change(|now| match now.copied() == before {
                    true => Ok(Some(new)),
                    false => Err(()),
                });
                if set.is_ok() {
                    break;
                }
            }
        };
        let thread = spawn(move || wrap(&other, 1));
        wrap(&slot, 2);
        thread.join().unwrap();
        assert!(matches!(slot.get(), Some(12 | 21)));
        assert!(slot.was_set());
    });
}

/// A value that uses the slot when it is dropped, and one that replaces itself while it is used.
#[test]
fn values_may_use_their_own_slot() {
    #[derive(Clone)]
    struct Uses(Arc<Slot<Option<Uses>>>);
    impl Drop for Uses {
        fn drop(&mut self) {
            self.0.with(|_| ());
        }
    }
    model(2, || {
        let slot = Arc::new(Slot::new());
        let set = |slot: &Arc<Slot<_>>| {
            let value = Some(Uses(Arc::clone(slot)));
            slot.change(|_| Ok::<_, ()>(Some(value)))
        };
        drop(set(&slot));
        let other = Arc::clone(&slot);
        let thread = spawn(move || {
            let used = other.get();
            drop(set(&other));
            drop(used);
        });
        drop(set(&slot));
        thread.join().unwrap();
        drop(slot.change(|_| Ok::<_, ()>(None)));
        assert!(slot.get().is_none());
    });
}

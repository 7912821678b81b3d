//! A program whose global allocator is a pool: the default backend, and pools installed over it.
//!
//! Not the usual harness: its threads allocate whenever they like. Each test runs in a process of
//! its own, alone on the first thread, once for each backend.

use offheap::{
    Alignment, Error, MemoryPool, MutableBuffer, Pool, PoolGlobalAlloc, c_allocator_of,
    default_memory_pool, set_default_memory_pool, supported_memory_backends, system_memory_pool,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hint::black_box;
use std::process::{Command, ExitCode, Output};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

#[global_allocator]
static GLOBAL: PoolGlobalAlloc = PoolGlobalAlloc::new();

/// Set in a process that runs one test.
const MARK: &str = "OFFHEAP_TEST_ALONE";

/// A test: what to run in a process of its own, and what must come of it.
struct Test {
    name: &'static str,
    run: fn(),
    ends: fn(&Output) -> bool,
}

macro_rules! tests {
    ($($name:ident $(ends $ends:expr)?),* $(,)?) => {
        &[$({
            #[allow(unused_mut, reason = "few tests end in another way")]
            let mut test = Test { name: stringify!($name), run: $name, ends: |output| output.status.success() };
            $(test.ends = $ends;)?
            test
        }),*]
    };
}

const TESTS: &[Test] = tests![
    it_starts_with_the_backend_that_the_environment_names,
    it_starts_though_the_environment_asks_for_debug_hooks,
    no_lock_is_held_while_memory_is_asked_for,
    an_installed_pool_counts_to_the_byte,
    a_limit_that_refuses_is_an_error_where_there_is_one,
    what_nobody_has_is_an_error,
    what_cannot_fail_aborts ends aborted,
    threads_allocate_while_pools_are_installed,
    threads_end_and_their_last_values_allocate,
    a_pool_that_allocates_refuses_or_panics_itself,
    a_pool_is_not_called_while_it_is_being_called,
    a_panic_under_an_exhausted_limit_is_an_ordinary_panic,
    a_pool_over_the_global_allocator,
];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(MARK) {
        let test = TESTS.iter().find(|test| test.name == name);
        (test.unwrap().run)();
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let chosen = |test: &&Test| {
        filters.is_empty() || filters.iter().any(|filter| test.name.contains(&**filter))
    };
    // Not a backend: a name that is none, and no name.
    let others = ["nonsense", ""];
    let backends = supported_memory_backends();
    let (mut passed, mut failed) = (0, 0);
    for test in TESTS.iter().filter(chosen) {
        for backend in backends.iter().copied().chain(others) {
            let output = Command::new(std::env::current_exe().unwrap())
                .env(MARK, test.name)
                .env("OFFHEAP_DEFAULT_MEMORY_POOL", backend)
                .env_remove("ARROW_DEFAULT_MEMORY_POOL")
                .env_remove("ALKAID_DEFAULT_MEMORY_POOL")
                .output()
                .unwrap();
            let ok = (test.ends)(&output);
            let verdict = if ok { "ok" } else { "FAILED" };
            println!("test {} ({backend}) ... {verdict}", test.name);
            if ok {
                passed += 1;
            } else {
                failed += 1;
                println!("{}", output.status);
                println!("{}", String::from_utf8_lossy(&output.stdout));
                println!("{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    ExitCode::from(u8::from(failed > 0))
}

/// Calls `body` with `pool` installed.
fn with<T>(pool: &Pool, body: impl FnOnce() -> T) -> T {
    GLOBAL.install(pool).unwrap();
    let result = body();
    GLOBAL.uninstall();
    result
}

fn it_starts_with_the_backend_that_the_environment_names() {
    assert_eq!(GLOBAL.pool(), default_memory_pool());
    // std has allocated already, before `main`.
    let pool = GLOBAL.pool();
    assert!(GLOBAL.statistics().live_allocations > 0);
    let before = (pool.bytes_allocated(), pool.num_allocations());
    let bytes = black_box(vec![1_u8; 1000]);
    let now = (pool.bytes_allocated(), pool.num_allocations());
    assert_eq!(now, (before.0 + 1000, before.1 + 1));
    drop(bytes);
    assert_eq!(GLOBAL.statistics().bytes_allocated, before.0);
}

/// Whether the environment asks for debug hooks is found out with memory from this allocator.
fn it_starts_though_the_environment_asks_for_debug_hooks() {
    const DEBUG: &str = "OFFHEAP_DEBUG_MEMORY_POOL";
    if std::env::var_os(DEBUG).is_some() {
        // Without hooks, the default pool may be the one that all of the program counts into.
        let pool = default_memory_pool();
        let before = pool.bytes_allocated();
        let buffer = MutableBuffer::zeroed(1000, &pool).unwrap();
        assert_eq!(pool.bytes_allocated() - before, 1000);
        return drop(black_box(buffer));
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(DEBUG, "abort")
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if started.elapsed() > Duration::from_secs(20) {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if status.is_none() {
        child.kill().unwrap();
    }
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

/// A source of the program's own may ask for the default pool and for C structs, whatever the
/// request that it serves is for.
fn no_lock_is_held_while_memory_is_asked_for() {
    #[derive(Debug)]
    struct Asks(Pool);
    // SAFETY: every block is the pool's.
    unsafe impl MemoryPool for Asks {
        fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>, Error> {
            black_box((default_memory_pool(), c_allocator_of(&self.0)));
            self.0.allocate(size, alignment)
        }
        unsafe fn reallocate(
            &self,
            ptr: NonNull<u8>,
            old_size: usize,
            new_size: usize,
            alignment: Alignment,
        ) -> Result<NonNull<u8>, Error> {
            black_box(default_memory_pool());
            // SAFETY: the caller's promise.
            unsafe { self.0.reallocate(ptr, old_size, new_size, alignment) }
        }
        unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
            black_box(default_memory_pool());
            // SAFETY: the caller's promise.
            unsafe { self.0.free(ptr, size, alignment) }
        }
        fn backend_name(&self) -> &str {
            "asks"
        }
    }
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let asks = Pool::custom(Asks(system_memory_pool()));
        let closed = system_memory_pool().proxy();
        closed.close().unwrap();
        set_default_memory_pool(&system_memory_pool().proxy()).unwrap();
        let error = with(&asks, || {
            for _ in 0..100 {
                black_box(c_allocator_of(&system_memory_pool().proxy()));
            }
            set_default_memory_pool(&closed).unwrap_err()
        });
        done.send(error.code()).unwrap();
    });
    let code = is_done.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(code, "ERR_OFFHEAP_CLOSED");
}

fn an_installed_pool_counts_to_the_byte() {
    let pool = default_memory_pool().proxy();
    // One by one: all figures at once include jemalloc's own, which need memory to be found.
    let figures = || {
        (
            pool.bytes_allocated(),
            pool.live_allocations(),
            pool.num_allocations(),
        )
    };
    let before = black_box(vec![0_u8; 100]);
    GLOBAL.install(&pool).unwrap();
    let mut values: Vec<u64> = black_box(Vec::with_capacity(100));
    assert_eq!(figures(), (800, 1, 1));
    values.extend(0..100);
    values.reserve_exact(100);
    assert_eq!(figures(), (1600, 1, 2));
    let text = black_box("text".repeat(100));
    let zeroed = black_box(vec![0_u16; 50]);
    assert_eq!(figures(), (2100, 3, 4));
    // What was there before goes back, and grows, where it came from.
    drop(before);
    assert_eq!(figures(), (2100, 3, 4));
    values.shrink_to(100);
    assert_eq!(figures(), (1300, 3, 4));
    GLOBAL.uninstall();
    let later = black_box(vec![0_u8; 100]);
    assert_eq!(figures(), (1300, 3, 4));
    assert!(values.iter().copied().eq(0..100));
    // And these, with nothing installed any more.
    values.reserve_exact(200);
    assert_eq!(figures(), (2900, 3, 5));
    drop((values, text, zeroed, later));
    assert_eq!(figures(), (0, 0, 5));
    assert_eq!(pool.peak_bytes(), 2900);
}

fn a_limit_that_refuses_is_an_error_where_there_is_one() {
    let limit = default_memory_pool().limit_named(10_000, Some("program"));
    let proxy = limit.proxy();
    let foreign = Pool::from_global_alloc(std::alloc::System);
    with(&limit, || {
        let mut bytes: Vec<u8> = Vec::new();
        assert!(bytes.try_reserve_exact(10_001).is_err());
        bytes.try_reserve_exact(9000).unwrap();
        for more in [10_001, 1 << 40, isize::MAX as usize] {
            assert!(bytes.try_reserve_exact(more).is_err(), "{more}");
        }
        let mut map: HashMap<u64, u64> = HashMap::new();
        assert!(map.try_reserve(1000).is_err());
        assert!(String::new().try_reserve(1001).is_err());
        assert_eq!(limit.available(), Some(1000));

        // Nothing at all is left, and still a refusal has its error with all its numbers.
        let rest = Vec::<u8>::with_capacity(limit.available().unwrap() as usize);
        assert_eq!(limit.available(), Some(0));
        assert_eq!(GLOBAL.statistics().available, Some(0));
        let errors = [
            limit.allocate(1, Alignment::DEFAULT).unwrap_err(),
            MutableBuffer::zeroed(1, &proxy).unwrap_err(),
            default_memory_pool()
                .allocate(usize::MAX, Alignment::DEFAULT)
                .unwrap_err(),
            foreign
                .allocate(usize::MAX / 2, Alignment::DEFAULT)
                .unwrap_err(),
        ];
        assert!(errors.iter().all(Error::is_out_of_memory));
        drop((errors, rest, bytes, map));
    });
    assert_eq!((limit.bytes_allocated(), limit.live_allocations()), (0, 0));
}

/// The system refuses, too, and its refusal needs no memory.
fn what_nobody_has_is_an_error() {
    for _ in 0..100 {
        let mut bytes: Vec<u8> = Vec::new();
        assert!(bytes.try_reserve_exact(isize::MAX as usize).is_err());
        assert!(bytes.try_reserve_exact(isize::MAX as usize - 4096).is_err());
        bytes.push(1);
        assert!(bytes.try_reserve_exact(isize::MAX as usize - 4096).is_err());
        assert_eq!(bytes, [1]);
    }
}

/// What cannot fail aborts, as it does in any program without memory: at once, with std's message.
fn what_cannot_fail_aborts() {
    let limit = default_memory_pool().limit(1000);
    GLOBAL.install(&limit).unwrap();
    black_box(vec![1_u8; 2000]);
}

fn aborted(output: &Output) -> bool {
    #[cfg(unix)]
    if std::os::unix::process::ExitStatusExt::signal(&output.status) != Some(libc::SIGABRT) {
        return false;
    }
    !output.status.success()
        && String::from_utf8_lossy(&output.stderr)
            .contains("memory allocation of 2000 bytes failed")
}

fn threads_allocate_while_pools_are_installed() {
    const THREADS: usize = 8;
    let pools = [
        default_memory_pool().proxy(),
        default_memory_pool().limit(1 << 30).proxy().limit(1 << 40),
        Pool::custom(default_memory_pool()),
    ];
    // The same before the first install: what std keeps for ever is then there.
    for rounds in [1, 200] {
        let barrier = Barrier::new(THREADS + 1);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    for round in 0..rounds {
                        let mut held: Vec<Vec<usize>> = Vec::new();
                        for i in 0..50 {
                            held.push(vec![thread * i; i * 3 + 1]);
                            let back = (i * 7 + round) % held.len();
                            let value = held[back].first().copied().unwrap_or(0);
                            held[back].push(value);
                        }
                        for values in held {
                            assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
                        }
                    }
                });
            }
            barrier.wait();
            if rounds > 1 {
                for i in 0..300 {
                    match pools.get(i % 4) {
                        Some(pool) => GLOBAL.install(pool).unwrap(),
                        None => GLOBAL.uninstall(),
                    }
                    std::thread::yield_now();
                }
                GLOBAL.uninstall();
            }
        });
    }
    assert!(pools.iter().map(Pool::num_allocations).sum::<u64>() > 0);
    for pool in &pools {
        // `install` keeps a handle of each pool, made by what was installed before.
        assert_eq!(pool.bytes_allocated(), 16 * pool.live_allocations());
        assert!(pool.live_allocations() <= 3);
    }
}

/// Frees what it has and allocates anew when its thread ends.
struct Last(Vec<u8>);

static ENDED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Last {
    fn drop(&mut self) {
        let text = format!("{} bytes", self.0.len());
        assert_eq!(black_box(text.as_str()), "1000 bytes");
        self.0 = vec![2; 100];
        // Another thread-local value, made while this one ends.
        OTHER.with_borrow_mut(|other| other.push(text));
        ENDED.fetch_add(1, Ordering::Relaxed);
    }
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    static OTHER: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn threads_end_and_their_last_values_allocate() {
    let limit = default_memory_pool().limit(1 << 20);
    let work = || {
        let threads: Vec<_> = (0..20)
            .map(|_| {
                std::thread::spawn(|| {
                    LAST.set(Some(Last(vec![1; 1000])));
                    black_box(vec![0_u64; 100]).len()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum::<usize>()
    };
    // As above, for what std keeps.
    assert_eq!(work(), 2000);
    assert_eq!(with(&limit, work), 2000);
    assert_eq!(ENDED.load(Ordering::Relaxed), 40);
    assert!(limit.num_allocations() >= 80);
    assert_eq!((limit.bytes_allocated(), limit.live_allocations()), (0, 0));
}

/// A pool that tells what it does, and needs memory for that.
#[derive(Debug)]
struct Telling {
    refuse: usize,
    panic: usize,
}

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn tell(text: String) {
    eprintln!("{text}");
    TOLD.lock().unwrap().push(text);
}

// SAFETY: forwards to a pool that keeps the promises, or does nothing.
unsafe impl MemoryPool for Telling {
    fn allocate(&self, size: usize, alignment: Alignment) -> offheap::Result<NonNull<u8>> {
        tell(format!("allocate {size}"));
        assert_ne!(size, self.panic, "asked to panic");
        if size == self.refuse {
            return Err(Error::not_supported(format!("{size} bytes")));
        }
        default_memory_pool().allocate(size, alignment)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> offheap::Result<NonNull<u8>> {
        tell(format!("reallocate {old_size} {new_size}"));
        assert_ne!(new_size, self.panic, "asked to panic");
        // SAFETY: the caller's promise.
        unsafe { default_memory_pool().reallocate(ptr, old_size, new_size, alignment) }
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        tell(format!("free {size}"));
        // SAFETY: the caller's promise.
        unsafe { default_memory_pool().free(ptr, size, alignment) };
        assert_ne!(size, self.panic, "asked to panic");
    }

    fn backend_name(&self) -> &str {
        "telling"
    }
}

fn a_pool_that_allocates_refuses_or_panics_itself() {
    let pool = Pool::custom(Telling {
        refuse: 1024,
        panic: 2048,
    });
    let kept = with(&pool, || {
        let mut bytes = black_box(vec![1_u8; 100]);
        bytes.try_reserve_exact(400).unwrap();
        // 1008 and 2032 bytes, with the header and rounded up.
        assert!(Vec::<u8>::new().try_reserve_exact(1000).is_err());
        assert!(Vec::<u8>::new().try_reserve_exact(2000).is_err());
        assert!(bytes.try_reserve_exact(1900).is_err());
        bytes
    });
    assert_eq!(kept, [1; 100]);
    drop(kept);
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    let told = std::mem::take(&mut *TOLD.lock().unwrap());
    let expected = [
        "allocate 128",
        "reallocate 128 576",
        "allocate 1024",
        "allocate 2048",
        "reallocate 576 2048",
        "free 576",
    ];
    assert_eq!(told, expected);
}

/// A pool that keeps a list of its blocks' sizes under a lock, in memory that may be its own.
#[derive(Debug)]
struct Listing;

static LIST: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// An entry has memory of its own, too.
type Entry = Box<usize>;

// SAFETY: forwards to a pool that keeps the promises.
unsafe impl MemoryPool for Listing {
    fn allocate(&self, size: usize, alignment: Alignment) -> offheap::Result<NonNull<u8>> {
        LIST.lock().unwrap().push(Box::new(size));
        default_memory_pool().allocate(size, alignment)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> offheap::Result<NonNull<u8>> {
        let mut list = LIST.lock().unwrap();
        let entry = list.iter_mut().find(|known| ***known == old_size);
        **entry.unwrap() = new_size;
        // SAFETY: the caller's promise.
        unsafe { default_memory_pool().reallocate(ptr, old_size, new_size, alignment) }
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        let mut list = LIST.lock().unwrap();
        let found = list.iter().position(|known| **known == size).unwrap();
        list.swap_remove(found);
        list.shrink_to_fit();
        // SAFETY: the caller's promise.
        unsafe { default_memory_pool().free(ptr, size, alignment) };
    }

    fn backend_name(&self) -> &str {
        "listing"
    }
}

/// The list's memory is the pool's own: it grows, moves and is freed while the pool is called.
fn a_pool_is_not_called_while_it_is_being_called() {
    let pool = Pool::custom(Listing);
    let mut list = with(&pool, || {
        let mut list: Vec<Entry> = Vec::with_capacity(4);
        list.push(Box::new(0));
        list
    });
    assert_eq!(pool.live_allocations(), 2);
    // Two entries of the backend's pool, and one of the pool's own.
    list.append(&mut std::mem::take(&mut *LIST.lock().unwrap()));
    *LIST.lock().unwrap() = list;
    with(&pool, || {
        let held: Vec<Vec<u8>> = (1..100).map(|size| vec![1; size]).collect();
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 99 * 100 / 2);
    });
    let list = std::mem::take(&mut *LIST.lock().unwrap());
    // Only the entry of the pool's own is left, and its size.
    assert_eq!(list.len(), 2);
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (8, 1));
    *LIST.lock().unwrap() = list.iter().map(|size| Box::new(**size)).collect();
    drop(list);
    assert_eq!(*LIST.lock().unwrap(), [Box::new(0)]);
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
}

/// Its message, its backtrace and the destructors need memory, of which nothing is left.
fn a_panic_under_an_exhausted_limit_is_an_ordinary_panic() {
    let limit = default_memory_pool().limit(100_000);
    with(&limit, || {
        let mut log = String::with_capacity(100);
        let rest = Vec::<u8>::with_capacity(limit.available().unwrap() as usize);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            struct Logs<'a>(&'a mut String);
            impl Drop for Logs<'_> {
                fn drop(&mut self) {
                    // Grows a block of the exhausted pool.
                    self.0.push_str(&"text".repeat(1000));
                }
            }
            let _logs = Logs(&mut log);
            panic!("{} bytes are left", limit.available().unwrap());
        }));
        let payload = result.unwrap_err();
        assert_eq!(
            payload.downcast_ref::<String>().unwrap(),
            "0 bytes are left"
        );
        assert_eq!(log.len(), 4000);
        drop((rest, log, payload));
    });
    assert_eq!((limit.bytes_allocated(), limit.live_allocations()), (0, 0));
}

/// A pool over the global allocator itself, as the global allocator.
fn a_pool_over_the_global_allocator() {
    let pool = Pool::from_allocator(allocator_api2::alloc::Global);
    let base = default_memory_pool();
    let before = base.bytes_allocated();
    let (held, under) = with(&pool, || {
        let bytes = black_box(vec![0_u8; 1000]);
        (bytes, base.bytes_allocated() - before)
    });
    assert_eq!(pool.bytes_allocated(), 1000);
    // With the header and rounded up, and the handle that `install` keeps.
    assert_eq!(under, 1024 + 16);
    drop(held);
    assert_eq!(pool.bytes_allocated(), 0);
}

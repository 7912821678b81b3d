//! Domains: CPython's `test_setallocators`, `alloc0` and PEP 445's rules, for all three.

use crate::alone::alone;
use offheap::{
    Alignment, Domain, Hook, HookedDomains, MutableBuffer, Pool, Request, object_memory_pool,
};
use offheap::{default_memory_pool, mimalloc_memory_pool, set_default_memory_pool};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Writes down what it sees.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl Hook for Notes {
    fn after(&self, request: &Request, answer: Result<Option<NonNull<u8>>, &offheap::Error>) {
        let note = match request {
            Request::Allocate { size, zeroed, .. } => {
                format!("{} {size}", if *zeroed { "calloc" } else { "malloc" })
            }
            Request::Reallocate { new_size, .. } => format!("realloc {new_size}"),
            Request::Free { .. } => "free".to_owned(),
            _ => unreachable!(),
        };
        assert!(answer.is_ok());
        self.0.lock().unwrap().push(note);
    }
}

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// `_testcapi`'s `test_pymem_alloc0` and its siblings: zero bytes are a block, and each its own.
#[test]
fn zero_bytes_are_a_block_of_their_own() {
    for domain in Domain::ALL {
        let blocks = [
            domain.malloc(0),
            domain.malloc(0),
            domain.calloc(0, 0),
            domain.calloc(0, 7),
            domain.calloc(7, 0),
        ];
        for (i, block) in blocks.iter().enumerate() {
            assert!(!block.is_null(), "{domain}");
            assert!(block.addr() % 16 == 0, "{domain}");
            assert!(!blocks[..i].contains(block), "{domain}");
        }
        // SAFETY: live blocks; null is nothing.
        unsafe {
            for block in blocks {
                domain.free(block);
            }
            domain.free(std::ptr::null_mut());
        }
        assert!(domain.calloc(usize::MAX, 2).is_null(), "{domain}");
        assert!(domain.malloc(usize::MAX).is_null(), "{domain}");
    }
}

#[test]
fn sizes_and_contents_are_kept_through_realloc() {
    for domain in Domain::ALL {
        let mut block = std::ptr::null_mut();
        let mut old = 0;
        // Within small objects, over their bound of 512 bytes, back again.
        for size in [1, 16, 100, 512, 513, 40_000, 513, 512, 17, 1] {
            // SAFETY: null or live; the bytes up to `size` are the block's.
            unsafe {
                block = domain.realloc(block, size);
                assert!(domain.block_size(block).unwrap() >= size, "{domain} {size}");
                for i in 0..size.min(old) {
                    assert_eq!(block.add(i).read(), i as u8, "{domain} {old} to {size}");
                }
                for i in 0..size {
                    block.add(i).write(i as u8);
                }
            }
            // A failure leaves the block as it was.
            // SAFETY: live.
            assert!(unsafe { domain.realloc(block, isize::MAX as usize) }.is_null());
            // SAFETY: live, and written above.
            assert_eq!(unsafe { block.add(size - 1).read() }, (size - 1) as u8);
            old = size;
        }
        // SAFETY: live.
        unsafe { domain.free(block) };
        assert_eq!(domain.block_size(block), None, "{domain}");
    }
}

/// `_testcapi`'s `test_setallocators`: a hook sees each call with its numbers, and what was there
/// before comes back.
#[test]
fn a_replaced_allocator_sees_every_call() {
    alone("domains::a_replaced_allocator_sees_every_call", || {
        for domain in Domain::ALL {
            let before = domain.allocator();
            let notes = Arc::new(Notes::default());
            let hooked = domain.wrap(|pool| pool.hook(notes.clone())).unwrap();
            assert_eq!(domain.allocator(), hooked);
            // SAFETY: live blocks of the domain.
            unsafe {
                let a = domain.malloc(42);
                let a = domain.realloc(a, 200);
                domain.free(a);
                let b = domain.calloc(2, 5);
                assert_eq!(b.add(9).read(), 0);
                domain.free(b);
            }
            assert_eq!(
                notes.take(),
                ["malloc 42", "realloc 200", "free", "calloc 10", "free"],
                "{domain}"
            );
            // What is made under a hook goes back to it, also after it is gone.
            let kept = domain.malloc(33);
            domain.set_allocator(&before).unwrap();
            assert_eq!(domain.allocator(), before);
            let unhooked = domain.malloc(34);
            // SAFETY: live blocks.
            unsafe {
                domain.free(kept);
                domain.free(unhooked);
            }
            assert_eq!(notes.take(), ["malloc 33", "free"], "{domain}");
            assert_eq!(hooked.bytes_allocated(), 0);
        }
    });
}

/// `mem`'s allocator is the default pool: setting either sets both. A pool fetched by its
/// backend's name bypasses the hooks.
#[test]
fn mem_is_the_default_pool() {
    alone("domains::mem_is_the_default_pool", || {
        let before = default_memory_pool();
        let limit = before.limit(1000);
        set_default_memory_pool(&limit).unwrap();
        assert_eq!(Domain::Mem.allocator(), limit);
        assert!(Domain::Mem.malloc(1001).is_null());
        let notes = Arc::new(Notes::default());
        let hooked = Domain::Mem.wrap(|pool| pool.hook(notes.clone())).unwrap();
        assert_eq!(default_memory_pool(), hooked);
        let buffer = MutableBuffer::zeroed(600, &default_memory_pool()).unwrap();
        assert_eq!(limit.bytes_allocated(), 600);
        if let Ok(named) = mimalloc_memory_pool() {
            drop(MutableBuffer::zeroed(5000, &named).unwrap());
        }
        drop(buffer);
        assert_eq!(notes.take(), ["calloc 600", "free"]);
        Domain::Mem.set_allocator(&before).unwrap();
        assert_eq!(default_memory_pool(), before);
        // A pool that was closed cannot serve a domain; nothing changes.
        limit.close().unwrap();
        for domain in Domain::ALL {
            let now = domain.allocator();
            assert_eq!(
                domain.set_allocator(&limit).unwrap_err().code(),
                "ERR_OFFHEAP_CLOSED"
            );
            assert_eq!(domain.allocator(), now);
        }
    });
}

/// The control blocks of buffers come from `object`; what it cannot serve comes from `mem`.
#[test]
fn object_serves_control_blocks_and_passes_large_requests_on() {
    alone(
        "domains::object_serves_control_blocks_and_passes_large_requests_on",
        || {
            let early = MutableBuffer::zeroed(100, &default_memory_pool()).unwrap();
            let object = Arc::new(Notes::default());
            let mem = Arc::new(Notes::default());
            Domain::Object
                .wrap(|pool| pool.hook(object.clone()))
                .unwrap();
            Domain::Mem.wrap(|pool| pool.hook(mem.clone())).unwrap();
            let buffer = MutableBuffer::zeroed(100, &default_memory_pool()).unwrap();
            assert_eq!(
                (object.take(), mem.take()),
                (vec!["malloc 64".to_owned()], vec!["calloc 100".to_owned()])
            );
            drop((early, buffer));
            // The block that was made before the hook is not the hook's.
            assert_eq!(object.take(), ["free"]);
            mem.take();
            let (small, large) = (Domain::Object.malloc(512), Domain::Object.malloc(513));
            assert_eq!(object.take(), ["malloc 512", "malloc 513"]);
            assert_eq!(mem.take(), ["malloc 513"]);
            // SAFETY: live blocks.
            unsafe {
                Domain::Object.free(small);
                Domain::Object.free(large);
            }
            assert_eq!((object.take().len(), mem.take().len()), (2, 1));
            // A request that the domain refuses is an error, and the buffer's memory goes back.
            #[derive(Debug)]
            struct Refuses;
            impl Hook for Refuses {
                fn before(&self, _: &Request, pool: &Pool) -> offheap::Result<()> {
                    Err(offheap::Error::new(offheap::ErrorKind::OutOfMemory {
                        requested: 64,
                        limit: None,
                        allocated: 0,
                        pool: pool.name().to_owned(),
                    }))
                }
            }
            Domain::Object
                .wrap(|pool| pool.hook(Arc::new(Refuses)))
                .unwrap();
            let pool = default_memory_pool().proxy();
            assert!(
                MutableBuffer::zeroed(100, &pool)
                    .unwrap_err()
                    .is_out_of_memory()
            );
            assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
        },
    );
}

/// Set when a thread panics, so that nobody waits for it.
struct Failed<'a>(&'a AtomicBool);

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Threads allocate, resize and free, also each other's blocks, while the allocators are wrapped,
/// unwrapped and replaced.
#[test]
fn allocators_are_replaced_while_threads_allocate() {
    alone(
        "domains::allocators_are_replaced_while_threads_allocate",
        || {
            let stop = AtomicBool::new(false);
            let passed = Mutex::new(Vec::<(Domain, usize, usize)>::new());
            let made = AtomicU64::new(0);
            let failed = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for seed in 0..3_usize {
                    let (stop, passed, made) = (&stop, &passed, &made);
                    let failing = Failed(&failed);
                    scope.spawn(move || {
                        let mut n = seed;
                        while !stop.load(Ordering::Relaxed) {
                            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            let domain = Domain::ALL[(n >> 33) % 3];
                            let size = 8 + (n >> 40) % 700;
                            // SAFETY: live blocks of the domain, of at least 8 bytes.
                            unsafe {
                                let block = domain.malloc(size);
                                block.write_bytes(seed as u8, size);
                                let block = domain.realloc(block, size + 100);
                                assert_eq!(block.add(size - 1).read(), seed as u8);
                                let mut passed = passed.lock().unwrap();
                                passed.push((domain, block.expose_provenance(), size));
                                let other = (passed.len() > 8).then(|| passed.swap_remove(n % 8));
                                drop(passed);
                                if let Some((domain, block, _)) = other {
                                    domain.free(std::ptr::with_exposed_provenance_mut(block));
                                }
                            }
                            drop(MutableBuffer::zeroed(size, &default_memory_pool()).unwrap());
                            made.fetch_add(1, Ordering::Relaxed);
                        }
                        std::mem::forget(failing);
                    });
                }
                let initial = Domain::ALL.map(Domain::allocator);
                let system = offheap::system_memory_pool().proxy();
                while made.load(Ordering::Relaxed) < 30_000 && !failed.load(Ordering::Relaxed) {
                    for (domain, initial) in Domain::ALL.into_iter().zip(&initial) {
                        domain
                            .wrap(|pool| pool.hook(Arc::new(Notes::default())))
                            .unwrap();
                        domain.set_allocator(&system).unwrap();
                        domain.wrap(|pool| pool.limit(1 << 40)).unwrap();
                        domain.set_allocator(initial).unwrap();
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
            for (domain, block, size) in passed.into_inner().unwrap() {
                let block = std::ptr::with_exposed_provenance_mut(block);
                // Small objects have room for a whole class of sizes.
                assert!(domain.block_size(block).unwrap() >= size + 100);
                // SAFETY: live blocks.
                unsafe { domain.free(block) };
            }
            assert_eq!(Domain::Mem.allocator().bytes_allocated(), 0);
            assert_eq!(Domain::Raw.allocator().live_allocations(), 0);
        },
    );
}

/// A hook may replace or remove itself, and use the domain, while it is called.
#[test]
fn a_hook_that_removes_itself_while_called() {
    alone("domains::a_hook_that_removes_itself_while_called", || {
        #[derive(Debug)]
        struct RemovesItself(Domain, Pool, AtomicU64);
        impl Hook for RemovesItself {
            fn before(&self, _: &Request, _: &Pool) -> offheap::Result<()> {
                self.2.fetch_add(1, Ordering::Relaxed);
                self.0.set_allocator(&self.1)?;
                let block = self.0.malloc(10);
                // SAFETY: live.
                unsafe { self.0.free(block) };
                Ok(())
            }
        }
        for domain in Domain::ALL {
            let before = domain.allocator();
            let hook = Arc::new(RemovesItself(domain, before.clone(), AtomicU64::new(0)));
            domain.wrap(|pool| pool.hook(hook.clone())).unwrap();
            let block = domain.malloc(77);
            assert!(!block.is_null());
            assert_eq!(domain.allocator(), before);
            let second = domain.malloc(78);
            // SAFETY: live.
            unsafe {
                domain.free(second);
                domain.free(block);
            }
            assert_eq!(
                hook.2.load(Ordering::Relaxed),
                2,
                "{domain}: its malloc and that one's free"
            );
        }
    });
}

/// A free through the wrong domain, a second free and a foreign pointer are reported, and nothing is
/// freed.
#[test]
fn a_stray_free_is_reported_and_left_alone() {
    let name = "domains::a_stray_free_is_reported_and_left_alone";
    if !crate::alone::is_alone() {
        let output = crate::alone::run(name, &[]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        assert!(
            stderr.contains("allocated from domain 'raw', given back to domain 'mem'"),
            "{stderr}"
        );
        assert!(stderr.contains("no live block of domain 'mem'"), "{stderr}");
        assert_eq!(stderr.matches("left alone").count(), 4, "{stderr}");
        return;
    }
    let block = Domain::Raw.malloc(100);
    let other = Domain::Mem.malloc(100);
    let mut local = [0_u8; 64];
    // SAFETY: not what the functions ask for, on purpose: they find out before they touch anything.
    unsafe {
        Domain::Mem.free(block);
        assert!(Domain::Mem.realloc(block, 10).is_null());
        assert_eq!(Domain::Raw.block_size(block), Some(100));
        Domain::Raw.free(block);
        Domain::Mem.free(other);
        Domain::Mem.free(other);
        Domain::Object.free(local.as_mut_ptr());
    }
    assert_eq!(local, [0; 64]);
}

#[test]
fn the_object_pool_is_a_pool() {
    let pool = object_memory_pool().proxy();
    assert_eq!(pool.backend_name(), "object");
    for size in [1, 16, 64, 511, 512, 513, 5000] {
        let block = pool.allocate(size, Alignment::DEFAULT).unwrap();
        assert_eq!(block.addr().get() % 64, 0);
        // SAFETY: a live block of `size` bytes.
        unsafe {
            block.write_bytes(1, size);
            let block = pool
                .reallocate(block, size, size * 2, Alignment::DEFAULT)
                .unwrap();
            assert_eq!(block.add(size - 1).read(), 1);
            pool.free(block, size * 2, Alignment::DEFAULT);
        }
    }
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn names_and_letters() {
    for (domain, name, letter) in [
        (Domain::Raw, "raw", 'r'),
        (Domain::Mem, "mem", 'm'),
        (Domain::Object, "object", 'o'),
    ] {
        assert_eq!(Domain::named(name).unwrap(), domain);
        assert_eq!((domain.name(), domain.letter()), (name, letter));
        assert_eq!(domain.to_string(), name);
    }
    assert_eq!(
        Domain::named("obj").unwrap_err().to_string(),
        "domain must be one of 'raw', 'mem', 'object', got 'obj'"
    );
}

/// The `object` pool takes its larger blocks from `mem`, whose allocator it is then; and a domain's
/// own pool takes all of them from there.
#[test]
fn a_domain_that_serves_itself_has_no_memory() {
    alone("domains::a_domain_that_serves_itself_has_no_memory", || {
        let before = default_memory_pool();
        for pool in [object_memory_pool().limit(1 << 20), Domain::Object.pool()] {
            set_default_memory_pool(&pool).unwrap();
            assert!(Domain::Mem.malloc(1000).is_null());
            let error = MutableBuffer::zeroed(1000, &default_memory_pool()).unwrap_err();
            assert!(error.is_out_of_memory());
            assert!(MutableBuffer::zeroed(100, &default_memory_pool()).is_ok());
            set_default_memory_pool(&before).unwrap();
        }
        for domain in Domain::ALL {
            let own = domain.allocator();
            domain.set_allocator(&domain.pool().proxy()).unwrap();
            assert!(domain.malloc(10).is_null(), "{domain}");
            domain.set_allocator(&own).unwrap();
            let block = domain.malloc(10);
            assert!(!block.is_null(), "{domain}");
            // SAFETY: the block just allocated.
            unsafe { domain.free(block) };
        }
    });
}

/// Whoever comes off first lies under the other, and goes with it.
#[test]
fn hooks_over_domains_come_off_in_any_order() {
    alone("domains::hooks_over_domains_come_off_in_any_order", || {
        let over = |_| {
            let notes = Arc::new(Notes::default());
            let hooked = HookedDomains::new(&Domain::ALL, "notes", |_| notes.clone()).unwrap();
            (notes, Some(hooked))
        };
        let before = Domain::ALL.map(Domain::allocator);
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut hooks = [0, 1, 2].map(over);
            for i in order {
                drop(hooks[i].1.take());
            }
            assert_eq!(Domain::ALL.map(Domain::allocator), before, "{order:?}");
            // SAFETY: the block just allocated.
            unsafe { Domain::Raw.free(Domain::Raw.malloc(10)) };
            assert!(hooks.iter().all(|(notes, _)| notes.take().is_empty()));
        }
    });
}

/// What is said on stderr never panics, neither in an allocation nor in a free.
#[cfg(target_os = "linux")]
#[test]
fn a_full_stderr_fails_no_request() {
    #[derive(Debug)]
    struct Panics;
    impl Hook for Panics {
        fn before(&self, _: &Request, _: &Pool) -> offheap::Result<()> {
            panic!("on purpose")
        }
    }
    alone("domains::a_full_stderr_fails_no_request", || {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&full);
        // SAFETY: both are open; this process is the test's alone.
        let saved = unsafe { libc::dup(2) };
        // SAFETY: as above.
        unsafe { libc::dup2(fd, 2) };
        let result = std::panic::catch_unwind(|| {
            let pool = default_memory_pool().hook(Arc::new(Panics));
            drop(MutableBuffer::zeroed(100, &pool).unwrap());
            let c = offheap::c_allocator_of(&pool);
            let mut local = 0_u64;
            // SAFETY: stray pointers are reported and left alone.
            unsafe {
                Domain::Raw.free((&raw mut local).cast());
                (c.free)(c.ctx, (&raw mut local).cast());
                (c.realloc)(c.ctx, (&raw mut local).cast(), 10)
            }
        });
        // SAFETY: as above.
        unsafe { libc::dup2(saved, 2) };
        assert!(result.unwrap().is_null());
    });
}

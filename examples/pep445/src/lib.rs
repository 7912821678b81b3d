//! The three use cases of PEP 445 in C (`c/`) and in Rust, each run by a test in a process of its
//! own: they replace the allocators of the whole process.

mod padding;

pub use padding::{Padded, PaddedArenas};

/// The Rust of the guides, as doc tests.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../docs/debugging.md")]
    mod debugging {}
    #[doc = include_str!("../../../docs/domains.md")]
    mod domains {}
}

#[cfg(test)]
mod tests {
    use super::{Padded, PaddedArenas};
    use offheap::domain::{ArenaAllocator, set_arena_allocator, small_object_statistics};
    use offheap::{Domain, Hook, MutableBuffer, Pool, Request, default_memory_pool};
    use std::ffi::{c_int, c_void};
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    unsafe extern "C" {
        fn setup_custom_allocators() -> c_int;
        fn use_case_1_live_blocks() -> usize;
        fn use_case_1_live_arenas() -> usize;
        fn override_every_allocator() -> c_int;
        fn use_case_2_live_blocks() -> usize;
        fn setup_hooks() -> c_int;
        fn remove_hooks() -> c_int;
        fn use_case_3_mallocs() -> usize;
        fn use_case_3_frees() -> usize;
    }

    /// Runs `body` in a process of its own: this test binary with one test.
    fn alone(name: &str, body: impl FnOnce()) {
        const MARK: &str = "PEP445_ALONE";
        if std::env::var_os(MARK).is_some() {
            return body();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--test-threads=1"])
            .env(MARK, "1")
            .env_remove("OFFHEAP_DEBUG_MEMORY_POOL")
            .env_remove("ARROW_DEBUG_MEMORY_POOL")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Every function of every domain, through C's names.
    fn use_every_domain() {
        use offheap::domain::c_abi::*;
        type Functions = (
            extern "C" fn(usize) -> *mut c_void,
            extern "C" fn(usize, usize) -> *mut c_void,
            unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
            unsafe extern "C" fn(*mut c_void),
        );
        let domains: [Functions; 3] = [
            (
                offheap_raw_malloc,
                offheap_raw_calloc,
                offheap_raw_realloc,
                offheap_raw_free,
            ),
            (
                offheap_mem_malloc,
                offheap_mem_calloc,
                offheap_mem_realloc,
                offheap_mem_free,
            ),
            (
                offheap_object_malloc,
                offheap_object_calloc,
                offheap_object_realloc,
                offheap_object_free,
            ),
        ];
        for (malloc, calloc, realloc, free) in domains {
            // SAFETY: live blocks of the domain, written within what was asked for.
            unsafe {
                let a = malloc(42).cast::<u8>();
                a.write_bytes(7, 42);
                let a = realloc(a.cast(), 2000).cast::<u8>();
                assert_eq!(a.add(41).read(), 7);
                free(a.cast());
                let b = calloc(2, 5).cast::<u8>();
                assert_eq!(b.add(9).read(), 0);
                free(b.cast());
                free(std::ptr::null_mut());
            }
        }
        // Buffers go through `mem`, their control blocks through `object`.
        drop(MutableBuffer::zeroed(1000, &default_memory_pool()).unwrap());
    }

    #[test]
    fn use_case_1() {
        alone("tests::use_case_1", || {
            // SAFETY: C functions without preconditions.
            unsafe {
                assert_eq!(setup_custom_allocators(), 0);
                // More than one arena has room for: debug hooks add guards, and what is over 512
                // bytes with them comes from `mem`.
                let blocks: Vec<_> = (0..4000).map(|_| Domain::Object.malloc(200)).collect();
                assert!(use_case_1_live_arenas() >= 2);
                for block in blocks {
                    Domain::Object.free(block);
                }
                let before = use_case_1_live_blocks();
                let kept = Domain::Mem.malloc(10);
                assert_eq!(use_case_1_live_blocks(), before + 1);
                Domain::Mem.free(kept);
                use_every_domain();
            }
        });
    }

    #[test]
    fn use_case_2() {
        alone("tests::use_case_2", || {
            // SAFETY: C functions without preconditions.
            unsafe {
                assert_eq!(override_every_allocator(), 0);
                let kept = Domain::ALL.map(|domain| domain.malloc(10));
                assert_eq!(use_case_2_live_blocks(), 3);
                for (domain, block) in Domain::ALL.into_iter().zip(kept) {
                    domain.free(block);
                }
                use_every_domain();
            }
        });
    }

    #[test]
    fn use_case_3() {
        alone("tests::use_case_3", || {
            // SAFETY: C functions without preconditions.
            unsafe {
                let initial = Domain::ALL.map(Domain::allocator);
                assert_eq!(setup_hooks(), 0);
                assert_eq!(setup_hooks(), 0);
                use_every_domain();
                // Two requests a domain, of which the large one of `object` also reaches `mem`, and a
                // buffer with its control block.
                let seen = (use_case_3_mallocs(), use_case_3_frees());
                assert!(seen.0 >= 8 && seen.1 >= 8, "{seen:?}");
                // What was got can be set again: that restores what was there.
                assert_eq!(remove_hooks(), 0);
                assert_eq!(Domain::ALL.map(Domain::allocator), initial);
                use_every_domain();
                assert_eq!((use_case_3_mallocs(), use_case_3_frees()), seen);
                assert_eq!(default_memory_pool().bytes_allocated(), 0);
            }
        });
    }

    /// Use case 1 in Rust: 2 bytes per allocation of `raw` and `mem`, 10 bytes per arena.
    #[test]
    fn use_case_1_in_rust() {
        alone("tests::use_case_1_in_rust", || {
            let wasted = Domain::Raw.allocator().proxy();
            for domain in [Domain::Raw, Domain::Mem] {
                let padded = Padded {
                    upstream: wasted.clone(),
                    padding: 2,
                };
                domain.set_allocator(&Pool::custom(padded)).unwrap();
            }
            let arenas = wasted.proxy();
            set_arena_allocator(ArenaAllocator::from_source(PaddedArenas {
                pool: arenas.clone(),
                padding: 10,
            }));
            let block = Domain::Mem.malloc(42);
            assert_eq!(Domain::Mem.allocator().bytes_allocated(), 42);
            assert_eq!(wasted.bytes_allocated(), 44);
            let small: Vec<_> = (0..2000).map(|_| Domain::Object.malloc(500)).collect();
            let made = arenas.live_allocations();
            assert!(made >= 2 && small_object_statistics().arenas as u64 >= made);
            assert_eq!(arenas.bytes_allocated(), made * ((256 << 10) + 10));
            // SAFETY: live blocks of their domains.
            unsafe {
                Domain::Mem.free(block);
                small
                    .into_iter()
                    .for_each(|block| Domain::Object.free(block));
            }
            use_every_domain();
        });
    }

    /// Use case 3 in Rust: hooks over everything, which pass requests on by themselves.
    #[test]
    fn use_case_3_in_rust() {
        #[derive(Debug, Default)]
        struct Counts(AtomicUsize);
        impl Hook for Counts {
            fn before(&self, _: &Request, _: &Pool) -> offheap::Result<()> {
                self.0.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
        alone("tests::use_case_3_in_rust", || {
            let counts = Arc::new(Counts::default());
            let before = Domain::ALL.map(Domain::allocator);
            for domain in Domain::ALL {
                domain.wrap(|pool| pool.hook(counts.clone())).unwrap();
            }
            use_every_domain();
            let seen = counts.0.load(Ordering::Relaxed);
            assert!(seen >= 3 * 5, "{seen}");
            for (domain, allocator) in Domain::ALL.into_iter().zip(&before) {
                domain.set_allocator(allocator).unwrap();
            }
            use_every_domain();
            assert_eq!(counts.0.load(Ordering::Relaxed), seen);
        });
    }

    #[test]
    fn misuse_is_refused() {
        use offheap::domain::c_abi::*;
        use std::ptr::{null, null_mut};
        // SAFETY: null pointers and a struct of null functions are refused before they are used.
        unsafe {
            assert_eq!(offheap_get_allocator(c_int::from(b'm'), null_mut()), -1);
            assert_eq!(offheap_set_allocator(c_int::from(b'm'), null()), -1);
            assert_eq!(offheap_get_arena_allocator(null_mut()), -1);
            assert_eq!(offheap_set_arena_allocator(null()), -1);
            let empty = [0_usize; 5];
            for domain in [b'r', b'm', b'o', b'x', 0] {
                assert_eq!(
                    offheap_set_allocator(c_int::from(domain), empty.as_ptr().cast()),
                    -1
                );
            }
            assert_eq!(offheap_set_arena_allocator(empty.as_ptr().cast()), -1);
        }
    }
}

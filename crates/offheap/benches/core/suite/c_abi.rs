//! The functions of `offheap.h`, called by their addresses in the shared library that
//! `OFFHEAP_C_LIBRARY` names (the addon exports them): what a C program pays, thread-local storage of a
//! shared library included.

use super::measure::{Extra, Plan, entry};
use std::ffi::{CStr, CString, c_void};
use std::hint::black_box;

type Malloc = unsafe extern "C" fn(usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);

/// The functions of one domain.
#[derive(Clone, Copy)]
struct Domain {
    malloc: Malloc,
    free: Free,
}

impl Domain {
    /// Looks two functions up in a library.
    fn open(library: *mut c_void, malloc: &CStr, free: &CStr) -> Option<Self> {
        // SAFETY: `library` is open, the names end with a zero byte.
        let (malloc, free) = unsafe {
            (
                libc::dlsym(library, malloc.as_ptr()),
                libc::dlsym(library, free.as_ptr()),
            )
        };
        if malloc.is_null() || free.is_null() {
            return None;
        }
        // SAFETY: offheap.h declares both functions with these types.
        Some(unsafe {
            Self {
                malloc: std::mem::transmute::<*mut c_void, Malloc>(malloc),
                free: std::mem::transmute::<*mut c_void, Free>(free),
            }
        })
    }

    fn pairs(self, size: usize, n: usize) {
        let Self { malloc, free } = black_box(self);
        for _ in 0..n {
            // SAFETY: any size may be asked for; the block is freed once.
            unsafe { free(black_box(malloc(size))) };
        }
    }
}

pub(crate) fn c_abi(plan: &Plan, _: &[Extra]) {
    let Some(path) = std::env::var_os("OFFHEAP_C_LIBRARY") else {
        eprintln!("c-abi: OFFHEAP_C_LIBRARY names no library");
        return;
    };
    let path = CString::new(path.into_encoded_bytes()).expect("a path has no zero byte");
    // SAFETY: the library's initialisers are offheap's.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        eprintln!("c-abi: {} does not load", path.to_string_lossy());
        return;
    }
    let domains = [
        ("mem", c"offheap_mem_malloc", c"offheap_mem_free"),
        ("object", c"offheap_object_malloc", c"offheap_object_free"),
    ];
    for (name, malloc, free) in domains {
        let Some(domain) = Domain::open(library, malloc, free) else {
            eprintln!("c-abi: the library has no {}", malloc.to_string_lossy());
            continue;
        };
        for threads in [1, 2] {
            for size in [64, 4096] {
                if name == "object" && size > 512 {
                    continue;
                }
                let entries = [entry("offheap", move |n| domain.pairs(size, n))];
                plan.compare(&format!("c-abi {name}"), size, threads, &entries);
            }
        }
    }
}

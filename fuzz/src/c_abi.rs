//! Programs over `offheap.h`: domains, their allocators and arenas, with a model of every block.

use crate::{check, fill, size};
use arbitrary::Unstructured;
use offheap::domain::c_abi::*;
use offheap::{CAllocator, Domain};
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

type Malloc = extern "C" fn(usize) -> *mut c_void;
type Calloc = extern "C" fn(usize, usize) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);

const FUNCTIONS: [(Malloc, Calloc, Realloc, Free); 3] = [
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
const LETTERS: [u8; 3] = *b"rmo";

/// What the process began with, to be put back; kept for ever, as C code would.
struct Initial {
    allocators: [CAllocator; 3],
    hooks: [CAllocator; 3],
    arenas: CArenaAllocator,
}
// SAFETY: the contexts are handles of offheap that any thread may use, or statics of this file.
unsafe impl Send for Initial {}
// SAFETY: as above.
unsafe impl Sync for Initial {}

fn get(domain: usize) -> CAllocator {
    let mut allocator = std::mem::MaybeUninit::uninit();
    // SAFETY: room for the struct, which is written when the call says 0.
    unsafe {
        assert_eq!(
            offheap_get_allocator(c_int::from(LETTERS[domain]), allocator.as_mut_ptr()),
            0
        );
        allocator.assume_init()
    }
}

// A C hook that passes every request on to the allocator in its context.
unsafe extern "C" fn hook_malloc(ctx: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the context is an allocator that lives for ever.
    unsafe {
        let inner = &*ctx.cast::<CAllocator>();
        (inner.malloc)(inner.ctx, size)
    }
}
unsafe extern "C" fn hook_calloc(ctx: *mut c_void, count: usize, size: usize) -> *mut c_void {
    // SAFETY: as above.
    unsafe {
        let inner = &*ctx.cast::<CAllocator>();
        (inner.calloc)(inner.ctx, count, size)
    }
}
unsafe extern "C" fn hook_realloc(ctx: *mut c_void, ptr: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: as above.
    unsafe {
        let inner = &*ctx.cast::<CAllocator>();
        (inner.realloc)(inner.ctx, ptr, size)
    }
}
unsafe extern "C" fn hook_free(ctx: *mut c_void, ptr: *mut c_void) {
    // SAFETY: as above.
    unsafe {
        let inner = &*ctx.cast::<CAllocator>();
        (inner.free)(inner.ctx, ptr)
    }
}

// Arenas that are never aligned, and that there are none of when the context is null.
unsafe extern "C" fn arena_alloc(ctx: *mut c_void, size: usize) -> *mut c_void {
    if ctx.is_null() {
        return ctx;
    }
    // SAFETY: malloc has no preconditions; 16 bytes more are asked for than are skipped.
    unsafe {
        let block = libc::malloc(size + 16).cast::<u8>();
        if block.is_null() {
            block.cast()
        } else {
            block.add(16).cast()
        }
    }
}
unsafe extern "C" fn arena_free(_ctx: *mut c_void, ptr: *mut c_void, _size: usize) {
    // SAFETY: an arena of `arena_alloc`.
    unsafe { libc::free(ptr.cast::<u8>().sub(16).cast()) };
}

fn initial() -> &'static Initial {
    static INITIAL: OnceLock<Initial> = OnceLock::new();
    INITIAL.get_or_init(|| {
        let allocators = [get(0), get(1), get(2)];
        let hooks = allocators.map(|inner| CAllocator {
            ctx: std::ptr::from_mut(Box::leak(Box::new(inner))).cast(),
            malloc: hook_malloc,
            calloc: hook_calloc,
            realloc: hook_realloc,
            free: hook_free,
        });
        let mut arenas = std::mem::MaybeUninit::uninit();
        // SAFETY: room for the struct, which is written when the call says 0.
        let arenas = unsafe {
            assert_eq!(offheap_get_arena_allocator(arenas.as_mut_ptr()), 0);
            arenas.assume_init()
        };
        Initial {
            allocators,
            hooks,
            arenas,
        }
    })
}

fn set(domain: usize, allocator: &CAllocator) {
    // SAFETY: allocators of `initial`, whose functions keep the contract.
    assert_eq!(
        unsafe { offheap_set_allocator(c_int::from(LETTERS[domain]), allocator) },
        0
    );
}

fn set_arenas(arenas: &CArenaAllocator) {
    // SAFETY: the process's own arena allocator, or the functions above.
    assert_eq!(unsafe { offheap_set_arena_allocator(arenas) }, 0);
}

#[derive(Clone, Copy)]
struct Block {
    domain: usize,
    ptr: *mut u8,
    size: usize,
    seed: u8,
}

impl Block {
    fn check(&self) {
        assert_eq!(self.ptr.addr() % 16, 0);
        // SAFETY: a live block of as many bytes, filled by the model.
        unsafe { check(self.ptr, self.size, self.seed) };
    }

    fn free(self) {
        self.check();
        // SAFETY: a live block of the domain, which nobody uses any more.
        unsafe { FUNCTIONS[self.domain].3(self.ptr.cast()) };
    }
}

fn run(u: &mut Unstructured<'_>, live: &mut Vec<Block>) -> arbitrary::Result<()> {
    let initial = initial();
    let mut seed = 0_u8;
    while !u.is_empty() && live.len() < 500 {
        seed = seed.wrapping_add(1);
        let domain = u.int_in_range(0..=2)?;
        let (malloc, calloc, realloc, free) = FUNCTIONS[domain];
        match u.int_in_range(0..=15)? {
            0..=3 => {
                let size = size(u)?;
                let ptr = malloc(size).cast::<u8>();
                if !ptr.is_null() {
                    // SAFETY: a new block of `size` bytes.
                    unsafe { fill(ptr, size, seed) };
                    live.push(Block {
                        domain,
                        ptr,
                        size,
                        seed,
                    });
                }
            }
            4 | 5 => {
                let (count, each) = (u.int_in_range(0..=40)?, size(u)?);
                let ptr = calloc(count, each).cast::<u8>();
                if ptr.is_null() {
                    continue;
                }
                let size = count * each;
                // SAFETY: a new block of `size` bytes.
                unsafe {
                    assert!(
                        std::slice::from_raw_parts(ptr, size)
                            .iter()
                            .all(|byte| *byte == 0)
                    );
                    fill(ptr, size, seed);
                }
                live.push(Block {
                    domain,
                    ptr,
                    size,
                    seed,
                });
            }
            6..=8 if !live.is_empty() => {
                let index = u.choose_index(live.len())?;
                let new_size = size(u)?;
                let block = live[index];
                // SAFETY: a live block of its domain, which nobody uses meanwhile.
                let ptr =
                    unsafe { FUNCTIONS[block.domain].2(block.ptr.cast(), new_size) }.cast::<u8>();
                if ptr.is_null() {
                    block.check();
                    continue;
                }
                // SAFETY: the first bytes were kept; then the block is filled anew.
                unsafe {
                    check(ptr, block.size.min(new_size), block.seed);
                    fill(ptr, new_size, seed);
                }
                live[index] = Block {
                    domain: block.domain,
                    ptr,
                    size: new_size,
                    seed,
                };
            }
            9..=11 if !live.is_empty() => live.swap_remove(u.choose_index(live.len())?).free(),
            // Seldom: each report takes the stack into words.
            12 if u.int_in_range(0..=31)? == 0 => {
                // What is no block of the domain is left alone: a static, and, where that can be told, a
                // block of another domain (`object` cannot tell its own large ones from `mem`'s).
                static OTHER: [u64; 4] = [7; 4];
                // SAFETY: not what the functions ask for: they find out before they touch anything.
                unsafe {
                    free(std::ptr::from_ref(&OTHER).cast_mut().cast());
                    assert!(realloc(std::ptr::from_ref(&OTHER).cast_mut().cast(), 10).is_null());
                    free(std::ptr::null_mut());
                }
                if let Some(block) = live
                    .iter()
                    .find(|block| domain < 2 && block.domain == 1 - domain)
                {
                    // SAFETY: as above.
                    unsafe { free(block.ptr.cast()) };
                    block.check();
                }
                assert_eq!(OTHER, [7; 4]);
            }
            13 => {
                let hook = &initial.hooks[domain];
                set(
                    domain,
                    if u.arbitrary()? {
                        hook
                    } else {
                        &initial.allocators[domain]
                    },
                );
            }
            14 => {
                let limit = Domain::ALL[domain]
                    .allocator()
                    .limit(u.int_in_range(0..=100_000)?);
                if domain != 2 {
                    Domain::ALL[domain].set_allocator(&limit).unwrap();
                }
            }
            15 => set_arenas(&match u.int_in_range(0..=2)? {
                0 => initial.arenas,
                kind => CArenaAllocator {
                    ctx: std::ptr::without_provenance_mut(kind - 1),
                    alloc: Some(arena_alloc),
                    free: Some(arena_free),
                },
            }),
            _ => {}
        }
    }
    Ok(())
}

/// Runs a program over the C functions; at its end every block goes back, and the allocators count
/// nothing more than before.
pub fn c_abi(data: &[u8]) {
    let initial = initial();
    let before = Domain::ALL.map(|domain| domain.allocator().live_allocations());
    let mut live = Vec::new();
    // An input that ends early is a shorter program.
    let _ = run(&mut Unstructured::new(data), &mut live);
    for domain in 0..3 {
        set(domain, &initial.allocators[domain]);
    }
    set_arenas(&initial.arenas);
    for block in live {
        block.free();
    }
    assert_eq!(
        Domain::ALL.map(|domain| domain.allocator().live_allocations()),
        before
    );
}

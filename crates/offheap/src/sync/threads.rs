//! Who must hear that a thread ends: the accounts in which it holds a shard.
//!
//! A thread keeps the numbers of its accounts, and the process a table of the accounts that live: so
//! an account may end first, and no thread holds its memory.

use super::thread_key;
use crate::domain::{AddressMap, Unhooked};
use allocator_api2::vec::Vec;
use std::cell::RefCell;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Somebody who is told.
#[derive(Clone, Copy)]
struct Subject {
    address: *const (),
    /// Told of a thread's key.
    end: unsafe fn(*const (), usize),
}

// SAFETY: the address is only used under the registry's lock, by `end`, which may be called from any
// thread.
unsafe impl Send for Subject {}

struct Registry {
    last: u64,
    live: AddressMap<u64, Subject>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    last: 0,
    live: AddressMap::with_hasher_in(BuildHasherDefault::new(), Unhooked),
});

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The subjects of one thread.
struct Claims(Vec<u64, Unhooked>);

thread_local! {
    static CLAIMS: RefCell<Claims> = const { RefCell::new(Claims(Vec::new_in(Unhooked))) };
}

impl Drop for Claims {
    fn drop(&mut self) {
        let key = thread_key();
        let registry = registry();
        for id in &self.0 {
            if let Some(subject) = registry.live.get(id) {
                // SAFETY: a subject that is listed lives, and stays while the lock is held.
                unsafe { (subject.end)(subject.address, key) };
            }
        }
    }
}

/// Has the end of this thread told to a subject. `false` when the thread has ended already, or there
/// is no memory for it.
///
/// # Safety
/// - `end(address, key)` may be called, from this thread, until [`leave`] is called with what `id` is
///   then;
/// - `end` neither asks a pool for memory nor calls this module.
pub(crate) unsafe fn enter(
    id: &AtomicU64,
    address: *const (),
    end: unsafe fn(*const (), usize),
) -> bool {
    CLAIMS
        .try_with(|claims| {
            let Ok(mut claims) = claims.try_borrow_mut() else {
                return false;
            };
            let claims = &mut claims.0;
            let mut registry = registry();
            if claims.len() == claims.capacity() {
                // Those that ended first.
                claims.retain(|id| registry.live.contains_key(id));
                let more = claims.len().max(32);
                if claims.try_reserve(more).is_err() {
                    return false;
                }
            }
            let mut number = id.load(Ordering::Relaxed);
            if number == 0 {
                if registry.live.try_reserve(1).is_err() {
                    return false;
                }
                registry.last += 1;
                number = registry.last;
                registry.live.insert(number, Subject { address, end });
                id.store(number, Ordering::Relaxed);
            }
            claims.push(number);
            true
        })
        .unwrap_or(false)
}

/// The subject ends: nobody tells it any more once this returns.
pub(crate) fn leave(id: &AtomicU64) {
    // Whoever ends it has seen what every thread did with it.
    if id.load(Ordering::Relaxed) != 0 {
        let number = id.swap(0, Ordering::Relaxed);
        registry().live.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Told {
        id: AtomicU64,
        count: AtomicUsize,
        key: AtomicUsize,
    }

    impl Told {
        const fn new() -> Self {
            Self {
                id: AtomicU64::new(0),
                count: AtomicUsize::new(0),
                key: AtomicUsize::new(0),
            }
        }

        fn enter(&self) -> bool {
            unsafe fn end(told: *const (), key: usize) {
                // SAFETY: `leave` is called before the subject ends.
                let told = unsafe { &*told.cast::<Told>() };
                told.count.fetch_add(1, Ordering::Relaxed);
                told.key.store(key, Ordering::Relaxed);
            }
            // SAFETY: as above; `end` does nothing but count.
            unsafe { enter(&self.id, std::ptr::from_ref(self).cast(), end) }
        }
    }

    #[test]
    fn a_threads_end_is_told_to_those_that_live() {
        let (stays, goes) = (Told::new(), Told::new());
        let key = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                assert!(stays.enter() && goes.enter());
                leave(&goes.id);
                for _ in 0..1000 {
                    let brief = Told::new();
                    assert!(brief.enter());
                    leave(&brief.id);
                }
                assert!(CLAIMS.with(|claims| claims.borrow().0.capacity() < 200));
                thread_key()
            });
            thread.join().unwrap()
        });
        assert_eq!(stays.count.load(Ordering::Relaxed), 1);
        assert_eq!(stays.key.load(Ordering::Relaxed), key);
        assert_eq!(goes.count.load(Ordering::Relaxed), 0);
        leave(&stays.id);
    }
}

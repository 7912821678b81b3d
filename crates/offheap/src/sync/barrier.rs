//! A barrier that costs only the thread that seldom needs it.
//!
//! An owner writes a word of its own and reads one of everybody's; whoever changes the latter must see
//! the former. Both need a full barrier, but Linux and Windows let one thread run it in all others, so
//! the owner needs none. Elsewhere both pay.

use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

/// Whether [`heavy`] reaches every thread. Owners pay until it is known.
static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

/// Whether owners pay nothing.
#[inline(always)]
pub(crate) fn is_asymmetric() -> bool {
    ASYMMETRIC.load(Ordering::Relaxed)
}

/// The owner's side: what it wrote before is seen before what it reads next, as far as a thread that
/// runs [`heavy`] in between can tell.
#[inline(always)]
pub(crate) fn light() {
    if is_asymmetric() {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// As [`light`], but nothing at all where it would cost.
#[inline(always)]
pub(crate) fn light_if_asymmetric() {
    compiler_fence(Ordering::SeqCst);
}

/// The other side. `false` when the system refused: then nothing is known.
pub(crate) fn heavy() -> bool {
    fence(Ordering::SeqCst);
    let done = !is_asymmetric() || system::barrier();
    fence(Ordering::SeqCst);
    done
}

/// Finds out whether the system can, once.
pub(crate) fn prepare() {
    static PREPARED: std::sync::Once = std::sync::Once::new();
    PREPARED.call_once(|| {
        if system::register() {
            ASYMMETRIC.store(true, Ordering::SeqCst);
        }
    });
}

#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
mod system {
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the call takes two numbers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0 as libc::c_int) == 0 }
    }

    pub(super) fn register() -> bool {
        membarrier(REGISTER_PRIVATE_EXPEDITED) && membarrier(PRIVATE_EXPEDITED)
    }

    pub(super) fn barrier() -> bool {
        // A child has its parent's registration; one that lost it registers anew.
        membarrier(PRIVATE_EXPEDITED) || register()
    }
}

#[cfg(all(windows, not(miri)))]
mod system {
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn FlushProcessWriteBuffers();
    }

    pub(super) fn register() -> bool {
        true
    }

    pub(super) fn barrier() -> bool {
        // SAFETY: the call has no preconditions.
        unsafe { FlushProcessWriteBuffers() };
        true
    }
}

#[cfg(any(miri, not(any(target_os = "linux", target_os = "android", windows))))]
mod system {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn barrier() -> bool {
        true
    }
}

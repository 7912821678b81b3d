//! What an external ArrayBuffer's finalizer holds.

use crate::events::Events;
use offheap::{Block, Notice, ParkedBlock, origin};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The bytes that wait in one environment.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Bytes parked.
    bytes: AtomicU64,
    /// Of these, bytes whose pages were not given back.
    resident: AtomicU64,
    /// Whether a finalizer left a claim to the parking since that was last swept clean.
    orphans: AtomicBool,
    events: OnceLock<Arc<Events>>,
}

impl Waiting {
    /// Those of the environment with this queue.
    pub(crate) fn of(events: &Arc<Events>) -> Arc<Self> {
        Arc::new(Self {
            events: OnceLock::from(Arc::clone(events)),
            ..Self::default()
        })
    }

    /// To be called at the end of work that no call from JavaScript stands for, a finalizer's: what
    /// it freed has no JavaScript stack. Where finalizers run inside of a call (Bun, Deno) the call
    /// goes on with what is its own. On any thread.
    pub(crate) fn end_of_work(&self) {
        if self.events.get().is_none_or(|events| !events.is_in_call()) {
            origin::drop_pending();
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    pub(crate) fn has_orphans(&self) -> bool {
        self.orphans.load(Ordering::Relaxed)
    }

    pub(crate) fn set_orphans(&self, any: bool) {
        self.orphans.store(any, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Hold {
    /// The memory was given back; the ArrayBuffer is detached or gone.
    Empty,
    /// The view is in use.
    Live(Block),
    /// The handle was disposed while work may be in flight.
    Parked { block: ParkedBlock, resident: u64 },
}

/// One external ArrayBuffer's claim on its block. Taken once: by dispose, by the event loop when it
/// is idle, or by the ArrayBuffer's finalizer, whichever comes first.
///
/// The finalizer may run on another thread (Deno) and inside of the detach call (Bun, Deno): it
/// touches nothing but this.
#[derive(Debug)]
pub(crate) struct Slot {
    hold: Mutex<Hold>,
    address: usize,
    length: usize,
    waiting: Arc<Waiting>,
    /// A weak reference to the ArrayBuffer, while the slot is [watched](Self::watch).
    watched: AtomicPtr<napi::sys::napi_ref__>,
    /// Whether the finalizer left the claim to the parking.
    orphan: AtomicBool,
}

impl Slot {
    pub(crate) fn new(block: Block, address: usize, length: usize, waiting: &Arc<Waiting>) -> Self {
        Self {
            hold: Mutex::new(Hold::Live(block)),
            address,
            length,
            waiting: Arc::clone(waiting),
            watched: AtomicPtr::new(ptr::null_mut()),
            orphan: AtomicBool::new(false),
        }
    }

    /// Lets the finalizer see by a weak reference whether the ArrayBuffer itself is gone, or only
    /// had its bytes moved (`transfer()`) while a request keeps it and their old address. Ended by
    /// null, before the reference is deleted. Only where finalizers run on the environment's thread.
    pub(crate) fn watch(&self, array_buffer: napi::sys::napi_ref) {
        self.watched.store(array_buffer, Ordering::Relaxed);
    }

    /// Whether the ArrayBuffer was moved and its bytes were given up, so that no finalizer will
    /// take the claim any more.
    pub(crate) fn is_orphan(&self) -> bool {
        self.orphan.load(Ordering::Relaxed)
    }

    /// Whether an ArrayBuffer with this pointer and length still shows the slot's memory: detached
    /// and transferred ones do not.
    pub(crate) fn shows(&self, ptr: *mut u8, length: usize) -> bool {
        ptr.addr() == self.address && length == self.length
    }

    fn swap(&self, new: Hold) -> Hold {
        std::mem::replace(&mut *self.lock(), new)
    }

    /// Gives the claim up. Idempotent.
    pub(crate) fn take(&self) {
        let old = self.swap(Hold::Empty);
        if let Hold::Parked { resident, .. } = &old {
            self.waiting
                .bytes
                .fetch_sub(self.length as u64, Ordering::Relaxed);
            self.waiting
                .resident
                .fetch_sub(*resident, Ordering::Relaxed);
        }
        // Outside of the lock: the last reference frees memory.
        drop(old);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops using the block but keeps its memory in place; false when the claim was given up
    /// before.
    pub(crate) fn park(&self) -> bool {
        let mut hold = self.lock();
        match std::mem::replace(&mut *hold, Hold::Empty) {
            Hold::Empty => false,
            Hold::Live(block) => {
                let length = self.length as u64;
                *hold = Hold::Parked {
                    block: block.park(),
                    resident: length,
                };
                self.waiting.bytes.fetch_add(length, Ordering::Relaxed);
                self.waiting.resident.fetch_add(length, Ordering::Relaxed);
                true
            }
            parked @ Hold::Parked { .. } => {
                *hold = parked;
                true
            }
        }
    }

    /// Hands the reference to a block in use out, so that the block can move. Give it back by
    /// [`put`](Self::put), or detach the ArrayBuffer before JavaScript runs again.
    pub(crate) fn lend(&self) -> Option<Block> {
        let mut hold = self.lock();
        match std::mem::replace(&mut *hold, Hold::Empty) {
            Hold::Live(block) => Some(block),
            other => {
                *hold = other;
                None
            }
        }
    }

    /// Takes a [lent](Self::lend) reference back.
    pub(crate) fn put(&self, block: Block) {
        drop(self.swap(Hold::Live(block)));
    }

    /// Tells debug hooks that nobody may use a parked block any more.
    pub(crate) fn notice_end(&self) {
        if let Hold::Parked { block, .. } = &*self.lock()
            && block.is_unused()
        {
            block.notice(Notice::Ended);
        }
    }

    /// Gives a parked block's pages back while its addresses stay reserved.
    pub(crate) fn discard_pages(&self) {
        let mut hold = self.lock();
        if let Hold::Parked { block, resident } = &mut *hold {
            let given_back = (block.discard_pages() as u64).min(*resident);
            *resident -= given_back;
            self.waiting
                .resident
                .fetch_sub(given_back, Ordering::Relaxed);
        }
    }

    /// Whether the claim was given up.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(*self.lock(), Hold::Empty)
    }

    /// Whether the slot holds a reference to a block in use.
    pub(crate) fn is_live(&self) -> bool {
        matches!(*self.lock(), Hold::Live(_))
    }
}

/// The finalizer of an external ArrayBuffer: `hint` is a slot from [`Arc::into_raw`].
pub(crate) unsafe extern "C" fn finalize_array_buffer(
    env: napi::sys::napi_env,
    _data: *mut c_void,
    hint: *mut c_void,
) {
    // SAFETY: every ArrayBuffer gets one count of its slot, and is finalized once.
    let slot = unsafe { Arc::from_raw(hint.cast::<Slot>()) };
    let watched = slot.watched.load(Ordering::Relaxed);
    // SAFETY: a slot is watched only where this is the environment's thread, and as long as the
    // reference exists.
    if !watched.is_null() && unsafe { exists(env, watched) } {
        slot.orphan.store(true, Ordering::Relaxed);
        slot.waiting.set_orphans(true);
    } else {
        slot.take();
    }
    slot.waiting.end_of_work();
}

/// Whether the object of a weak reference was not collected.
///
/// # Safety
/// - `env` is live, this is its thread, and `reference` is one of its own.
unsafe fn exists(env: napi::sys::napi_env, reference: napi::sys::napi_ref) -> bool {
    use napi::sys;
    let mut scope = ptr::null_mut();
    let mut value = ptr::null_mut();
    // SAFETY: the caller's promise, and out parameters.
    unsafe {
        if sys::napi_open_handle_scope(env, &raw mut scope) != sys::Status::napi_ok {
            return false;
        }
        sys::napi_get_reference_value(env, reference, &raw mut value);
        sys::napi_close_handle_scope(env, scope);
    }
    !value.is_null()
}

/// The same for a SharedArrayBuffer: any thread, no environment.
pub(crate) unsafe extern "C" fn finalize_shared(_data: *mut c_void, hint: *mut c_void) {
    // SAFETY: as above.
    let slot = unsafe { Arc::from_raw(hint.cast::<Slot>()) };
    slot.take();
}

//! Blocks that wait until nobody can have their address.
//!
//! Freed by whichever comes first: the event loop's check phase with nothing in flight (detach and
//! free), the collection of the ArrayBuffer (its finalizer takes the slot), the end of the
//! environment.

use crate::arguments::array_buffer;
use crate::slot::Slot;
use crate::uv::Check;
use napi::bindgen_prelude::Env;
use napi::sys;
use offheap::ParkedBlock;
use std::ptr;
use std::sync::Arc;

/// A weak reference to an ArrayBuffer.
#[derive(Debug)]
struct Weak(sys::napi_ref);

impl Weak {
    fn new(env: Env, value: sys::napi_value) -> Option<Self> {
        let mut reference = ptr::null_mut();
        // SAFETY: a live object of this environment; a count of 0 is a weak reference.
        let status = unsafe { sys::napi_create_reference(env.raw(), value, 0, &raw mut reference) };
        (status == sys::Status::napi_ok).then_some(Self(reference))
    }

    fn get(&self, env: Env) -> Option<sys::napi_value> {
        let mut value = ptr::null_mut();
        // SAFETY: the reference is live until `delete`; a handle scope is open.
        let status = unsafe { sys::napi_get_reference_value(env.raw(), self.0, &raw mut value) };
        (status == sys::Status::napi_ok && !value.is_null()).then_some(value)
    }

    fn delete(self, env: Env) {
        // SAFETY: the reference is live and given up here.
        unsafe { sys::napi_delete_reference(env.raw(), self.0) };
    }
}

#[derive(Debug)]
struct Entry {
    /// The view's claim; `None` when the ArrayBuffer was moved or detached by somebody else.
    slot: Option<Arc<Slot>>,
    array_buffer: Option<Weak>,
    /// The handle's own claim, in that case.
    #[expect(dead_code, reason = "only dropped")]
    own: Option<ParkedBlock>,
}

impl Entry {
    /// Whether nobody can have the address any more: the slot was taken, or the ArrayBuffer that
    /// was moved is gone.
    fn is_finished(&self, env: Env) -> bool {
        let is_gone = || {
            self.array_buffer
                .as_ref()
                .is_some_and(|weak| weak.get(env).is_none())
        };
        match &self.slot {
            Some(slot) => slot.is_empty() || (slot.is_orphan() && is_gone()),
            None => is_gone(),
        }
    }

    /// Whether no finalizer will end it.
    fn is_moved(&self) -> bool {
        self.slot.as_ref().is_none_or(|slot| slot.is_orphan())
    }

    fn end(self, env: Env) {
        if let Some(slot) = self.slot {
            slot.watch(ptr::null_mut());
            if slot.is_orphan() {
                slot.take();
            }
        }
        if let Some(weak) = self.array_buffer {
            weak.delete(env);
        }
    }
}

/// The blocks of one environment that wait.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    entries: Vec<Entry>,
    /// Entries whose end no finalizer tells.
    moved: usize,
    /// How many entries there must be before finished ones are looked for.
    sweep_at: usize,
    /// Disposals since the entries were last looked at.
    disposals: usize,
    pub(crate) check: Option<Check>,
    /// Whether the check phase frees what waits when nothing is in flight; else it only looks for
    /// moved ArrayBuffers that are gone.
    pub(crate) drains: bool,
}

/// Fewer entries than this are not worth a sweep.
const SWEEP_MIN: usize = 64;

impl Parking {
    /// Whether it is time to look at the entries where no check phase does: as often as there are
    /// entries, so that a disposal costs the same however many wait.
    pub(crate) fn is_retry_due(&mut self) -> bool {
        self.disposals += 1;
        let due = !self.entries.is_empty() && self.disposals >= self.entries.len();
        if due {
            self.disposals = 0;
        }
        due
    }

    fn push(&mut self, env: Env, entry: Entry) {
        if self.entries.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.sweep(env);
        }
        self.moved += usize::from(entry.is_moved());
        if self.drains || self.moved > 0 {
            self.start_check();
        }
        self.entries.push(entry);
    }

    /// Waits for a view that is still attached; `watch`: see [`Slot::watch`].
    pub(crate) fn add_view(
        &mut self,
        env: Env,
        slot: Arc<Slot>,
        value: sys::napi_value,
        watch: bool,
    ) {
        let array_buffer = Weak::new(env, value);
        if watch && let Some(weak) = &array_buffer {
            slot.watch(weak.0);
        }
        self.push(
            env,
            Entry {
                slot: Some(slot),
                array_buffer,
                own: None,
            },
        );
    }

    /// Waits for whoever has the old address of a moved ArrayBuffer.
    pub(crate) fn add_block(&mut self, env: Env, own: ParkedBlock, value: Option<sys::napi_value>) {
        let array_buffer = value.and_then(|value| Weak::new(env, value));
        self.push(
            env,
            Entry {
                slot: None,
                array_buffer,
                own: Some(own),
            },
        );
    }

    /// Has the check phase look at the entries, if there is one.
    pub(crate) fn start_check(&mut self) {
        if let Some(check) = &mut self.check {
            check.start();
        }
    }

    /// Drops the entries that others have finished: the slot was taken, or the moved ArrayBuffer is
    /// gone.
    pub(crate) fn sweep(&mut self, env: Env) {
        let mut index = 0;
        self.moved = 0;
        while index < self.entries.len() {
            let entry = &self.entries[index];
            if entry.is_finished(env) {
                self.entries.swap_remove(index).end(env);
            } else {
                self.moved += usize::from(entry.is_moved());
                index += 1;
            }
        }
        self.sweep_at = self.entries.len() * 2;
    }

    /// Whether there are entries whose end no finalizer tells.
    pub(crate) fn has_moved(&self) -> bool {
        self.moved > 0
    }

    /// While nothing can be drained: drops the entries whose moved ArrayBuffers are gone. True when
    /// none is left whose end no finalizer tells; where only the collection tells, the check phase
    /// has then nothing more to do.
    pub(crate) fn sweep_moved(&mut self, env: Env) -> bool {
        self.sweep(env);
        if !self.drains
            && self.moved == 0
            && let Some(check) = &mut self.check
        {
            check.stop();
        }
        self.moved == 0
    }

    /// Takes the entries out, to be finished while nothing is in flight.
    fn take(&mut self) -> Vec<Entry> {
        self.sweep_at = 0;
        self.moved = 0;
        std::mem::take(&mut self.entries)
    }
}

/// Finishes every waiting block: to be called when nothing is in flight. A runtime that refuses a
/// detach (Bun) keeps that entry waiting. `parking` is borrowed only between calls into the runtime,
/// whose finalizers may run inside of a detach.
pub(crate) fn drain(env: Env, parking: &std::cell::RefCell<Parking>) {
    let entries = parking.borrow_mut().take();
    let mut kept = Vec::new();
    for entry in entries {
        if let (Some(slot), Some(weak)) = (&entry.slot, &entry.array_buffer)
            && let Some(value) = weak.get(env)
            && let Some((data, length)) = array_buffer(env, value)
            && slot.shows(data, length)
        {
            if detach(env, value) {
                slot.take();
            } else {
                kept.push(entry);
                continue;
            }
        }
        // Otherwise the ArrayBuffer is gone or was moved: its finalizer has the slot, or left it.
        entry.end(env);
    }
    let mut parking = parking.borrow_mut();
    parking.entries.append(&mut kept);
    if parking.entries.is_empty()
        && let Some(check) = &mut parking.check
    {
        check.stop();
    }
}

/// Lets everything go at the end of the environment.
pub(crate) fn clear(env: Env, parking: &std::cell::RefCell<Parking>) {
    let (entries, check) = {
        let mut parking = parking.borrow_mut();
        (parking.take(), parking.check.take())
    };
    drop(check);
    for entry in entries {
        entry.end(env);
    }
}

/// Detaches an ArrayBuffer; false when the runtime refuses.
pub(crate) fn detach(env: Env, value: sys::napi_value) -> bool {
    // SAFETY: a live ArrayBuffer of this environment; anything else is refused by status.
    let status = unsafe { sys::napi_detach_arraybuffer(env.raw(), value) };
    if status == sys::Status::napi_ok {
        return true;
    }
    let mut pending = false;
    let mut ignored = ptr::null_mut();
    // SAFETY: a live environment and out parameters; a refusal may leave an exception behind.
    unsafe {
        sys::napi_is_exception_pending(env.raw(), &raw mut pending);
        if pending {
            sys::napi_get_and_clear_last_exception(env.raw(), &raw mut ignored);
        }
    }
    false
}

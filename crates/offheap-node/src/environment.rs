//! What one JavaScript environment (the main thread, a worker) owns.

use crate::arguments::array_buffer;
use crate::collecting;
use crate::cuda::Cuda;
use crate::debugging;
use crate::errors::disposed;
use crate::events::Events;
use crate::failures::Failures;
use crate::gate::{Gate, event_loop, options};
use crate::handle::Handle;
use crate::instrument::Instrument;
use crate::parking::{self, Parking};
use crate::slab::Slab;
use crate::slot::Waiting;
use crate::uv::{self, Check, CreateSharedArrayBuffer};
use napi::bindgen_prelude::{Env, Error, Object, Result, Status, Unknown};
use napi::{JsValue, sys};
use napi_derive::napi;
use offheap::{Device, MemoryManager, Pool, ThreadCollector, origin};
use std::cell::{Cell, Ref, RefCell, RefMut};
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

/// How many words JavaScript and native code share for second results.
pub(crate) const WORDS: usize = 32;
/// The word in which the TypeScript layer says that views may be in use where nobody can see it
/// (an open http2 stream).
const HOLD_WORD: usize = 31;
/// The word that the TypeScript layer sets while a call runs after which it looks at the events.
const IN_CALL_WORD: usize = 30;
/// V8 is told of memory outside of its heap in steps of this many bytes.
const EXTERNAL_STEP: i64 = 1 << 20;
/// Parked bytes of an environment beyond this give their pages back.
const PARKED_BUDGET: u64 = 48 << 20;

/// One environment's state; only ever touched on its thread.
#[derive(Debug)]
pub(crate) struct Environment {
    env: sys::napi_env,
    words: *mut f64,
    make_error: Cell<sys::napi_ref>,
    handles: RefCell<Slab<Handle>>,
    pools: RefCell<Slab<Pool>>,
    devices: RefCell<Slab<Arc<dyn Device>>>,
    managers: RefCell<Slab<Arc<dyn MemoryManager>>>,
    pub(crate) gate: Gate,
    pub(crate) parking: RefCell<Parking>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) events: Arc<Events>,
    pub(crate) instrument: Instrument,
    pub(crate) failures: Failures,
    pub(crate) cuda: Cuda,
    /// Until the environment ends; `None` where the runtime has no way to wake its thread.
    collector: RefCell<Option<ThreadCollector>>,
    external: Cell<i64>,
    /// Whether parked views are [watched](crate::slot::Slot::watch). Node: Bun and Deno keep the
    /// bytes of a buffer that their own work uses, and Deno's finalizers run on any thread.
    pub(crate) watches_moves: bool,
    pub(crate) external_buffers: bool,
    pub(crate) max_view: usize,
    pub(crate) create_shared: Option<CreateSharedArrayBuffer>,
}

/// What this runtime can do.
#[derive(Debug)]
#[napi(object)]
pub struct NativeCapabilities {
    /// Whether views show native memory; otherwise they are copies.
    pub external_buffers: bool,
    /// Whether SharedArrayBuffers over native memory can be made.
    pub shared_buffers: bool,
    /// How dispose learns that nothing is in flight.
    #[napi(ts_type = "'idle' | 'detach' | 'collect'")]
    pub gate: String,
    /// The largest ArrayBuffer over native memory, in bytes.
    pub max_view_bytes: f64,
}

impl Environment {
    /// The state of the calling environment.
    #[inline]
    pub(crate) fn of<'a>(env: Env) -> Result<&'a Self> {
        let mut data = ptr::null_mut();
        // SAFETY: a live environment and an out parameter.
        let status = unsafe { sys::napi_get_instance_data(env.raw(), &raw mut data) };
        if status != sys::Status::napi_ok || data.is_null() {
            return Err(Error::new(
                Status::GenericFailure,
                "offheap: this environment was not configured",
            ));
        }
        // SAFETY: set by `configure`, freed by the environment's end, after which nothing calls.
        Ok(unsafe { &*data.cast::<Self>() })
    }

    pub(crate) fn handles(&self) -> Ref<'_, Slab<Handle>> {
        self.handles.borrow()
    }

    pub(crate) fn handles_mut(&self) -> RefMut<'_, Slab<Handle>> {
        self.handles.borrow_mut()
    }

    pub(crate) fn pools_mut(&self) -> RefMut<'_, Slab<Pool>> {
        self.pools.borrow_mut()
    }

    /// The pool named `id`.
    #[inline]
    pub(crate) fn pool(&self, id: f64) -> offheap::Result<Pool> {
        self.pools
            .borrow()
            .get(id)
            .cloned()
            .ok_or_else(|| disposed("pool"))
    }

    pub(crate) fn devices_mut(&self) -> RefMut<'_, Slab<Arc<dyn Device>>> {
        self.devices.borrow_mut()
    }

    /// The device named `id`.
    pub(crate) fn device(&self, id: f64) -> offheap::Result<Arc<dyn Device>> {
        let devices = self.devices.borrow();
        devices.get(id).cloned().ok_or_else(|| disposed("device"))
    }

    pub(crate) fn managers_mut(&self) -> RefMut<'_, Slab<Arc<dyn MemoryManager>>> {
        self.managers.borrow_mut()
    }

    /// The memory manager named `id`.
    pub(crate) fn manager(&self, id: f64) -> offheap::Result<Arc<dyn MemoryManager>> {
        let managers = self.managers.borrow();
        managers
            .get(id)
            .cloned()
            .ok_or_else(|| disposed("memory manager"))
    }

    /// Sets a shared word.
    #[inline]
    #[expect(
        clippy::cast_precision_loss,
        reason = "addresses and sizes are below 2^53"
    )]
    pub(crate) fn set_word(&self, index: usize, value: u64) {
        self.set_number(index, value as f64);
    }

    /// Sets a shared word to any number.
    #[inline]
    pub(crate) fn set_number(&self, index: usize, value: f64) {
        debug_assert!(index < WORDS);
        // SAFETY: an ArrayBuffer of `WORDS` doubles that the TypeScript layer keeps, never
        // detaches, and only uses on this thread.
        unsafe { self.words.add(index).write(value) };
    }

    /// Whether the TypeScript layer knows of use that cannot be seen here.
    fn is_held(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.words.add(HOLD_WORD).read() != 0.0 }
    }

    pub(crate) fn make_error(&self, env: Env) -> Option<sys::napi_value> {
        let mut function = ptr::null_mut();
        // SAFETY: the reference is strong and lives as long as the environment.
        let status = unsafe {
            sys::napi_get_reference_value(env.raw(), self.make_error.get(), &raw mut function)
        };
        (status == sys::Status::napi_ok && !function.is_null()).then_some(function)
    }

    /// Tells V8 of memory that no ArrayBuffer shows, so that it feels the pressure; in steps,
    /// because each call costs as much as an allocation.
    #[inline]
    pub(crate) fn adjust_external(&self, env: Env, bytes: i64) {
        let sum = self.external.get() + bytes;
        self.external.set(sum);
        if sum.abs() >= EXTERNAL_STEP {
            self.flush_external(env);
        }
    }

    /// Brings V8's figure up to date.
    #[cold]
    pub(crate) fn flush_external(&self, env: Env) {
        let bytes = self.external.replace(0);
        let mut now = 0;
        // SAFETY: a live environment and an out parameter.
        unsafe { sys::napi_adjust_external_memory(env.raw(), bytes, &raw mut now) };
    }

    /// Whether the environment may run JavaScript. Once a worker is being terminated, a detach
    /// aborts the process (`FromJust` in Node 20 to 26); what is parked then goes with the
    /// environment. To be asked outside of calls from JavaScript; a handle scope is open.
    fn is_running(&self) -> bool {
        let mut value = ptr::null_mut();
        let mut ignored = false;
        // SAFETY: a live environment and out parameters. The comparison is a call that is refused
        // by status when JavaScript cannot run, and does nothing otherwise.
        unsafe {
            sys::napi_get_undefined(self.env, &raw mut value) == sys::Status::napi_ok
                && sys::napi_strict_equals(self.env, value, value, &raw mut ignored)
                    == sys::Status::napi_ok
        }
    }

    /// Gives back to the system what this thread has freed.
    pub(crate) fn collect(&self) {
        if let Some(collector) = &*self.collector.borrow() {
            collector.collect();
        }
    }

    /// Whether one more parked view must give its pages back.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.waiting.resident() > PARKED_BUDGET
    }
}

unsafe extern "C" fn on_check(handle: *mut c_void) {
    // SAFETY: the handle's data is the environment, which closes the handle before it ends.
    let state = unsafe { &*Check::data(handle).cast::<Environment>() };
    let drains =
        matches!(state.gate, Gate::Idle(_)) && !state.is_held() && state.gate.requests() == 0;
    if !drains && !state.parking.borrow().has_moved() && !state.waiting.has_orphans() {
        return;
    }
    let mut scope = ptr::null_mut();
    // SAFETY: the environment is live and this is its thread.
    if unsafe { sys::napi_open_handle_scope(state.env, &raw mut scope) } != sys::Status::napi_ok {
        return;
    }
    let env = Env::from_raw(state.env);
    if drains {
        if state.is_running() {
            parking::drain(env, &state.parking);
        }
    } else if state.parking.borrow_mut().sweep_moved(env) {
        state.waiting.set_orphans(false);
    }
    state.waiting.end_of_work();
    // SAFETY: opened right above.
    unsafe { sys::napi_close_handle_scope(state.env, scope) };
}

unsafe extern "C" fn on_end(data: *mut c_void) {
    // SAFETY: the environment of `configure`; its instance data is freed after this hook.
    let state = unsafe { &*data.cast::<Environment>() };
    let env = Env::from_raw(state.env);
    // From now on nobody is told of anything.
    drop(state.collector.take());
    state.events.close();
    debugging::set_thread_events(None);
    origin::this_thread_has_foreign_frames(false);
    state.failures.end();
    parking::clear(env, &state.parking);
    state.cuda.end();
    // Views that are still attached keep their blocks through their slots.
    let handles = std::mem::take(&mut *state.handles.borrow_mut());
    let pools = std::mem::take(&mut *state.pools.borrow_mut());
    drop((handles, pools));
}

unsafe extern "C" fn free_environment(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the box that `configure` made; nothing calls after this.
    drop(unsafe { Box::from_raw(data.cast::<Environment>()) });
}

/// A 64-byte block to try an external ArrayBuffer on.
static PROBE: [u64; 8] = [0; 8];

/// Whether this runtime allows ArrayBuffers over native memory (Electron does not).
fn probe_external_buffers(env: Env) -> bool {
    let mut value = ptr::null_mut();
    // SAFETY: a static block, never written; no finalizer is needed.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env.raw(),
            ptr::from_ref(&PROBE).cast_mut().cast(),
            size_of_val(&PROBE),
            None,
            ptr::null_mut(),
            &raw mut value,
        )
    };
    if status != sys::Status::napi_ok {
        return false;
    }
    let shows = array_buffer(env, value)
        .is_some_and(|(data, _)| data.addr() == ptr::from_ref(&PROBE).addr());
    parking::detach(env, value);
    shows
}

/// Sets this environment up: once, before any other call.
#[napi(
    catch_unwind,
    ts_args_type = "words: ArrayBuffer, makeError: (code: string, message: string, detail: string, requested: number, limit: number, allocated: number, pool: string) => Error, options: number"
)]
pub fn configure(
    env: Env,
    words: Unknown<'_>,
    make_error: Unknown<'_>,
    options: u32,
) -> Result<NativeCapabilities> {
    match Environment::of(env) {
        // The TypeScript layer was loaded once more over this addon (Jest does that for each file):
        // it shares the words, and errors are from now on of its classes.
        Ok(state) => {
            let new = reference_to_function(env, make_error)?;
            let old = state.make_error.replace(new);
            // SAFETY: a live reference, given up here.
            unsafe { sys::napi_delete_reference(env.raw(), old) };
        }
        Err(_) => start(env, words, make_error, options)?,
    }
    let state = Environment::of(env)?;
    Ok(NativeCapabilities {
        external_buffers: state.external_buffers,
        shared_buffers: state.create_shared.is_some(),
        gate: state.gate.name().to_owned(),
        #[expect(clippy::cast_precision_loss, reason = "a power of two, or 2^53 - 1")]
        max_view_bytes: state.max_view as f64,
    })
}

fn invalid(what: &str) -> Error {
    Error::new(Status::InvalidArg, format!("offheap: {what}"))
}

/// A strong reference to the function that makes errors.
fn reference_to_function(env: Env, make_error: Unknown<'_>) -> Result<sys::napi_ref> {
    let mut kind = 0;
    let mut reference = ptr::null_mut();
    // SAFETY: a live value of this environment and out parameters.
    unsafe {
        sys::napi_typeof(env.raw(), make_error.raw(), &raw mut kind);
        if kind != sys::ValueType::napi_function {
            return Err(invalid("makeError must be a function"));
        }
        sys::napi_create_reference(env.raw(), make_error.raw(), 1, &raw mut reference);
    }
    Ok(reference)
}

fn start(env: Env, words: Unknown<'_>, make_error: Unknown<'_>, options: u32) -> Result<()> {
    let (words_ptr, length) = array_buffer(env, words.raw())
        .filter(|(_, length)| *length >= WORDS * size_of::<f64>())
        .ok_or_else(|| invalid("words must be an ArrayBuffer of 256 bytes"))?;
    debug_assert!(length > 0);
    let make_error_ref = reference_to_function(env, make_error)?;
    let mut words_ref = ptr::null_mut();
    // SAFETY: a live value of this environment and an out parameter. The reference is strong and
    // never deleted: it lasts as long as the environment.
    unsafe {
        sys::napi_create_reference(env.raw(), words.raw(), 1, &raw mut words_ref);
    }
    let external_buffers = options & options::NO_EXTERNAL == 0 && probe_external_buffers(env);
    let max_view = if options & options::SMALL_VIEWS != 0 {
        1_u64 << 32
    } else {
        (1 << 53) - 1
    };
    // SAFETY: a word of the TypeScript layer's block, which lives as long as the environment;
    // `on_end` closes the queue.
    let events = Arc::new(unsafe { Events::new(words_ptr.cast::<f64>().add(IN_CALL_WORD)) });
    let state = Box::new(Environment {
        env: env.raw(),
        words: words_ptr.cast(),
        make_error: Cell::new(make_error_ref),
        handles: RefCell::default(),
        pools: RefCell::default(),
        devices: RefCell::default(),
        managers: RefCell::default(),
        gate: Gate::choose(env, options),
        parking: RefCell::default(),
        waiting: Waiting::of(&events),
        events,
        instrument: Instrument::default(),
        failures: Failures::default(),
        cuda: Cuda::default(),
        collector: RefCell::new(collecting::register(env).ok()),
        external: Cell::new(0),
        watches_moves: options & (options::BUN | options::OTHER) == 0,
        external_buffers,
        max_view: usize::try_from(max_view).unwrap_or(usize::MAX),
        create_shared: uv::create_shared_array_buffer(),
    });
    debugging::set_thread_events(Some(Arc::clone(&state.events)));
    let state = Box::into_raw(state);
    // SAFETY: just made; the check handle is closed by `on_end` before the box is freed.
    unsafe {
        let event_loop = match (*state).gate {
            Gate::Idle(event_loop) => Some(event_loop),
            Gate::Collect if (*state).watches_moves => event_loop(env),
            _ => None,
        };
        let check =
            event_loop.and_then(|event_loop| Check::new(event_loop, on_check, state.cast()));
        if matches!((*state).gate, Gate::Idle(_)) && check.is_none() {
            (*state).gate = Gate::Collect;
        }
        let parking = (*state).parking.get_mut();
        parking.drains = matches!((*state).gate, Gate::Idle(_));
        parking.check = check;
        sys::napi_set_instance_data(
            env.raw(),
            state.cast(),
            Some(free_environment),
            ptr::null_mut(),
        );
        sys::napi_add_env_cleanup_hook(env.raw(), Some(on_end), state.cast());
    }
    Ok(())
}

/// Adds the hot calls to the exports, and keeps the module loaded for the rest of the process:
/// allocators have threads' state that must outlive a worker that was the first to load it.
#[napi(module_exports)]
pub fn start_module(exports: Object<'_>, env: Env) -> Result<()> {
    napi::bindgen_prelude::retain_current_module_for_unload_safety();
    debugging::install();
    crate::hot::export(&exports, env)
}

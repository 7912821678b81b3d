//! Promises that the GPU's work settles.
//!
//! ```text
//!   cudaCopy() ──▶ start(): a promise and its settler
//!        └──▶ the stream: the copy, then a callback that has the settler
//!                               │ a thread of the driver: no driver calls, nothing freed
//!                               ▼
//!                        mailbox ──▶ threadsafe function ──▶ drain(): the promise is settled
//! ```
//!
//! A callback that learns of a failure drops the settler, which rejects the promise. Where a context was destroyed the driver
//! calls nobody; [`watch`](super::watch) notices, and says so instead.
//!
//! The work itself keeps the memory that it uses, and lets it go on a thread of the CUDA crate's: an environment
//! that ends before leaves nothing to be done.

use super::watch::{Watched, watch};
use crate::errors;
use crate::wake::{Wake, in_turn};
use napi::bindgen_prelude::Env;
use napi::{JsValue, sys};
use offheap::Result;
use offheap_cuda::{CudaStream, RegisteredMemory};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Registrations of host memory that unfinished work uses: they end with a call of the driver, so not on its threads.
pub(super) type Registered = Vec<Arc<RegisteredMemory>>;

/// What other threads may reach of an environment.
#[derive(Debug, Default)]
struct Mailbox {
    settled: Mutex<Vec<(u64, Result<()>)>>,
    wake: Wake,
}

impl Mailbox {
    fn settled(&self) -> MutexGuard<'_, Vec<(u64, Result<()>)>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For one promise the first word counts.
    fn post(&self, token: u64, result: Result<()>) {
        self.settled().push((token, result));
        // False when the environment has ended: then nobody waits.
        self.wake.call();
    }
}

/// Settles one promise, from any thread.
#[derive(Debug)]
pub(super) struct Settler {
    mailbox: Arc<Mailbox>,
    token: u64,
    is_settled: bool,
}

impl Settler {
    /// Settles the promise in a turn of its environment's event loop. Makes no call of the driver.
    pub(super) fn settle(mut self, result: Result<()>) {
        self.send(result);
    }

    fn send(&mut self, result: Result<()>) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        self.mailbox.post(self.token, result);
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.send(Err(offheap::Error::device_unavailable(
            "driver-error",
            "the driver gave up the work",
        )));
    }
}

#[derive(Debug)]
struct Pending {
    deferred: sys::napi_deferred,
    registered: Registered,
    /// Looked after as long as this is pending.
    _watched: Option<Arc<Watched>>,
}

/// The promises of one environment.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    mailbox: Arc<Mailbox>,
    pending: RefCell<HashMap<u64, Pending>>,
    last: Cell<u64>,
}

impl Promises {
    /// A promise that `begin` is given the settler of; what it fails with rejects the promise, and so does the failure of one
    /// of `streams`: where the work is done, and what it waits for. Until it is settled, the process stays alive.
    pub(super) fn start(
        &self,
        env: Env,
        streams: Vec<CudaStream>,
        registered: Registered,
        begin: impl FnOnce(Settler) -> Result<()>,
    ) -> napi::Result<sys::napi_value> {
        if self.last.get() == 0 {
            let wake = &self.mailbox.wake;
            wake.start_native(env, "offheap.cuda", on_wake)?;
        }
        let mut deferred = ptr::null_mut();
        let mut promise = ptr::null_mut();
        // SAFETY: a live environment and out parameters.
        let status =
            unsafe { sys::napi_create_promise(env.raw(), &raw mut deferred, &raw mut promise) };
        napi::check_status!(status, "offheap: no promise")?;
        let token = self.last.get() + 1;
        self.last.set(token);
        let mut watching = Ok(());
        let watched = (!streams.is_empty()).then(|| {
            let mailbox = Arc::clone(&self.mailbox);
            let work = Watched::new(streams, move |error| mailbox.post(token, Err(error)));
            watching = watch(&work);
            work
        });
        {
            let mut pending = self.pending.borrow_mut();
            if pending.is_empty() {
                self.mailbox.wake.keep_alive(env, true);
            }
            let new = Pending {
                deferred,
                registered,
                _watched: watched,
            };
            pending.insert(token, new);
        }
        let settler = Settler {
            mailbox: Arc::clone(&self.mailbox),
            token,
            is_settled: false,
        };
        // What is refused drops the settler, which says so, too: the first word counts.
        if let Err(error) = watching.and_then(|()| begin(settler)) {
            self.mailbox.settled().insert(0, (token, Err(error)));
        }
        Ok(promise)
    }

    /// Settles what is done.
    fn drain(&self, env: Env) {
        let settled = std::mem::take(&mut *self.mailbox.settled());
        for (token, result) in settled {
            let pending = self.pending.borrow_mut().remove(&token);
            let Some(Pending {
                deferred,
                registered,
                _watched,
            }) = pending
            else {
                continue;
            };
            drop(registered);
            settle(env, deferred, result);
        }
        if self.pending.borrow().is_empty() {
            self.mailbox.wake.keep_alive(env, false);
        }
    }

    /// The environment ends: nothing is settled any more.
    pub(super) fn end(&self) {
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        for Pending { registered, .. } in pending.into_values() {
            for memory in registered {
                // It must stay locked until the GPU is done with it.
                drop(memory.cuda_device().synchronize());
            }
        }
    }
}

/// Settles a promise; where JavaScript cannot run any more, nobody is told.
fn settle(env: Env, deferred: sys::napi_deferred, result: Result<()>) {
    let mut value = ptr::null_mut();
    match result {
        // SAFETY: a live environment on its own thread, in a handle scope of the caller's; the deferred is used
        // once, as it was taken out of the map; an out parameter.
        Ok(()) => unsafe {
            if sys::napi_get_undefined(env.raw(), &raw mut value) == sys::Status::napi_ok {
                sys::napi_resolve_deferred(env.raw(), deferred, value);
            }
        },
        Err(error) => {
            let thrown = errors::throw(env, &error);
            // SAFETY: as above; the error that is pending becomes the promise's.
            unsafe {
                if thrown.status == napi::Status::PendingException {
                    sys::napi_get_and_clear_last_exception(env.raw(), &raw mut value);
                } else if let Ok(text) = env.create_string(thrown.reason.as_str()) {
                    sys::napi_create_error(env.raw(), ptr::null_mut(), text.raw(), &raw mut value);
                }
                if !value.is_null() {
                    sys::napi_reject_deferred(env.raw(), deferred, value);
                }
            }
        }
    }
}

unsafe extern "C" fn on_wake(
    env: sys::napi_env,
    _callback: sys::napi_value,
    _context: *mut c_void,
    _data: *mut c_void,
) {
    in_turn(env, |env, state| state.cuda.promises.drain(env));
}

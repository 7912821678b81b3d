//! What an environment has of GPUs.

use super::promises::Promises;
use super::registrations::Registration;
use crate::environment::Environment;
use crate::errors::disposed;
use crate::slab::Slab;
use offheap::{Error, Result};
use offheap_cuda::{CudaEvent, CudaStream};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// An event, and what the driver does not tell of it.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) event: CudaEvent,
    pub(super) has_time: bool,
    pub(super) is_recorded: Cell<bool>,
    /// Whether other processes may open it.
    pub(super) is_shared: bool,
}

/// One environment's streams, events and unfinished work.
#[derive(Debug, Default)]
pub(crate) struct Cuda {
    pub(super) promises: Promises,
    streams: RefCell<Slab<CudaStream>>,
    events: RefCell<Slab<Rc<Event>>>,
    registrations: RefCell<Slab<Registration>>,
}

fn too_many(what: &str) -> Error {
    Error::not_supported(format!(
        "more than 67 million {what} are alive in this environment"
    ))
}

impl Cuda {
    pub(crate) fn of(state: &Environment) -> &Self {
        &state.cuda
    }

    pub(crate) fn stream(&self, id: f64) -> Result<CudaStream> {
        let streams = self.streams.borrow();
        streams.get(id).cloned().ok_or_else(|| disposed("stream"))
    }

    pub(super) fn adopt_stream(&self, stream: CudaStream) -> Result<f64> {
        let mut streams = self.streams.borrow_mut();
        streams.insert(stream).map_err(|_| too_many("streams"))
    }

    pub(super) fn drop_stream(&self, id: f64) {
        let gone = self.streams.borrow_mut().remove(id);
        drop(gone);
    }

    pub(super) fn event(&self, id: f64) -> Result<Rc<Event>> {
        let events = self.events.borrow();
        events.get(id).cloned().ok_or_else(|| disposed("event"))
    }

    /// An event for what goes on without JavaScript.
    pub(crate) fn event_itself(&self, id: f64) -> Result<CudaEvent> {
        self.event(id).map(|event| event.event.clone())
    }

    pub(super) fn adopt_event(&self, event: Event) -> Result<f64> {
        let mut events = self.events.borrow_mut();
        events
            .insert(Rc::new(event))
            .map_err(|_| too_many("events"))
    }

    pub(super) fn drop_event(&self, id: f64) {
        let gone = self.events.borrow_mut().remove(id);
        drop(gone);
    }

    pub(super) fn adopt_registration(&self, registration: Registration) -> Result<f64> {
        let mut registrations = self.registrations.borrow_mut();
        registrations
            .insert(registration)
            .map_err(|_| too_many("registrations"))
    }

    pub(super) fn drop_registration(&self, id: f64) {
        let gone = self.registrations.borrow_mut().remove(id);
        drop(gone);
    }

    /// The environment ends.
    pub(crate) fn end(&self) {
        self.promises.end();
        drop(std::mem::take(&mut *self.streams.borrow_mut()));
        drop(std::mem::take(&mut *self.events.borrow_mut()));
        drop(std::mem::take(&mut *self.registrations.borrow_mut()));
    }
}

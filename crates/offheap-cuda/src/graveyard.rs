//! Where things go that must not end on a thread of the driver's.

use std::any::Any;
use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

type Thing = Box<dyn Any + Send>;

/// A thread that only drops: the driver's own threads must not call the driver, and freeing does.
fn sender() -> Option<&'static Mutex<Sender<Thing>>> {
    static SENDER: OnceLock<Option<Mutex<Sender<Thing>>>> = OnceLock::new();
    SENDER
        .get_or_init(|| {
            let (sender, things) = channel::<Thing>();
            std::thread::Builder::new()
                .name("offheap-cuda".into())
                .spawn(move || {
                    for thing in things {
                        let end = std::panic::AssertUnwindSafe(|| drop(thing));
                        if let Err(payload) = std::panic::catch_unwind(end) {
                            std::mem::forget(payload);
                        }
                    }
                })
                .ok()
                .map(|_| Mutex::new(sender))
        })
        .as_ref()
}

/// Something that is dropped on that thread, once, whoever says so first.
pub(crate) struct Kept(Arc<Mutex<Option<Thing>>>);

impl Kept {
    pub(crate) fn new(thing: impl Send + 'static) -> Self {
        // The thread is started here, not by the driver's.
        sender();
        Self(Arc::new(Mutex::new(Some(Box::new(thing)))))
    }

    /// Lets the thing go.
    pub(crate) fn bury(&self) {
        let thing = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thing) = thing else { return };
        match sender() {
            Some(sender) => {
                let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(unsent) = sender.send(thing) {
                    // Nobody is there to drop it, and here it must not end.
                    std::mem::forget(unsent);
                }
            }
            None => std::mem::forget(thing),
        }
    }
}

impl Clone for Kept {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

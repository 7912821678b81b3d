//! One sweep over domains at a time.

use crate::error::{Error, Result};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The thread that started the sweep whose turn it is.
static OWNER: Mutex<Option<ThreadId>> = Mutex::new(None);
static ENDED: Condvar = Condvar::new();

/// The right to hook domains for a sweep.
#[derive(Debug)]
pub(super) struct Turn(());

fn owner() -> MutexGuard<'static, Option<ThreadId>> {
    OWNER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turn {
    /// # Errors
    /// [`Busy`](crate::ErrorKind::Busy) while another sweep is on; when `waits`, only while one of
    /// this thread is.
    pub(super) fn take(waits: bool) -> Result<Self> {
        let me = thread::current().id();
        let mut owner = owner();
        while let Some(other) = *owner {
            if !waits || other == me {
                return Err(Error::busy(
                    "another out-of-memory sweep over domains is running: they take turns",
                ));
            }
            owner = ENDED.wait(owner).unwrap_or_else(PoisonError::into_inner);
        }
        *owner = Some(me);
        Ok(Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *owner() = None;
        ENDED.notify_one();
    }
}

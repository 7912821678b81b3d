//! What happens when damage was found.
//!
//! No lock is held here, so whatever is called may use any pool. What is found while a thread
//! reports is said in one line and not reported in turn.

use super::corruption::Corruption;
use super::options::OnError;
use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Takes a report that is to be thrown; `false` when this thread cannot throw.
type ThrowHandler = fn(&Corruption) -> bool;

/// Tells the frames of the language above for the call that runs.
type StackProvider = fn() -> Option<String>;

static THROW_HANDLER: Mutex<Option<ThrowHandler>> = Mutex::new(None);
static STACK_PROVIDER: Mutex<Option<StackProvider>> = Mutex::new(None);

/// Sets who takes the reports of [`OnError::Throw`]: a binding, which keeps the report and throws it
/// when its call is over. The handler runs inside of an allocator's call; it says whether it took
/// the report.
pub fn set_throw_handler(handler: Option<fn(&Corruption) -> bool>) {
    *THROW_HANDLER.lock().unwrap_or_else(PoisonError::into_inner) = handler;
}

/// Sets who tells the frames of the language above for reports that go to stderr: those of a call
/// are told only [when it is over](crate::origin::take_pending), which an abort does not wait for.
/// The provider runs inside of an allocator's call and says `None` where it cannot tell.
pub fn set_foreign_stack_provider(provider: Option<fn() -> Option<String>>) {
    *STACK_PROVIDER
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = provider;
}

thread_local! {
    static REPORTING: Cell<bool> = const { Cell::new(false) };
}

/// Ends the reporting, also when it panics.
struct Reporting;

impl Reporting {
    fn start() -> Option<Self> {
        (!REPORTING.replace(true)).then_some(Self)
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        REPORTING.set(false);
    }
}

/// stderr behind a buffer that needs no memory: that of the process may be what is damaged.
struct Stderr {
    buffer: [u8; 1024],
    length: usize,
}

impl Stderr {
    fn new() -> Self {
        Self {
            buffer: [0; 1024],
            length: 0,
        }
    }

    fn flush(&mut self) {
        // Nobody is left to be told that stderr is closed.
        drop(std::io::stderr().write_all(&self.buffer[..self.length]));
        self.length = 0;
    }
}

impl fmt::Write for Stderr {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.as_bytes().chunks(self.buffer.len()) {
            if part.len() > self.buffer.len() - self.length {
                self.flush();
            }
            self.buffer[self.length..self.length + part.len()].copy_from_slice(part);
            self.length += part.len();
        }
        Ok(())
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Calls what others wrote, in the middle of an allocator.
fn guarded<T>(what: &str, call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|payload| {
            crate::panic::discard(payload);
            drop(writeln!(std::io::stderr(), "offheap: {what} panicked"));
        })
        .ok()
}

/// First what needs no memory, then the stacks, whose names do.
fn print(corruption: &Corruption) {
    let mut stderr = Stderr::new();
    let _ = corruption.write_facts(&mut stderr);
    stderr.flush();
    let told = corruption.detected_at.foreign.as_ref();
    let foreign = if told.is_some_and(|foreign| foreign.stack().is_some()) {
        None
    } else {
        let provider = *STACK_PROVIDER
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        provider.and_then(|provider| guarded("the provider of foreign stacks", provider).flatten())
    };
    let _ = corruption.write_stacks(&mut stderr, foreign.as_deref());
}

/// Does what the mode says. Called when the pool's own work is done: this may panic.
pub(super) fn report(on_error: &OnError, corruption: &Corruption) {
    let Some(reporting) = Reporting::start() else {
        let line = format_args!("offheap: while reporting: {}\n", corruption.headline());
        let _ = Stderr::new().write_fmt(line);
        return;
    };
    match on_error {
        OnError::Abort => {
            print(corruption);
            abort("abort");
        }
        OnError::Trap => {
            print(corruption);
            #[cfg(unix)]
            // SAFETY: raises a signal on this thread; nothing else.
            unsafe {
                libc::raise(libc::SIGTRAP);
            }
            #[cfg(not(unix))]
            abort("trap");
        }
        OnError::Warn => print(corruption),
        OnError::Call(callback) => {
            guarded("the callback of debug hooks", || callback(corruption));
        }
        OnError::Throw => {
            let handler = *THROW_HANDLER.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = handler
                .and_then(|handler| guarded("the throw handler", || handler(corruption)))
                .unwrap_or(false);
            if taken {
                return;
            }
            if std::thread::panicking() {
                // A second panic would end the process.
                print(corruption);
                return;
            }
            drop(reporting);
            panic!("{corruption}");
        }
    }
}

fn abort(mode: &str) -> ! {
    let line = format_args!("offheap: debug hooks end the process (on_error is '{mode}')\n");
    let _ = Stderr::new().write_fmt(line);
    std::process::abort()
}

//! The hook that writes a log.

use super::event::{LogAction, LogEvent, LogFormat};
use super::sink::{LogSink, Open};
use crate::adaptor::at_exit::{AtExit, at_exit};
use crate::adaptor::hook::{Hook, Request};
use crate::error::{Error, Result};
use crate::origin::thread_number;
use crate::pool::Pool;
use std::borrow::Cow;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Writes every request of a logged pool: see [`Pool::log`].
pub struct Logger {
    format: LogFormat,
    sink: Open,
    /// The name of the pool under this one.
    pool: String,
    dropped: AtomicU64,
}

fn now() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or(Duration::ZERO);
    Duration::new(since.as_secs(), since.subsec_micros() * 1000)
}

fn address(ptr: NonNull<u8>) -> u64 {
    ptr.addr().get() as u64
}

impl Logger {
    /// How the lines look.
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// Events that did not reach the sink, because it failed or panicked. The requests went on.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Flushes the sink's writer. A failure counts as one dropped event.
    pub fn flush(&self) {
        if self.sink.flush().is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn event(&self, action: LogAction) -> LogEvent<'_> {
        LogEvent {
            time: now(),
            thread: thread_number(),
            pool: Cow::Borrowed(&self.pool),
            ..LogEvent::new(self.format, action)
        }
    }

    fn write(&self, event: &LogEvent<'_>) {
        if self.sink.write(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// RMM knows no reallocations. The old block's end is written before the call: another thread
    /// may be given its address during it.
    fn splits(&self) -> bool {
        self.format == LogFormat::RmmCsv
    }
}

impl Hook for Logger {
    fn before(&self, request: &Request, _pool: &Pool) -> Result<()> {
        let (ptr, size, alignment) = match *request {
            Request::Free {
                ptr,
                size,
                alignment,
            } => (ptr, size, alignment),
            Request::Reallocate {
                ptr,
                old_size,
                alignment,
                ..
            } if self.splits() => (ptr, old_size, alignment),
            Request::Reallocate { .. } | Request::Allocate { .. } => return Ok(()),
        };
        self.write(&LogEvent {
            address: address(ptr),
            size: size as u64,
            alignment: alignment.get() as u64,
            ..self.event(LogAction::Free)
        });
        Ok(())
    }

    fn after(&self, request: &Request, answer: Result<Option<NonNull<u8>>, &Error>) {
        let block = answer.ok().flatten().map(address);
        let new = |event: LogEvent<'_>, size: usize, alignment: usize| {
            self.write(&LogEvent {
                address: block.unwrap_or(0),
                size: size as u64,
                alignment: alignment as u64,
                ..event
            });
        };
        let allocation = match block {
            Some(_) => LogAction::Allocate,
            None => LogAction::AllocateFailure,
        };
        match *request {
            Request::Allocate {
                size, alignment, ..
            } => new(self.event(allocation), size, alignment.get()),
            Request::Reallocate {
                ptr,
                old_size,
                new_size,
                alignment,
            } => {
                if !self.splits() {
                    let action = match block {
                        Some(_) => LogAction::Reallocate,
                        None => LogAction::ReallocateFailure,
                    };
                    let event = LogEvent {
                        old_address: address(ptr),
                        old_size: old_size as u64,
                        ..self.event(action)
                    };
                    return new(event, new_size, alignment.get());
                }
                new(self.event(allocation), new_size, alignment.get());
                if block.is_none() {
                    // Its end was written, but it is still there.
                    self.write(&LogEvent {
                        address: address(ptr),
                        size: old_size as u64,
                        alignment: alignment.get() as u64,
                        ..self.event(LogAction::Allocate)
                    });
                }
            }
            Request::Free { .. } => {}
        }
    }
}

impl AtExit for Logger {
    fn at_exit(&self) {
        self.flush();
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.flush();
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger")
            .field("format", &self.format)
            .field("pool", &self.pool)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool over this one that puts every request on record, one line each (Arrow's
    /// `LoggingMemoryPool`, RMM's `logging_resource_adaptor`): see [`LogFormat`]. A sink that fails
    /// fails no request: [`Logger::dropped`] counts. [`LogReader`](crate::LogReader) reads logs.
    ///
    /// Requests of zero bytes are not logged. Cost: some 500 ns a line and what the sink takes; a
    /// file's write takes about as much again.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a file that cannot be made, or a
    /// sink that does not take the header line.
    ///
    /// ```
    /// use offheap::{LogFormat, LogReader, LogSink, MutableBuffer, default_memory_pool};
    /// use std::sync::{Arc, Mutex};
    ///
    /// let lines = Arc::new(Mutex::new(String::new()));
    /// let sink = LogSink::Call({
    ///     let lines = lines.clone();
    ///     Arc::new(move |event| *lines.lock().unwrap() += &format!("{event}\n"))
    /// });
    /// let pool = default_memory_pool().log(LogFormat::Text, sink)?;
    /// drop(MutableBuffer::zeroed(100, &pool)?);
    /// let lines = lines.lock().unwrap();
    /// assert!(lines.starts_with("Allocate: size = 100, alignment = 64, address = 0x"));
    /// assert_eq!(LogReader::new(lines.as_bytes()).count(), 2);
    /// # Ok::<(), offheap::Error>(())
    /// ```
    pub fn log(&self, format: LogFormat, sink: LogSink) -> Result<Self> {
        let may_buffer = matches!(sink, LogSink::Writer(_));
        let logger = Arc::new(Logger {
            format,
            sink: Open::new(sink, format.header())?,
            pool: self.name().to_owned(),
            dropped: AtomicU64::new(0),
        });
        if may_buffer {
            at_exit(Arc::downgrade(&logger) as Weak<dyn AtExit>);
        }
        Ok(self.hooked(logger, "log"))
    }

    /// The outermost logger that requests of this pool pass.
    pub fn logger(&self) -> Option<Arc<Logger>> {
        self.find_hook()
    }
}

//! Where a log goes.

use super::event::LogEvent;
use crate::domain::Unhooked;
use crate::error::{Error, Result};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a log goes. Whole lines, one call each, in the order of the events of one block.
pub enum LogSink {
    /// The process's stderr.
    Stderr,
    /// A file, made anew. Each line is one write to the system, so that a crash loses none.
    File(PathBuf),
    /// Any writer. It is flushed when the last handle to the pool goes and when the process exits,
    /// and called under a lock, on the threads that allocate.
    Writer(Box<dyn Write + Send>),
    /// A function, called on the threads that allocate, many at once. The event prints as the
    /// format says.
    Call(Arc<LogCall>),
}

/// What a [`LogSink::Call`] calls.
pub type LogCall = dyn Fn(&LogEvent<'_>) + Send + Sync;

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("Stderr"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Writer(_) => f.write_str("Writer(…)"),
            Self::Call(_) => f.write_str("Call(…)"),
        }
    }
}

/// A line that is put together without a hook or a global allocator being asked for memory.
struct Line(allocator_api2::vec::Vec<u8, Unhooked>);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.try_reserve(text.len()).map_err(|_| fmt::Error)?;
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

pub(super) struct Lines {
    writer: Box<dyn Write + Send>,
    line: Line,
    /// Whether the last line was cut: the next begins on a line of its own.
    is_torn: bool,
}

impl Lines {
    fn new(writer: Box<dyn Write + Send>) -> Self {
        Self {
            writer,
            line: Line(allocator_api2::vec::Vec::new_in(Unhooked)),
            is_torn: false,
        }
    }

    fn write(&mut self, what: &dyn fmt::Display) -> io::Result<()> {
        self.line.0.clear();
        let start = if self.is_torn { "\n" } else { "" };
        fmt::write(&mut self.line, format_args!("{start}{what}\n"))
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut rest = &self.line.0[..];
        // Also when the writer panics half-way.
        let was_torn = std::mem::replace(&mut self.is_torn, true);
        while !rest.is_empty() {
            match self.writer.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n.min(rest.len())..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if rest.len() == self.line.0.len() {
                        self.is_torn = was_torn;
                    }
                    return Err(error);
                }
            }
        }
        self.is_torn = false;
        Ok(())
    }
}

/// An open sink.
pub(super) enum Open {
    Lines(Mutex<Lines>),
    Call(Arc<LogCall>),
}

/// Why an event did not reach its sink; nobody can be told.
pub(super) struct Dropped;

impl Open {
    pub(super) fn new(sink: LogSink, header: Option<&'static str>) -> Result<Self> {
        let writer: Box<dyn Write + Send> = match sink {
            LogSink::Stderr => Box::new(io::stderr()),
            LogSink::File(path) => Box::new(File::create(&path).map_err(|error| {
                Error::invalid_argument(
                    "path",
                    format_args!("'{}' ({error})", path.display()),
                    "a file that can be written",
                )
            })?),
            LogSink::Writer(writer) => writer,
            LogSink::Call(call) => return Ok(Self::Call(call)),
        };
        let mut lines = Lines::new(writer);
        if let Some(header) = header {
            let written = catch_unwind(AssertUnwindSafe(|| lines.write(&header)));
            let error = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(payload) => {
                    std::mem::forget(payload);
                    Some("it panicked".to_owned())
                }
            };
            if let Some(error) = error {
                return Err(Error::invalid_argument(
                    "sink",
                    format_args!("one that failed ({error})"),
                    "one that takes the header line",
                ));
            }
        }
        Ok(Self::Lines(Mutex::new(lines)))
    }

    /// Hands one event on.
    pub(super) fn write(&self, event: &LogEvent<'_>) -> Result<(), Dropped> {
        let written = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Lines(lines) => lock(lines).write(event).map_err(|_| Dropped),
            Self::Call(call) => {
                call(event);
                Ok(())
            }
        }));
        written.unwrap_or_else(|payload| {
            // Dropping it may panic again.
            std::mem::forget(payload);
            Err(Dropped)
        })
    }

    pub(super) fn flush(&self) -> Result<(), Dropped> {
        let Self::Lines(lines) = self else {
            return Ok(());
        };
        let flushed = catch_unwind(AssertUnwindSafe(|| lock(lines).writer.flush()));
        match flushed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Dropped),
            Err(payload) => {
                std::mem::forget(payload);
                Err(Dropped)
            }
        }
    }
}

fn lock(lines: &Mutex<Lines>) -> std::sync::MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails once, then takes all.
    struct Breaks {
        room: usize,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Breaks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                self.room = usize::MAX;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let n = bytes.len().min(self.room);
            self.room -= n;
            self.written.lock().unwrap().extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_torn_line_the_next_begins_on_its_own() {
        for (room, expected) in [
            (0, "second\nthird\n"),
            (3, "fir\nsecond\nthird\n"),
            (100, "first\nsecond\nthird\n"),
        ] {
            let written = Arc::new(Mutex::new(Vec::new()));
            let mut lines = Lines::new(Box::new(Breaks {
                room,
                written: Arc::clone(&written),
            }));
            assert_eq!(lines.write(&"first").is_ok(), room == 100);
            lines.write(&"second").unwrap();
            lines.write(&"third").unwrap();
            let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
            assert_eq!(text, expected);
        }
    }
}

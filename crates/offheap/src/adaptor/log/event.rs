//! One line of a log.

use super::json;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// How a log's lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// As Arrow's `LoggingMemoryPool` prints, with address and pool behind:
    /// `Allocate: size = 100, alignment = 64, address = 0x7f…, pool = system`.
    #[default]
    Text,
    /// One JSON object a line, with time (seconds since 1970) and thread.
    Json,
    /// RMM's CSV, `Thread,Time,Action,Pointer,Size,Stream`, which its replay benchmark reads. A
    /// reallocation is a free and an allocation there; the stream is always 0; times of day are UTC.
    RmmCsv,
}

impl LogFormat {
    /// The first line of a log, if the format has one.
    pub const fn header(self) -> Option<&'static str> {
        match self {
            Self::Text | Self::Json => None,
            Self::RmmCsv => Some("Thread,Time,Action,Pointer,Size,Stream"),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogAction {
    /// A block was allocated.
    Allocate,
    /// A block could not be had.
    AllocateFailure,
    /// A block has another size.
    Reallocate,
    /// A block could not get another size, and is as it was.
    ReallocateFailure,
    /// A block is given back.
    Free,
}

impl LogAction {
    const ALL: [Self; 5] = [
        Self::Allocate,
        Self::AllocateFailure,
        Self::Reallocate,
        Self::ReallocateFailure,
        Self::Free,
    ];

    /// `allocate`, `allocate failure`, `reallocate`, `reallocate failure` or `free`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allocate => "allocate",
            Self::AllocateFailure => "allocate failure",
            Self::Reallocate => "reallocate",
            Self::ReallocateFailure => "reallocate failure",
            Self::Free => "free",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    pub(super) const fn has_failed(self) -> bool {
        matches!(self, Self::AllocateFailure | Self::ReallocateFailure)
    }

    pub(super) const fn is_reallocation(self) -> bool {
        matches!(self, Self::Reallocate | Self::ReallocateFailure)
    }
}

/// One event, written or read. Printed, it is the line of its format. What a format does not say is
/// zero or empty after reading.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEvent<'a> {
    /// How the event prints.
    pub format: LogFormat,
    /// Since 1970; read from RMM's CSV, since midnight. In microseconds.
    pub time: Duration,
    /// The thread's number.
    pub thread: u64,
    /// What happened.
    pub action: LogAction,
    /// The block, after the event; 0 where there is none.
    pub address: u64,
    /// Its size in bytes; of a failure, the size asked for.
    pub size: u64,
    /// Of a reallocation, where the block was.
    pub old_address: u64,
    /// Of a reallocation, its size before.
    pub old_size: u64,
    /// Its alignment.
    pub alignment: u64,
    /// The logged pool's name.
    pub pool: Cow<'a, str>,
    /// The CUDA stream of RMM's logs.
    pub stream: u64,
}

impl<'a> LogEvent<'a> {
    pub(super) fn new(format: LogFormat, action: LogAction) -> LogEvent<'a> {
        LogEvent {
            format,
            time: Duration::ZERO,
            thread: 0,
            action,
            address: 0,
            size: 0,
            old_address: 0,
            old_size: 0,
            alignment: 0,
            pool: Cow::Borrowed(""),
            stream: 0,
        }
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            size,
            old_size,
            old_address,
            alignment,
            ..
        } = self;
        match self.action {
            LogAction::Allocate | LogAction::AllocateFailure => {
                write!(f, "Allocate: size = {size}, alignment = {alignment}")?;
            }
            LogAction::Reallocate | LogAction::ReallocateFailure => write!(
                f,
                "Reallocate: old_size = {old_size}, new_size = {size}, alignment = {alignment}, old_address = {old_address:#x}"
            )?,
            LogAction::Free => write!(f, "Free: size = {size}, alignment = {alignment}")?,
        }
        if self.action.has_failed() {
            f.write_str(", failed")?;
        } else {
            write!(f, ", address = {:#x}", self.address)?;
        }
        f.write_str(", pool = ")?;
        // A name must not end the line.
        for c in self.pool.chars() {
            let shown = if c.is_control() { '\u{fffd}' } else { c };
            fmt::Write::write_char(f, shown)?;
        }
        Ok(())
    }

    fn write_json(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            r#"{{"time":{}.{:06},"thread":{},"action":"{}""#,
            self.time.as_secs(),
            self.time.subsec_micros(),
            self.thread,
            self.action.name()
        )?;
        if !self.action.has_failed() {
            write!(f, r#","address":"{:#x}""#, self.address)?;
        }
        if self.action.is_reallocation() {
            write!(
                f,
                r#","oldAddress":"{:#x}","oldSize":{}"#,
                self.old_address, self.old_size
            )?;
        }
        write!(
            f,
            r#","size":{},"alignment":{},"pool":"#,
            self.size, self.alignment
        )?;
        json::write_string(f, &self.pool)?;
        f.write_str("}")
    }

    fn write_csv(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs() % 86_400;
        write!(
            f,
            "{},{:02}:{:02}:{:02}.{:06},{},",
            self.thread,
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            self.time.subsec_micros(),
            self.action.name()
        )?;
        // As the C library prints a pointer.
        match self.address {
            0 => f.write_str("(nil)")?,
            address => write!(f, "{address:#x}")?,
        }
        write!(f, ",{},{:x}", self.size, self.stream)
    }
}

impl fmt::Display for LogEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.format {
            LogFormat::Text => self.write_text(f),
            LogFormat::Json => self.write_json(f),
            LogFormat::RmmCsv => self.write_csv(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(format: LogFormat, action: LogAction) -> LogEvent<'static> {
        LogEvent {
            time: Duration::from_micros(90_061_000_007),
            thread: 3,
            address: 0x7f00,
            size: 100,
            old_address: 0x6e00,
            old_size: 50,
            alignment: 64,
            pool: "a \"b\"\n".into(),
            ..LogEvent::new(format, action)
        }
    }

    #[test]
    fn text_lines_are_arrows_with_address_and_pool_behind() {
        let line = |action| event(LogFormat::Text, action).to_string();
        assert_eq!(
            line(LogAction::Allocate),
            "Allocate: size = 100, alignment = 64, address = 0x7f00, pool = a \"b\"\u{fffd}"
        );
        assert_eq!(
            line(LogAction::ReallocateFailure),
            "Reallocate: old_size = 50, new_size = 100, alignment = 64, old_address = 0x6e00, failed, pool = a \"b\"\u{fffd}"
        );
        assert!(line(LogAction::Free).starts_with("Free: size = 100, alignment = 64, address = "));
    }

    #[test]
    fn json_lines_are_objects() {
        let line = |action| event(LogFormat::Json, action).to_string();
        assert_eq!(
            line(LogAction::Reallocate),
            r#"{"time":90061.000007,"thread":3,"action":"reallocate","address":"0x7f00","oldAddress":"0x6e00","oldSize":50,"size":100,"alignment":64,"pool":"a \"b\"\n"}"#
        );
        assert!(!line(LogAction::AllocateFailure).contains("ddress"));
    }

    #[test]
    fn csv_lines_are_rmms() {
        let line = |action| event(LogFormat::RmmCsv, action).to_string();
        assert_eq!(
            line(LogAction::Allocate),
            "3,01:01:01.000007,allocate,0x7f00,100,0"
        );
        let failed = LogEvent {
            address: 0,
            ..event(LogFormat::RmmCsv, LogAction::AllocateFailure)
        };
        assert_eq!(
            failed.to_string(),
            "3,01:01:01.000007,allocate failure,(nil),100,0"
        );
    }
}

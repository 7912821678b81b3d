//! Logs read back.

use super::event::{LogAction, LogEvent, LogFormat};
use super::json::{self, Value};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

/// The longest line that is read, in bytes: what a reader holds at most.
const LONGEST: u64 = 64 << 10;

/// What a line of each format must be.
const TEXT: &str = "a line as Arrow's logging pool prints it";
const JSON: &str = "a flat JSON object with an action, a size and an address";
const CSV: &str = "a line of RMM's CSV, with the columns of its header";

/// The events of a log, one after the other: of every [`LogFormat`], of Arrow's `LoggingMemoryPool`
/// and of RMM's `logging_resource_adaptor`. Formats may alternate; empty lines are skipped. Takes
/// memory for one line, at most 64 KiB.
///
/// A line that is none of a log's is an
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) that names it; the next call goes on after
/// it. An input that fails ends the log.
///
/// ```
/// use offheap::{LogAction, LogReader};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n\
///            1,10:00:00.000001,allocate,0x7f00,100,0\n\
///            1,10:00:00.000002,free,0x7f00,100,0\n\
///            nonsense\n";
/// let mut events = LogReader::new(log.as_bytes());
/// assert_eq!(events.next().unwrap()?.size, 100);
/// assert_eq!(events.next().unwrap()?.action, LogAction::Free);
/// let error = events.next().unwrap().unwrap_err();
/// assert!(error.to_string().contains("line 4: 'nonsense'"));
/// assert!(events.next().is_none());
/// # Ok::<(), offheap::Error>(())
/// ```
#[derive(Debug)]
pub struct LogReader<R> {
    input: R,
    /// Of the line read last, from 1.
    line: u64,
    columns: Option<Columns>,
    has_ended: bool,
}

/// The events of a log file: see [`LogReader`].
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a file that cannot be opened.
pub fn read_log(path: impl AsRef<Path>) -> Result<LogReader<BufReader<File>>> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|error| {
        Error::invalid_argument(
            "path",
            format_args!("'{}' ({error})", path.display()),
            "a file that can be read",
        )
    })?;
    Ok(LogReader::new(BufReader::new(file)))
}

/// Where a CSV's columns are.
#[derive(Debug, Clone, Copy)]
struct Columns {
    thread: usize,
    time: Option<usize>,
    action: usize,
    pointer: usize,
    size: usize,
    stream: Option<usize>,
    count: usize,
}

impl Columns {
    fn of_header(line: &str) -> Option<Self> {
        let find = |name| line.split(',').position(|column| column.trim() == name);
        Some(Self {
            thread: find("Thread")?,
            time: find("Time"),
            action: find("Action")?,
            pointer: find("Pointer")?,
            size: find("Size")?,
            stream: find("Stream"),
            count: line.split(',').count(),
        })
    }

    fn read(&self, line: &str) -> Option<LogEvent<'static>> {
        // No column of a log is quoted.
        if line.split(',').count() != self.count {
            return None;
        }
        let at = |column: usize| line.split(',').nth(column).map(str::trim);
        let action = LogAction::named(at(self.action)?).filter(|a| !a.is_reallocation())?;
        let address = match at(self.pointer)? {
            "(nil)" => 0,
            pointer => hex(pointer)?,
        };
        Some(LogEvent {
            thread: number(at(self.thread)?)?,
            time: match self.time {
                Some(time) => time_of_day(at(time)?)?,
                None => Duration::ZERO,
            },
            address,
            size: number(at(self.size)?)?,
            stream: match self.stream {
                Some(stream) => hex(at(stream)?)?,
                None => 0,
            },
            ..LogEvent::new(LogFormat::RmmCsv, action)
        })
    }
}

/// Digits, and nothing else.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Hexadecimal digits, with `0x` before them or not.
fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| are_digits)
}

/// Digits behind a decimal point, as microseconds.
fn micros(digits: &str) -> Option<u32> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let first = digits.bytes().chain(std::iter::repeat(b'0')).take(6);
    Some(first.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
}

/// `10:00:00.000001`; older RMMs write a colon for the point.
fn time_of_day(text: &str) -> Option<Duration> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes) = (number(parts.next()?)?, number(parts.next()?)?);
    let (seconds, fraction) = parts.next()?.split_once(['.', ':'])?;
    let seconds = number(seconds)?;
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60 + seconds;
    Some(Duration::new(seconds, micros(fraction)? * 1000))
}

/// Seconds as JSON writes them.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    Some(Duration::new(number(whole)?, micros(fraction)? * 1000))
}

fn read_text(line: &str) -> Option<LogEvent<'static>> {
    let (rest, pool) = line.split_once(", pool = ").unwrap_or((line, ""));
    let (word, rest) = rest.split_once(": ")?;
    let (mut size, mut old_size, mut alignment, mut address, mut old_address) =
        (None, None, None, None, None);
    let mut has_failed = false;
    for piece in rest.split(", ") {
        if piece == "failed" && !has_failed {
            has_failed = true;
            continue;
        }
        let (key, value) = piece.split_once(" = ")?;
        let (slot, value) = match key {
            "size" | "new_size" => (&mut size, number(value)?),
            "old_size" => (&mut old_size, number(value)?),
            "alignment" => (&mut alignment, number(value)?),
            "address" => (&mut address, hex(value)?),
            "old_address" => (&mut old_address, hex(value)?),
            _ => return None,
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    let action = match (word, has_failed) {
        ("Allocate", false) => LogAction::Allocate,
        ("Allocate", true) => LogAction::AllocateFailure,
        ("Reallocate", false) => LogAction::Reallocate,
        ("Reallocate", true) => LogAction::ReallocateFailure,
        ("Free", false) => LogAction::Free,
        _ => return None,
    };
    if action.is_reallocation() != old_size.is_some() {
        return None;
    }
    Some(LogEvent {
        address: address.unwrap_or(0),
        size: size?,
        old_address: old_address.unwrap_or(0),
        old_size: old_size.unwrap_or(0),
        alignment: alignment.unwrap_or(0),
        pool: pool.to_owned().into(),
        ..LogEvent::new(LogFormat::Text, action)
    })
}

fn read_json(line: &str) -> Option<LogEvent<'static>> {
    let mut event = LogEvent::new(LogFormat::Json, LogAction::Free);
    let (mut action, mut size, mut old_size, mut address) = (None, None, None, None);
    json::read_object(line, |key, value| {
        match (key, value) {
            ("time", Value::Number(text)) => event.time = seconds(text)?,
            ("thread", Value::Number(text)) => event.thread = number(text)?,
            ("size", Value::Number(text)) => size = Some(number(text)?),
            ("oldSize", Value::Number(text)) => old_size = Some(number(text)?),
            ("alignment", Value::Number(text)) => event.alignment = number(text)?,
            ("action", Value::Text(text)) => action = Some(LogAction::named(&text)?),
            ("address", Value::Text(text)) => address = Some(hex(&text)?),
            ("oldAddress", Value::Text(text)) => event.old_address = hex(&text)?,
            ("pool", Value::Text(text)) => event.pool = text.into(),
            (
                "time" | "thread" | "size" | "oldSize" | "alignment" | "action" | "address"
                | "oldAddress" | "pool",
                _,
            ) => return None,
            // Members of a later version.
            _ => {}
        }
        Some(())
    })?;
    let action = action?;
    if action.is_reallocation() != old_size.is_some() || action.has_failed() == address.is_some() {
        return None;
    }
    Some(LogEvent {
        action,
        address: address.unwrap_or(0),
        size: size?,
        old_size: old_size.unwrap_or(0),
        ..event
    })
}

impl<R: BufRead> LogReader<R> {
    /// Reads events from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            line: 0,
            columns: None,
            has_ended: false,
        }
    }

    /// The number of the line read last, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    #[cold]
    fn refused(&self, line: &str, expected: &'static str) -> Error {
        let mut excerpt: String = line.chars().take(80).flat_map(char::escape_debug).collect();
        if line.chars().nth(80).is_some() {
            excerpt.push('…');
        }
        Error::invalid_argument(
            "log",
            format_args!("line {}: '{excerpt}'", self.line),
            expected,
        )
    }

    /// The next line, at most [`LONGEST`] bytes of it, and whether there is more of it.
    fn read_line(&mut self) -> std::io::Result<(Vec<u8>, bool)> {
        let mut line = Vec::new();
        (&mut self.input)
            .take(LONGEST)
            .read_until(b'\n', &mut line)?;
        let is_cut = line.len() as u64 == LONGEST && line.last() != Some(&b'\n');
        Ok((line, is_cut))
    }

    fn skip_line(&mut self) -> std::io::Result<()> {
        while self.read_line()?.1 {}
        Ok(())
    }

    /// What a line says; nothing for an empty one and for a header.
    fn read_event(&mut self, line: &str) -> Result<Option<LogEvent<'static>>> {
        let line = line.trim_end_matches(['\n', '\r']);
        if line.trim().is_empty() {
            return Ok(None);
        }
        if line.starts_with('{') {
            let event = read_json(line).ok_or_else(|| self.refused(line, JSON))?;
            return Ok(Some(event));
        }
        if ["Allocate:", "Reallocate:", "Free:"]
            .iter()
            .any(|word| line.starts_with(word))
        {
            let event = read_text(line).ok_or_else(|| self.refused(line, TEXT))?;
            return Ok(Some(event));
        }
        if let Some(columns) = Columns::of_header(line) {
            self.columns = Some(columns);
            return Ok(None);
        }
        let event = self.columns.and_then(|columns| columns.read(line));
        Ok(Some(event.ok_or_else(|| self.refused(line, CSV))?))
    }

    fn next_event(&mut self) -> Result<Option<LogEvent<'static>>> {
        loop {
            let failed = |error: std::io::Error, line: u64| {
                Error::invalid_argument(
                    "log",
                    format_args!("line {line}: ({error})"),
                    "readable to its end",
                )
            };
            let (bytes, is_cut) = match self.read_line() {
                Ok(line) => line,
                Err(error) => {
                    self.has_ended = true;
                    return Err(failed(error, self.line + 1));
                }
            };
            if bytes.is_empty() {
                self.has_ended = true;
                return Ok(None);
            }
            self.line += 1;
            if is_cut {
                let text = String::from_utf8_lossy(&bytes[..400]);
                let error = self.refused(&text, "of lines of at most 65536 bytes");
                if let Err(error) = self.skip_line() {
                    self.has_ended = true;
                    return Err(failed(error, self.line));
                }
                return Err(error);
            }
            let Ok(line) = std::str::from_utf8(&bytes) else {
                return Err(self.refused(&String::from_utf8_lossy(&bytes), "UTF-8"));
            };
            if let Some(event) = self.read_event(line)? {
                return Ok(Some(event));
            }
        }
    }
}

impl<R: BufRead> Iterator for LogReader<R> {
    type Item = Result<LogEvent<'static>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        self.next_event().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Result<LogEvent<'static>> {
        LogReader::new(line.as_bytes()).next().unwrap()
    }

    #[test]
    fn arrows_own_lines_are_read() {
        let event = one("Allocate: size = 100, alignment = 64").unwrap();
        assert_eq!((event.size, event.alignment, event.address), (100, 64, 0));
        let event = one("Reallocate: old_size = 1, new_size = 2, alignment = 64\r\n").unwrap();
        assert_eq!((event.old_size, event.size), (1, 2));
        assert_eq!(one("Free: size = 5, alignment = 64").unwrap().size, 5);
        assert_eq!(one("Free: size = 5").unwrap().alignment, 0);
    }

    #[test]
    fn rmms_own_lines_are_read() {
        let log = "Thread,Time,Action,Pointer,Size,Stream\n\
                   140,10:20:30.000045,allocate,0x7f00,256,0x5581a0\n\
                   \n\
                   140,10:20:30:000046,allocate failure,(nil),256,0\n\
                   140,23:59:59.5,free,0x7f00,256,5581a0\n";
        let events: Vec<_> = LogReader::new(log.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(events[0].time, Duration::from_micros(37_230_000_045));
        assert_eq!(
            (events[0].thread, events[0].stream, events[0].address),
            (140, 0x5581a0, 0x7f00)
        );
        assert_eq!(events[1].action, LogAction::AllocateFailure);
        assert_eq!((events[1].address, events[1].time.subsec_micros()), (0, 46));
        assert_eq!(events[2].time, Duration::from_millis(86_399_500));
        assert_eq!(events[2].stream, events[0].stream);
        // Other columns, another order.
        let log = "Size,Pointer,Note,Action,Thread\n256,0x1,x,free,7\n";
        let event = LogReader::new(log.as_bytes()).next().unwrap().unwrap();
        assert_eq!((event.size, event.address, event.thread), (256, 1, 7));
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        let log = "Free: size = 1\nFree: size = -1\n{\"action\":\"free\"}\nwhat\n\
                   \u{1b}[2J\n{\"action\":\"free\",\"size\":2,\"address\":\"0x1\"}\n";
        let mut reader = LogReader::new(log.as_bytes());
        assert_eq!(reader.next().unwrap().unwrap().size, 1);
        for (line, expected) in [
            (
                2,
                "log must be a line as Arrow's logging pool prints it, got line 2: 'Free: size = -1'",
            ),
            (
                3,
                "log must be a flat JSON object with an action, a size and an address, got line 3: '{\\\"action\\\":\\\"free\\\"}'",
            ),
            (
                4,
                "log must be a line of RMM's CSV, with the columns of its header, got line 4: 'what'",
            ),
            (5, "got line 5: '\\u{1b}[2J'"),
        ] {
            let error = reader.next().unwrap().unwrap_err();
            assert!(error.to_string().ends_with(expected), "{error}");
            assert_eq!(reader.line(), line);
        }
        assert_eq!(reader.next().unwrap().unwrap().size, 2);
        assert!(reader.next().is_none() && reader.next().is_none());
    }

    #[test]
    fn lines_that_look_like_a_log_are_looked_at_closely() {
        for line in [
            "Allocate: size = 1, size = 2",
            "Allocate: alignment = 64",
            "Allocate: size = +1",
            "Allocate: size = 1, failed, failed",
            "Allocate: size = 1, old_size = 1",
            "Reallocate: new_size = 1",
            "Free: size = 1, failed",
            "Free: size = 99999999999999999999",
            "Free: size = 1, address = 0xxyz",
            "Free:size = 1",
            "{\"action\":\"free\",\"size\":1}",
            "{\"action\":\"free\",\"size\":1.5,\"address\":\"0x1\"}",
            "{\"action\":\"free\",\"size\":\"1\",\"address\":\"0x1\"}",
            "{\"action\":\"allocate failure\",\"size\":1,\"address\":\"0x1\"}",
            "{\"action\":\"reallocate\",\"size\":1,\"address\":\"0x1\"}",
            "{\"action\":\"freed\",\"size\":1,\"address\":\"0x1\"}",
            "1,10:00:00.1,free,0x1,1,0",
        ] {
            assert!(one(line).is_err(), "{line}");
        }
        for row in [
            "1,10:00:00.1,free,0x1,1",
            "1,10:00:00.1,free,0x1,1,0,0",
            "1,24:00:00.1,free,0x1,1,0",
            "1,10:00:00,free,0x1,1,0",
            "1,10:00:00.,free,0x1,1,0",
            "1,10:00:00.1,reallocate,0x1,1,0",
            "1,10:00:00.1,free,nil,1,0",
            "-1,10:00:00.1,free,0x1,1,0",
        ] {
            let log = format!("Thread,Time,Action,Pointer,Size,Stream\n{row}");
            let mut reader = LogReader::new(log.as_bytes());
            assert!(reader.next().unwrap().is_err(), "{row}");
        }
    }

    /// Bounded memory: a line without an end is refused and skipped.
    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let mut log = vec![b'x'; 1_000_000];
        log.extend(b"\nFree: size = 1\n");
        log.extend(vec![0xff; 100]);
        let mut reader = LogReader::new(&log[..]);
        let error = reader.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("65536 bytes, got line 1: 'xxx"), "{error}");
        assert!(error.len() < 400);
        assert_eq!(reader.next().unwrap().unwrap().size, 1);
        let error = reader.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("UTF-8, got line 3"), "{error}");
        assert!(reader.next().is_none());
        // Exactly as long as may be.
        let mut log = vec![b' '; LONGEST as usize - 1];
        log.extend(b"\nFree: size = 1\n");
        let mut reader = LogReader::new(&log[..]);
        assert_eq!(reader.next().unwrap().unwrap().size, 1);
    }

    #[test]
    fn an_input_that_fails_ends_the_log() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("on purpose"))
            }
        }
        let mut reader = LogReader::new(BufReader::new(Failing));
        let error = reader.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("line 1: (on purpose)"), "{error}");
        assert!(reader.next().is_none());
        assert!(read_log("/nonexistent/log").is_err());
    }

    fn events() -> impl Strategy<Value = LogEvent<'static>> {
        let formats = prop_oneof![
            Just(LogFormat::Text),
            Just(LogFormat::Json),
            Just(LogFormat::RmmCsv)
        ];
        let actions = prop_oneof![
            Just(LogAction::Allocate),
            Just(LogAction::AllocateFailure),
            Just(LogAction::Reallocate),
            Just(LogAction::ReallocateFailure),
            Just(LogAction::Free)
        ];
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        let others = (any::<u64>(), any::<u64>(), 0..1_u64 << 50, "\\PC*");
        (formats, actions, numbers, others).prop_map(
            |(format, action, (size, address, old_size, old_address), (a, thread, time, pool))| {
                let event = LogEvent::new(format, action);
                let failed = action.has_failed();
                let resized = action.is_reallocation() && format != LogFormat::RmmCsv;
                let csv = format == LogFormat::RmmCsv;
                let day = 86_400_000_000;
                LogEvent {
                    action: match action {
                        LogAction::Reallocate if csv => LogAction::Allocate,
                        LogAction::ReallocateFailure if csv => LogAction::AllocateFailure,
                        action => action,
                    },
                    size,
                    address: if failed { 0 } else { address },
                    old_size: if resized { old_size } else { 0 },
                    old_address: if resized { old_address } else { 0 },
                    alignment: if csv { 0 } else { a },
                    thread: if format == LogFormat::Text { 0 } else { thread },
                    time: match format {
                        LogFormat::Text => Duration::ZERO,
                        LogFormat::Json => Duration::from_micros(time),
                        LogFormat::RmmCsv => Duration::from_micros(time % day),
                    },
                    stream: if csv { a } else { 0 },
                    pool: if csv { "".into() } else { pool.into() },
                    ..event
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_is_written_is_read(event in events()) {
            let header = event.format.header().map_or(String::new(), |line| format!("{line}\n"));
            let log = format!("{header}{event}\n");
            let mut reader = LogReader::new(log.as_bytes());
            prop_assert_eq!(reader.next().unwrap().unwrap(), event);
            prop_assert!(reader.next().is_none());
        }

        #[test]
        fn nothing_makes_it_panic(log in prop::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(LogReader::new(&log[..]).count() <= 500);
        }

        #[test]
        fn no_damage_of_a_log_makes_it_panic(
            event in events(), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let mut log = format!("Thread,Time,Action,Pointer,Size,Stream\n{event}\n").into_bytes();
            let at = at.index(log.len());
            log[at] = byte;
            prop_assert!(LogReader::new(&log[..]).count() <= 3);
        }
    }
}

//! What was found.

use super::guarded::{FORBIDDEN, Guarded};
use super::table::{Record, State};
use crate::error::{Error, ErrorKind};
use crate::origin::Origin;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// What is wrong with a block, or with a call about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorruptionKind {
    /// Bytes behind the block were written.
    Overflow,
    /// Bytes in front of the block were written.
    Underflow,
    /// A freed block was written.
    WriteAfterFree,
    /// A block was written that nobody may write any more.
    ImmutableWrite,
    /// A block was written through a view that should not be used any more.
    StaleView,
    /// A block was given back again.
    DoubleFree,
    /// A block was given back with another size than it has.
    WrongSize {
        /// The size that was given.
        given: usize,
    },
    /// A block was given back with another alignment than it has.
    WrongAlignment {
        /// The alignment that was given.
        given: usize,
    },
    /// A block was given back to another pool than it came from.
    WrongPool,
    /// A block was given back to another domain than it came from.
    WrongDomain,
    /// An address that is no block's was given back.
    InvalidPointer,
}

impl CorruptionKind {
    /// A word for programs: `overflow`, `underflow`, `write-after-free`, `immutable-write`, `stale-view`,
    /// `double-free`, `wrong-size`, `wrong-alignment`, `wrong-pool`, `wrong-domain`,
    /// `invalid-pointer`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Underflow => "underflow",
            Self::WriteAfterFree => "write-after-free",
            Self::ImmutableWrite => "immutable-write",
            Self::StaleView => "stale-view",
            Self::DoubleFree => "double-free",
            Self::WrongSize { .. } => "wrong-size",
            Self::WrongAlignment { .. } => "wrong-alignment",
            Self::WrongPool => "wrong-pool",
            Self::WrongDomain => "wrong-domain",
            Self::InvalidPointer => "invalid-pointer",
        }
    }
}

/// When damage is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DetectedOn {
    /// When a block was given back.
    Deallocation,
    /// When a block's size was to change.
    Reallocation,
    /// When a freed block left the quarantine.
    Reuse,
    /// By [`Pool::check_integrity`](crate::Pool::check_integrity).
    Check,
}

impl DetectedOn {
    /// `deallocation`, `reallocation`, `leaving the quarantine` or `check`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deallocation => "deallocation",
            Self::Reallocation => "reallocation",
            Self::Reuse => "leaving the quarantine",
            Self::Check => "check",
        }
    }
}

/// Bytes shown before the damage and from it on.
const SHOWN_BEFORE: usize = 32;
const SHOWN: usize = 96;

/// Some of a block's bytes, copied when the damage was found: the report never reads the block.
#[derive(Debug, Clone, Copy)]
struct Window {
    bytes: [u8; SHOWN],
    /// Seen from the user's first byte.
    start: isize,
    length: usize,
}

impl Window {
    const EMPTY: Self = Self {
        bytes: [0; SHOWN],
        start: 0,
        length: 0,
    };

    /// # Safety
    /// - as [`Guarded::bytes`] for the whole block; the user's bytes are left out unless they were
    ///   written.
    unsafe fn of(block: &Guarded, around: isize) -> Self {
        let first = -(block.extent.front as isize);
        let end = (block.size + block.extent.tail) as isize;
        // From a line of 16 on, as hex dumps are read.
        let start = (around - SHOWN_BEFORE as isize).max(first) & !15;
        let length = SHOWN.min((end - start) as usize);
        let mut window = Self {
            start,
            length,
            ..Self::EMPTY
        };
        // SAFETY: the caller's promise; the range was cut to the block and its guards (`first` is a
        // multiple of 64).
        window.bytes[..length].copy_from_slice(unsafe { block.bytes(start, length) });
        window
    }
}

/// The first and the last of a block's bytes.
#[derive(Debug, Clone, Copy)]
struct Ends {
    first: [u8; 8],
    last: [u8; 8],
}

/// What was seen in the block, of fixed size: it is made under a lock.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    front: Option<isize>,
    tail: Option<isize>,
    ends: Ends,
    window: Window,
}

/// Damage to memory, or a call that would have damaged it. [`Display`](fmt::Display) is the report.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Corruption {
    /// What is wrong.
    pub kind: CorruptionKind,
    /// When it was found.
    pub detected_on: DetectedOn,
    /// The block's address, or the one that was given.
    pub address: usize,
    /// The block's size in bytes, as asked for; 0 for an unknown block.
    pub size: usize,
    /// Its alignment; 0 for an unknown block.
    pub alignment: usize,
    /// The name of the pool that the block came from; of the pool that was asked when the block is
    /// unknown.
    pub pool: Arc<str>,
    /// The letter of the domain that the block came from: `r`, `m` or `o`.
    pub domain: char,
    /// The name of the pool that the block was given back to; `API 'm'` for a domain.
    pub given_to: Arc<str>,
    /// Which of the debug pools' allocations the block was, from 1; 0 for an unknown block.
    pub serial: u64,
    /// The first damaged byte, counted from the block's first; `None` when no byte is known to be.
    pub offset: Option<isize>,
    /// For an address inside of a block that is no block's own: how far inside.
    pub inside: Option<isize>,
    /// Where the block was allocated.
    pub allocated_at: Option<Origin>,
    /// Where the block was freed, the first time.
    pub freed_at: Option<Origin>,
    /// Where the damage was found: in the call that should have freed the block, or much later.
    pub detected_at: Origin,
    evidence: Option<Evidence>,
    guards: (usize, usize),
}

/// A [`Corruption`] in the making: everything that must be read while the block cannot change.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) kind: CorruptionKind,
    record: Record,
    offset: Option<isize>,
    evidence: Option<Evidence>,
}

// SAFETY: as for `Record`: the addresses are only named.
unsafe impl Send for Finding {}

impl Finding {
    /// About a block that is in the table. Asks for no memory.
    ///
    /// # Safety
    /// - the block's memory was not given back to upstream, and is not during the call.
    pub(super) unsafe fn of(kind: CorruptionKind, record: &Record, offset: Option<isize>) -> Self {
        let block = &record.block;
        let shown = block.size.min(8);
        let mut ends = Ends {
            first: [0; 8],
            last: [0; 8],
        };
        // SAFETY: the caller's promise. New memory was filled, or was zero: all bytes were written.
        let evidence = unsafe {
            ends.first[..shown].copy_from_slice(block.bytes(0, shown));
            ends.last[..shown].copy_from_slice(block.bytes((block.size - shown) as isize, shown));
            Evidence {
                front: block.front_damage(),
                tail: block.tail_damage(),
                ends,
                window: Window::of(block, offset.unwrap_or(0)),
            }
        };
        Self {
            kind,
            record: record.clone(),
            offset,
            evidence: Some(evidence),
        }
    }

    /// About a call that names a block wrongly, whose memory is not looked at.
    pub(super) fn without_evidence(kind: CorruptionKind, record: &Record) -> Self {
        Self {
            kind,
            record: record.clone(),
            offset: None,
            evidence: None,
        }
    }

    /// The report's content, found by a call to `given_to`.
    pub(super) fn into_corruption(
        self,
        detected_on: DetectedOn,
        detected_at: Origin,
        given_to: &Arc<str>,
    ) -> Corruption {
        let Record {
            block,
            alignment,
            pool,
            state,
            allocated_at,
            freed_at,
            ..
        } = self.record;
        // A block that is being freed now was not freed before.
        let freed_at = freed_at.filter(|_| state != State::Live);
        Corruption {
            kind: self.kind,
            detected_on,
            address: block.start.addr().get(),
            size: block.size,
            alignment: alignment.get(),
            pool: Arc::clone(&pool.name),
            domain: pool.letter,
            given_to: Arc::clone(given_to),
            serial: block.serial,
            offset: self.offset,
            inside: None,
            allocated_at: Some(allocated_at),
            freed_at,
            detected_at,
            evidence: self.evidence,
            guards: (block.extent.front, block.extent.tail),
        }
    }
}

impl Corruption {
    /// About an address that is no block's.
    pub(super) fn of_unknown(
        kind: CorruptionKind,
        address: usize,
        detected_on: DetectedOn,
        detected_at: Origin,
        (given_to, letter): (&Arc<str>, char),
    ) -> Self {
        Self {
            kind,
            detected_on,
            address,
            size: 0,
            alignment: 0,
            pool: Arc::clone(given_to),
            domain: letter,
            given_to: Arc::clone(given_to),
            serial: 0,
            offset: None,
            inside: None,
            allocated_at: None,
            freed_at: None,
            detected_at,
            evidence: None,
            guards: (0, 0),
        }
    }

    /// The bytes around the damage as text, 16 a line, each line with its distance from the block's
    /// first byte; empty when none may be looked at.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_dump(&mut text, "");
        text
    }

    fn block_address(&self) -> usize {
        self.address.wrapping_add_signed(-self.inside.unwrap_or(0))
    }

    /// One line: what is wrong, and in which call it was found.
    pub fn headline(&self) -> impl fmt::Display + '_ {
        Headline(self)
    }

    fn write_dump(&self, f: &mut dyn fmt::Write, indent: &str) -> fmt::Result {
        let Some(Evidence { window, .. }) = &self.evidence else {
            return Ok(());
        };
        for (line, bytes) in window.bytes[..window.length].chunks(16).enumerate() {
            let start = window.start + (line * 16) as isize;
            write!(f, "{indent}p{start:+5}:")?;
            for (i, byte) in bytes.iter().enumerate() {
                let mark = match self.offset {
                    Some(offset) if offset == start + i as isize => '>',
                    _ => ' ',
                };
                write!(f, "{mark}{byte:02x}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_guard(
        &self,
        f: &mut dyn fmt::Write,
        evidence: &Evidence,
        (name, origin, length): (&str, isize, usize),
        damage: Option<isize>,
    ) -> fmt::Result {
        write!(f, "    The {length} pad bytes at ")?;
        if origin < 0 {
            write!(f, "p-{length}")?;
        } else {
            write!(f, "tail={:#x}", self.address.wrapping_add_signed(origin))?;
        }
        let Some(damage) = damage else {
            let header = if origin < 0 { " and the header" } else { "" };
            return writeln!(f, " are FORBIDDENBYTE{header}, as expected.");
        };
        writeln!(f, " are not all FORBIDDENBYTE ({FORBIDDEN:#04x}):")?;
        let window = &evidence.window;
        let from = match usize::try_from(damage - window.start) {
            Ok(from) if from < window.length => from,
            _ => return writeln!(f, "        from {name}{:+} on", damage - origin.max(0)),
        };
        for i in (from..window.length).take(8) {
            let position = window.start + i as isize;
            if origin < 0 && position >= 0 {
                break;
            }
            let byte = window.bytes[i];
            // In front there is the header, too, whose bytes are of all kinds.
            let ouch = if byte == FORBIDDEN { "" } else { " *** OUCH" };
            writeln!(
                f,
                "        at {name}{:+}: {byte:#04x}{ouch}",
                position - origin.max(0)
            )?;
        }
        Ok(())
    }

    fn write_block(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        if self.serial == 0 {
            return Ok(());
        }
        writeln!(
            f,
            "Debug memory block at address p={:#x}: API '{}'\n    {} bytes originally requested\n    \
             aligned to {}, from pool '{}'",
            self.block_address(),
            self.domain,
            self.size,
            self.alignment,
            self.pool
        )?;
        let (front, tail) = self.guards;
        if let Some(evidence) = &self.evidence {
            let front = ("p", -(front as isize), front);
            self.write_guard(f, evidence, front, evidence.front)?;
            let tail = ("tail", self.size as isize, tail);
            self.write_guard(f, evidence, tail, evidence.tail)?;
        }
        writeln!(
            f,
            "    The block was made by call #{} to debug malloc/realloc.",
            self.serial
        )?;
        if let Some(evidence) = &self.evidence {
            f.write_str("    Data at p:")?;
            let Ends { first, last } = evidence.ends;
            first[..self.size.min(8)]
                .iter()
                .try_for_each(|byte| write!(f, " {byte:02x}"))?;
            if self.size > 8 {
                if self.size > 16 {
                    f.write_str(" ...")?;
                }
                last[8 - (self.size - 8).min(8)..]
                    .iter()
                    .try_for_each(|byte| write!(f, " {byte:02x}"))?;
            }
            f.write_str("\n    Bytes around the damage:\n")?;
            self.write_dump(f, "        ")?;
        }
        Ok(())
    }

    /// Everything that needs no names of functions.
    pub(super) fn write_facts(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(f, "offheap: {}", Headline(self))?;
        self.write_block(f)
    }

    /// The stacks.
    pub(super) fn write_stacks(
        &self,
        f: &mut dyn fmt::Write,
        foreign_now: Option<&str>,
    ) -> fmt::Result {
        let now = self.detected_at.time;
        for (what, origin) in [
            ("Memory block allocated", &self.allocated_at),
            ("Memory block freed", &self.freed_at),
        ] {
            if let Some(origin) = origin {
                write_origin(f, what, origin, now, None)?;
            }
        }
        write_origin(f, "Detected", &self.detected_at, now, foreign_now)
    }
}

struct Headline<'a>(&'a Corruption);

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.0;
        let on = c.detected_on.name();
        let (size, address) = (c.size, c.address);
        let offset = c.offset.unwrap_or(0);
        match c.kind {
            CorruptionKind::Overflow => write!(
                f,
                "Buffer overflow found on {on}: byte {offset} of a block of {size} bytes was written (bad trailing pad byte)"
            ),
            CorruptionKind::Underflow => write!(
                f,
                "Buffer underflow found on {on}: byte {offset} of a block of {size} bytes was written (bad leading pad byte)"
            ),
            CorruptionKind::WriteAfterFree => write!(
                f,
                "Write after free found on {on}: byte {offset} of a block of {size} bytes was written after the block was freed"
            ),
            CorruptionKind::ImmutableWrite => write!(
                f,
                "Write to an immutable buffer found on {on}: the {size} bytes changed after they were frozen"
            ),
            CorruptionKind::StaleView => write!(
                f,
                "Stale view found on {on}: byte {offset} of a block of {size} bytes was written through a view after the buffer was disposed of"
            ),
            CorruptionKind::DoubleFree => write!(
                f,
                "Double free: {on} of {address:#x}, a block of {size} bytes that was freed already"
            ),
            // Arrow's words, for what they say.
            CorruptionKind::WrongSize { given } => {
                write!(
                    f,
                    "Wrong size on {on}: given size = {given}, actual size = {size}"
                )
            }
            CorruptionKind::WrongAlignment { given } => write!(
                f,
                "Wrong alignment on {on}: given alignment = {given}, actual alignment = {}",
                c.alignment
            ),
            CorruptionKind::WrongPool => write!(
                f,
                "Wrong pool on {on}: the block of {size} bytes came from pool '{}', and was given to pool '{}'",
                c.pool, c.given_to
            ),
            // CPython's words.
            CorruptionKind::WrongDomain => write!(
                f,
                "Wrong domain on {on}: bad ID: Allocated using API '{}', verified using {}",
                c.domain, c.given_to
            ),
            CorruptionKind::InvalidPointer => {
                write!(
                    f,
                    "Invalid pointer on {on}: {address:#x} is no live block of '{}' (freed long ago, or never allocated)",
                    c.given_to
                )?;
                match c.inside {
                    Some(inside) => write!(
                        f,
                        "; it is byte {inside} of a block of {size} bytes at {:#x}",
                        c.block_address()
                    ),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_facts(f)?;
        self.write_stacks(f, None)
    }
}

impl From<Corruption> for Error {
    /// With the whole report.
    fn from(corruption: Corruption) -> Self {
        Self::new(ErrorKind::Corruption {
            what: corruption.to_string(),
        })
    }
}

/// Whether a frame is one of ours, between the program's call and the capture.
fn is_inner(function: &str) -> bool {
    [
        "backtrace::",
        "offheap::origin::",
        "offheap::adaptor::debug::",
        "offheap::pool::",
    ]
    .iter()
    .any(|module| function.trim_start_matches('<').starts_with(module))
}

fn write_origin(
    f: &mut dyn fmt::Write,
    what: &str,
    origin: &Origin,
    now: Instant,
    foreign_now: Option<&str>,
) -> fmt::Result {
    let before = now.saturating_duration_since(origin.time);
    write!(f, "{what} at (thread {}", origin.thread)?;
    if !before.is_zero() {
        write!(f, ", {before:.3?} before")?;
    }
    f.write_str("; most recent call first):\n")?;
    let frames = origin.native.frames();
    let outer = frames
        .iter()
        .position(|frame| !frame.function.as_deref().is_some_and(is_inner))
        .unwrap_or(0);
    for frame in &frames[outer..] {
        writeln!(f, "    {frame}")?;
    }
    let told = origin.foreign.as_ref().and_then(|foreign| foreign.stack());
    match told.map(|stack| &**stack).or(foreign_now) {
        Some(stack) => stack
            .lines()
            .try_for_each(|line| writeln!(f, "    {}", line.trim_start())),
        None if frames.is_empty() => f.write_str("    (no stack was kept)\n"),
        None => Ok(()),
    }
}

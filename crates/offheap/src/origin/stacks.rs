//! Native stacks, each kept once.

use crate::domain::{AddressHasher, AddressMap, Unhooked};
use crate::pool::Inside;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

/// The most native frames that are kept of a stack.
pub(super) const DEEPEST: usize = 64;

/// Frames that are kept beyond the depth asked for, since so many may be this crate's own.
const OWN: usize = 6;

/// A stack that was seen: two of the same frames are one. Zero frames are [`StackId::NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(u32);

/// One native frame with its name and line, as far as the binary tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The instruction's address.
    pub address: usize,
    /// The function's name.
    pub function: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
}

/// Frames of all stacks, one behind the other, and where each stack is. All memory is the C
/// library's: capturing happens inside of allocators.
struct Stacks {
    frames: allocator_api2::vec::Vec<usize, Unhooked>,
    /// Start and length in `frames`, by id.
    ranges: allocator_api2::vec::Vec<(u32, u32), Unhooked>,
    /// The last stack of a hash, and for each stack the one before it of the same hash.
    by_hash: AddressMap<u64, u32>,
    before: allocator_api2::vec::Vec<u32, Unhooked>,
}

const NO_STACK: u32 = u32::MAX;

static STACKS: Mutex<Stacks> = Mutex::new(Stacks {
    frames: allocator_api2::vec::Vec::new_in(Unhooked),
    ranges: allocator_api2::vec::Vec::new_in(Unhooked),
    by_hash: AddressMap::with_hasher_in(BuildHasherDefault::new(), Unhooked),
    before: allocator_api2::vec::Vec::new_in(Unhooked),
});

impl Stacks {
    fn frames_of(&self, id: u32) -> &[usize] {
        match self.ranges.get(id as usize) {
            Some((start, length)) => &self.frames[*start as usize..(*start + *length) as usize],
            None => &[],
        }
    }

    /// The id of a stack; none when there is no memory for a new one.
    fn intern(&mut self, hash: u64, frames: &[usize]) -> Option<u32> {
        let last = self.by_hash.get(&hash).copied().unwrap_or(NO_STACK);
        let mut next = last;
        while next != NO_STACK {
            if self.frames_of(next) == frames {
                return Some(next);
            }
            next = self.before[next as usize];
        }
        let id = u32::try_from(self.ranges.len())
            .ok()
            .filter(|id| *id != NO_STACK)?;
        let start = u32::try_from(self.frames.len()).ok()?;
        let length = u32::try_from(frames.len()).ok()?;
        start.checked_add(length)?;
        self.frames.try_reserve(frames.len()).ok()?;
        self.ranges.try_reserve(1).ok()?;
        self.before.try_reserve(1).ok()?;
        self.by_hash.try_reserve(1).ok()?;
        self.frames.extend_from_slice(frames);
        self.ranges.push((start, length));
        self.before.push(last);
        self.by_hash.insert(hash, id);
        Some(id)
    }
}

/// Walks the calling thread's stack.
#[inline]
fn trace(each: impl FnMut(&backtrace::Frame) -> bool) {
    #[cfg(windows)]
    backtrace::trace(each);
    // The crate's lock would make all threads that capture take turns; it is there for dbghelp.
    #[cfg(not(windows))]
    // SAFETY: the unwinders of other systems may be used by many threads at once.
    unsafe {
        backtrace::trace_unsynchronized(each);
    }
}

/// Whose code a frame is.
#[derive(PartialEq, Eq)]
enum Owner {
    Offheap,
    /// What stands between frames of ours: `catch_unwind` and the like.
    Standard,
    Program,
}

fn owner(frame: &Frame) -> Owner {
    let Some(name) = frame.function.as_deref() else {
        return Owner::Program;
    };
    let starts = |prefixes: &[&str]| {
        let name = name.trim_start_matches(['<', '&']);
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    if name.contains("::tests::") {
        Owner::Program
    } else if starts(&["offheap::", "offheap_node::", "backtrace::"]) {
        Owner::Offheap
    } else if starts(&["std::", "core::", "alloc::", "__rust"]) {
        Owner::Standard
    } else {
        Owner::Program
    }
}

impl StackId {
    /// No stack.
    pub const NONE: Self = Self(NO_STACK);

    /// The calling thread's frames, at most `depth` (64) of them, without the first `skip`. Cost: 0.3
    /// to 4 us, mostly unwinding; JavaScript frames end it. Takes memory for stacks not seen before:
    /// 8 bytes a frame and 20 more.
    pub fn capture(skip: usize, depth: usize) -> Self {
        let mut seen = 0;
        Self::capture_where(depth, |_| {
            seen += 1;
            seen > skip
        })
    }

    /// As [`capture`](Self::capture), without the frames whose stack lies below the address `mark`,
    /// and with some more for this crate's own.
    pub(super) fn capture_above(mark: usize, depth: usize) -> Self {
        if depth == 0 {
            return Self::NONE;
        }
        let depth = depth.saturating_add(OWN);
        let stack = Self::capture_where(depth, |frame| frame.sp().addr() > mark);
        if stack.is_none() {
            // An unwinder that does not tell where the stack of a frame is.
            return Self::capture_where(depth, |_| true);
        }
        stack
    }

    fn capture_where(depth: usize, mut wanted: impl FnMut(&backtrace::Frame) -> bool) -> Self {
        let mut frames = [0_usize; DEEPEST];
        let depth = depth.min(DEEPEST);
        if depth == 0 {
            return Self::NONE;
        }
        let mut length = 0;
        trace(|frame| {
            if wanted(frame) {
                frames[length] = frame.ip().addr();
                length += 1;
            }
            length < depth
        });
        if length == 0 {
            return Self::NONE;
        }
        let frames = &frames[..length];
        let mut hasher = AddressHasher::default();
        frames.iter().for_each(|frame| hasher.write_usize(*frame));
        let mut stacks = STACKS.lock().unwrap_or_else(PoisonError::into_inner);
        stacks
            .intern(hasher.finish(), frames)
            .map_or(Self::NONE, Self)
    }

    /// Whether there are no frames.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The frames, the innermost first, with names and lines where the binary has them; one frame
    /// of code may give several, for inlined functions. Those of this crate at the inner end are
    /// left out, if there are others, and so are Rust's own start of a thread or program at the
    /// outer end. Cost: milliseconds the first time.
    pub fn frames(self) -> Vec<Frame> {
        let mut frames = self.all_frames();
        let inner = frames
            .iter()
            .take_while(|frame| owner(frame) != Owner::Program)
            .count();
        let own = frames[..inner]
            .iter()
            .rposition(|frame| owner(frame) == Owner::Offheap)
            .map_or(0, |last| last + 1);
        if own < frames.len() {
            frames.drain(..own);
        }
        // The standard library's mark for this.
        let start = frames.iter().position(|frame| {
            let name = frame.function.as_deref().unwrap_or_default();
            name.contains("__rust_begin_short_backtrace")
        });
        frames.truncate(start.filter(|start| *start > 0).unwrap_or(frames.len()));
        frames
    }

    fn all_frames(self) -> Vec<Frame> {
        // The symbolizer's lock lets its own thread in again, to the tables that it is changing: an
        // allocator that looks at stacks itself must not be asked meanwhile.
        let _inside = Inside::enter();
        let addresses: Vec<usize> = {
            let mut copy = [0_usize; DEEPEST];
            let stacks = STACKS.lock().unwrap_or_else(PoisonError::into_inner);
            let frames = stacks.frames_of(self.0);
            let length = frames.len();
            copy[..length].copy_from_slice(frames);
            drop(stacks);
            copy[..length].to_vec()
        };
        let mut frames = Vec::new();
        for address in addresses {
            let before = frames.len();
            // The address is that of the next instruction: one less is in the call.
            let call = std::ptr::without_provenance_mut(address.saturating_sub(1));
            backtrace::resolve(call, |symbol| {
                frames.push(Frame {
                    address,
                    function: symbol.name().map(|name| format!("{name:#}")),
                    file: symbol.filename().map(|file| file.display().to_string()),
                    line: symbol.lineno(),
                });
            });
            if frames.len() == before {
                frames.push(Frame {
                    address,
                    function: None,
                    file: None,
                    line: None,
                });
            }
        }
        frames
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Some(function) => f.write_str(function)?,
            None => write!(f, "{:#x}", self.address)?,
        }
        if let Some(file) = &self.file {
            write!(f, " ({file}:{})", self.line.unwrap_or(0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn here() -> StackId {
        StackId::capture(0, 16)
    }

    #[test]
    fn frames_of_the_crate_at_the_inner_end_are_left_out() {
        let frame = |name: &str| Frame {
            address: 1,
            function: Some(name.to_owned()),
            file: None,
            line: None,
        };
        assert!(owner(&frame("offheap::pool::handle::Pool::allocate")) == Owner::Offheap);
        assert!(owner(&frame("<offheap::pool::Pool as X>::y")) == Owner::Offheap);
        assert!(owner(&frame("std::panicking::try")) == Owner::Standard);
        assert!(owner(&frame("offheap_user::main")) == Owner::Program);
        assert!(owner(&frame("main")) == Owner::Program);
        let pool = crate::pool::system_memory_pool().track(Default::default());
        let block = crate::Block::allocate(10, Default::default(), &pool, false).unwrap();
        let live = pool.tracker().unwrap().live();
        let frames = live[0].native_frames();
        assert!(
            frames[0].to_string().contains("are_left_out"),
            "{frames:#?}"
        );
        drop(block);
    }

    #[test]
    fn a_stack_is_kept_once_and_names_its_functions() {
        let seen: Vec<_> = (0..3).map(|_| here()).collect();
        assert!(seen.iter().all(|id| *id == seen[0] && !id.is_none()));
        assert_ne!(seen[0], here());
        let frames = seen[0].frames();
        assert!(frames.len() < seen[0].all_frames().len());
        assert!(
            frames
                .iter()
                .any(|frame| frame.to_string().contains("kept_once")),
            "{frames:?}"
        );
        assert!(StackId::NONE.frames().is_empty());
        assert_eq!(StackId::capture(0, 0), StackId::NONE);
        assert_eq!(StackId::capture(10_000, 4), StackId::NONE);
    }
}

//! Native stacks, each kept once.

use crate::domain::{AddressHasher, AddressMap, Unhooked};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

/// The most native frames that are kept of a stack.
pub(super) const DEEPEST: usize = 64;

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
    fn intern(&mut self, frames: &[usize]) -> Option<u32> {
        let mut hasher = AddressHasher::default();
        frames.iter().for_each(|frame| hasher.write_usize(*frame));
        let hash = hasher.finish();
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

impl StackId {
    /// No stack.
    pub const NONE: Self = Self(NO_STACK);

    /// The calling thread's frames, at most `depth` (64) of them, without the first `skip`. Cost: 0.3
    /// to 4 us, mostly unwinding; JavaScript frames end it. Takes memory for stacks not seen before:
    /// 8 bytes a frame and 20 more.
    pub fn capture(skip: usize, depth: usize) -> Self {
        let mut frames = [0_usize; DEEPEST];
        let depth = depth.min(DEEPEST);
        if depth == 0 {
            return Self::NONE;
        }
        let (mut seen, mut length) = (0, 0);
        backtrace::trace(|frame| {
            seen += 1;
            if seen > skip {
                frames[length] = frame.ip().addr();
                length += 1;
            }
            length < depth
        });
        if length == 0 {
            return Self::NONE;
        }
        let mut stacks = STACKS.lock().unwrap_or_else(PoisonError::into_inner);
        stacks.intern(&frames[..length]).map_or(Self::NONE, Self)
    }

    /// Whether there are no frames.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The frames, the innermost first, with names and lines where the binary has them; one frame
    /// of code may give several, for inlined functions. Cost: milliseconds the first time.
    pub fn frames(self) -> Vec<Frame> {
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
    fn a_stack_is_kept_once_and_names_its_functions() {
        let seen: Vec<_> = (0..3).map(|_| here()).collect();
        assert!(seen.iter().all(|id| *id == seen[0] && !id.is_none()));
        assert_ne!(seen[0], here());
        let frames = seen[0].frames();
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

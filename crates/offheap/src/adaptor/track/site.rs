//! One place in the program, and what was allocated there.

use crate::origin::{Frame, StackId};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The most frames of either kind that a report shows of a stack.
const SHOWN: usize = 16;

/// Blocks of one place: same stacks, same tags.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Site {
    /// Their bytes.
    pub bytes: u64,
    /// How many they are.
    pub count: u64,
    /// The native frames of the place.
    pub native: StackId,
    /// The frames of the language above, one a line, the innermost first: `function
    /// (file:line:column)`.
    pub foreign: Option<Arc<str>>,
    /// `key=value, …`: see [`with_tags`](crate::origin::with_tags).
    pub tags: Option<Arc<str>>,
    /// When the first of the blocks was allocated.
    pub first: Instant,
    /// When the last of them was.
    pub last: Instant,
}

/// What makes two blocks be of one site.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) native: StackId,
    pub(super) foreign: Option<Arc<str>>,
    pub(super) tags: Option<Arc<str>>,
}

/// What happened at a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    pub(super) count: u64,
    pub(super) first: Instant,
    pub(super) last: Instant,
}

impl Sum {
    pub(super) fn of_one(bytes: u64, time: Instant) -> Self {
        Self {
            bytes,
            count: 1,
            first: time,
            last: time,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

impl Site {
    pub(super) fn new(place: Place, sum: Sum) -> Self {
        Self {
            bytes: sum.bytes,
            count: sum.count,
            native: place.native,
            foreign: place.foreign,
            tags: place.tags,
            first: sum.first,
            last: sum.last,
        }
    }

    /// The native frames with their names. Cost: milliseconds the first time.
    pub fn native_frames(&self) -> Vec<Frame> {
        self.native.frames()
    }

    pub(crate) fn stacks(&self) -> String {
        let native = self.native_frames();
        stacks(self.tags.as_deref(), self.foreign.as_deref(), &native)
    }

    /// The largest first; of equals, the older.
    pub(super) fn sort(sites: &mut [Self]) {
        sites.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.first.cmp(&b.first)));
    }
}

/// Tags and frames, a line each, to stand behind what was allocated there.
pub(super) fn stacks(tags: Option<&str>, foreign: Option<&str>, native: &[Frame]) -> String {
    let mut text = tags.map_or_else(String::new, |tags| format!(" [{tags}]"));
    let mut add = |word: &str, frames: &mut dyn Iterator<Item = String>| {
        for frame in Iterator::take(&mut *frames, SHOWN) {
            text.push_str(&format!("\n    {word} {frame}"));
        }
        let left = frames.count();
        if left > 0 {
            text.push_str(&format!("\n    … {left} more"));
        }
    };
    let foreign = foreign.unwrap_or_default();
    add(
        "at",
        &mut foreign.lines().map(|frame| frame.trim().to_owned()),
    );
    add("in", &mut native.iter().map(Frame::to_string));
    if foreign.is_empty() && native.is_empty() {
        text.push_str("\n    at an unknown place");
    }
    text
}

impl fmt::Display for Site {
    /// `1024 bytes in 2 allocations`, then the frames, those of the language above first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, count, .. } = self;
        let plural = if *count == 1 { "" } else { "s" };
        let stacks = self.stacks();
        write!(f, "{bytes} bytes in {count} allocation{plural}{stacks}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_prints_its_sums_tags_and_frames_the_foreign_ones_first() {
        let now = Instant::now();
        let long: Vec<_> = (0..20).map(|i| format!("f{i} (a.js:{i}:1)")).collect();
        let place = Place {
            native: StackId::NONE,
            foreign: Some(long.join("\n").into()),
            tags: Some("query=1".into()),
        };
        let mut sum = Sum::of_one(1000, now);
        sum.add(Sum::of_one(24, now));
        let text = Site::new(place, sum).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "1024 bytes in 2 allocations [query=1]");
        assert_eq!(lines[1], "    at f0 (a.js:0:1)");
        assert_eq!(lines[17], "    … 4 more");
        assert_eq!(lines.len(), 18);
        let nowhere = Place {
            native: StackId::NONE,
            foreign: None,
            tags: None,
        };
        assert_eq!(
            Site::new(nowhere, Sum::of_one(1, now)).to_string(),
            "1 bytes in 1 allocation\n    at an unknown place"
        );
    }
}

//! One place in a program at one time.

use super::foreign::{self, Foreign};
use super::stacks::StackId;
use super::tags;
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Thread, time, stacks and tags of a request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// A number of its own for each thread, from 1 in the order of their first request.
    pub thread: u64,
    /// When.
    pub time: Instant,
    /// The native frames.
    pub native: StackId,
    /// The frames of the language above, told after the call.
    pub foreign: Option<Arc<Foreign>>,
    /// What [`with_tags`](super::with_tags) says here.
    pub tags: Option<Arc<str>>,
}

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
    /// Whether this thread captures an origin now: what that itself allocates has none.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread's number: see [`Origin::thread`].
pub fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if THREAD.get() == 0 {
        THREAD.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    THREAD.get()
}

impl Origin {
    /// Where the calling thread is now, with `depth` native frames (at most 64; 0 for none) besides
    /// this crate's own, which [`StackId::frames`] leaves out.
    #[inline(never)]
    pub fn capture(depth: usize) -> Self {
        let here = 0_u8;
        Self::capture_above(black_box(&raw const here).addr(), depth)
    }

    /// As [`capture`](Self::capture), without the frames whose stack lies below the address `mark`:
    /// the inner ones, as stacks grow down.
    pub(crate) fn capture_above(mark: usize, depth: usize) -> Self {
        let nested = CAPTURING.replace(true);
        let (native, foreign, tags) = if nested {
            (StackId::NONE, None, None)
        } else {
            (
                StackId::capture_above(mark, depth),
                foreign::pending(),
                tags::current(),
            )
        };
        CAPTURING.set(nested);
        Self {
            thread: thread_number(),
            time: Instant::now(),
            native,
            foreign,
            tags,
        }
    }

    /// The frames of the language above, one a line, the innermost first, if they were told.
    pub fn foreign_stack(&self) -> Option<Arc<str>> {
        self.foreign.as_ref()?.stack().cloned()
    }

    /// As [`foreign_stack`](Self::foreign_stack), at most `depth` frames of it: a language above takes
    /// as many as the one who wants most.
    pub(crate) fn foreign_frames(&self, depth: usize) -> Option<Arc<str>> {
        let stack = self.foreign.as_ref()?.stack()?;
        let end = match depth {
            0 => return None,
            // The end of the last frame that is wanted.
            _ => stack.match_indices('\n').nth(depth - 1),
        };
        Some(end.map_or_else(|| Arc::clone(stack), |(end, _)| stack[..end].into()))
    }

    /// The tags of this side and of the language above.
    pub fn all_tags(&self) -> Option<Arc<str>> {
        let foreign = self.foreign.as_ref().and_then(|foreign| foreign.tags());
        match (&self.tags, foreign) {
            (Some(own), Some(foreign)) => Some(format!("{foreign}, {own}").into()),
            (own, foreign) => own.as_ref().or(foreign).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{drop_pending, take_pending, this_thread_has_foreign_frames, with_tags};
    use super::*;

    #[test]
    fn threads_have_numbers_of_their_own() {
        let here = Origin::capture(0);
        assert_eq!(here.thread, Origin::capture(0).thread);
        assert!(here.native.is_none());
        let there = std::thread::spawn(|| Origin::capture(0).thread)
            .join()
            .unwrap();
        assert_ne!(here.thread, there);
    }

    #[test]
    fn what_a_capture_allocates_captures_nothing() {
        CAPTURING.set(true);
        let nested = with_tags(&[("a", "1")], || Origin::capture(16));
        CAPTURING.set(false);
        assert!(nested.native.is_none() && nested.foreign.is_none() && nested.tags.is_none());
        let after = with_tags(&[("a", "1")], || Origin::capture(16));
        assert!(!after.native.is_none());
        assert_eq!(after.all_tags().as_deref(), Some("a=1"));
    }

    #[test]
    fn the_innermost_frame_is_the_one_that_asked() {
        let origin = Origin::capture(16);
        let frames = origin.native.frames();
        assert!(
            frames[0].to_string().contains("the_one_that_asked"),
            "{frames:?}"
        );
    }

    #[test]
    fn tags_of_both_sides_are_joined() {
        this_thread_has_foreign_frames(true);
        let origin = with_tags(&[("query", "1")], || Origin::capture(0));
        let foreign = take_pending().unwrap();
        assert_eq!(origin.all_tags().as_deref(), Some("query=1"));
        assert_eq!(origin.foreign_stack(), None);
        foreign.set_tags("user=a".into());
        foreign.set_stack("f (a.js:1:2)".into());
        assert_eq!(origin.all_tags().as_deref(), Some("user=a, query=1"));
        assert_eq!(origin.foreign_stack().as_deref(), Some("f (a.js:1:2)"));
        drop_pending();
        this_thread_has_foreign_frames(false);
    }

    #[test]
    fn foreign_frames_are_cut_to_the_depth_asked_for() {
        let foreign = Foreign::default();
        foreign.set_stack("a\nb\nc".into());
        let mut origin = Origin::capture(0);
        origin.foreign = Some(Arc::new(foreign));
        let cut = |depth| origin.foreign_frames(depth);
        assert_eq!(cut(0), None);
        assert_eq!(cut(1).as_deref(), Some("a"));
        assert_eq!(cut(2).as_deref(), Some("a\nb"));
        assert_eq!(cut(3).as_deref(), Some("a\nb\nc"));
        assert_eq!(cut(9).as_deref(), Some("a\nb\nc"));
    }
}

//! Words of the program's own on what it allocates: the query, the tenant, the request.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

thread_local! {
    /// Whether there are tags: a cell without a destructor, so that threads without tags pay one
    /// load and can be asked at any time of their lives.
    static HAS_TAGS: Cell<bool> = const { Cell::new(false) };
    static TAGS: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Puts the tags of before back, also when the body panics.
struct Restore(Option<Arc<str>>);

impl Drop for Restore {
    fn drop(&mut self) {
        drop(replace(self.0.take()));
    }
}

fn replace(tags: Option<Arc<str>>) -> Option<Arc<str>> {
    HAS_TAGS.set(tags.is_some());
    TAGS.try_with(|own| own.replace(tags)).ok().flatten()
}

/// The tags in force on this thread. Takes no memory.
pub(super) fn current() -> Option<Arc<str>> {
    if !HAS_TAGS.get() {
        return None;
    }
    TAGS.try_with(|tags| tags.try_borrow().ok()?.clone())
        .ok()
        .flatten()
}

/// `a=1, b=2`: the outer tags that `tags` does not replace, then `tags`.
fn joined(outer: Option<&str>, tags: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut add = |piece: &str| {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(piece);
    };
    for piece in outer.unwrap_or_default().split(", ") {
        let key = piece.split('=').next().unwrap_or_default();
        if !piece.is_empty() && !tags.iter().any(|(own, _)| *own == key) {
            add(piece);
        }
    }
    for (key, value) in tags {
        add(&format!("{key}={value}"));
    }
    text
}

/// Calls `body` with these tags on every [`Origin`](super::Origin) that its thread captures
/// meanwhile: reports of trackers show them as `key=value, …`. Scopes nest; an inner tag replaces
/// the outer one of its name. Cost: two small allocations; captures pay a counter.
///
/// ```
/// use offheap::{MutableBuffer, TrackOptions, default_memory_pool, origin};
///
/// let pool = default_memory_pool().track(TrackOptions::default());
/// let buffer = origin::with_tags(&[("query", "42")], || MutableBuffer::zeroed(1000, &pool))?;
/// let live = pool.tracker().unwrap().live();
/// assert_eq!(live[0].tags.as_deref(), Some("query=42"));
/// # drop(buffer);
/// # Ok::<(), offheap::Error>(())
/// ```
pub fn with_tags<R>(tags: &[(&str, &str)], body: impl FnOnce() -> R) -> R {
    let text = joined(current().as_deref(), tags);
    let tags = (!text.is_empty()).then(|| Arc::from(text));
    let _restore = Restore(replace(tags));
    body()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> String {
        current().as_deref().unwrap_or("none").to_owned()
    }

    #[test]
    fn scopes_nest_and_end_also_by_a_panic() {
        assert_eq!(now(), "none");
        with_tags(&[("query", "1"), ("user", "a")], || {
            assert_eq!(now(), "query=1, user=a");
            let inner = std::panic::catch_unwind(|| {
                with_tags(&[("query", "2")], || {
                    assert_eq!(now(), "user=a, query=2");
                    panic!("on purpose");
                })
            });
            assert!(inner.is_err());
            assert_eq!(now(), "query=1, user=a");
            with_tags(&[], || assert_eq!(now(), "query=1, user=a"));
            std::thread::scope(|scope| {
                scope.spawn(|| assert_eq!(now(), "none"));
            });
        });
        assert_eq!(now(), "none");
    }
}

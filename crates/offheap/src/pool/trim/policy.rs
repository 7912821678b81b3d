//! When unused memory goes back by itself.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// When an allocator's unused memory goes back to the system by itself.
///
/// Set for the allocator under a pool by [`Pool::trim`](crate::Pool::trim), for the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimPolicy {
    /// How long nearly nothing must be allocated: while more than an eighth of the unused bytes is
    /// taken or freed in that time, they stay. Milliseconds count; longer than a week is a week.
    pub idle: Duration,
    /// How many bytes must have been freed and not used again. Each thread tells what it frees in
    /// steps of an eighth of this, 4 MiB at most.
    pub min_bytes: u64,
}

impl Default for TrimPolicy {
    /// 500 ms and 32 MiB.
    fn default() -> Self {
        Self {
            idle: Duration::from_millis(500),
            min_bytes: 32 << 20,
        }
    }
}

const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A thread tells what it freed in steps of at most this.
const LARGEST_STEP: u64 = 4 << 20;

/// As `min_bytes`: never.
const OFF: u64 = u64::MAX;
/// As `step`: nobody has set or read it.
const UNSET: u64 = 0;

/// A policy that is read on every slow path.
#[derive(Debug)]
pub(super) struct Setting {
    idle_ms: AtomicU64,
    min_bytes: AtomicU64,
    step: AtomicU64,
}

impl Setting {
    pub(super) const fn new() -> Self {
        Self {
            idle_ms: AtomicU64::new(0),
            min_bytes: AtomicU64::new(OFF),
            step: AtomicU64::new(UNSET),
        }
    }

    pub(super) fn set(&self, policy: Option<TrimPolicy>) {
        let min_bytes = policy.map_or(OFF, |policy| policy.min_bytes.min(OFF - 1));
        let idle = policy.map_or(LONGEST, |policy| policy.idle.min(LONGEST));
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        self.idle_ms.store(idle_ms, Ordering::Relaxed);
        self.min_bytes.store(min_bytes, Ordering::Relaxed);
        let step = (min_bytes / 8).clamp(1, LARGEST_STEP);
        self.step.store(step, Ordering::Release);
    }

    #[cold]
    fn first(&self) -> u64 {
        let policy = (!is_off_by_environment()).then(TrimPolicy::default);
        let fresh = Self::new();
        fresh.set(policy);
        let step = fresh.step.load(Ordering::Relaxed);
        // Both threads that come here at once have the same to say; a `set` that comes between wins
        // when it is done, for its step is stored last.
        self.idle_ms
            .store(fresh.idle_ms.load(Ordering::Relaxed), Ordering::Relaxed);
        self.min_bytes
            .store(fresh.min_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.step.store(step, Ordering::Release);
        step
    }

    /// In which steps a thread tells what it took and freed.
    #[inline]
    pub(super) fn step(&self) -> u64 {
        match self.step.load(Ordering::Acquire) {
            UNSET => self.first(),
            step => step,
        }
    }

    /// [`u64::MAX`] when it is off.
    #[inline]
    pub(super) fn min_bytes(&self) -> u64 {
        self.step();
        self.min_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self) -> Option<TrimPolicy> {
        let min_bytes = self.min_bytes();
        (min_bytes != OFF).then(|| TrimPolicy {
            idle: Duration::from_millis(self.idle_ms.load(Ordering::Relaxed)),
            min_bytes,
        })
    }
}

/// Whether `OFFHEAP_TRIM` is `0` or `false`. Read once, without allocating.
fn is_off_by_environment() -> bool {
    const ON: u8 = 1;
    const OFF: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(0);
    match ANSWER.load(Ordering::Relaxed) {
        ON => false,
        OFF => true,
        _ => {
            // SAFETY: a C string. What C answers is null or a C string, which stays while nobody
            // sets the variable, as std asks of those who set one.
            let is_off = unsafe {
                let value = libc::getenv(c"OFFHEAP_TRIM".as_ptr());
                !value.is_null()
                    && matches!(std::ffi::CStr::from_ptr(value).to_bytes(), b"0" | b"false")
            };
            ANSWER.store(if is_off { OFF } else { ON }, Ordering::Relaxed);
            is_off
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_what_was_set() {
        let setting = Setting::new();
        assert_eq!(setting.get(), Some(TrimPolicy::default()));
        assert_eq!(setting.step(), 4 << 20);
        let policy = TrimPolicy {
            idle: Duration::from_millis(7),
            min_bytes: 80,
        };
        setting.set(Some(policy));
        assert_eq!((setting.get(), setting.step()), (Some(policy), 10));
        setting.set(None);
        assert_eq!((setting.get(), setting.min_bytes()), (None, u64::MAX));
        setting.set(Some(TrimPolicy {
            idle: Duration::MAX,
            min_bytes: u64::MAX,
        }));
        let largest = setting.get().unwrap();
        assert_eq!((largest.idle, largest.min_bytes), (LONGEST, u64::MAX - 1));
        setting.set(Some(TrimPolicy {
            idle: Duration::ZERO,
            min_bytes: 0,
        }));
        assert_eq!(setting.step(), 1);
    }
}

//! A cheap clock.

use std::time::Instant;

/// Milliseconds, from some start.
pub(super) type Millis = u64;

/// The time, some milliseconds late at most. Linux: 5 ns, without a system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn now() -> Millis {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the out-pointer is a timespec of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// The time.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn now() -> Millis {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as Millis
}

/// The standard library's time as ours.
pub(super) fn at(instant: Instant) -> Millis {
    let (ours, theirs) = (now(), Instant::now());
    let ahead = instant.saturating_duration_since(theirs).as_millis() as Millis;
    let behind = theirs.saturating_duration_since(instant).as_millis() as Millis;
    (ours + ahead).saturating_sub(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_instant_keeps_its_distance() {
        let base = Instant::now();
        let first = at(base);
        let later = at(base + Duration::from_secs(5));
        // Both are rounded to the clock's tick, some milliseconds.
        assert!(later.abs_diff(first + 5000) < 1000);
    }
}

//! Whether an allocator is idle.

use super::policy::TrimPolicy;
use std::time::{Duration, Instant};

/// What a ledger says at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) policy: Option<TrimPolicy>,
    /// Bytes taken and given back, ever.
    pub(super) moved: u64,
    /// Bytes given back since the last collection.
    pub(super) freed: u64,
    /// Of these, bytes that were not taken again.
    pub(super) unused: u64,
}

/// What is to be done about an allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing until more is freed.
    Rest,
    /// Nothing came of what was freed: it is in use again. Nothing until more is freed.
    Forget,
    /// Look again after this time.
    Wait(Duration),
    Collect,
}

/// While less than one part in this many of the unused bytes is moved, they are idle.
const BUSY: u64 = 8;

/// The timer's shortest step.
const SHORTEST: Duration = Duration::from_millis(10);

/// An allocator under the timer's eyes.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Since when it has been quiet, and what had been moved by then.
    quiet: Option<(Instant, u64)>,
}

impl Watch {
    pub(super) fn look(&mut self, now: Instant, sample: &Sample) -> Verdict {
        let Some(policy) = sample.policy.filter(|p| sample.freed >= p.min_bytes) else {
            self.quiet = None;
            return Verdict::Rest;
        };
        let since = match self.quiet {
            Some((since, moved))
                if sample.moved.wrapping_sub(moved).saturating_mul(BUSY) <= sample.unused =>
            {
                since
            }
            _ => {
                self.quiet = Some((now, sample.moved));
                now
            }
        };
        let passed = now.saturating_duration_since(since);
        if passed < policy.idle {
            let rest = (policy.idle - passed).min(policy.idle / 2);
            return Verdict::Wait(rest.max(SHORTEST));
        }
        self.quiet = None;
        if sample.unused < policy.min_bytes {
            Verdict::Forget
        } else {
            Verdict::Collect
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn sample(moved: u64, freed: u64, unused: u64) -> Sample {
        Sample {
            policy: Some(TrimPolicy::default()),
            moved: moved * MIB,
            freed: freed * MIB,
            unused: unused * MIB,
        }
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn what_was_freed_is_collected_once_it_was_quiet_for_long_enough() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let wait = Verdict::Wait(Duration::from_millis(250));
        assert_eq!(watch.look(start, &sample(31, 31, 31)), Verdict::Rest);
        assert_eq!(watch.look(start, &sample(40, 40, 40)), wait);
        // Freeing goes on: the time begins anew.
        assert_eq!(watch.look(after(start, 250), &sample(512, 512, 512)), wait);
        assert_eq!(watch.look(after(start, 500), &sample(512, 512, 512)), wait);
        let last = watch.look(after(start, 740), &sample(512, 512, 512));
        assert_eq!(last, Verdict::Wait(SHORTEST));
        // A little may be allocated all the time.
        let collected = watch.look(after(start, 750), &sample(512 + 64, 512, 500));
        assert_eq!(collected, Verdict::Wait(Duration::from_millis(250)));
        let collected = watch.look(after(start, 1250), &sample(512 + 64 + 60, 512, 500));
        assert_eq!(collected, Verdict::Collect);
        assert_eq!(
            watch.look(after(start, 1250), &sample(636, 0, 0)),
            Verdict::Rest
        );
    }

    #[test]
    fn what_is_filled_and_freed_again_is_left_alone() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        for round in 0..1000 {
            // 64 MiB at a time, full or empty when it is looked at.
            let full = round % 3 == 0;
            let now = sample(640 * round, 320 * (round + 1), if full { 0 } else { 64 });
            let verdict = watch.look(after(start, 250 * round), &now);
            assert!(matches!(verdict, Verdict::Wait(_)), "{round}: {verdict:?}");
        }
    }

    #[test]
    fn what_is_in_use_again_is_forgotten() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let used = sample(1000, 512, 12);
        assert!(matches!(watch.look(start, &used), Verdict::Wait(_)));
        assert_eq!(watch.look(after(start, 600), &used), Verdict::Forget);
    }

    #[test]
    fn a_policy_that_is_switched_off_or_has_no_time_is_heeded() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut now = sample(512, 512, 512);
        assert!(matches!(watch.look(start, &now), Verdict::Wait(_)));
        now.policy = None;
        assert_eq!(watch.look(after(start, 600), &now), Verdict::Rest);
        now.policy = Some(TrimPolicy {
            idle: Duration::ZERO,
            min_bytes: 0,
        });
        assert_eq!(watch.look(after(start, 600), &now), Verdict::Collect);
    }
}

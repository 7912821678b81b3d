//! A pool's figures.

use super::backend::BackendStatistics;
#[cfg(feature = "hooks")]
use crate::adaptor::Site;
use std::fmt;

/// What a pool has given out, as of one moment.
///
/// Figures read while other threads allocate are a moment's sum; read from a quiet pool they are
/// exact. Each thread counts for itself, so counting costs a few plain stores for a call (no lock, no
/// shared line); reading the figures takes a lock and adds up the threads'.
///
/// Without the cargo feature `statistics` all figures but `bytes_allocated` of pools with a limit,
/// `parked_bytes`, `limit_bytes`, `available` and `backend` are zero. Limits are as exact as ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Bytes in live allocations, as asked for: rounding and headers do not count.
    pub bytes_allocated: u64,
    /// The most that `bytes_allocated` has been since the start or the last reset (Arrow's
    /// `max_memory`). Exact while one thread uses the pool. With several it is never too low, and for
    /// each other thread at most 512 KiB too high (with a limit: 1/32 of it, but 8 KiB or more), plus what
    /// another thread asks for at that moment and is then refused by the allocator.
    pub peak_bytes: u64,
    /// Bytes ever allocated; growth adds its difference, a shrink nothing.
    pub total_bytes_allocated: u64,
    /// Allocations and growing reallocations.
    pub num_allocations: u64,
    /// Allocations that were not freed.
    pub live_allocations: u64,
    /// Bytes that were given back while a runtime may still use the memory.
    pub parked_bytes: u64,
    /// This pool's own limit in bytes.
    pub limit_bytes: Option<u64>,
    /// Bytes that can still be had under every limit of the chain.
    pub available: Option<u64>,
    /// What the allocator underneath tells, for all pools above it together.
    pub backend: BackendStatistics,
}

/// What is still alive in a pool: printed, it is grouped by place, those with the most bytes first.
/// `{:.5}` prints at most 5 places of each kind; 50 without a precision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeakReport {
    /// The pool's name.
    pub pool: String,
    /// Bytes in live allocations.
    pub bytes: u64,
    /// How many allocations are live.
    pub allocations: u64,
    /// Where they came from, the most bytes first: what is alive of the nearest tracker at or under
    /// the pool. Empty without one.
    #[cfg(feature = "hooks")]
    pub sites: Vec<Site>,
    /// What a garbage collector freed because nobody disposed of it, by place, as far as the tracker
    /// has seen.
    #[cfg(feature = "hooks")]
    pub forgotten: Vec<Site>,
}

/// Places of each kind that a report prints.
#[cfg(feature = "hooks")]
const SHOWN: usize = 50;

impl LeakReport {
    /// A report without places.
    pub(crate) fn new(pool: String, bytes: u64, allocations: u64) -> Self {
        Self {
            pool,
            bytes,
            allocations,
            #[cfg(feature = "hooks")]
            sites: Vec::new(),
            #[cfg(feature = "hooks")]
            forgotten: Vec::new(),
        }
    }

    /// Whether nothing is alive.
    pub fn is_empty(&self) -> bool {
        self.allocations == 0
    }
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Writes places that look the same as one: a compiler that unrolls a loop makes several of one
/// line. The sites come sorted; only so many are looked at as are needed.
#[cfg(feature = "hooks")]
fn write_sites(f: &mut fmt::Formatter<'_>, sites: &[Site]) -> fmt::Result {
    let most = f.precision().unwrap_or(SHOWN);
    let mut shown: Vec<(u64, u64, String)> = Vec::new();
    let (mut bytes_left, mut places_left) = (0_u64, 0);
    for site in sites {
        let stacks = if places_left == 0 {
            site.stacks()
        } else {
            String::new()
        };
        if let Some(same) = shown.iter_mut().find(|(_, _, known)| *known == stacks) {
            same.0 += site.bytes;
            same.1 += site.count;
        } else if places_left == 0 && shown.len() < most {
            shown.push((site.bytes, site.count, stacks));
        } else {
            bytes_left += site.bytes;
            places_left += 1;
        }
    }
    shown.sort_by_key(|(bytes, _, _)| std::cmp::Reverse(*bytes));
    for (bytes, count, stacks) in shown {
        let plural = plural(count);
        write!(f, "\n  {bytes} bytes in {count} allocation{plural}{stacks}")?;
    }
    if places_left > 0 {
        let plural = plural(places_left);
        write!(
            f,
            "\n  {bytes_left} bytes at {places_left} more place{plural}"
        )?;
    }
    Ok(())
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pool,
            bytes,
            allocations,
            ..
        } = self;
        if self.is_empty() {
            write!(f, "pool '{pool}': nothing is alive")?;
        } else {
            let plural = plural(*allocations);
            write!(
                f,
                "pool '{pool}': {bytes} bytes in {allocations} allocation{plural} are alive"
            )?;
        }
        #[cfg(feature = "hooks")]
        {
            write_sites(f, &self.sites)?;
            if !self.forgotten.is_empty() {
                let bytes: u64 = self.forgotten.iter().map(|site| site.bytes).sum();
                let count: u64 = self.forgotten.iter().map(|site| site.count).sum();
                write!(
                    f,
                    "\nNobody disposed of {bytes} bytes in {count} allocation{}: the garbage collector freed them",
                    plural(count)
                )?;
                write_sites(f, &self.forgotten)?;
            }
        }
        Ok(())
    }
}

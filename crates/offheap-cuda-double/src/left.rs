//! What a program has made and not yet freed or destroyed.

use std::fmt;

use crate::block::Kind;
use crate::driver::Driver;

/// Counts of what is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Allocations whose free has not been submitted, without registrations.
    pub(crate) blocks: u64,
    /// Their bytes, as they were asked for.
    pub(crate) bytes: u64,
    pub(crate) registrations: u64,
    /// Without default streams.
    pub(crate) streams: u64,
    pub(crate) events: u64,
    /// Operations that have not run.
    pub(crate) pending: u64,
    pub(crate) violations: u64,
}

impl Left {
    pub(crate) fn of(driver: &Driver) -> Self {
        let registered = |kind: &Kind| matches!(kind, Kind::Registered(_));
        let allocated = || {
            driver
                .blocks
                .values()
                .filter(|block| !registered(&block.kind))
        };
        let defaults: usize = driver
            .contexts
            .values()
            .map(|context| 1 + context.per_thread.len())
            .sum();
        let streams = driver
            .streams
            .values()
            .filter(|stream| !stream.destroyed)
            .count();
        Self {
            blocks: allocated().count() as u64,
            bytes: allocated().map(|block| block.size).sum(),
            registrations: driver
                .blocks
                .values()
                .filter(|block| registered(&block.kind))
                .count() as u64,
            streams: streams.saturating_sub(defaults) as u64,
            events: driver.events.len() as u64,
            pending: driver
                .streams
                .values()
                .map(|stream| stream.submitted - stream.executed)
                .sum(),
            violations: driver.violations,
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            blocks,
            bytes,
            registrations,
            streams,
            events,
            pending,
            violations,
        } = self;
        write!(
            f,
            "blocks={blocks} bytes={bytes} registrations={registrations} streams={streams} "
        )?;
        write!(
            f,
            "events={events} pending={pending} violations={violations}"
        )
    }
}

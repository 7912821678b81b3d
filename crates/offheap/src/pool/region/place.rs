//! Addresses for a region to be.

use super::os;
use super::record::{Record, State};
use super::records::slot_of;
use super::regions::{OWN, RECORDS, give_back, release_unused};
use std::ptr::NonNull;

/// Reserved addresses with a record that says nothing yet.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) start: NonNull<u8>,
    pub(super) reserved: usize,
    pub(super) record: &'static Record,
    /// Nothing of it is accessible before it is [committed](Self::commit).
    pub(super) guarded: bool,
}

impl Place {
    /// `reserved` bytes, whole units. With a `tail` that is not to be used at once: where every
    /// accessible byte is charged there is a guard on it, or no such place.
    pub(super) fn new(reserved: usize, alignment: usize, tail: bool) -> Option<Self> {
        let strict = os::is_strict();
        // A guard is one mapping more.
        let guarded = strict && tail && OWN.take();
        if strict && tail && !guarded {
            // All of it would be charged.
            return None;
        }
        let reserve = || os::reserve(reserved, alignment, !guarded);
        let start = reserve().or_else(|| {
            // Addresses, mappings or memory ran out: some wait in the cache.
            release_unused();
            reserve()
        });
        let place = start.and_then(|start| {
            let record = RECORDS.ensure(slot_of(start.addr().get()));
            if record.is_none() {
                // SAFETY: reserved just now, and nobody knows it.
                unsafe { os::unmap(start, reserved) };
            }
            Some((start, record?))
        });
        let Some((start, record)) = place else {
            OWN.give_back(usize::from(guarded));
            return None;
        };
        start.as_ptr().expose_provenance();
        Some(Self {
            start,
            reserved,
            record,
            guarded,
        })
    }

    /// Of the region that it becomes.
    pub(super) fn state(&self) -> State {
        let state = State(State::LIVE);
        if self.guarded {
            state.with(State::GUARDED | State::OWN)
        } else {
            state
        }
    }

    /// Makes the first bytes usable.
    pub(super) fn commit(&self, bytes: usize) -> bool {
        // SAFETY: the place is reserved, and nobody uses it.
        !self.guarded || unsafe { os::commit(self.start, bytes) }
    }

    /// Asks for huge pages, of which `committed` bytes are usable.
    ///
    /// # Safety
    /// - so much was [committed](Self::commit).
    pub(super) unsafe fn advise_huge(&self, committed: usize) {
        let bytes = if self.guarded {
            committed
        } else {
            self.reserved
        };
        // SAFETY: the range is accessible.
        unsafe { os::advise_huge(self.start, bytes) };
    }

    /// The end of a place that becomes no region.
    pub(super) fn give_back(self) {
        // SAFETY: the place is reserved, and nobody uses it.
        unsafe { give_back(self.start, self.reserved, 0) };
        OWN.give_back(usize::from(self.guarded));
    }

    /// The first `bytes` are no longer ours; gives the rest back.
    pub(super) fn lost(&self, bytes: usize) {
        // SAFETY: `bytes` is at most what is reserved.
        let rest = unsafe { self.start.add(bytes) };
        // SAFETY: the rest is reserved, and nobody uses it.
        unsafe { give_back(rest, self.reserved - bytes, 0) };
        OWN.give_back(usize::from(self.guarded));
    }
}

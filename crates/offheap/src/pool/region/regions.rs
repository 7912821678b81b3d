//! The life of a region.

use super::cache::{Cache, Evicted};
use super::clock::{self, Millis};
use super::extent::{UNIT, committed_for, reservation_for, round_up};
use super::os::{self, Relocation};
use super::own_mappings::OwnMappings;
use super::place::Place;
use super::record::{Record, State};
use super::records::{Records, Slot, address_of, slot_of};
use super::statistics::RegionStatistics;
use crate::alignment::Alignment;
use std::io::Write;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(super) static RECORDS: Records = Records::new();
static CACHE: Mutex<Cache> = Mutex::new(Cache::new(&RECORDS));
/// The regions that are mappings of their own.
pub(super) static OWN: OwnMappings = OwnMappings::new();

fn cache() -> MutexGuard<'static, Cache> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The record of a live region.
fn record_of(start: NonNull<u8>) -> (Slot, &'static Record) {
    let slot = slot_of(start.addr().get());
    let record = RECORDS.get(slot);
    (slot, record.expect("a live region has a record"))
}

fn pointer(address: usize) -> Option<NonNull<u8>> {
    NonNull::new(ptr::with_exposed_provenance_mut(address))
}

/// Gives what was taken out of the cache back to the system, without the lock.
fn unmap_all(evicted: Evicted) {
    let mut slot = evicted.0;
    while slot != 0 {
        let Some(record) = RECORDS.get(slot) else {
            return;
        };
        let next = record.next.load(Ordering::Relaxed);
        unmap(slot, record);
        slot = next;
    }
}

/// Gives a region of nobody's back to the system.
fn unmap(slot: Slot, record: &Record) {
    let (reserved, committed, state) = (record.reserved(), record.committed(), record.state());
    // Before its end: as soon as the addresses are the system's, they may be a new region's.
    record.set(0, 0, State::NONE);
    if let Some(start) = pointer(address_of(slot)) {
        // SAFETY: a region is whole units of `reserve`'s, and this one is nobody's any more.
        unsafe { give_back(start, reserved, committed) };
    }
    OWN.give_back(usize::from(state.has(State::OWN)));
}

/// Gives addresses back to the system, of which the first `committed` bytes may have memory.
///
/// # Safety
/// - the range is [`os::reserve`]'s, its start and its size whole units, and nobody uses it; the
///   first `committed` bytes are accessible.
pub(super) unsafe fn give_back(start: NonNull<u8>, size: usize, committed: usize) {
    // SAFETY: the caller's promise.
    if size == 0 || unsafe { os::unmap(start, size) } {
        return;
    }
    // The hole would be one mapping more than the system allows. The addresses stay until there are
    // fewer, without their memory.
    // SAFETY: as above.
    unsafe { os::discard(start, committed) };
    let slot = slot_of(start.addr().get());
    if let Some(record) = RECORDS.ensure(slot) {
        record.set(0, size, State::NONE);
        cache().keep(slot);
    }
}

/// A block of `size` bytes, zero when `zeroed`; null when the system refuses.
pub(crate) fn allocate(size: usize, alignment: Alignment, zeroed: bool) -> *mut u8 {
    let Some((committed, reserved)) =
        committed_for(size).and_then(|committed| Some((committed, round_up(committed, UNIT)?)))
    else {
        return ptr::null_mut();
    };
    let alignment = alignment.get().max(UNIT);
    let now = clock::now();
    let mut cache = cache();
    let expired = cache.expire(now);
    let taken = cache.take(reserved, alignment, now);
    drop(cache);
    unmap_all(expired);
    match taken {
        Some(slot) => reuse(slot, size, committed, zeroed),
        None => fresh(committed, reserved, alignment, now),
    }
    .map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// Makes a region of the cache's ready for a block.
fn reuse(slot: Slot, size: usize, committed: usize, zeroed: bool) -> Option<NonNull<u8>> {
    let start = pointer(address_of(slot))?;
    let record = RECORDS.get(slot)?;
    let had = record.committed();
    if had < committed && !extend(start, record, committed) {
        free_slot(slot);
        return None;
    }
    // What it has beyond that, less than a unit, it keeps: to give it back would part a huge page, and
    // the first growth would fault it in again (300 us against 20 for 64 KiB to 4 MiB by doubling).
    if zeroed {
        let dirty = round_up(size, os::page_size())?.min(had);
        // SAFETY: the committed part is accessible, and its contents are nobody's.
        if !unsafe { os::discard(start, dirty) } {
            // SAFETY: as above.
            unsafe { start.write_bytes(0, dirty) };
        }
    }
    Some(start)
}

/// A new region.
fn fresh(committed: usize, reserved: usize, alignment: usize, now: Millis) -> Option<NonNull<u8>> {
    let place = Place::new(reserved, alignment, committed < reserved)
        .or_else(|| Place::new(reserved, alignment, false))?;
    if !place.commit(committed) {
        place.give_back();
        return None;
    }
    let mut state = place.state();
    // SAFETY: the range is accessible: all of it, or what was committed.
    unsafe {
        if place.guarded {
            os::advise_huge(place.start, committed);
        } else if committed == reserved {
            os::advise_huge(place.start, reserved);
        } else if committed > UNIT && OWN.take() {
            // Two kinds of pages are two mappings.
            state = state.with(State::OWN);
            let whole = committed & !(UNIT - 1);
            os::advise_huge(place.start, whole);
            os::advise_small(place.start.add(whole), reserved - whole);
        } else {
            os::advise_small(place.start, reserved);
        }
    }
    place.record.set(committed, reserved, state);
    cache().add_live(committed, now);
    Some(place.start)
}

/// Makes a live region's first `committed` bytes usable, which fit in what is reserved, and counts
/// them.
fn extend(start: NonNull<u8>, record: &Record, committed: usize) -> bool {
    let had = record.committed();
    if record.state().has(State::GUARDED) {
        // SAFETY: `had` bytes are part of the region.
        let tail = unsafe { start.add(had) };
        // SAFETY: the tail of a live region, which its owner does not use yet.
        if !unsafe { os::commit(tail, committed - had) } {
            return false;
        }
        // SAFETY: committed just now.
        unsafe { os::advise_huge(tail, committed - had) };
    }
    record.set_committed(committed);
    cache().add_live(committed - had, clock::now());
    true
}

/// Changes a block's size; null when the system refuses, and the block is as it was.
///
/// # Safety
/// - `block` came from [`allocate`] with `old_size` and `alignment`, or from here, and is live;
/// - nobody uses it during the call.
pub(crate) unsafe fn reallocate(
    block: *mut u8,
    old_size: usize,
    new_size: usize,
    alignment: Alignment,
) -> *mut u8 {
    let Some(start) = NonNull::new(block) else {
        return ptr::null_mut();
    };
    let (_, record) = record_of(start);
    if new_size <= old_size {
        shrink(start, record, new_size);
        return block;
    }
    let Some(wanted) = round_up(new_size, UNIT) else {
        return ptr::null_mut();
    };
    if new_size <= record.committed() {
        return block;
    }
    let reserved = record.reserved();
    if wanted <= reserved {
        return if extend(start, record, wanted) {
            block
        } else {
            ptr::null_mut()
        };
    }
    if !record.state().has(State::GUARDED) {
        let end = start.addr().get() + reserved;
        let mut cache = cache();
        if let Some(absorbed) = cache.absorb(end, wanted - reserved) {
            // Any page may have been touched before.
            cache.add_live(wanted - record.committed(), clock::now());
            drop(cache);
            record.set_reserved(reserved + absorbed.reserved);
            record.set_committed(wanted);
            OWN.give_back(absorbed.own);
            return block;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { relocate(start, record, old_size, new_size, alignment) }
        .map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// Moves a live region to where it can grow.
///
/// # Safety
/// - `start` is a live region's, of a block of `old_size` bytes, and nobody uses it.
unsafe fn relocate(
    start: NonNull<u8>,
    record: &Record,
    old_size: usize,
    new_size: usize,
    alignment: Alignment,
) -> Option<NonNull<u8>> {
    let committed = round_up(new_size, UNIT)?;
    let alignment = alignment.get().max(UNIT);
    let place = || {
        reservation_for(new_size)
            .and_then(|reserved| Place::new(reserved, alignment, true))
            .or_else(|| Place::new(committed, alignment, false))
    };
    let mut target = place()?;
    // SAFETY: the caller's promise; the place is new.
    match unsafe { move_pages(start, record, &target, committed) } {
        Relocation::Done => return Some(target.start),
        Relocation::Refused => {}
        Relocation::PlaceLost => target = place()?,
    }
    if !target.commit(committed) {
        target.give_back();
        return None;
    }
    // SAFETY: what is accessible of the place.
    unsafe { target.advise_huge(committed) };
    target
        .record
        .set(committed, target.reserved, target.state());
    cache().add_live(committed, clock::now());
    // SAFETY: the old block has `old_size` bytes, the new one more, and they are apart.
    unsafe { target.start.copy_from_nonoverlapping(start, old_size) };
    free_slot(slot_of(start.addr().get()));
    Some(target.start)
}

/// Moves a live region's pages to a new place, where `committed` bytes are to be usable, and notes
/// that. Unless that is done, the region is as it was.
///
/// # Safety
/// - `start` is a live region's, and nobody uses it.
unsafe fn move_pages(
    start: NonNull<u8>,
    record: &Record,
    target: &Place,
    committed: usize,
) -> Relocation {
    let (had, all, state) = (record.committed(), record.reserved(), record.state());
    if state.has(State::GUARDED) != target.guarded || !(target.guarded || OWN.take()) {
        return Relocation::Refused;
    }
    // Behind a guard only what is committed moves.
    let (from, to) = if target.guarded {
        (had, committed)
    } else {
        (all, target.reserved)
    };
    // Advice on a part would make two mappings of it, and only one can move.
    // SAFETY: the range is the live region's.
    unsafe { os::advise_huge(start, from) };
    // Before the move: the addresses may be a new region's right after it.
    record.set(0, 0, State::NONE);
    // SAFETY: both are accessible, or committed and reserved; they are apart, and nobody uses them.
    let moved = unsafe { os::relocate(start, from, target.start, to) };
    if moved != Relocation::Done {
        record.set(had, all, state);
        if !target.guarded {
            OWN.give_back(1);
        }
        if moved == Relocation::PlaceLost {
            target.lost(to);
        }
        return moved;
    }
    // SAFETY: the range is the new place's.
    unsafe { os::advise_huge(target.start, to) };
    let new_state = target.state().with(State::OWN);
    target.record.set(committed, target.reserved, new_state);
    OWN.give_back(usize::from(state.has(State::OWN)));
    if from < all {
        // SAFETY: the old region's tail, which is nobody's any more and has no memory.
        unsafe { give_back_tail(start, from, all) };
    }
    let mut cache = cache();
    cache.remove_live(had);
    cache.add_live(committed, clock::now());
    Relocation::Done
}

/// Gives the addresses between `from` and `all` back, from a page to a unit.
///
/// # Safety
/// - they are a region's, not accessible, and nobody uses them.
unsafe fn give_back_tail(start: NonNull<u8>, from: usize, all: usize) {
    let whole = round_up(from, UNIT).map_or(all, |whole| whole.min(all));
    // SAFETY: both lie in the region. What is less than a unit, the system may keep: it is
    // addresses alone.
    unsafe {
        os::unmap(start.add(from), whole - from);
        give_back(start.add(whole), all - whole, 0);
    }
}

/// Gives the pages behind a block's new end back.
fn shrink(start: NonNull<u8>, record: &Record, new_size: usize) {
    let had = record.committed();
    let Some(kept) = round_up(new_size, os::page_size()).filter(|kept| *kept < had) else {
        return;
    };
    // SAFETY: the committed part is longer than that.
    let tail = unsafe { start.add(kept) };
    // SAFETY: the tail's pages are committed, and nobody needs what they hold.
    let gone = unsafe {
        if record.state().has(State::GUARDED) {
            os::decommit(tail, had - kept)
        } else {
            os::discard(tail, had - kept)
        }
    };
    if !gone {
        return;
    }
    record.set_committed(kept);
    cache().remove_live(had - kept);
    // So much room to grow that nobody will want it again goes back, too.
    let reserved = record.reserved();
    if let Some(room) = reservation_for(new_size).filter(|room| os::SPLITS && *room < reserved) {
        record.set_reserved(room);
        // SAFETY: the room is less than what is reserved.
        let end = unsafe { start.add(room) };
        // SAFETY: the end of the region, which nobody uses.
        if !unsafe { os::unmap(end, reserved - room) } {
            record.set_reserved(reserved);
        }
    }
}

/// Gives a block back.
///
/// # Safety
/// - `block` came from [`allocate`] or [`reallocate`] with `size` and `alignment`, is live, and
///   nobody uses it any more.
pub(crate) unsafe fn free(block: *mut u8, size: usize, alignment: Alignment) {
    let _ = (size, alignment);
    free_slot(slot_of(block.addr()));
}

fn free_slot(slot: Slot) {
    let evicted = cache().insert(slot, clock::now());
    unmap_all(evicted);
}

/// Gives all freed regions back to the system.
pub(crate) fn release_unused() {
    let mut cache = cache();
    let (all, kept) = (cache.empty(), cache.take_kept());
    drop(cache);
    unmap_all(all);
    unmap_all(kept);
}

/// Gives back what was freed a second before `now` or earlier. Whether something still waits.
pub(crate) fn decay(now: Instant) -> bool {
    decay_at(clock::at(now))
}

pub(super) fn decay_at(now: Millis) -> bool {
    let mut cache = cache();
    let expired = cache.expire(now);
    let (waits, kept) = (!cache.is_empty(), cache.take_kept());
    drop(cache);
    unmap_all(expired);
    unmap_all(kept);
    waits
}

/// The figures of this moment.
pub(crate) fn statistics() -> RegionStatistics {
    let cache = cache();
    let (live, cached) = (cache.live() as u64, cache.bytes() as u64);
    RegionStatistics {
        live,
        cached,
        resident: live + cached,
    }
}

/// Prints the figures to stderr.
pub(crate) fn print_stats() {
    let now = statistics();
    let mappings = OWN.count();
    drop(writeln!(
        std::io::stderr(),
        "offheap regions: {} bytes live, {} cached, {mappings} of their own mappings",
        now.live,
        now.cached
    ));
}

/// Whether the region that starts there waits in the cache, alone or as a part of another.
#[cfg(test)]
pub(super) fn is_cached(start: *mut u8) -> bool {
    let _cache = cache();
    let address = start.addr();
    (0..=slot_of(address)).rev().take(4096).any(|slot| {
        RECORDS.get(slot).is_some_and(|record| {
            record.state().has(State::CACHED) && address - address_of(slot) < record.reserved()
        })
    })
}

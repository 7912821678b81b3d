//! The life of a region.

use super::cache::{Cache, Evicted};
use super::clock::{self, Millis};
use super::extent::{UNIT, committed_for, reservation_for, round_up};
use super::os::{self, Relocation};
use super::own_mappings::OwnMappings;
use super::record::{Record, State};
use super::records::{Records, Slot, address_of, slot_of};
use super::statistics::RegionStatistics;
use crate::alignment::Alignment;
use std::io::Write;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

static RECORDS: Records = Records::new();
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
    let Some(start) = pointer(address_of(slot)) else {
        return;
    };
    // Before its end: as soon as the addresses are the system's, they may be a new region's.
    record.set(0, 0, State::NONE);
    // SAFETY: a region is whole pages of `reserve`'s, and this one is nobody's any more.
    if unsafe { os::unmap(start, reserved) } {
        if state.has(State::OWN) {
            OWN.give_back(1);
        }
        return;
    }
    // The hole would be one mapping more than the system allows. The addresses stay, to be given
    // back when there are fewer mappings, without their memory.
    // SAFETY: as above; the committed part is accessible.
    unsafe { os::discard(start, committed) };
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
    let start = map(committed, reserved, alignment)?;
    cache().add_live(committed, now);
    Some(start)
}

/// Maps a region, and notes it as live without counting it.
fn map(committed: usize, reserved: usize, alignment: usize) -> Option<NonNull<u8>> {
    // Where every accessible byte is charged, the tail is not. That is one mapping more.
    let guarded = os::is_strict() && committed < reserved && OWN.take();
    let place = || os::reserve(reserved, alignment, !guarded);
    let start = place().or_else(|| {
        // Addresses, mappings or memory ran out: some wait in the cache.
        release_unused();
        place()
    });
    let Some(start) = start else {
        if guarded {
            OWN.give_back(1);
        }
        return None;
    };
    let slot = slot_of(start.addr().get());
    let record = RECORDS.ensure(slot);
    // SAFETY: the range was reserved just now.
    let ready = record.filter(|_| !guarded || unsafe { os::commit(start, committed) });
    let Some(record) = ready else {
        // SAFETY: as above, and nobody knows it.
        unsafe { os::unmap(start, reserved) };
        if guarded {
            OWN.give_back(1);
        }
        return None;
    };
    let mut state = State(State::LIVE);
    if guarded {
        state = state.with(State::GUARDED | State::OWN);
    }
    // SAFETY: the range is accessible: all of it, or what was committed.
    unsafe {
        if guarded {
            os::advise_huge(start, committed);
        } else if committed == reserved {
            os::advise_huge(start, reserved);
        } else if committed > UNIT && OWN.take() {
            // Two kinds of pages are two mappings.
            state = state.with(State::OWN);
            let whole = committed & !(UNIT - 1);
            os::advise_huge(start, whole);
            if let Some(rest) = pointer(start.addr().get() + whole) {
                os::advise_small(rest, reserved - whole);
            }
        } else {
            os::advise_small(start, reserved);
        }
    }
    record.set(committed, reserved, state);
    start.as_ptr().expose_provenance();
    Some(start)
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
    let exact = round_up(new_size, UNIT)?;
    let reserved = reservation_for(new_size).unwrap_or(exact);
    let alignment = alignment.get().max(UNIT);
    let place = |committed| {
        map(committed, reserved, alignment).or_else(|| map(committed, exact, alignment))
    };
    let target = place(exact)?;
    let (_, new_record) = record_of(target);
    let guarded = new_record.state().has(State::GUARDED) || record.state().has(State::GUARDED);
    if !guarded && OWN.take() {
        let (had, all, state) = (record.committed(), record.reserved(), record.state());
        // Advice on a part would make two mappings of it, and only one can move.
        // SAFETY: the range is the live region's.
        unsafe { os::advise_huge(start, all) };
        // Before the move: the addresses may be a new region's right after it.
        record.set(0, 0, State::NONE);
        // SAFETY: both are regions without guards, apart, and nobody uses them.
        match unsafe { os::relocate(start, all, target, new_record.reserved()) } {
            Relocation::Done => {
                // SAFETY: the region's own addresses.
                unsafe { os::advise_huge(target, new_record.reserved()) };
                new_record.set_state(new_record.state().with(State::OWN));
                OWN.give_back(usize::from(state.has(State::OWN)));
                let mut cache = cache();
                cache.remove_live(had);
                cache.add_live(exact, clock::now());
                return Some(target);
            }
            Relocation::Refused => record.set(had, all, state),
            Relocation::PlaceLost => {
                record.set(had, all, state);
                new_record.set(0, 0, State::NONE);
                OWN.give_back(1);
                let target = place(exact)?;
                // SAFETY: the caller's promise.
                return Some(unsafe { copy(start, old_size, target, exact) });
            }
        }
        OWN.give_back(1);
    }
    // SAFETY: the caller's promise.
    Some(unsafe { copy(start, old_size, target, exact) })
}

/// Copies a block into a new region and frees its old one.
///
/// # Safety
/// - `start` is a live region's, of a block of `size` bytes, and nobody uses it; `target` is a
///   larger one's, not yet counted.
unsafe fn copy(
    start: NonNull<u8>,
    size: usize,
    target: NonNull<u8>,
    committed: usize,
) -> NonNull<u8> {
    cache().add_live(committed, clock::now());
    // SAFETY: the old block has `size` bytes, the new one more, and they are apart.
    unsafe { target.copy_from_nonoverlapping(start, size) };
    free_slot(slot_of(start.addr().get()));
    target
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
    let all = cache().empty();
    unmap_all(all);
}

/// Gives back what was freed a second before `now` or earlier. Whether something still waits.
pub(crate) fn decay(now: Instant) -> bool {
    decay_at(clock::at(now))
}

fn decay_at(now: Millis) -> bool {
    let mut cache = cache();
    let expired = cache.expire(now);
    let waits = !cache.is_empty();
    drop(cache);
    unmap_all(expired);
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const ALIGNMENT: Alignment = Alignment::DEFAULT;

    /// Counts and the cache are the process's: these tests take turns.
    static TURN: Mutex<()> = Mutex::new(());

    fn turn() -> MutexGuard<'static, ()> {
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(block: *mut u8, range: std::ops::Range<usize>) {
        for at in range.step_by(4096) {
            // SAFETY: the tests fill what they have.
            unsafe { block.add(at).write((at / 4096 % 251) as u8) };
        }
    }

    fn check(block: *mut u8, range: std::ops::Range<usize>) {
        for at in range.step_by(4096) {
            // SAFETY: as in `fill`.
            assert_eq!(unsafe { block.add(at).read() }, (at / 4096 % 251) as u8);
        }
    }

    #[test]
    fn blocks_grow_and_shrink_with_their_contents() {
        let _turn = turn();
        let mut block = allocate(MIB, ALIGNMENT, true);
        assert!(block.addr().is_multiple_of(UNIT));
        let mut size = MIB;
        fill(block, 0..size);
        for new in [2, 3, 5, 16, 17, 40, 39, 12, 200, 1].map(|n| n * MIB) {
            // SAFETY: the block is the one of the line before, with its size.
            block = unsafe { reallocate(block, size, new, ALIGNMENT) };
            check(block, 0..size.min(new));
            fill(block, 0..new);
            size = new;
        }
        // SAFETY: as above.
        unsafe { free(block, size, ALIGNMENT) };
        let zero = allocate(150 * MIB, ALIGNMENT, true);
        for at in (0..150 * MIB).step_by(4096) {
            // SAFETY: the block's own bytes.
            assert_eq!(unsafe { zero.add(at).read() }, 0);
        }
        // SAFETY: the block just allocated.
        unsafe { free(zero, 150 * MIB, ALIGNMENT) };
    }
}

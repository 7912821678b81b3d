//! The life of regions, with the system's real memory. The tests take turns: there is one cache.

use super::extent::UNIT;
use super::os::refusal;
use super::record::State;
use super::records::slot_of;
use super::regions::{RECORDS, decay_at, is_cached};
use super::*;
use crate::alignment::Alignment;
use std::sync::{Mutex, MutexGuard, PoisonError};

const MIB: usize = 1 << 20;
const ALIGNMENT: Alignment = Alignment::DEFAULT;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block whose bytes are looked after.
struct Filled {
    block: *mut u8,
    size: usize,
    alignment: Alignment,
}

impl Filled {
    fn new(size: usize) -> Self {
        Self::aligned(size, ALIGNMENT)
    }

    fn aligned(size: usize, alignment: Alignment) -> Self {
        let block = allocate(size, alignment, false);
        assert!(!block.is_null());
        assert!(block.addr().is_multiple_of(alignment.get().max(UNIT)));
        let mut filled = Self {
            block,
            size,
            alignment,
        };
        filled.fill(0);
        filled
    }

    fn value(at: usize) -> u8 {
        (at / 997 % 251) as u8 + 1
    }

    fn fill(&mut self, from: usize) {
        for at in (from / 997 * 997..self.size).step_by(997) {
            // SAFETY: inside of the block.
            unsafe { self.block.add(at).write(Self::value(at)) };
        }
    }

    fn check(&self, size: usize) {
        for at in (0..size).step_by(997) {
            // SAFETY: inside of the block.
            let found = unsafe { self.block.add(at).read() };
            assert_eq!(found, Self::value(at), "{at}");
        }
    }

    /// Whether it worked; the contents are right either way.
    fn try_resize(&mut self, size: usize) -> bool {
        // SAFETY: the block is live, with its size.
        let block = unsafe { reallocate(self.block, self.size, size, self.alignment) };
        if block.is_null() {
            self.check(self.size);
            return false;
        }
        let old = std::mem::replace(&mut self.size, size);
        self.block = block;
        self.check(old.min(size));
        self.fill(old.min(size));
        true
    }

    fn extents(&self) -> (usize, usize, State) {
        let record = RECORDS.get(slot_of(self.block.addr())).unwrap();
        (record.committed(), record.reserved(), record.state())
    }
}

// SAFETY: plain memory may be used by any thread.
unsafe impl Send for Filled {}

impl Drop for Filled {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check(self.size);
        }
        // SAFETY: the block is live, with its size.
        unsafe { free(self.block, self.size, self.alignment) };
    }
}

#[cfg(target_os = "linux")]
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count()
}

/// Resident bytes of a range.
#[cfg(target_os = "linux")]
fn resident(start: *mut u8, size: usize) -> usize {
    let page = page_size();
    let mut pages = vec![0; size / page];
    // SAFETY: the vector has a byte for each page of the range, which is mapped.
    let result = unsafe { libc::mincore(start.cast(), size, pages.as_mut_ptr()) };
    assert_eq!(result, 0);
    pages.iter().filter(|page| **page & 1 != 0).count() * page
}

#[test]
fn blocks_grow_and_shrink_with_their_contents() {
    let _turn = turn();
    for alignment in [64, 4096, 4 * MIB, 32 * MIB] {
        let mut block = Filled::aligned(MIB, Alignment::new(alignment).unwrap());
        for new in [2, 3, 5, 16, 17, 40, 39, 12, 100, 1] {
            assert!(block.try_resize(new * MIB));
            assert!(block.block.addr().is_multiple_of(alignment));
        }
    }
}

#[test]
fn the_second_growth_is_in_place() {
    let _turn = turn();
    // A growth that joins what another test has freed behind the block moves nothing: not this one.
    let mut block = loop {
        release_unused();
        let mut block = Filled::new(5 * MIB);
        let before = block.block;
        assert!(block.try_resize(9 * MIB));
        if block.block != before {
            break block;
        }
    };
    let (start, (_, reserved, _)) = (block.block, block.extents());
    assert!(reserved >= 18 * MIB);
    for size in [10, 14, 18] {
        assert!(block.try_resize(size * MIB));
        assert_eq!(block.block, start);
    }
}

#[test]
fn what_is_zeroed_is_zero_whoever_had_it_before() {
    let _turn = turn();
    for _ in 0..3 {
        let block = allocate(7 * MIB, ALIGNMENT, true);
        for at in (0..7 * MIB).step_by(512) {
            // SAFETY: inside of the block.
            unsafe {
                assert_eq!(block.add(at).read(), 0, "{at}");
                block.add(at).write(7);
            }
        }
        // SAFETY: the block just allocated.
        unsafe { free(block, 7 * MIB, ALIGNMENT) };
    }
}

#[test]
fn what_cannot_be_had_is_refused() {
    let _turn = turn();
    for size in [usize::MAX, isize::MAX as usize, 1 << 50] {
        assert!(allocate(size, ALIGNMENT, false).is_null());
        let mut block = Filled::new(3 * MIB);
        let before = block.extents();
        assert!(!block.try_resize(size));
        assert_eq!(block.extents(), before);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_shrink_gives_its_pages_back_at_once() {
    let _turn = turn();
    let mut block = Filled::new(40 * MIB);
    let kept = 9 * MIB + 3 * page_size();
    assert!(resident(block.block, 40 * MIB) == 40 * MIB);
    assert!(block.try_resize(kept - 64));
    assert_eq!(resident(block.block, kept), kept);
    let (committed, reserved, _) = block.extents();
    assert_eq!(committed, kept);
    assert_eq!(resident(block.block, reserved), kept);
    // And what comes back is zero.
    assert!(block.try_resize(12 * MIB));
    assert!(block.try_resize(11 * MIB));
}

#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(offheap_tsan, ignore = "the sanitizer's own mappings come with ours")]
fn ten_thousand_blocks_are_few_mappings() {
    let _turn = turn();
    let before = mappings();
    let blocks: Vec<_> = (0..10_000)
        .map(|_| {
            let block = allocate(2 * MIB, ALIGNMENT, false);
            assert!(!block.is_null());
            block
        })
        .collect();
    let live = mappings();
    assert!(live < before + 100, "{before} -> {live}");
    for block in blocks {
        // SAFETY: the blocks just allocated.
        unsafe { free(block, 2 * MIB, ALIGNMENT) };
    }
    release_unused();
    let after = mappings();
    assert!(after < before + 100, "{before} -> {after}");
}

/// Every call of the system's fails in turn, once or for ever: what refuses leaves all as it was, and
/// nothing is lost.
#[test]
fn each_call_of_the_systems_may_fail() {
    let _turn = turn();
    for strict in [false, true] {
        refusal::STRICT.set(strict);
        for for_ever in [false, true] {
            let mut refused = 0;
            let mut n = 0;
            loop {
                let calls = refusal::after(n, for_ever, || {
                    let block = allocate(3 * MIB, ALIGNMENT, n % 2 == 0);
                    if block.is_null() {
                        refused += 1;
                        return;
                    }
                    let mut block = Filled {
                        block,
                        size: 3 * MIB,
                        alignment: ALIGNMENT,
                    };
                    block.fill(0);
                    for size in [4, 9, 30, 7, 70, 2] {
                        let before = block.extents();
                        if !block.try_resize(size * MIB) {
                            refused += 1;
                            // A shrink is never refused.
                            assert!(size * MIB > block.size);
                            assert_eq!(block.extents(), before);
                        }
                    }
                    drop(block);
                    release_unused();
                });
                if calls <= n {
                    break;
                }
                n += 1;
            }
            assert!(n > 5, "{n}");
            // A call that fails once is made good: the cache is emptied, or the pages are copied.
            assert_eq!(refused > 0, for_ever || strict, "{n} {refused}");
        }
        refusal::STRICT.set(false);
    }
    release_unused();
}

/// At the limit of mappings a hole cannot be made: the addresses are kept, and go back later.
#[cfg(target_os = "linux")]
#[test]
fn addresses_that_cannot_go_back_are_kept_without_their_memory() {
    let _turn = turn();
    release_unused();
    let block = Filled::new(6 * MIB);
    let start = block.block;
    drop(block);
    // The first call is the end of the region; the next takes its memory.
    refusal::after(0, false, release_unused);
    assert!(!is_cached(start));
    assert_eq!(resident(start, 6 * MIB), 0);
    release_unused();
    let mut byte = 0;
    // SAFETY: an address that is not mapped is an error, no fault.
    let result = unsafe { libc::mincore(start.cast(), page_size(), &raw mut byte) };
    assert_eq!(result, -1, "still mapped");
}

/// With strict overcommit nothing but what is used is accessible, so charged.
#[cfg(target_os = "linux")]
#[test]
fn strict_overcommit_has_guards_on_tails() {
    let _turn = turn();
    refusal::STRICT.set(true);
    release_unused();
    let mut block = Filled::new(3 * MIB);
    assert!(block.extents().2.has(State::GUARDED));
    let accessible = |block: &Filled| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let (from, to) = (block.block.addr(), block.block.addr() + block.extents().1);
        maps.lines()
            .filter_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (start, end) = range.split_once('-')?;
                let start = usize::from_str_radix(start, 16).ok()?.max(from);
                let end = usize::from_str_radix(end, 16).ok()?.min(to);
                (rest.starts_with("rw") && start < end).then(|| end - start)
            })
            .sum::<usize>()
    };
    assert_eq!(accessible(&block), 3 * MIB);
    for (size, committed) in [(9, 10), (11, 12), (7, 7), (8, 8), (50, 50), (3, 3)] {
        assert!(block.try_resize(size * MIB));
        assert_eq!(accessible(&block), committed * MIB, "{size}");
    }
    drop(block);
    // Without mappings to spare there are no tails, and everything works all the same.
    refusal::MAX_MAPPINGS.set(Some(0));
    release_unused();
    let mut block = Filled::new(3 * MIB);
    assert!(!block.extents().2.has(State::GUARDED));
    for size in [9, 11, 7, 30] {
        assert!(block.try_resize(size * MIB));
    }
    drop(block);
    refusal::MAX_MAPPINGS.set(None);
    refusal::STRICT.set(false);
    release_unused();
}

#[test]
fn without_mappings_to_spare_pages_are_copied() {
    let _turn = turn();
    refusal::MAX_MAPPINGS.set(Some(0));
    let mut block = Filled::new(3 * MIB);
    for size in [9, 11, 7, 40] {
        assert!(block.try_resize(size * MIB));
        assert!(!block.extents().2.has(State::OWN));
    }
    refusal::MAX_MAPPINGS.set(None);
}

#[test]
fn a_cached_region_is_gone_a_second_later() {
    let _turn = turn();
    let block = Filled::new(6 * MIB);
    let start = block.block;
    drop(block);
    let now = clock::now();
    decay_at(now);
    assert!(is_cached(start));
    decay_at(now + 2 * cache::LIFE);
    assert!(!is_cached(start));
}

#[test]
fn many_threads_hand_blocks_over() {
    let _turn = turn();
    let shared: Mutex<Vec<Filled>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let shared = &shared;
            scope.spawn(move || {
                let mut luck = 12_345 + thread;
                for _ in 0..60 {
                    luck = (luck * 1_103_515_245 + 12_345) & 0x7FFF_FFFF;
                    let size = MIB + (luck >> 8) % (6 * MIB) / 64 * 64;
                    let taken = shared.lock().unwrap().pop();
                    match taken {
                        Some(mut block) if luck & 64 == 0 => {
                            assert!(block.try_resize(size));
                            shared.lock().unwrap().push(block);
                        }
                        other => drop(other),
                    }
                    shared.lock().unwrap().push(Filled::new(size));
                }
            });
        }
    });
}

//! Sizes, contents, what is kept and what goes back.

use super::super::class::ARENA_SIZE;
use super::super::heap::{Heap, heap};
use super::super::*;
use super::{Held, Source, assert_all_returned, flush, install};
use std::sync::atomic::Ordering;

#[test]
fn every_size_and_alignment_is_honoured_and_kept() {
    heap!(Mine);
    let mut held = Vec::new();
    for alignment in [1, 2, 4, 8, 16, 32, 64] {
        for size in 1..=MAX_SMALL {
            held.push(Held::new::<Mine>(size, alignment, held.len() as u8).unwrap());
        }
        for size in [0, MAX_SMALL + 1, usize::MAX] {
            assert_eq!(Mine::allocate(size, alignment), None);
        }
    }
    let mut ranges: Vec<_> = held.iter().map(Held::range).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?} overlap");
    }
    let statistics = Mine::central().statistics();
    assert_eq!(statistics.live_blocks, held.len() as u64);
    let bytes: usize = ranges.iter().map(|(_, size)| size).sum();
    assert_eq!(statistics.live_bytes, bytes as u64);
    assert_eq!(
        statistics.arena_bytes,
        statistics.arenas * ARENA_SIZE as u64
    );
    // Out of order, so that pages fill and empty in all ways.
    while !held.is_empty() {
        let index = held.len() * 7 / 11;
        held.swap_remove(index).free::<Mine>();
    }
    assert_all_returned::<Mine>();
}

#[test]
fn the_programs_heap_works_by_itself() {
    let blocks: Vec<_> = (1..=MAX_SMALL)
        .map(|n| (n, allocate(n, 8).unwrap()))
        .collect();
    assert!(statistics().live_blocks >= blocks.len() as u64);
    assert!(statistics().arenas >= 1);
    for (size, block) in blocks {
        let usable = block_size(block.as_ptr()).unwrap();
        assert!(usable >= size && usable < size + 16);
        // SAFETY: the block has the class's size; freed as documented, by its class.
        unsafe {
            block.write_bytes(1, usable);
            free(block, usable, 1);
        }
    }
    release_unused();
    let local = 1_u64;
    assert_eq!(block_size((&raw const local).cast()), None);
    assert_eq!(block_size(std::ptr::null()), None);
    assert!(get_arena_allocator().same(&ArenaAllocator::default()));
    set_arena_allocator(get_arena_allocator());
}

#[test]
fn a_block_goes_round_a_magazine_and_a_few_are_fetched_first() {
    heap!(Mine);
    let first = Held::new::<Mine>(64, 16, 1).unwrap();
    let address = first.ptr;
    assert_eq!(Mine::central().statistics().cached_blocks, 3);
    first.free::<Mine>();
    assert_eq!(Mine::central().statistics().cached_blocks, 4);
    let second = Held::new::<Mine>(64, 16, 2).unwrap();
    assert_eq!(second.ptr, address);
    second.free::<Mine>();
    let many: Vec<_> = (0..1000)
        .map(|i| Held::new::<Mine>(512, 1, i as u8).unwrap())
        .collect();
    many.into_iter().for_each(Held::free::<Mine>);
    let cached = Mine::central().statistics().cached_blocks;
    assert!((16..=36).contains(&cached), "{cached} blocks");
    assert_all_returned::<Mine>();
}

#[test]
fn empty_arenas_go_back_and_one_is_kept() {
    heap!(Mine);
    let source = install::<Mine>(Source::new(0, 0));
    let mut held: Vec<_> = (0..5 * 496)
        .map(|i| Held::new::<Mine>(512, 64, i as u8).unwrap())
        .collect();
    let arenas = Mine::central().statistics().arenas;
    assert_eq!((arenas, source.live()), (5, 5));
    held.drain(..).for_each(Held::free::<Mine>);
    flush::<Mine>();
    assert_eq!(source.live(), 1);
    let statistics = Mine::central().statistics();
    assert_eq!((statistics.arenas, statistics.cached_blocks), (1, 0));
    assert_eq!(statistics.arenas_allocated_total, 5);
    assert_eq!(statistics.arenas_freed_total, 4);
    // The one that is kept serves: no arena is made and none goes, a hundred times.
    for _ in 0..100 {
        Held::new::<Mine>(16, 1, 0).unwrap().free::<Mine>();
        flush::<Mine>();
    }
    assert_eq!(source.calls.load(Ordering::Relaxed), 5);
    assert_all_returned::<Mine>();
    assert_eq!(source.live(), 0);
}

#[test]
fn fuller_arenas_are_used_first_so_that_emptier_ones_can_go() {
    heap!(Mine);
    let source = install::<Mine>(Source::new(0, 0));
    let mut held: Vec<_> = (0..4 * 496)
        .map(|i| Held::new::<Mine>(512, 64, i as u8).unwrap())
        .collect();
    // Three quarters of everything go, by pages: arenas keep 31, 16, 8 and 1 pages or so.
    let mut arenas: Vec<_> = source.live.lock().unwrap().keys().copied().collect();
    arenas.reverse();
    let keep = [31, 16, 8, 1];
    let mut i = 0;
    while i < held.len() {
        let (address, _) = held[i].range();
        let of = arenas
            .iter()
            .position(|base| (*base..base + ARENA_SIZE).contains(&address));
        let of = of.unwrap();
        if (address - arenas[of]) / 8192 >= keep[of] {
            held.swap_remove(i).free::<Mine>();
        } else {
            i += 1;
        }
    }
    flush::<Mine>();
    assert_eq!(source.live(), 4);
    // New blocks fill the holes of the fuller ones; the emptiest goes when its last page does.
    let mut new: Vec<_> = (0..15 * 16)
        .map(|i| Held::new::<Mine>(512, 64, i as u8).unwrap())
        .collect();
    let emptiest = arenas[3]..arenas[3] + ARENA_SIZE;
    let there = new.iter().filter(|held| emptiest.contains(&held.range().0));
    // At most what the one page that it still had could give.
    assert!(there.count() <= 16);
    new.append(&mut held);
    new.into_iter().for_each(Held::free::<Mine>);
    assert_all_returned::<Mine>();
    assert_eq!(source.live(), 0);
}

//! Trackers and leak reports. Names in capitals are RMM's `tracking_mr_tests.cpp`.

use crate::alone::{is_alone, run};
use crate::every_pool::{backends, own};
use crate::refusing::{PanicsOnGrowth, Refusing};
use offheap::{
    Alignment, Block, Buffer, Hook, MutableBuffer, Notice, Pool, Request, ResizableBuffer,
    TrackOptions, Tracker, origin, system_memory_pool,
};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TEN_MIB: usize = 10 << 20;

/// A tracked pool over `base`, and its tracker.
fn tracked(base: &Pool) -> (Pool, Arc<Tracker>) {
    let pool = base.track(TrackOptions::default());
    let tracker = pool.tracker().unwrap();
    (pool, tracker)
}

fn block(size: usize, pool: &Pool) -> Block {
    Block::allocate(size, Alignment::DEFAULT, pool, false).unwrap()
}

fn held(tracker: &Tracker) -> (u64, u64) {
    (tracker.live_count(), tracker.live_bytes())
}

/// An address that only the hooks see.
fn at(address: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::without_provenance_mut(address)).unwrap()
}

/// `Empty`, `AllFreed`.
#[test]
fn a_tracker_is_empty_before_and_after() {
    for base in own() {
        let (pool, tracker) = tracked(&base);
        assert_eq!((held(&tracker), tracker.live().len()), ((0, 0), 0));
        let blocks: Vec<_> = (0..10).map(|_| block(TEN_MIB, &pool)).collect();
        assert_eq!(held(&tracker), (10, 10 * TEN_MIB as u64));
        drop(blocks);
        assert_eq!((held(&tracker), tracker.live().len()), ((0, 0), 0));
        assert!(tracker.sites().is_empty());
        assert_eq!(
            (tracker.untracked_frees(), tracker.untracked_blocks()),
            (0, 0)
        );
    }
}

/// `AllocationsLeftWithStacks`, `AllocationsLeftWithoutStacks`.
#[test]
fn what_is_left_has_its_stack_or_none() {
    for depth in [0, 1, 16, 64, usize::MAX] {
        let pool = system_memory_pool().track(TrackOptions::default().stack_depth(depth));
        let tracker = pool.tracker().unwrap();
        let mut blocks: Vec<_> = (0..10).map(|_| block(1000, &pool)).collect();
        let mut i = 0;
        blocks.retain(|_| {
            i += 1;
            i % 2 == 0
        });
        assert_eq!(held(&tracker), (5, 5000));
        let live = tracker.live();
        assert_eq!(live.len(), 5);
        for allocation in &live {
            assert_eq!(allocation.native.is_none(), depth == 0);
            let frames = allocation.native_frames();
            if depth >= 16 {
                let text = frames[0].to_string();
                assert!(text.contains("track::block"), "{frames:#?}");
            }
        }
        // One place: the closure above.
        let sites = tracker.sites();
        assert_eq!((sites.len(), sites[0].count, sites[0].bytes), (1, 5, 5000));
    }
}

#[test]
fn an_allocation_says_all_that_is_known() {
    for base in backends() {
        let (pool, tracker) = tracked(&base);
        let first = block(100, &pool);
        let there = std::thread::spawn({
            let pool = pool.clone();
            move || {
                origin::with_tags(&[("query", "42")], || {
                    Block::allocate(5000, Alignment::new(4096).unwrap(), &pool, true).unwrap()
                })
            }
        })
        .join()
        .unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let live = tracker.live();
        assert_eq!(live.len(), 2);
        let (a, b) = (&live[0], &live[1]);
        assert_eq!((a.serial, b.serial), (1, 2));
        assert_eq!((a.size, a.alignment.get()), (100, 64));
        assert_eq!((b.size, b.alignment.get()), (5000, 4096));
        assert_eq!(a.address, first.as_ptr().addr().get());
        assert_ne!(a.thread, b.thread);
        assert!(a.time.elapsed() >= Duration::from_millis(2) && a.time <= b.time);
        assert_eq!(
            (a.tags.as_deref(), b.tags.as_deref()),
            (None, Some("query=42"))
        );
        assert!(!a.parked && a.foreign.is_none());
        let text = b.to_string();
        assert!(
            text.contains("5000 bytes, alignment 4096, number 2"),
            "{text}"
        );
        assert!(text.contains("[query=42]"), "{text}");
        drop((first, there));
    }
}

/// `tracemalloc.get_object_traceback`, for any address of a block.
#[test]
fn a_block_is_found_by_any_of_its_addresses() {
    let (pool, tracker) = tracked(&system_memory_pool());
    let block = block(1000, &pool);
    let start = block.as_ptr().addr().get();
    for offset in [0, 1, 500, 999] {
        let found = tracker.find(start + offset).unwrap();
        assert_eq!((found.address, found.serial), (start, 1));
    }
    for outside in [start - 1, start + 1000, 0, usize::MAX] {
        assert!(tracker.find(outside).is_none());
    }
    drop(block);
    assert!(tracker.find(start).is_none());
}

#[test]
fn a_resized_block_keeps_its_origin() {
    for base in own() {
        let (pool, tracker) = tracked(&base);
        let mut block = origin::with_tags(&[("made", "here")], || block(100, &pool));
        let before = tracker.live().remove(0);
        for size in [200, 100_000, 3_000_000, 10, 1] {
            block.reallocate(size).unwrap();
            let now = tracker.find(block.as_ptr().addr().get()).unwrap();
            assert_eq!((now.size, held(&tracker)), (size, (1, size as u64)));
            assert_eq!(
                (now.serial, now.native, now.time, &now.tags),
                (before.serial, before.native, before.time, &before.tags)
            );
        }
        // Refused: as it was.
        assert!(block.reallocate(isize::MAX as usize).is_err());
        assert_eq!(held(&tracker), (1, 1));
        // To nothing and back: another block.
        block.reallocate(0).unwrap();
        assert_eq!(held(&tracker), (0, 0));
        block.reallocate(50).unwrap();
        assert_eq!((held(&tracker), tracker.live()[0].serial), ((1, 50), 2));
        drop(block);
        assert_eq!((held(&tracker), tracker.untracked_frees()), ((0, 0), 0));
    }
}

#[test]
fn an_upstream_that_refuses_leaves_nothing_behind() {
    let (pool, tracker) = tracked(&Pool::custom(Refusing));
    assert!(Block::allocate(100, Alignment::DEFAULT, &pool, false).is_err());
    assert!(Block::allocate(100, Alignment::DEFAULT, &pool, true).is_err());
    assert_eq!((held(&tracker), tracker.live().len()), ((0, 0), 0));
    let (pool, tracker) = tracked(&system_memory_pool().limit(1000));
    let mut kept = block(600, &pool);
    assert!(Block::allocate(401, Alignment::DEFAULT, &pool, false).is_err());
    assert!(kept.reallocate(1001).is_err());
    assert_eq!((held(&tracker), tracker.live()[0].size), ((1, 600), 600));
}

/// A source that panics half-way through a reallocation: the block is still there, and freed.
#[test]
fn an_upstream_that_panics_loses_no_block() {
    let (pool, tracker) = tracked(&Pool::custom(PanicsOnGrowth));
    let mut block = block(100, &pool);
    let address = block.as_ptr().addr().get();
    let grown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block.reallocate(1000)));
    assert!(grown.is_err());
    assert_eq!(held(&tracker), (1, 100));
    // The source sees padded sizes, the tracker those asked for.
    assert_eq!(tracker.find(address).unwrap().serial, 1);
    drop(block);
    assert_eq!((held(&tracker), tracker.untracked_frees()), ((0, 0), 0));
}

/// `MultiTracking`.
#[test]
fn trackers_stack() {
    let (outer_pool, outer) = tracked(&system_memory_pool());
    let mut blocks: Vec<_> = (0..10).map(|_| block(TEN_MIB, &outer_pool)).collect();
    let (inner_pool, inner) = tracked(&outer_pool);
    blocks.extend((0..5).map(|_| block(TEN_MIB, &inner_pool)));
    assert_eq!(held(&outer), (15, 15 * TEN_MIB as u64));
    assert_eq!(held(&inner), (5, 5 * TEN_MIB as u64));
    assert!(
        outer
            .report()
            .to_string()
            .contains("in 15 allocations are alive")
    );
    drop(blocks);
    assert_eq!((held(&outer), held(&inner)), ((0, 0), (0, 0)));
}

/// `NegativeInnerTracking`, `UntrackedDeallocationDoesNotUnderflowAllocatedBytes`.
#[test]
fn a_free_of_an_unknown_block_is_counted_and_passed_on() {
    let (outer_pool, outer) = tracked(&system_memory_pool());
    let mut blocks: Vec<_> = (0..10)
        .map(|_| outer_pool.allocate(TEN_MIB, Alignment::DEFAULT).unwrap())
        .collect();
    let (inner_pool, inner) = tracked(&outer_pool);
    blocks.extend((0..5).map(|_| inner_pool.allocate(TEN_MIB, Alignment::DEFAULT).unwrap()));
    assert_eq!((held(&outer).0, held(&inner).0), (15, 5));
    // Once through the hook itself: a resize of an unknown block is none of its business either.
    let unknown = Request::Reallocate {
        ptr: blocks[0],
        old_size: TEN_MIB,
        new_size: 1,
        alignment: Alignment::DEFAULT,
    };
    inner.before(&unknown, &outer_pool).unwrap();
    inner.after(&unknown, Ok(Some(blocks[0])));
    for block in blocks {
        // The inner hook sees every free; the outer pool's account stays right.
        inner
            .before(
                &Request::Free {
                    ptr: block,
                    size: TEN_MIB,
                    alignment: Alignment::DEFAULT,
                },
                &outer_pool,
            )
            .unwrap();
        // SAFETY: a block of the pool under the inner tracker, with its size.
        unsafe { outer_pool.free(block, TEN_MIB, Alignment::DEFAULT) };
    }
    assert_eq!((held(&outer), held(&inner)), ((0, 0), (0, 0)));
    assert_eq!((outer.untracked_frees(), inner.untracked_frees()), (0, 10));
}

/// `DeallocWrongBytes`: what counts is the size that the block was allocated with.
#[test]
fn a_free_with_a_wrong_size_does_not_change_the_sums() {
    let (pool, tracker) = tracked(&system_memory_pool());
    for i in 1..=10_usize {
        let ptr = at(i * 4096);
        let (size, alignment) = (TEN_MIB, Alignment::DEFAULT);
        let zeroed = false;
        tracker.after(
            &Request::Allocate {
                size,
                alignment,
                zeroed,
            },
            Ok(Some(ptr)),
        );
    }
    assert_eq!(held(&tracker), (10, 10 * TEN_MIB as u64));
    for i in 1..=10_usize {
        let ptr = at(i * 4096);
        let (size, alignment) = (TEN_MIB / 2, Alignment::DEFAULT);
        tracker
            .before(
                &Request::Free {
                    ptr,
                    size,
                    alignment,
                },
                &pool,
            )
            .unwrap();
    }
    assert_eq!(held(&tracker), (0, 0));
}

/// `MultiThreaded`: a source gives an address out again before the free that gave it back has
/// returned.
#[test]
fn an_address_that_is_used_again_at_once_is_not_lost() {
    let (pool, tracker) = tracked(&system_memory_pool());
    let ptr = at(4096);
    let (size, alignment, zeroed) = (256, Alignment::DEFAULT, false);
    let allocate = Request::Allocate {
        size,
        alignment,
        zeroed,
    };
    let free = Request::Free {
        ptr,
        size,
        alignment,
    };
    let grow = Request::Reallocate {
        ptr,
        old_size: size,
        new_size: 512,
        alignment,
    };
    tracker.after(&allocate, Ok(Some(ptr)));
    tracker.before(&free, &pool).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| tracker.after(&allocate, Ok(Some(at(4096)))));
    });
    tracker.after(&free, Ok(None));
    assert_eq!(held(&tracker), (1, 256));
    // The same while a reallocation moves the block away.
    let elsewhere = at(8192);
    tracker.before(&grow, &pool).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            tracker.after(&allocate, Ok(Some(at(4096))));
            tracker.before(&grow, &pool).unwrap();
            assert_eq!((held(&tracker), tracker.live().len()), ((2, 512), 2));
            tracker.after(&grow, Err(&offheap::Error::closed("on purpose")));
        });
    });
    tracker.after(&grow, Ok(Some(elsewhere)));
    let live: Vec<_> = tracker
        .live()
        .iter()
        .map(|a| (a.serial, a.address, a.size))
        .collect();
    assert_eq!(live, [(2, 8192, 512), (3, 4096, 256)]);
    assert_eq!(tracker.untracked_frees(), 0);
}

/// Parked blocks are no leak, and are shown apart.
#[test]
fn a_parked_block_is_shown_apart() {
    let (pool, tracker) = tracked(&system_memory_pool());
    let parked = block(100, &pool).park();
    assert_eq!(held(&tracker), (0, 0));
    assert_eq!((tracker.parked_count(), tracker.parked_bytes()), (1, 100));
    assert!(tracker.live()[0].parked && tracker.sites().is_empty());
    assert!(tracker.live()[0].to_string().contains(", parked"));
    assert!(tracker.report().is_empty() && pool.leak_report().is_empty());
    drop(parked);
    assert_eq!((tracker.parked_count(), tracker.live().len()), (0, 0));
    assert_eq!(tracker.untracked_frees(), 0);
}

/// Over debug hooks a tracker sees what their users asked for: no guards, no quarantine.
#[test]
fn a_tracker_over_debug_hooks_sees_what_was_asked_for() {
    for base in backends() {
        let (pool, tracker) = tracked(&base.debug(offheap::DebugOptions::default()));
        let mut kept = block(100, &pool);
        kept.reallocate(200).unwrap();
        let forgotten = block(30, &pool);
        forgotten.notice(Notice::Forgotten);
        drop(forgotten);
        let parked = block(10, &pool).park();
        let found = tracker.find(kept.as_ptr().addr().get()).unwrap();
        assert_eq!((found.size, held(&tracker)), (200, (1, 200)));
        assert_eq!(
            (tracker.parked_bytes(), tracker.forgotten()[0].bytes),
            (10, 30)
        );
        drop((kept, parked));
        assert_eq!((held(&tracker), tracker.parked_count()), ((0, 0), 0));
    }
}

/// What a garbage collector freed is listed with its place; what was disposed of is not.
#[test]
fn a_forgotten_block_is_listed_once_it_is_freed() {
    let (pool, tracker) = tracked(&system_memory_pool());
    // Not unrolled: that would make three places.
    for _ in 0..std::hint::black_box(3) {
        let block = origin::with_tags(&[("who", "me")], || block(100, &pool));
        block.notice(Notice::Forgotten);
        assert_eq!(held(&tracker), (1, 100));
    }
    drop(block(100, &pool));
    let forgotten = tracker.forgotten();
    assert_eq!(forgotten.len(), 1);
    assert_eq!((forgotten[0].count, forgotten[0].bytes), (3, 300));
    assert_eq!(forgotten[0].tags.as_deref(), Some("who=me"));
    assert!(forgotten[0].first <= forgotten[0].last);
    let report = pool.close().unwrap();
    assert!(report.is_empty() && report.sites.is_empty());
    let text = report.to_string();
    assert!(
        text.contains("nothing is alive\nNobody disposed of 300 bytes in 3 allocations"),
        "{text}"
    );
    assert!(
        text.contains("[who=me]") && text.contains("track::block"),
        "{text}"
    );
}

/// What the language above tells after the call shows on the call's blocks, before native frames.
#[test]
fn foreign_frames_come_first() {
    std::thread::spawn(|| {
        let (pool, tracker) = tracked(&system_memory_pool());
        origin::this_thread_has_foreign_frames(true);
        let mut blocks = Vec::new();
        for line in [1, 1, 2] {
            blocks.push(block(100, &pool));
            // During the call nothing is known yet.
            assert!(tracker.live().last().unwrap().foreign.is_none());
            let call = origin::take_pending().unwrap();
            call.set_stack(format!("query (app.js:{line}:5)\nmain (app.js:9:1)").into());
            call.set_tags("user=7".into());
        }
        // Of one line in a loop is one place; that of line 2 another, though the native frames are
        // the same.
        let sites = tracker.sites();
        let counts: Vec<_> = sites.iter().map(|site| (site.count, site.bytes)).collect();
        assert_eq!(counts, [(2, 200), (1, 100)]);
        let text = pool.leak_report().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "pool 'track of system': 300 bytes in 3 allocations are alive"
        );
        assert_eq!(lines[1], "  200 bytes in 2 allocations [user=7]");
        assert_eq!(
            lines[2..4],
            ["    at query (app.js:1:5)", "    at main (app.js:9:1)"]
        );
        assert!(lines[4].contains("in all::track::block"), "{text}");
        origin::this_thread_has_foreign_frames(false);
    })
    .join()
    .unwrap();
}

#[test]
fn closing_reports_the_places() {
    let (pool, _) = tracked(&system_memory_pool());
    let large = MutableBuffer::zeroed(5000, &pool).unwrap();
    let small: Vec<_> = (0..3)
        .map(|_| Buffer::copy_from(&[1; 10], &pool).unwrap())
        .collect();
    let report = pool.leak_report();
    assert!(!pool.is_closed());
    assert_eq!(report, pool.close().unwrap());
    assert_eq!((report.bytes, report.allocations), (5030, 4));
    assert_eq!(report.sites.len(), 2);
    assert_eq!((report.sites[0].bytes, report.sites[1].bytes), (5000, 30));
    let text = report.to_string();
    assert!(text.contains("\n  30 bytes in 3 allocations\n"), "{text}");
    assert!(text.contains("closing_reports_the_places"), "{text}");
    assert!(text.contains("track.rs:"), "{text}");
    let short = format!("{report:.1}");
    assert!(short.ends_with("\n  30 bytes at 1 more place"), "{short}");
    drop((large, small));
    assert!(pool.close().unwrap().is_empty());
}

/// The nearest tracker at or under a pool fills its report; without one there are no places.
#[test]
fn a_report_asks_the_nearest_tracker() {
    let plain = system_memory_pool().limit(1000);
    let kept = block(10, &plain);
    let report = plain.leak_report();
    assert_eq!((report.allocations, report.sites.len()), (1, 0));
    assert_eq!(
        report.to_string(),
        "pool 'limit of system': 10 bytes in 1 allocation are alive"
    );
    let (pool, _) = tracked(&plain);
    let limit = pool.proxy().limit_named(500, Some("query"));
    let other = block(20, &pool);
    let own = block(30, &limit);
    let report = limit.leak_report();
    assert_eq!((report.bytes, report.allocations), (30, 1));
    let bytes: Vec<_> = report.sites.iter().map(|site| site.bytes).collect();
    assert_eq!(bytes, [30, 20]);
    // A tracker over a limit hides the one below it.
    let (top, tracker) = tracked(&limit);
    assert!(Arc::ptr_eq(&top.tracker().unwrap(), &tracker));
    assert!(top.leak_report().sites.is_empty());
    assert!(plain.tracker().is_none());
    drop((kept, other, own));
}

/// CPython's `tracemalloc_track_race`: threads allocate, resize, park and free while others read.
#[test]
fn reports_may_be_taken_at_any_time() {
    let (pool, tracker) = tracked(&backends()[0]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|thread| {
                let pool = &pool;
                scope.spawn(move || {
                    for i in 0..500_usize {
                        let mut buffer = ResizableBuffer::zeroed(i % 100 + 1, pool).unwrap();
                        buffer.resize(i * 7 % 5000 + 1, true).unwrap();
                        let block = block(thread + 1, pool);
                        if i % 3 == 0 {
                            drop(block.park());
                        } else if i % 3 == 1 {
                            block.notice(Notice::Forgotten);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let live = tracker.live();
                    assert!(live.len() <= 16 + 8, "{}", live.len());
                    for allocation in live.iter().take(2) {
                        drop(tracker.find(allocation.address + 1));
                    }
                    drop((tracker.sites(), tracker.forgotten(), held(&tracker)));
                }
            });
        }
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!((held(&tracker), tracker.live().len()), ((0, 0), 0));
    assert_eq!((tracker.parked_count(), tracker.untracked_frees()), (0, 0));
    let forgotten: u64 = tracker.forgotten().iter().map(|site| site.count).sum();
    assert_eq!(forgotten, 8 * 167);
}

const EXIT: &str = "track::a_report_at_exit_names_what_leaked";

/// At exit: leaks are printed once, grouped; parked blocks, pools without leaks and pools that did
/// not ask are silent; also when memory ends on another thread.
#[test]
fn a_report_at_exit_names_what_leaked() {
    if is_alone() {
        let options = TrackOptions::default().report_at_exit(true);
        let leaky = system_memory_pool()
            .proxy_named(Some("leaky"))
            .track(options);
        for _ in 0..3 {
            std::mem::forget(MutableBuffer::zeroed(100, &leaky).unwrap());
        }
        let parking = system_memory_pool()
            .proxy_named(Some("parking"))
            .track(options);
        std::mem::forget(block(10, &parking).park());
        let tidy = system_memory_pool()
            .proxy_named(Some("tidy"))
            .track(options);
        drop(block(10, &tidy));
        let quiet = system_memory_pool()
            .proxy_named(Some("quiet"))
            .track(TrackOptions::default());
        std::mem::forget(block(10, &quiet));
        let gone = system_memory_pool()
            .proxy_named(Some("gone"))
            .track(options);
        drop(gone);
        std::mem::forget((leaky, parking, tidy));
        return;
    }
    let output = run(EXIT, &[]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let line = "offheap: at exit, pool 'track of leaky': 300 bytes in 3 allocations are alive\n  300 bytes in 3 allocations\n";
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains("a_report_at_exit_names_what_leaked"),
        "{text}"
    );
    assert_eq!(text.matches("offheap:").count(), 1, "{text}");
}

/// Under adaptors, too: a limit there would refuse what nobody holds.
#[test]
fn parked_bytes_leave_every_account_under_an_adaptor() {
    let limit = offheap::system_memory_pool().limit(1000);
    let custom = Pool::custom(limit.clone());
    for pool in [
        limit.track(TrackOptions::default()).scoped_statistics(),
        custom,
    ] {
        let block =
            offheap::Block::allocate(1000, Default::default(), &pool.proxy(), false).unwrap();
        let other = block.clone();
        let parked = block.park();
        assert_eq!(limit.available(), Some(0));
        drop(other);
        let now = limit.statistics();
        assert_eq!(
            (now.bytes_allocated, now.live_allocations, now.parked_bytes),
            (0, 0, 1000)
        );
        assert_eq!(limit.available(), Some(1000));
        drop(parked);
        let now = limit.statistics();
        assert_eq!(
            (now.bytes_allocated, now.live_allocations, now.parked_bytes),
            (0, 0, 0)
        );
        assert_eq!(now.available, Some(1000));
    }
}

//! A tracker under the program's own `#[global_allocator]`: whatever tracking and reporting do, they
//! must not wait for themselves.

#![cfg(feature = "hooks")]

use offheap::{Alignment, Pool, TrackOptions, Tracker, origin, system_memory_pool};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static POOL: OnceLock<Pool> = OnceLock::new();
/// Whether new blocks come from the pool.
static IS_TRACKED: AtomicBool = AtomicBool::new(false);

/// Blocks of the pool, or of the system before there is one; a word before each says which.
struct Tracked;

#[global_allocator]
static GLOBAL: Tracked = Tracked;

fn whole(layout: Layout) -> Option<(Layout, usize)> {
    let room = layout.align().max(16);
    let size = layout.size().checked_add(room)?;
    Some((Layout::from_size_align(size, room).ok()?, room))
}

// SAFETY: each block is one of the pool or of the system allocator with room before it, and goes back
// where its word says that it came from.
unsafe impl GlobalAlloc for Tracked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((whole, room)) = whole(layout) else {
            return std::ptr::null_mut();
        };
        let pool = POOL.get().filter(|_| IS_TRACKED.load(Ordering::Acquire));
        let start = match pool {
            Some(pool) => Alignment::new(whole.align())
                .and_then(|alignment| pool.allocate(whole.size(), alignment))
                .map_or(std::ptr::null_mut(), NonNull::as_ptr),
            // SAFETY: the layout has a size of at least 16.
            None => unsafe { System.alloc(whole) },
        };
        if start.is_null() {
            return start;
        }
        // SAFETY: `room` bytes, at least 16, are before the block.
        unsafe {
            let block = start.add(room);
            block
                .cast::<usize>()
                .sub(1)
                .write(usize::from(pool.is_some()));
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((whole, room)) = whole(layout) else {
            return;
        };
        // SAFETY: the block came from `alloc` with this layout, which wrote the word.
        unsafe {
            let is_pools = block.cast::<usize>().sub(1).read() == 1;
            let start = block.sub(room);
            match (is_pools, POOL.get(), NonNull::new(start)) {
                (true, Some(pool), Some(start)) => {
                    let alignment = Alignment::new(whole.align()).unwrap_or_default();
                    pool.free(start, whole.size(), alignment);
                }
                _ => System.dealloc(start, whole),
            }
        }
    }
}

fn tracker() -> Arc<Tracker> {
    POOL.get_or_init(|| {
        let options = TrackOptions::default().report_at_exit(true);
        system_memory_pool().track(options)
    })
    .tracker()
    .unwrap()
}

fn address(block: &[u8]) -> usize {
    block.as_ptr().addr()
}

/// One process: what is tracked is the process's.
#[test]
fn everything_may_be_asked_while_everything_is_tracked() {
    const CHILD: &str = "OFFHEAP_TEST_TRACKED";
    if std::env::var_os(CHILD).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "everything_may_be_asked_while_everything_is_tracked",
            ])
            .arg("--nocapture")
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{text}", output.status);
        // The report at exit is put together while all it allocates is tracked.
        assert!(
            text.contains("offheap: at exit, pool 'track of system':"),
            "{text}"
        );
        assert!(text.contains("everything_may_be_asked"), "{text}");
        return;
    }
    let tracker = tracker();
    IS_TRACKED.store(true, Ordering::Release);
    let kept = vec![1_u8; 12_345];
    let found = tracker.find(address(&kept)).unwrap();
    assert_eq!(found.size, 12_345 + 16);
    let frames = found.native_frames();
    let named = |frame: &origin::Frame| frame.to_string().contains("everything_may_be_asked");
    assert!(frames.iter().any(named), "{frames:#?}");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let tracker = &tracker;
            scope.spawn(move || {
                origin::this_thread_has_foreign_frames(true);
                for i in 0..200_usize {
                    let text = format!("{thread} {i}").repeat(i);
                    let tagged = origin::with_tags(&[("i", "1")], || vec![0_u8; i + 1]);
                    let found = tracker.find(address(&tagged)).unwrap();
                    assert_eq!(found.tags.as_deref(), Some("i=1"));
                    if let Some(call) = origin::take_pending() {
                        call.set_stack(text.as_str().into());
                    }
                    if i % 100 == 0 {
                        drop((tracker.live(), tracker.sites(), tracker.forgotten()));
                        drop(tracker.report().to_string());
                    }
                }
            });
        }
    });
    let panicked = std::panic::catch_unwind(|| std::panic::panic_any(vec![0_u8; 77]));
    drop(panicked.unwrap_err());
    let place = address(&kept);
    drop(kept);
    assert!(
        tracker
            .find(place)
            .is_none_or(|other| other.size != 12_345 + 16)
    );
    assert!(tracker.live_count() > 0);
    std::mem::forget(vec![0_u8; 54_321]);
}

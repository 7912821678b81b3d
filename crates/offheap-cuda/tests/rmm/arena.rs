//! The end of `arena_mr_tests.cpp`, `arena_memory_resource` on a device; `src/sub_allocator/tests/rmm.rs` and the unit
//! tests of its structures have the rest.

use crate::kinds::{KIB, Kind, MIB};
use crate::where_it_runs::gpu;
use offheap_cuda::AllocatorStatistics;
use offheap_cuda::sub_allocator::SubAllocatorOptions;

/// As much as RMM's arena of four superblocks.
const WHOLE: usize = 4 * MIB;

fn whole() -> Kind {
    let options = SubAllocatorOptions::new()
        .initial(WHOLE as u64)
        .maximum(WHOLE as u64);
    Kind::of("pool", gpu().pool_manager(options).unwrap())
}

/// `Defragment`, `ArenaDefragment`: what four threads have freed on streams of their own is one block again.
#[test]
fn defragment() {
    let kind = whole();
    let used = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let on = kind.on(&gpu().create_stream(None).unwrap());
                    for size in [32 * KIB, 33 * KIB, MIB / 2] {
                        drop(on.block(size).unwrap());
                    }
                    on
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    drop(kind.block(WHOLE).unwrap());
    for on in used {
        drop(on.block(WHOLE).unwrap());
    }
}

/// `PerThreadToStreamDealloc`, with a stream in place of the thread's own: a block goes back though all memory around it belongs to other streams meanwhile.
#[test]
fn per_thread_to_stream_dealloc() {
    let gpu = gpu();
    let kind = whole();
    let thread = kind.on(&gpu.create_stream(None).unwrap());
    let first = thread.block(256).unwrap();
    drop(kind.on(&gpu.create_stream(None).unwrap()).block(32 * KIB));
    let default = kind.on(&gpu.default_stream());
    let rest = [
        default.block(MIB).unwrap(),
        default.block(32 * KIB).unwrap(),
    ];
    drop(first);
    drop(rest);
    drop(default.block(WHOLE).unwrap());
}

/// `DumpLogOnFailure`: the error has the figures; there is no file.
#[test]
fn figures_on_failure() {
    let kind = whole();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drop(kind.block(32 * KIB).unwrap()));
        }
    });
    let held = kind.block(MIB).unwrap();
    let error = kind.block(8 * MIB).unwrap_err();
    let text = error.to_string();
    for figure in ["8388608", "1048576", "4194304 bytes reserved"] {
        assert!(text.contains(figure), "{text}");
    }
    drop(held);
    let manager = kind.cuda.as_ref().unwrap();
    match manager.allocator_statistics().unwrap() {
        AllocatorStatistics::SubAllocator(now) => assert!(now.out_of_memory > 0, "{now:?}"),
        other => panic!("{other:?}"),
    }
}

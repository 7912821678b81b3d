//! What allocates: every kind of memory, its figures, and what happens without any.

use crate::children::{self, PART};
use crate::support::{INVALID, OUT_OF_MEMORY, bytes_of, managers, pattern};
use crate::where_it_runs::{gpu, is_double, raw};
use offheap::{
    Alignment, Block, DeviceBuffer, MemoryManager, MutableDeviceBuffer, memory_manager_of,
    system_memory_pool,
};
use offheap_cuda::sub_allocator::SubAllocatorOptions;
use offheap_cuda::{AllocatorStatistics, CopyRange, DriverPoolOptions, copy_async};
use std::ffi::{CString, c_char};
use std::sync::Arc;
use std::sync::mpsc::channel;

#[test]
fn zeroed_memory_alignments_growth_and_limits() {
    for (name, manager) in managers() {
        let limited = manager
            .with_pool(&manager.cuda_pool().limit(1 << 20))
            .unwrap();
        let pool = limited.cuda_pool().clone();
        let as_manager: Arc<dyn MemoryManager> = Arc::new(limited);
        let zeroed = MutableDeviceBuffer::zeroed(5000, &as_manager)
            .unwrap()
            .freeze();
        assert!(
            zeroed
                .to_cpu(&system_memory_pool())
                .unwrap()
                .iter()
                .all(|b| *b == 0)
        );
        for alignment in [64, 256, 512, 4096, 65536] {
            let alignment = Alignment::new(alignment).unwrap();
            let buffer =
                MutableDeviceBuffer::allocate_aligned(100, alignment, &as_manager).unwrap();
            assert!(
                alignment.is_aligned(buffer.address()),
                "{name} {alignment:?}"
            );
        }
        let refused = MutableDeviceBuffer::allocate(2 << 20, &as_manager).unwrap_err();
        assert_eq!(refused.code(), "ERR_OFFHEAP_OUT_OF_MEMORY", "{name}");
        let mut block = as_manager.allocate(1000, Alignment::DEFAULT, true).unwrap();
        block.reallocate(100_000).unwrap();
        block.reallocate(10).unwrap();
        assert_eq!(pool.bytes_allocated(), 5010, "{name}");
        drop((block, zeroed));
        assert_eq!(pool.bytes_allocated(), 0, "{name}");
        assert!(
            memory_manager_of(&pool).unwrap().equals(&*as_manager),
            "{name}"
        );
    }
}

#[test]
fn asynchronous_copies_tell_when_they_are_done() {
    let manager = gpu().manager().unwrap();
    let stream = gpu().create_stream(None).unwrap();
    let host: Arc<dyn MemoryManager> = Arc::new(gpu().host_manager().unwrap());
    let there: Arc<dyn MemoryManager> = Arc::new(manager.on(&stream).unwrap());
    let data = pattern(100_000);
    let source = DeviceBuffer::copy_from(&data, &host).unwrap();
    let target = MutableDeviceBuffer::allocate(100_000, &there).unwrap();
    let (done, wait) = channel();
    let range = |block: &offheap::Block| CopyRange {
        block: block.clone(),
        offset: 0,
    };
    // SAFETY: both are used again after the copy is done.
    unsafe {
        copy_async(
            &stream,
            range(target.block()),
            range(source.block()),
            100_000,
            move || done.send(()).unwrap(),
        )
        .unwrap();
    }
    drop(source);
    wait.recv().unwrap();
    assert_eq!(
        &*target.freeze().to_cpu(&system_memory_pool()).unwrap(),
        &*data
    );
    let event = stream.record().unwrap();
    event.synchronize().unwrap();
    // Not the stream: the end of what the copy kept may come to it at any time, on another thread.
    assert!(event.is_complete().unwrap());
}

#[test]
fn out_of_memory_asks_the_callbacks_and_has_numbers() {
    let manager = gpu().plain_manager().unwrap();
    let (_, total) = gpu().memory_info().unwrap();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let id = manager
        .on_out_of_memory(move |bytes| {
            let mut seen = seen.lock().unwrap();
            seen.push(bytes);
            seen.len() < 3
        })
        .unwrap();
    let as_manager: Arc<dyn MemoryManager> = Arc::new(manager.clone());
    let size = usize::try_from(total).unwrap() + (1 << 20);
    let error = MutableDeviceBuffer::allocate(size, &as_manager).unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_OUT_OF_MEMORY");
    assert!(error.to_string().contains(&size.to_string()), "{error}");
    assert_eq!(*asked.lock().unwrap(), [size as u64; 3]);
    manager.remove_out_of_memory_handler(id).unwrap();
    assert!(MutableDeviceBuffer::allocate(size, &as_manager).is_err());
    assert_eq!(asked.lock().unwrap().len(), 3);
    assert_eq!(manager.cuda_pool().num_allocations(), 0);
}

#[test]
fn blocks_go_back_from_threads_without_a_context() {
    for (name, manager) in managers() {
        let pool = manager.cuda_pool().clone();
        let as_manager: Arc<dyn MemoryManager> = Arc::new(manager);
        let buffer = MutableDeviceBuffer::allocate(1000, &as_manager).unwrap();
        let before = pool.bytes_allocated();
        std::thread::spawn(move || drop(buffer)).join().unwrap();
        assert_eq!(pool.bytes_allocated(), before - 1000, "{name}");
        assert!(DeviceBuffer::copy_from(b"still works", &as_manager).is_ok());
    }
}

#[test]
fn large_alignments_are_kept_by_every_kind_of_memory() {
    let alignment = Alignment::new(1 << 20).unwrap();
    let host: Arc<dyn MemoryManager> = Arc::new(gpu().host_manager().unwrap());
    let all = managers()
        .into_iter()
        .map(|(name, manager)| (name, Arc::new(manager) as Arc<dyn MemoryManager>))
        .chain([("host", host)]);
    for (name, manager) in all {
        let blocks: Vec<Block> = (0..4)
            .map(|_| manager.allocate(100, alignment, true).unwrap())
            .collect();
        for block in &blocks {
            assert!(alignment.is_aligned(block.as_ptr().addr().get()), "{name}");
        }
        drop(manager);
        // The blocks keep their allocator, and go back to it.
        drop(blocks);
    }
}

#[test]
fn zeroed_memory_is_zero_and_growth_keeps_the_bytes() {
    for (name, manager) in managers() {
        let pool = manager.cuda_pool().clone();
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        // Memory that was used before, so that zero is not what it has anyway.
        let mut used = MutableDeviceBuffer::allocate(1 << 16, &manager).unwrap();
        used.write(0, &vec![0xAB; 1 << 16]).unwrap();
        drop(used);
        let zeroed = MutableDeviceBuffer::zeroed(1 << 16, &manager)
            .unwrap()
            .freeze();
        assert!(bytes_of(&zeroed).iter().all(|byte| *byte == 0), "{name}");
        drop(zeroed);
        let mut block = manager.allocate(64, Alignment::DEFAULT, true).unwrap();
        // SAFETY: a zeroed block of this manager's that nobody else uses meanwhile.
        let mut buffer =
            unsafe { MutableDeviceBuffer::from_block(block.clone(), 0, 64, Arc::clone(&manager)) };
        buffer.write(0, &pattern(64)).unwrap();
        drop(buffer);
        block.reallocate(1 << 20).unwrap();
        assert_eq!(pool.bytes_allocated(), 1 << 20, "{name}");
        block.reallocate(32).unwrap();
        assert_eq!(pool.bytes_allocated(), 32, "{name}");
        // SAFETY: as above; the bytes came along.
        let kept = unsafe { DeviceBuffer::from_block(block, 0, 32, manager) };
        assert_eq!(bytes_of(&kept), pattern(64)[..32], "{name}");
        drop(kept);
        assert_eq!(
            (pool.bytes_allocated(), pool.live_allocations()),
            (0, 0),
            "{name}"
        );
    }
}

#[test]
fn a_driver_pool_keeps_memory_until_it_is_trimmed() {
    const SIZE: usize = 8 << 20;
    let manager = gpu()
        .driver_pool_manager(&DriverPoolOptions::default())
        .unwrap();
    let figures = || match manager.allocator_statistics().unwrap() {
        AllocatorStatistics::DriverPool(figures) => figures,
        other => panic!("{other:?}"),
    };
    assert_eq!((figures().reserved, figures().used), (0, 0));
    let block = manager.allocate(SIZE, Alignment::DEFAULT, false).unwrap();
    assert!(figures().used >= SIZE as u64 && figures().reserved >= figures().used);
    drop(block);
    manager.stream().synchronize().unwrap();
    let kept = figures();
    assert!(
        kept.reserved >= SIZE as u64 && kept.used_peak >= SIZE as u64,
        "{kept:?}"
    );
    assert_eq!(kept.used, 0);
    manager.trim(0).unwrap();
    assert_eq!(figures().reserved, 0);
    manager.reset_allocator_peaks().unwrap();
    assert_eq!((figures().used_peak, figures().reserved_peak), (0, 0));
    // One that keeps nothing.
    let manager = gpu()
        .driver_pool_manager(&DriverPoolOptions {
            release_threshold: 0,
            ..DriverPoolOptions::default()
        })
        .unwrap();
    drop(manager.allocate(SIZE, Alignment::DEFAULT, false).unwrap());
    manager.stream().synchronize().unwrap();
    let AllocatorStatistics::DriverPool(left) = manager.allocator_statistics().unwrap() else {
        panic!("another kind");
    };
    assert_eq!(left.used, 0);
    // A driver only tries.
    assert!(left.reserved == 0 || !is_double(), "{left:?}");
}

/// More than the GPU has, of every kind that is not cut from the CPU's memory: an error with the numbers, and the
/// GPU goes on.
#[test]
fn more_than_the_gpu_has_is_out_of_memory() {
    let (_, total) = gpu().memory_info().unwrap();
    let size = usize::try_from(total).unwrap() * 2;
    for (name, manager) in managers() {
        if name == "managed" {
            // It may be larger than the GPU: the driver moves it.
            continue;
        }
        let pool = manager.cuda_pool().clone();
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        let error = MutableDeviceBuffer::allocate(size, &manager).unwrap_err();
        assert_eq!(error.code(), OUT_OF_MEMORY, "{name}");
        assert!(
            error.to_string().contains(&size.to_string()),
            "{name}: {error}"
        );
        for size in [usize::MAX, usize::MAX - 63, 1 << 60] {
            let refused = MutableDeviceBuffer::allocate(size, &manager);
            assert_eq!(refused.unwrap_err().code(), OUT_OF_MEMORY, "{name}: {size}");
        }
        assert_eq!(
            (pool.num_allocations(), pool.bytes_allocated()),
            (0, 0),
            "{name}"
        );
        assert_eq!(
            bytes_of(&DeviceBuffer::copy_from(b"goes on", &manager).unwrap()),
            b"goes on"
        );
    }
}

/// An event for each copy would be slow: they are used again.
#[test]
fn events_are_used_again() {
    type Calls = unsafe extern "C" fn(*const c_char) -> u64;
    // SAFETY: the double's function of this type; a GPU's driver has none.
    let Some(calls) = (unsafe { raw::<Calls>("offheap_cuda_double_calls") }) else {
        assert!(!is_double());
        eprintln!("not run: the double counts the calls");
        return;
    };
    let made = || {
        let name = CString::new("cuEventCreate").unwrap();
        // SAFETY: a C string.
        unsafe { calls(name.as_ptr()) }
    };
    let stream = gpu().create_stream(None).unwrap();
    drop(stream.record().unwrap());
    let before = made();
    for _ in 0..2000 {
        drop(stream.record().unwrap());
    }
    // Other tests run meanwhile and make some of their own.
    assert!(made() - before < 1000, "{} of 2000", made() - before);
}

#[test]
fn options_that_are_wrong_are_refused() {
    let wrong = SubAllocatorOptions::new().initial(2 << 20).maximum(1 << 20);
    assert_eq!(gpu().pool_manager(wrong).unwrap_err().code(), INVALID);
}

/// What is dropped goes back: memory, registrations, streams and events. In a process of its own, as others' come
/// and go here.
#[test]
fn what_is_dropped_goes_back() {
    if !is_double() {
        eprintln!("not run: the double counts what is alive");
        return;
    }
    children::run("memory::drops_everything", "drops everything", &[]);
}

/// Not a test of its own.
#[test]
fn drops_everything() {
    if std::env::var(PART).as_deref() != Ok("drops everything") {
        return;
    }
    let live = || {
        ["blocks", "registrations", "streams", "events"].map(|what| {
            let name = format!("offheap_cuda_double_live_{what}");
            // SAFETY: the double's counts are functions of this type.
            unsafe { raw::<unsafe extern "C" fn() -> u64>(&name).unwrap()() }
        })
    };
    let round = || {
        let host = gpu().host_manager().unwrap();
        let pinned: Arc<dyn MemoryManager> = Arc::new(host.clone());
        for (_, manager) in managers() {
            let manager: Arc<dyn MemoryManager> = Arc::new(manager);
            let there = DeviceBuffer::copy_from(&pattern(1000), &manager).unwrap();
            let copy = there.copy_to(&pinned).unwrap().copy_to(&manager).unwrap();
            let view = copy
                .slice(10, 10)
                .unwrap()
                .view_or_copy_to(&manager)
                .unwrap();
            // SAFETY: the owner keeps the memory, and nobody writes it.
            let foreign = unsafe { gpu().foreign(copy.address() as u64, 10, copy) }.unwrap();
            let mut block = manager
                .allocate(64, Alignment::new(4096).unwrap(), true)
                .unwrap();
            block.reallocate(1 << 20).unwrap();
            drop((there, view, foreign, block));
            // What is refused leaves nothing.
            assert!(
                manager
                    .allocate(usize::MAX, Alignment::DEFAULT, true)
                    .is_err()
            );
        }
        let block = Block::allocate(1 << 16, Alignment::DEFAULT, &system_memory_pool(), true);
        drop(gpu().register_host(&block.unwrap()).unwrap());
        let stream = gpu().create_stream(None).unwrap();
        let (event, timed) = (stream.record().unwrap(), gpu().create_event(true).unwrap());
        timed.record_on(&stream).unwrap();
        stream.wait(&event).unwrap();
        gpu().synchronize().unwrap();
        host.trim(0).unwrap();
    };
    round();
    let before = live();
    for _ in 0..5 {
        round();
    }
    assert_eq!(live(), before);
}

//! Copies: cases 15, 79, 86, 136, 140, 142 and 147.

use crate::support::{
    INVALID, OUT_OF_RANGE, bytes_of, code, device_managers, everywhere, manager, managers,
    other_gpu, pattern,
};
use crate::where_it_runs::gpu;
use offheap::{
    Device, DeviceBuffer, MemoryManager, MutableDeviceBuffer, cpu_device,
    default_cpu_memory_manager, system_memory_pool,
};
use offheap_cuda::{CopyRange, copy_async, fill_async};
use std::sync::Arc;
use std::sync::mpsc::channel;

fn new(bytes: &[u8], manager: &Arc<dyn MemoryManager>) -> DeviceBuffer {
    DeviceBuffer::copy_from(bytes, manager).unwrap()
}

#[test]
fn case_15_79_every_kind_of_memory_is_copied_to_every_other_and_to_itself() {
    for (from_name, from) in everywhere() {
        for (to_name, to) in everywhere() {
            for size in [0, 1, 1000, 300_000] {
                let data = pattern(size);
                let source = new(&data, &from);
                let copy = source.copy_to(&to).unwrap();
                assert_eq!(bytes_of(&copy), data, "{from_name} to {to_name}, {size}");
                assert!(copy.memory_manager().equals(&*to), "{to_name}");
                assert!(copy.device().equals(&*to.device()), "{to_name}");
                assert_eq!(copy.as_cpu().is_ok(), to.is_cpu(), "{to_name}");
                if size > 0 {
                    assert_ne!(copy.address(), source.address(), "{from_name} to {to_name}");
                }
                // The copy has bytes of its own.
                drop(source);
                assert_eq!(bytes_of(&copy), data);
            }
        }
    }
}

#[test]
fn case_79_a_slice_is_copied_as_a_slice() {
    let data = pattern(1000);
    for (from_name, from) in everywhere() {
        let source = new(&data, &from);
        let inner = source.slice(3, 990).unwrap().slice(8, 970).unwrap();
        for (to_name, to) in everywhere() {
            let copy = inner.copy_to(&to).unwrap();
            assert_eq!(
                (copy.len(), copy.block().size(), copy.offset()),
                (970, 970, 0)
            );
            assert_eq!(bytes_of(&copy), data[11..981], "{from_name} to {to_name}");
        }
        assert_eq!(code(source.slice(1, 1000)), OUT_OF_RANGE);
    }
}

/// Not owned: bytes that nobody keeps are copied before the call returns.
#[test]
fn case_79_bytes_that_end_after_the_call_were_copied() {
    for (name, manager) in everywhere() {
        let mut data = pattern(5000);
        let there = new(&data, &manager);
        data.fill(0xEE);
        drop(data);
        assert_eq!(bytes_of(&there), pattern(5000), "{name}");
    }
}

#[test]
fn case_79_another_gpu_has_a_copy_of_its_own() {
    let Some(other) = other_gpu() else {
        eprintln!("only one GPU");
        return;
    };
    let far = other.default_memory_manager().unwrap();
    for (name, near) in managers() {
        let near: Arc<dyn MemoryManager> = Arc::new(near);
        let here = new(&pattern(1000), &near);
        let there = here.copy_to(&far).unwrap();
        assert_eq!(there.location(), other.location(), "{name}");
        let back = there.copy_to(&near).unwrap();
        assert!(back.device().equals(&*near.device()), "{name}");
        assert_eq!(bytes_of(&back), pattern(1000), "{name}");
    }
}

#[test]
fn case_86_bytes_arrive_in_two_parts() {
    let data = pattern(1000);
    for (name, manager) in managers() {
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        let mut there = MutableDeviceBuffer::allocate(1000, &manager).unwrap();
        there.write(0, &data[..500]).unwrap();
        there.write(500, &data[500..]).unwrap();
        assert_eq!(bytes_of(&there.freeze()), data, "{name}");
    }
}

#[test]
fn case_136_147_to_a_gpu_and_back() {
    let cpu = default_cpu_memory_manager();
    for size in [0, 1, 1000] {
        let data = pattern(size);
        let here = new(&data, &cpu);
        for (name, manager) in device_managers() {
            let there = here.copy_to(&manager).unwrap();
            assert_eq!(there.len(), size);
            assert!(there.memory_manager().equals(&*manager), "{name}");
            assert!(there.device().equals(&gpu()) && !there.is_cpu(), "{name}");
            let back = there.copy_to(&cpu).unwrap();
            assert!(
                back.device().equals(&*cpu_device()) && back.is_cpu(),
                "{name}"
            );
            assert_eq!(&*back.as_cpu().unwrap(), &*data, "{name}");
            if size > 0 {
                assert_ne!(back.address(), here.address());
            }
        }
        // To a device: by its default manager.
        let there = here
            .copy_to(&gpu().default_memory_manager().unwrap())
            .unwrap();
        assert_eq!(&*there.to_cpu(&system_memory_pool()).unwrap(), &*data);
    }
}

/// A copy that does not fit leaves the source and the pool as they were.
#[test]
fn case_15_136_a_copy_that_cannot_be_had_is_an_error() {
    let here = new(&pattern(1000), &default_cpu_memory_manager());
    for (name, manager) in managers() {
        let pool = manager.cuda_pool().limit(999);
        let small: Arc<dyn MemoryManager> = Arc::new(manager.with_pool(&pool).unwrap());
        for result in [here.copy_to(&small), here.view_or_copy_to(&small)] {
            assert_eq!(code(result), "ERR_OFFHEAP_OUT_OF_MEMORY", "{name}");
        }
        assert_eq!(pool.num_allocations(), 0, "{name}");
        assert_eq!(
            here.slice(0, 999).unwrap().copy_to(&small).unwrap().len(),
            999
        );
    }
    assert_eq!(bytes_of(&here), pattern(1000));
}

/// pyarrow's `buffer_from_data`, of everything that has bytes.
#[test]
fn case_140_buffers_are_made_of_bytes_of_any_kind() {
    let (there, host) = (manager(), gpu().host_manager().unwrap());
    let host: Arc<dyn MemoryManager> = Arc::new(host);
    for size in [0, 1, 1000] {
        let data = pattern(size);
        let (at, n) = (size / 4, 2 * size / 4);
        // An array, and a part of it.
        assert_eq!(bytes_of(&new(&data, &there)), data);
        assert_eq!(bytes_of(&new(&data[at..at + n], &there)), data[at..at + n]);
        // Buffers: of the CPU, page-locked, of the GPU; whole, and a slice of each.
        for source in [
            new(&data, &default_cpu_memory_manager()),
            new(&data, &host),
            new(&data, &there),
        ] {
            let copy = source.copy_to(&there).unwrap();
            assert_eq!((bytes_of(&copy), copy.len()), (data.clone(), size));
            let part = source.slice(at, n).unwrap().copy_to(&there).unwrap();
            assert_eq!(
                (bytes_of(&part), part.len()),
                (data[at..at + n].to_vec(), n)
            );
            // Writing the copy does not change what it is of.
            let mut copy = copy.try_into_mutable().unwrap();
            copy.write(0, &vec![0xAA; size]).unwrap();
            assert_eq!(bytes_of(&source), data);
        }
        // A view is the same memory.
        let whole = new(&data, &there);
        let view = whole.slice(0, size).unwrap();
        assert_eq!(view.address(), whole.address());
        // pyarrow clamps a slice; here it is an error.
        assert_eq!(code(whole.slice(0, size + 10)), OUT_OF_RANGE);
        assert_eq!(code(whole.slice(size + 1, 0)), OUT_OF_RANGE);
        // Of a size.
        assert_eq!(
            MutableDeviceBuffer::allocate(size, &there).unwrap().len(),
            size
        );
    }
}

#[test]
fn case_142_ranges_are_copied_to_the_host() {
    for (name, manager) in managers() {
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        for size in [0, 1, 1000] {
            let data = pattern(size);
            let there = new(&data, &manager);
            let read = |offset: usize, length: usize| {
                let mut target = vec![0xEE; length];
                there.read(offset, &mut target).map(|()| target)
            };
            for (offset, length) in [
                (0, size),
                (size / 4, size - size / 4),
                (size / 4, size / 8),
                (size / 4, 0),
                (size, 0),
            ] {
                assert_eq!(
                    read(offset, length).unwrap(),
                    data[offset..offset + length],
                    "{name}"
                );
            }
            for (offset, length) in [
                (size + 1, 0),
                (usize::MAX, 0),
                (usize::MAX, 1),
                (0, size + 1),
                (size / 2, size.div_ceil(2) + 1),
                (size, 1),
            ] {
                let mut target = vec![0xEE; length];
                let error = there.read(offset, &mut target).unwrap_err();
                assert_eq!(error.code(), OUT_OF_RANGE, "{name}: {offset}, {length}");
                assert!(
                    target.iter().all(|byte| *byte == 0xEE),
                    "nothing was copied"
                );
            }
        }
    }
}

#[test]
fn case_142_ranges_are_copied_from_the_host() {
    for (name, manager) in managers() {
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        for size in [0, 1, 1000] {
            let data = pattern(size);
            let mut there = MutableDeviceBuffer::allocate(size, &manager).unwrap();
            there.write(0, &data).unwrap();
            for (offset, length) in [
                (size + 1, 0),
                (usize::MAX, 1),
                (0, size + 1),
                (size / 2, size.div_ceil(2) + 1),
            ] {
                let error = there.write(offset, &vec![0xEE; length]).unwrap_err();
                assert_eq!(error.code(), OUT_OF_RANGE, "{name}: {offset}, {length}");
            }
            let mut expected = data.clone();
            if size > 4 {
                there.write(size / 4, &data[..size - size / 4]).unwrap();
                expected[size / 4..].copy_from_slice(&data[..size - size / 4]);
                there.write(1, &data[..size / 2]).unwrap();
                expected[1..=size / 2].copy_from_slice(&data[..size / 2]);
            }
            there.write(size, &[]).unwrap();
            assert_eq!(bytes_of(&there.freeze()), expected, "{name}");
        }
    }
}

/// `copy_from_device`: on the same GPU and from another; what does not fit is refused, and nothing is told.
#[test]
fn case_142_ranges_are_copied_between_devices() {
    let stream = gpu().create_stream(None).unwrap();
    let target_manager: Arc<dyn MemoryManager> =
        Arc::new(gpu().manager().unwrap().on(&stream).unwrap());
    let mut sources = vec![manager()];
    if let Some(other) = other_gpu() {
        sources.push(Arc::new(other.manager().unwrap()));
    }
    for source_manager in sources {
        for size in [0, 1, 1000] {
            let data = pattern(size);
            let source = new(&data, &source_manager);
            let target = MutableDeviceBuffer::zeroed(size, &target_manager).unwrap();
            let range = |block: &offheap::Block, offset| CopyRange {
                block: block.clone(),
                offset,
            };
            // The target is the stream's, and the source was written by a call that waited.
            let put = |to: usize, from: usize, length: usize| {
                let (done, wait) = channel();
                // SAFETY: nobody uses either before it is done.
                let told = unsafe {
                    copy_async(
                        &stream,
                        range(target.block(), target.offset() + to),
                        range(source.block(), source.offset() + from),
                        length,
                        move || done.send(()).unwrap(),
                    )
                };
                match told {
                    Ok(()) => wait.recv().map_err(|_| "not told"),
                    Err(error) => {
                        assert!(wait.recv().is_err(), "told of a copy that was refused");
                        Err(error.code())
                    }
                }
            };
            put(0, 0, size).unwrap();
            let mut expected = data.clone();
            if size > 4 {
                put(size / 4, 0, size - size / 4).unwrap();
                expected[size / 4..].copy_from_slice(&data[..size - size / 4]);
                put(1, size / 2, size / 2 - 1).unwrap();
                expected[1..size / 2].copy_from_slice(&data[size / 2..size - 1]);
            }
            for (to, from, length) in [
                (0, 0, size + 1),
                (1, 0, size),
                (0, 1, size),
                (size + 1, 0, 0),
                (0, size + 1, 0),
                (usize::MAX, 0, 2),
                (0, usize::MAX, 2),
                (0, 0, usize::MAX),
            ] {
                assert_eq!(
                    put(to, from, length),
                    Err(OUT_OF_RANGE),
                    "{to}, {from}, {length}"
                );
            }
            assert_eq!(bytes_of(&target.freeze()), expected);
        }
    }
}

#[test]
fn case_142_ranges_are_filled() {
    let stream = gpu().create_stream(None).unwrap();
    let manager: Arc<dyn MemoryManager> = Arc::new(gpu().manager().unwrap().on(&stream).unwrap());
    let target = MutableDeviceBuffer::zeroed(1000, &manager).unwrap();
    let range = |offset| CopyRange {
        block: target.block().clone(),
        offset,
    };
    for (offset, length, is_right) in [
        (0, 10, true),
        (999, 1, true),
        (1000, 0, true),
        (500, 0, true),
        (999, 2, false),
        (1001, 0, false),
        (0, usize::MAX, false),
    ] {
        let (done, wait) = channel();
        // SAFETY: nobody uses the buffer before it is done.
        let told = unsafe {
            fill_async(&stream, range(offset), 7, length, move || {
                done.send(()).unwrap()
            })
        };
        assert_eq!(told.is_ok(), is_right, "{offset}, {length}");
        assert_eq!(wait.recv().is_ok(), is_right, "{offset}, {length}");
        if let Err(error) = told {
            assert_eq!(error.code(), OUT_OF_RANGE);
        }
    }
    let bytes = bytes_of(&target.freeze());
    assert_eq!(
        (&bytes[..11], &bytes[998..]),
        (&[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0][..], &[0, 7][..])
    );
}

/// A stream of another GPU orders nothing of this one's memory.
#[test]
fn case_136_a_stream_of_another_gpu_is_refused() {
    let Some(other) = other_gpu() else {
        eprintln!("only one GPU");
        return;
    };
    let stream = other.create_stream(None).unwrap();
    assert_eq!(code(gpu().manager().unwrap().on(&stream)), INVALID);
    let event = gpu().create_event(false).unwrap();
    assert_eq!(code(event.record_on(&stream)), INVALID);
}

//! Memory of the CPU that the GPU reaches: cases 16, 89, 90 and 138.

use crate::support::{INVALID, NOT_SUPPORTED, bytes_of, code, device_managers, manager, pattern};
use crate::where_it_runs::{gpu, raw, with_context};
use offheap::{
    Alignment, Block, Device, DeviceBuffer, DeviceType, Location, MemoryManager, MutableBuffer,
    MutableDeviceBuffer, default_cpu_memory_manager, system_memory_pool,
};
use std::ffi::{c_uint, c_void};
use std::ptr;
use std::sync::Arc;

fn host() -> Arc<dyn MemoryManager> {
    Arc::new(gpu().host_manager().unwrap())
}

fn managed() -> Arc<dyn MemoryManager> {
    Arc::new(gpu().managed_manager().unwrap())
}

#[test]
fn case_16_90_memory_of_the_host_is_viewed_on_the_gpu_and_back() {
    let data = pattern(1000);
    for (manager, kind) in [
        (host(), DeviceType::CUDA_HOST),
        (managed(), DeviceType::CUDA_MANAGED),
    ] {
        if !manager.is_cpu() {
            eprintln!("the CPU does not reach managed memory of this GPU");
            continue;
        }
        for (name, there) in device_managers() {
            let source = DeviceBuffer::copy_from(&data, &manager).unwrap();
            let view = source.view_on(&there).unwrap();
            assert!(!view.is_cpu() && view.as_cpu().is_err(), "{name}");
            assert!(view.memory_manager().equals(&*there), "{name}");
            assert_eq!(
                (view.location(), view.len()),
                (gpu().location(), 1000),
                "{name}"
            );
            assert_eq!(
                view.block().location().device_type,
                DeviceType::CUDA,
                "{name}"
            );
            assert_ne!(view.address(), 0);
            assert_eq!(bytes_of(&view), data, "{name}");
            // A view is nobody's allocation.
            assert!(view.block().pool().is_none(), "{name}");
            // A slice of it leads back to that slice: on the CPU, and where it was.
            let part = view.slice(110, 20).unwrap();
            for home in [default_cpu_memory_manager(), Arc::clone(&manager)] {
                let back = part.view_on(&home).unwrap();
                assert!(
                    back.is_cpu() && back.memory_manager().equals(&*home),
                    "{name}"
                );
                assert_eq!(back.address(), source.address() + 110, "{name}");
                assert_eq!(back.block().location().device_type, kind, "{name}");
                assert_eq!(&*back.as_cpu().unwrap(), &data[110..130], "{name}");
            }
            // The view keeps the memory.
            let back = part.view_on(&default_cpu_memory_manager()).unwrap();
            drop((source, view, part));
            assert_eq!(&*back.as_cpu().unwrap(), &data[110..130], "{name}");
        }
    }
}

/// What is written on one side is there on the other: it is one memory.
#[test]
fn case_90_a_view_is_the_same_memory() {
    let there = manager();
    let source = DeviceBuffer::copy_from(&pattern(1000), &host()).unwrap();
    let view = source.slice(100, 800).unwrap().view_on(&there).unwrap();
    // SAFETY: nobody else uses the bytes while they are written.
    let mut writer = unsafe {
        MutableDeviceBuffer::from_block(view.block().clone(), view.offset(), view.len(), there)
    };
    writer.write(0, &[0xAB; 800]).unwrap();
    let bytes = source.as_cpu().unwrap();
    assert_eq!(bytes[..100], pattern(1000)[..100]);
    assert_eq!(bytes[100..900], [0xAB; 800]);
    assert_eq!(bytes[900..], pattern(1000)[900..]);
}

#[test]
fn case_16_what_cannot_be_viewed_is_copied_or_refused() {
    let cpu = default_cpu_memory_manager();
    let here = DeviceBuffer::copy_from(&[5; 100], &cpu).unwrap();
    for (name, there) in device_managers() {
        // Ordinary memory is out of the GPU's reach.
        assert_eq!(code(here.view_on(&there)), NOT_SUPPORTED, "{name}");
        let copy = here.view_or_copy_to(&there).unwrap();
        assert_eq!(bytes_of(&copy), [5; 100], "{name}");
        assert_eq!(there.pool().unwrap().bytes_allocated(), 100, "{name}");
        // And the GPU's own memory out of the CPU's, and it moves nowhere by itself.
        for to in [&cpu, &host(), &managed()] {
            assert_eq!(code(copy.view_on(to)), NOT_SUPPORTED, "{name}");
            assert_eq!(
                bytes_of(&copy.view_or_copy_to(to).unwrap()),
                [5; 100],
                "{name}"
            );
        }
    }
    for to in [host(), managed()] {
        assert_eq!(code(here.view_on(&to)), NOT_SUPPORTED);
    }
    // Page-locked memory is no managed memory, nor the other way round, not even by way of the GPU.
    let pinned = DeviceBuffer::copy_from(&[6; 100], &host()).unwrap();
    let moving = DeviceBuffer::copy_from(&[7; 100], &managed()).unwrap();
    for (source, to) in [(&pinned, managed()), (&moving, host())] {
        assert_eq!(code(source.view_on(&to)), NOT_SUPPORTED);
        assert_eq!(
            code(source.view_on(&manager()).unwrap().view_on(&to)),
            NOT_SUPPORTED
        );
    }
}

/// No bytes are viewed everywhere.
#[test]
fn case_16_no_bytes_are_viewed_on_the_gpu_and_back() {
    for manager in [host(), managed()] {
        let source = DeviceBuffer::copy_from(&pattern(10), &manager).unwrap();
        for empty in [
            source.slice(10, 0).unwrap(),
            DeviceBuffer::copy_from(&[], &manager).unwrap(),
        ] {
            let view = empty.view_on(&self::manager()).unwrap();
            assert!(view.is_empty() && view.as_cpu().is_err());
            assert_eq!(bytes_of(&view.copy_to(&self::manager()).unwrap()), b"");
            let back = view.view_on(&manager).unwrap();
            assert_eq!((back.len(), back.is_cpu()), (0, manager.is_cpu()));
        }
    }
}

#[test]
fn case_89_138_page_locked_memory_is_the_cpus() {
    let (gpu, host) = (gpu(), host());
    let pool = host.pool().unwrap();
    assert!(pool.is_cpu() && host.is_cpu() && host.device().is_cpu());
    assert_eq!(pool.location(), Location::shared(DeviceType::CUDA_HOST, 0));
    // pyarrow's `new_host_buffer`: written in the middle and read back, through any handle.
    for size in [0, 1, 1000] {
        let mut buffer = MutableBuffer::zeroed(size, &pool).unwrap();
        assert_eq!(buffer.len(), size);
        buffer[size / 4..3 * size / 4].fill(1);
        let expected: Vec<u8> = (0..size)
            .map(|i| u8::from((size / 4..3 * size / 4).contains(&i)))
            .collect();
        assert_eq!(&*buffer, &*expected);
        let shared = DeviceBuffer::from(buffer.freeze());
        assert_eq!(shared.location().device_type, DeviceType::CUDA_HOST);
        assert!(shared.device().equals(&*host.device()));
        assert_eq!(&*shared.as_cpu().unwrap(), &*expected);
        assert_eq!(
            &*shared.slice(size / 4, size / 2).unwrap().as_cpu().unwrap(),
            &expected[size / 4..][..size / 2]
        );
        // The GPU copies from it and to it.
        let there = shared.copy_to(&manager()).unwrap();
        assert_eq!(bytes_of(&there), expected);
        assert_eq!(
            &*there.copy_to(&host).unwrap().as_cpu().unwrap(),
            &*expected
        );
    }
    // The address on the GPU, and the CPU's for that.
    let block = host.allocate(1024, Alignment::DEFAULT, true).unwrap();
    let address = block.as_ptr().addr().get();
    // SAFETY: a zeroed block of this manager's that nobody else holds.
    let buffer = unsafe { DeviceBuffer::from_block(block, 0, 1024, Arc::clone(&host)) };
    let on_gpu = buffer
        .view_on(&gpu.default_memory_manager().unwrap())
        .unwrap();
    assert_ne!(on_gpu.address(), 0);
    assert_eq!(
        on_gpu
            .view_on(&default_cpu_memory_manager())
            .unwrap()
            .address(),
        address
    );
}

/// Portable and mapped, never write-combined: the CPU reads that a hundred times slower.
#[test]
fn case_89_page_locked_memory_is_cached() {
    type Flags = unsafe extern "C" fn(*mut c_uint, *mut c_void) -> c_uint;
    let buffer = DeviceBuffer::copy_from(&pattern(100), &host()).unwrap();
    let address = buffer.address();
    let flags = with_context(move || {
        let mut flags = u32::MAX;
        // SAFETY: the driver's function of this type (cuda.h); the out-pointer is ours, the memory page-locked.
        unsafe {
            let flags_of = raw::<Flags>("cuMemHostGetFlags").unwrap();
            assert_eq!(
                flags_of(&raw mut flags, ptr::with_exposed_provenance_mut(address)),
                0
            );
        }
        flags
    });
    let (portable, mapped, write_combined) = (1, 2, 4);
    assert_eq!(
        flags & (portable | mapped | write_combined),
        portable | mapped
    );
    assert_eq!(bytes_of(&buffer), pattern(100));
}

#[test]
fn case_89_ordinary_memory_is_page_locked_as_long_as_it_is_asked_for() {
    let (gpu, pool) = (gpu(), system_memory_pool());
    let block = Block::allocate(1 << 16, Alignment::new(4096).unwrap(), &pool, true).unwrap();
    let registered = gpu.register_host(&block).unwrap();
    assert!(registered.cuda_device().equals(&gpu));
    assert_eq!(registered.block().as_ptr(), block.as_ptr());
    // Twice is an error, of which the first knows nothing.
    assert!(gpu.register_host(&block).is_err());
    drop(registered);
    let registered = gpu.register_host(&block).unwrap();
    // It keeps the block.
    drop(block);
    // SAFETY: a zeroed block that nobody writes.
    let here = unsafe {
        DeviceBuffer::from_block(
            registered.block().clone(),
            0,
            1 << 16,
            default_cpu_memory_manager(),
        )
    };
    assert_eq!(
        bytes_of(&here.copy_to(&manager()).unwrap()),
        vec![0; 1 << 16]
    );
    drop(registered);
    // Nothing, and what is not the CPU's.
    let empty = Block::allocate(0, Alignment::DEFAULT, &pool, false).unwrap();
    assert_eq!(code(gpu.register_host(&empty)), INVALID);
    let there = MutableDeviceBuffer::allocate(100, &manager()).unwrap();
    assert_eq!(code(gpu.register_host(there.block())), NOT_SUPPORTED);
}

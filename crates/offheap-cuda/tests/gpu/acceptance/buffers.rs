//! Buffers of a GPU: cases 85, 87, 129, 135, 139, 143 and 146.

use crate::support::{
    NOT_SUPPORTED, OUT_OF_RANGE, bytes_of, code, device_managers, everywhere, manager, managers,
    pattern,
};
use crate::where_it_runs::gpu;
use offheap::{
    Alignment, Device, DeviceBuffer, DeviceType, MemoryManager, MutableDeviceBuffer,
    default_cpu_memory_manager, system_memory_pool,
};
use std::sync::Arc;

#[test]
fn case_85_139_what_is_allocated_is_counted_until_it_is_dropped() {
    for (name, manager) in managers() {
        let pool = manager.cuda_pool().clone();
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        assert_eq!(
            (pool.bytes_allocated(), pool.live_allocations()),
            (0, 0),
            "{name}"
        );
        for size in [0, 1, 100, 128, 1000] {
            let buffer = MutableDeviceBuffer::allocate(size, &manager).unwrap();
            assert_eq!(buffer.len(), size);
            assert_eq!(pool.bytes_allocated(), size as u64, "{name}");
            assert!(buffer.device().equals(&*manager.device()), "{name}");
            // The CPU reaches managed memory only.
            assert_eq!(buffer.is_cpu(), manager.is_cpu(), "{name}");
            if name != "managed" {
                assert!(!buffer.is_cpu());
            }
            // A slice keeps it all.
            let slice = buffer.freeze().slice(0, size / 2).unwrap();
            assert_eq!(pool.bytes_allocated(), size as u64, "{name}");
            drop(slice);
            assert_eq!(
                (pool.bytes_allocated(), pool.live_allocations()),
                (0, 0),
                "{name}"
            );
        }
        assert_eq!(pool.peak_bytes(), 1000, "{name}");
    }
}

/// The last handle may go on any thread: one that never saw CUDA, too.
#[test]
fn case_139_memory_goes_back_from_any_thread() {
    for (name, manager) in managers() {
        let pool = manager.cuda_pool().clone();
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        let buffer = DeviceBuffer::copy_from(&pattern(128), &manager).unwrap();
        assert_eq!(pool.bytes_allocated(), 128, "{name}");
        std::thread::spawn(move || {
            assert_eq!(bytes_of(&buffer), pattern(128));
        })
        .join()
        .unwrap();
        assert_eq!(pool.bytes_allocated(), 0, "{name}");
        assert_eq!(
            bytes_of(&DeviceBuffer::copy_from(b"goes on", &manager).unwrap()),
            b"goes on"
        );
    }
}

#[test]
fn case_87_slices_of_a_gpu_are_of_the_gpu() {
    let data = pattern(1000);
    for (name, manager) in device_managers() {
        let whole = DeviceBuffer::copy_from(&data, &manager).unwrap();
        let slice = whole.slice(0, 1000).unwrap();
        assert_eq!(
            (slice.address(), slice.len()),
            (whole.address(), 1000),
            "{name}"
        );
        let inner = whole.slice(3, 990).unwrap().slice(8, 980).unwrap();
        assert_eq!(inner.address(), whole.address() + 11, "{name}");
        assert!(
            inner.memory_manager().equals(&*manager) && !inner.is_cpu(),
            "{name}"
        );
        assert_eq!(bytes_of(&inner), data[11..991], "{name}");
        for (offset, length) in [(1000, 1), (0, 1001), (1001, 0), (1, usize::MAX)] {
            assert_eq!(code(whole.slice(offset, length)), OUT_OF_RANGE, "{name}");
        }
        // A slice is immutable while others hold the memory, and so is the whole.
        let whole = whole.try_into_mutable().unwrap_err();
        drop((slice, inner));
        let mut mutable = whole.try_into_mutable().unwrap();
        mutable.write(11, b"written").unwrap();
        assert_eq!(
            &bytes_of(&mutable.freeze())[10..19],
            &[&data[10..11], b"written", &data[18..19]].concat()[..]
        );
    }
}

/// Arrow has no test of a mutable slice of device memory: its slice says that it is the CPU's.
#[test]
fn case_87_129_parts_of_a_mutable_buffer_are_mutable_and_stay_there() {
    for (name, manager) in device_managers() {
        let whole = MutableDeviceBuffer::zeroed(1000, &manager).unwrap();
        let start = whole.address();
        let (head, tail) = whole.split_at(400).unwrap();
        let (mut middle, mut rest) = tail.split_at(100).unwrap();
        let mut head = head;
        assert_eq!(
            (head.address(), middle.address(), rest.address()),
            (start, start + 400, start + 500)
        );
        for part in [&mut head, &mut middle, &mut rest] {
            assert!(
                !part.is_cpu() && part.location() == gpu().location(),
                "{name}"
            );
            assert!(part.memory_manager().equals(&*manager), "{name}");
            assert_eq!(code(part.as_mut_slice()), NOT_SUPPORTED, "{name}");
            assert_eq!(
                code(part.write(part.len() - 1, b"xy")),
                OUT_OF_RANGE,
                "{name}"
            );
        }
        head.write(0, &[1; 400]).unwrap();
        rest.write(0, &[3; 500]).unwrap();
        middle.write(0, &[2; 100]).unwrap();
        let middle = middle.into_cpu().unwrap_err();
        let (head, middle, rest) = (head.freeze(), middle.freeze(), rest.freeze());
        assert_eq!(bytes_of(&head), [1; 400], "{name}");
        assert_eq!(bytes_of(&middle), [2; 100], "{name}");
        assert_eq!(bytes_of(&rest), [3; 500], "{name}");
        assert!(
            code(
                MutableDeviceBuffer::zeroed(10, &manager)
                    .unwrap()
                    .split_at(11)
            ) == OUT_OF_RANGE
        );
    }
}

/// The program's own memory, which no one counts: what the CPU reads in place is refused, and changes nothing.
#[test]
fn case_129_146_the_cpu_gets_no_bytes_in_place() {
    let data = pattern(1000);
    for (name, manager) in device_managers() {
        let there = DeviceBuffer::copy_from(&data, &manager).unwrap();
        for buffer in [
            there.clone(),
            there.slice(10, 100).unwrap(),
            there.slice(1000, 0).unwrap(),
        ] {
            let error = buffer.as_cpu().unwrap_err();
            assert_eq!(error.code(), NOT_SUPPORTED, "{name}");
            assert!(error.to_string().contains("cuda:0"), "{error}");
            assert_eq!(
                code(buffer.view_on(&default_cpu_memory_manager())),
                NOT_SUPPORTED,
                "{name}"
            );
            // What it prints has no bytes.
            let text = format!("{buffer:?}");
            assert!(
                text.contains("cuda:0") && text.contains(&format!("{:#x}", buffer.address())),
                "{text}"
            );
        }
        let pool = manager.pool().unwrap();
        assert!(
            pool.allocate(100, Alignment::DEFAULT).is_err(),
            "{name}: the CPU has no block of it"
        );
        assert_eq!(pool.bytes_allocated(), 1000, "{name}");
        // Copies are how the CPU has them.
        assert_eq!(
            &*there.to_cpu(&system_memory_pool()).unwrap(),
            &*data,
            "{name}"
        );
        let mut mutable = there.try_into_mutable().unwrap();
        assert_eq!(code(mutable.as_mut_slice()), NOT_SUPPORTED, "{name}");
        let back = mutable.into_cpu().unwrap_err().freeze();
        assert_eq!(bytes_of(&back), data, "{name}");
    }
}

#[test]
fn case_135_143_a_buffer_knows_its_device_and_manager() {
    for (name, manager) in everywhere() {
        let buffer = DeviceBuffer::copy_from(&pattern(100), &manager).unwrap();
        for part in [&buffer, &buffer.slice(10, 20).unwrap()] {
            assert!(part.device().equals(&*manager.device()), "{name}");
            assert!(part.memory_manager().equals(&*manager), "{name}");
            assert_eq!(part.pool(), manager.pool().as_ref(), "{name}");
            let expected = match name {
                "cpu" => DeviceType::CPU,
                "host" => DeviceType::CUDA_HOST,
                "managed" => DeviceType::CUDA_MANAGED,
                _ => DeviceType::CUDA,
            };
            assert_eq!(part.location().device_type, expected, "{name}");
            assert_eq!(part.block().location(), part.location(), "{name}");
            let id = match name {
                "cpu" => -1,
                "other GPU" => 1,
                _ => 0,
            };
            assert_eq!(part.location().device_id, id, "{name}");
        }
        assert_eq!(
            buffer.is_cpu(),
            ["cpu", "host"].contains(&name) || (name == "managed" && manager.is_cpu()),
            "{name}"
        );
    }
    // The codes are Arrow's.
    assert_eq!(
        [
            DeviceType::CPU,
            DeviceType::CUDA,
            DeviceType::CUDA_HOST,
            DeviceType::CUDA_MANAGED
        ]
        .map(DeviceType::code),
        [1, 2, 3, 13]
    );
}

/// A buffer outlives its manager, its pool and the streams that made it.
#[test]
fn case_135_a_buffer_keeps_what_it_needs() {
    for (name, manager) in managers() {
        let there = DeviceBuffer::copy_from(
            &pattern(100),
            &(Arc::new(manager) as Arc<dyn MemoryManager>),
        )
        .unwrap();
        assert_eq!(bytes_of(&there), pattern(100), "{name}");
        let copy = there.copy_to(&crate::support::manager()).unwrap();
        drop(there);
        assert_eq!(bytes_of(&copy), pattern(100), "{name}");
    }
    assert!(manager().pool().is_some());
}

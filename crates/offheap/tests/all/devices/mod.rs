//! Devices, and memory that the CPU cannot reach. Arrow's cases 14 to 17, 33, 34, 52 and 136, and what
//! its suite lacks: mutable slices of device buffers, and pools of device memory under every adaptor.

mod fake;
mod pools;

use fake::{Ability, FakeDevice, FakeMemory};
use offheap::{
    Alignment, Block, Buffer, Device, DeviceBuffer, DeviceType, Location, MemoryManager,
    MutableBuffer, MutableDeviceBuffer, Pool, cpu_device, cpu_memory_manager,
    default_cpu_memory_manager, default_memory_pool, device_for, memory_manager_of,
    register_device_mapper, system_memory_pool,
};
use std::sync::Arc;

const FAKE: Location = Location::device(DeviceType::EXT_DEV, 3);

fn manager(ability: Ability) -> Arc<dyn MemoryManager> {
    FakeDevice {
        location: FAKE,
        ability,
    }
    .default_memory_manager()
    .unwrap()
}

fn code<T: std::fmt::Debug>(result: offheap::Result<T>) -> &'static str {
    result.unwrap_err().code()
}

fn some_bytes() -> DeviceBuffer {
    DeviceBuffer::copy_from(b"some data", &default_cpu_memory_manager()).unwrap()
}

/// 14.
#[test]
fn case_14_134_devices_and_managers_are_equal_when_they_are_the_same() {
    let cpu = cpu_device();
    assert!(cpu.is_cpu());
    assert_eq!((cpu.device_id(), cpu.device_type()), (-1, DeviceType::CPU));
    assert_eq!(cpu.location().to_string(), "cpu");
    assert!(cpu.equals(&*cpu_device()));
    let managers = [
        default_cpu_memory_manager(),
        cpu_memory_manager(&system_memory_pool().proxy()).unwrap(),
        manager(Ability::Copy),
    ];
    assert!(managers[0].equals(&*cpu.default_memory_manager().unwrap()));
    assert!(managers[0].is_cpu() && managers[1].is_cpu() && !managers[2].is_cpu());
    for (i, a) in managers.iter().enumerate() {
        for (j, b) in managers.iter().enumerate() {
            assert_eq!(a.equals(&**b), i == j, "{i} {j}");
        }
    }
    assert!(!cpu.equals(&*managers[2].device()) && !managers[2].device().equals(&*cpu));
    assert_eq!(code(cpu.make_stream()), "ERR_OFFHEAP_NOT_SUPPORTED");
    assert_eq!(
        code(managers[0].make_sync_event()),
        "ERR_OFFHEAP_NOT_SUPPORTED"
    );
}

/// 15.
#[test]
fn case_15_136_a_copy_is_made_by_whoever_can() {
    let (cpu, copying, viewing, nothing) = (
        default_cpu_memory_manager(),
        manager(Ability::Copy),
        manager(Ability::View),
        manager(Ability::Nothing),
    );
    let source = some_bytes();
    let check = |copy: &DeviceBuffer, to: &Arc<dyn MemoryManager>| {
        assert!(copy.memory_manager().equals(&**to));
        assert_ne!(copy.address(), source.address());
        let mut bytes = [0; 9];
        copy.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"some data");
        assert_eq!(copy.as_cpu().is_ok(), to.is_cpu());
    };
    let same = source.copy_to(&cpu).unwrap();
    check(&same, &cpu);
    let on_device = source.copy_to(&copying).unwrap();
    check(&on_device, &copying);
    check(&on_device.copy_to(&cpu).unwrap(), &cpu);
    // From device to device: over a copy, and over a view.
    let other = FakeDevice {
        location: Location::device(DeviceType::EXT_DEV, 4),
        ability: Ability::Copy,
    }
    .default_memory_manager()
    .unwrap();
    check(&on_device.copy_to(&other).unwrap(), &other);
    let viewed = source.view_on(&viewing).unwrap();
    check(&viewed.copy_to(&copying).unwrap(), &copying);
    // Neither.
    assert_eq!(code(source.copy_to(&nothing)), "ERR_OFFHEAP_NOT_SUPPORTED");
    let unreachable = MutableDeviceBuffer::allocate(9, &nothing).unwrap().freeze();
    let error = unreachable.copy_to(&cpu).unwrap_err();
    assert_eq!(
        error.to_string(),
        "copying memory of ext_dev:3 on cpu is not supported"
    );
    assert_eq!(
        code(unreachable.copy_to(&copying)),
        "ERR_OFFHEAP_NOT_SUPPORTED"
    );
    // A slice is copied as a slice.
    let word = on_device.slice(5, 4).unwrap();
    let copy = word.copy_to(&cpu).unwrap();
    assert_eq!(
        (copy.block().size(), &*copy.as_cpu().unwrap()),
        (4, &b"data"[..])
    );
    // Of no bytes, too.
    let none = on_device.slice(9, 0).unwrap();
    assert_eq!(
        none.copy_to(&cpu).unwrap().copy_to(&other).unwrap().len(),
        0
    );
}

/// 16.
#[test]
fn case_16_a_view_moves_nothing() {
    let (cpu, viewing) = (default_cpu_memory_manager(), manager(Ability::View));
    let source = some_bytes();
    let same = source.view_on(&cpu).unwrap();
    assert_eq!(same.address(), source.address());
    let pooled = cpu_memory_manager(&system_memory_pool()).unwrap();
    let other_pool = source.view_on(&pooled).unwrap();
    assert_eq!(other_pool.address(), source.address());
    assert!(other_pool.memory_manager().equals(&*pooled));
    let on_device = source.slice(5, 4).unwrap().view_on(&viewing).unwrap();
    assert!(!on_device.is_cpu() && on_device.as_cpu().is_err());
    assert!(on_device.location() == FAKE && on_device.block().location() == FAKE);
    let back = on_device.view_on(&cpu).unwrap();
    assert_eq!(back.address(), source.address() + 5);
    // The view keeps the memory.
    drop((source, same, other_pool, on_device));
    assert_eq!(&*back.as_cpu().unwrap(), b"data");
    assert_eq!(
        code(back.view_on(&manager(Ability::Copy))),
        "ERR_OFFHEAP_NOT_SUPPORTED"
    );
    let copy = back.view_or_copy_to(&manager(Ability::Copy)).unwrap();
    assert_ne!(copy.address(), back.address());
    assert_eq!(
        code(back.view_or_copy_to(&manager(Ability::Nothing))),
        "ERR_OFFHEAP_NOT_SUPPORTED"
    );
}

/// Running out of memory is never taken for "not supported".
#[test]
fn out_of_memory_is_not_hidden() {
    let pool = Pool::custom(FakeMemory(FAKE)).limit(8);
    let small = FakeDevice {
        location: FAKE,
        ability: Ability::Copy,
    }
    .memory_manager(&pool)
    .unwrap();
    let source = some_bytes();
    for result in [source.copy_to(&small), source.view_or_copy_to(&small)] {
        assert_eq!(code(result), "ERR_OFFHEAP_OUT_OF_MEMORY");
    }
    assert_eq!(pool.num_allocations(), 0);
    assert_eq!(
        source.slice(0, 8).unwrap().copy_to(&small).unwrap().len(),
        8
    );
    let cpu = cpu_memory_manager(&default_memory_pool().limit(8)).unwrap();
    assert_eq!(code(source.copy_to(&cpu)), "ERR_OFFHEAP_OUT_OF_MEMORY");
}

/// 17: the manager of a buffer is that of its pool, which it keeps.
#[test]
fn case_17_135_a_buffer_knows_its_manager() {
    let pool = system_memory_pool().proxy();
    let buffer = MutableBuffer::zeroed(100, &pool).unwrap().freeze();
    let on_cpu = DeviceBuffer::from(buffer.slice(10, 20).unwrap());
    drop(buffer);
    let manager = Arc::clone(on_cpu.memory_manager());
    assert_eq!(manager.pool().as_ref(), Some(&pool));
    assert!(manager.equals(&*cpu_memory_manager(&pool).unwrap()));
    assert!(manager.equals(&*memory_manager_of(&pool).unwrap()));
    let mut other = MutableDeviceBuffer::allocate(3, &manager).unwrap();
    other.as_mut_slice().unwrap().copy_from_slice(b"abc");
    assert_eq!(pool.bytes_allocated(), 103);
    drop(pool);
    assert_eq!(&*other.freeze().as_cpu().unwrap(), b"abc");
    assert_eq!((on_cpu.len(), on_cpu.offset()), (20, 10));
    let foreign = DeviceBuffer::from(Buffer::from_owner(vec![1, 2, 3]).unwrap());
    assert!(
        foreign
            .memory_manager()
            .equals(&*default_cpu_memory_manager())
    );
    assert!(foreign.pool().is_none());
}

/// 33, 34.
#[test]
fn case_33_34_readers_and_writers_come_from_the_manager() {
    let manager = cpu_memory_manager(&system_memory_pool()).unwrap();
    let buffer = MutableDeviceBuffer::zeroed(16, &manager).unwrap();
    let mut writer = buffer.writer().unwrap();
    writer.write(b"hello").unwrap();
    writer.write_at(8, b"wor").unwrap();
    assert_eq!((writer.position().unwrap(), writer.size()), (11, 16));
    assert_eq!(
        code(writer.write_at(14, b"xyz")),
        "ERR_OFFHEAP_OUT_OF_RANGE"
    );
    writer.seek(11).unwrap();
    writer.write(b"ld").unwrap();
    writer.flush().unwrap();
    writer.close().unwrap();
    assert!(writer.is_closed());
    assert_eq!(code(writer.write(b"!")), "ERR_OFFHEAP_CLOSED");
    assert_eq!(code(writer.flush()), "ERR_OFFHEAP_CLOSED");
    let bytes = writer.finish().unwrap().freeze();

    let mut reader = bytes.reader().unwrap();
    assert_eq!(reader.size().unwrap(), 16);
    let slice = reader.read_at(8, 5).unwrap();
    assert_eq!(&*slice.as_cpu().unwrap(), b"world");
    assert!(slice.memory_manager().equals(&*manager));
    let mut target = [0; 5];
    assert_eq!(reader.read_into(&mut target).unwrap(), 5);
    assert_eq!((&target, reader.position().unwrap()), (b"hello", 5));
    reader.seek(14).unwrap();
    assert_eq!(reader.read(10).unwrap().len(), 2);
    assert_eq!(code(reader.read_at(17, 1)), "ERR_OFFHEAP_OUT_OF_RANGE");
    assert_eq!(code(reader.seek(17)), "ERR_OFFHEAP_OUT_OF_RANGE");
    reader.close();
    assert_eq!(code(reader.read(1)), "ERR_OFFHEAP_CLOSED");
    assert!(reader.is_closed());
}

/// 52.
#[test]
fn case_52_a_type_of_device_is_registered_once() {
    fn mapper(id: i64) -> offheap::Result<Arc<dyn Device>> {
        Ok(Arc::new(FakeDevice {
            location: Location::device(DeviceType::HEXAGON, id),
            ability: Ability::Copy,
        }))
    }
    assert_eq!(
        code(register_device_mapper(DeviceType::CPU, mapper)),
        "ERR_OFFHEAP_INVALID_ARGUMENT"
    );
    assert_eq!(
        code(device_for(Location::device(DeviceType::VPI, 0))),
        "ERR_OFFHEAP_INVALID_ARGUMENT"
    );
    assert!(device_for(Location::CPU).unwrap().is_cpu());
    let there = Location::device(DeviceType::HEXAGON, 7);
    let pool = Pool::custom(FakeMemory(there));
    assert!(memory_manager_of(&pool).is_err());
    register_device_mapper(DeviceType::HEXAGON, mapper).unwrap();
    assert_eq!(
        code(register_device_mapper(DeviceType::HEXAGON, mapper)),
        "ERR_OFFHEAP_INVALID_ARGUMENT"
    );
    assert_eq!(device_for(there).unwrap().device_id(), 7);
    let manager = memory_manager_of(&pool.limit(100)).unwrap();
    assert_eq!(manager.pool().unwrap().limit_bytes(), Some(100));
    assert_eq!(
        code(cpu_memory_manager(&pool)),
        "ERR_OFFHEAP_INVALID_ARGUMENT"
    );
}

/// Arrow's mutable slice of a device buffer says that it is memory of the CPU.
#[test]
fn case_129_slices_of_device_memory_stay_there() {
    let manager = manager(Ability::Copy);
    let whole = MutableDeviceBuffer::zeroed(100, &manager).unwrap();
    let (mut head, mut tail) = whole.split_at(40).unwrap();
    assert_eq!((head.len(), tail.len()), (40, 60));
    for part in [&mut head, &mut tail] {
        assert!(!part.is_cpu() && part.location() == FAKE);
        assert!(part.memory_manager().equals(&*manager));
        assert_eq!(code(part.as_mut_slice()), "ERR_OFFHEAP_NOT_SUPPORTED");
        part.write(38, b"xy").unwrap();
        assert_eq!(code(part.write(59, b"xy")), "ERR_OFFHEAP_OUT_OF_RANGE");
    }
    let tail = tail.into_cpu().unwrap_err();
    let shared = tail.freeze();
    let slice = shared.slice(38, 22).unwrap().slice(1, 20).unwrap();
    assert!(!slice.is_cpu() && slice.location() == FAKE);
    assert_eq!(slice.address(), head.address() + 40 + 39);
    let mut bytes = [9; 2];
    slice.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [b'y', 0]);
    assert_eq!(code(slice.read(19, &mut bytes)), "ERR_OFFHEAP_OUT_OF_RANGE");
    assert_eq!(code(slice.as_cpu()), "ERR_OFFHEAP_NOT_SUPPORTED");
    assert_eq!(code(shared.slice(50, 11)), "ERR_OFFHEAP_OUT_OF_RANGE");
    assert_eq!(
        code(shared.slice(usize::MAX, 2)),
        "ERR_OFFHEAP_OUT_OF_RANGE"
    );
    let shared = shared.try_into_mutable().unwrap_err();
    drop((head, shared));
    assert_eq!(
        &*slice.to_cpu(&system_memory_pool()).unwrap(),
        &[&b"y"[..], &[0; 19]].concat()[..]
    );
}

/// A foreign block of a device.
#[test]
fn foreign_memory_has_a_location() {
    let owner = Arc::new([1_u8; 64]);
    let ptr = std::ptr::NonNull::from(&owner[0]);
    let there = Location::shared(DeviceType::CUDA_HOST, 0);
    // SAFETY: the Arc keeps the bytes.
    let block = unsafe { Block::foreign_at(ptr, 64, there, Arc::clone(&owner)) }.unwrap();
    assert_eq!(block.location(), there);
    assert!(block.is_cpu());
    assert!(
        block
            .owner()
            .unwrap()
            .downcast_ref::<Arc<[u8; 64]>>()
            .is_some()
    );
    let pooled = Block::allocate(1, Alignment::DEFAULT, &system_memory_pool(), false).unwrap();
    assert!(pooled.owner().is_none());
    assert_eq!(pooled.location(), Location::CPU);
}

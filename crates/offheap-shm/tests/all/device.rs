//! Shared memory as a device: pools, managers, buffers.

use crate::peer::Peer;
use crate::why;
use offheap::{
    Alignment, Block, Buffer, DeviceBuffer, ErrorKind, Location, MutableBuffer,
    MutableDeviceBuffer, Pool, cpu_memory_manager, default_cpu_memory_manager, device_for,
    memory_manager_of, system_memory_pool,
};
use offheap_shm::{
    OpenOptions, SHARED_MEMORY, SharedBufferHandle, SharedMemory, SharedMemoryOptions,
    SharedMemorySource, default_shared_memory_manager, export, import, is_shared, revoke,
    shared_memory_device, shared_memory_manager, shared_memory_pool,
};

fn pool() -> Pool {
    Pool::custom(SharedMemorySource::new(SharedMemoryOptions::default()).unwrap())
}

fn open(handle: &SharedBufferHandle) -> DeviceBuffer {
    // SAFETY: nobody writes what these tests export.
    unsafe { import(handle) }.unwrap()
}

fn ordinary(len: usize) -> DeviceBuffer {
    let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
    DeviceBuffer::copy_from(&bytes, &default_cpu_memory_manager()).unwrap()
}

#[test]
fn the_device_is_known_and_is_not_the_cpu() {
    let device = shared_memory_device();
    assert_eq!((device.type_name(), device.is_cpu()), ("shm", true));
    assert!(device.equals(&*shared_memory_device()));
    assert!(!device.equals(&*offheap::cpu_device()));
    assert!(device_for(SHARED_MEMORY).unwrap().equals(&*device));
    // As DLPack says "the only one".
    let first = Location::shared(SHARED_MEMORY.device_type, 0);
    assert!(device_for(first).unwrap().equals(&*device));
    let second = Location::shared(SHARED_MEMORY.device_type, 1);
    assert_eq!(
        why(device_for(second)),
        "ERR_OFFHEAP_DEVICE_UNAVAILABLE no-device"
    );
    let pool = pool();
    assert_eq!(pool.location(), SHARED_MEMORY);
    let manager = memory_manager_of(&pool).unwrap();
    assert!(manager.equals(&*shared_memory_manager(&pool).unwrap()));
    assert!(!manager.equals(&*default_shared_memory_manager()));
    assert!(manager.device().equals(&*device) && manager.is_cpu());
    assert!(
        device
            .default_memory_manager()
            .unwrap()
            .equals(&*default_shared_memory_manager())
    );
    assert_eq!(
        why(shared_memory_manager(&system_memory_pool())),
        "ERR_OFFHEAP_INVALID_ARGUMENT"
    );
    assert_eq!(
        why(cpu_memory_manager(&pool)),
        "ERR_OFFHEAP_INVALID_ARGUMENT"
    );
    assert_eq!(why(device.make_stream()), "ERR_OFFHEAP_NOT_SUPPORTED");
    assert_eq!(why(manager.make_sync_event()), "ERR_OFFHEAP_NOT_SUPPORTED");
}

#[test]
fn ordinary_memory_is_copied_and_shared_memory_is_viewed() {
    let shm = default_shared_memory_manager();
    let source = ordinary(1000).slice(100, 500).unwrap();
    assert_eq!(why(source.view_on(&shm)), "ERR_OFFHEAP_NOT_SUPPORTED");
    let shared = source.view_or_copy_to(&shm).unwrap();
    assert_ne!(shared.address(), source.address());
    assert_eq!(shared.location(), SHARED_MEMORY);
    assert_eq!(shared.as_cpu().unwrap(), source.as_cpu().unwrap());
    // Onto the CPU, and back, without a copy.
    let cpu = shared.view_on(&default_cpu_memory_manager()).unwrap();
    assert_eq!(cpu.address(), shared.address());
    let back = cpu.slice(10, 20).unwrap().view_on(&shm).unwrap();
    assert_eq!(back.address(), shared.address() + 10);
    assert_eq!(export(&cpu).unwrap(), export(&shared).unwrap());
    // To another pool of shared memory: viewed as it is, or copied.
    let other = shared_memory_manager(&pool()).unwrap();
    assert_eq!(shared.view_on(&other).unwrap().address(), shared.address());
    let copy = shared.copy_to(&other).unwrap();
    assert_ne!(copy.address(), shared.address());
    // And a copy on the CPU is ordinary memory.
    let copy = shared.to_cpu(&system_memory_pool()).unwrap();
    assert_eq!(copy, source.as_cpu().unwrap());
    assert!(is_shared(&shared) && !is_shared(&copy.into()));
}

#[test]
fn buffers_of_the_core_work_on_a_pool_of_shared_memory() {
    let pool = pool();
    let mut buffer = MutableBuffer::zeroed(5000, &pool).unwrap();
    buffer.fill(3);
    assert_eq!(pool.bytes_allocated(), 5000);
    let buffer: DeviceBuffer = buffer.freeze().into();
    assert_eq!(buffer.location(), SHARED_MEMORY);
    let opened = open(&export(&buffer).unwrap());
    assert!(opened.as_cpu().unwrap().iter().all(|b| *b == 3));
    assert_eq!((opened.len(), opened.pool().is_none()), (5000, true));
    // What was imported can be named for others, too, as long as its creator has it.
    assert_eq!(export(&opened).unwrap(), export(&buffer).unwrap());
    drop(buffer);
    assert_eq!(pool.bytes_allocated(), 0);
    assert_eq!(opened.as_cpu().unwrap()[4999], 3);
    let Err(opened) = opened.try_into_mutable() else {
        panic!("imported memory became mutable");
    };
    drop(opened);
}

#[test]
fn a_slice_is_exported_as_a_slice() {
    let shared = ordinary(10_000)
        .copy_to(&default_shared_memory_manager())
        .unwrap();
    let slice = shared.slice(5000, 100).unwrap();
    let handle = export(&slice).unwrap();
    assert_eq!((handle.offset, handle.length), (5000, 100));
    let opened = open(&handle.to_string().parse().unwrap());
    assert_eq!(opened.as_cpu().unwrap(), slice.as_cpu().unwrap());
    let mut peer = Peer::start();
    let sum: u64 = slice.as_cpu().unwrap().iter().map(|b| u64::from(*b)).sum();
    assert_eq!(peer.must(&format!("import {handle}")), format!("100 {sum}"));
    // Nothing is copied: a slice of a slice lies in the same mapping.
    let part = opened.slice(10, 5).unwrap();
    assert_eq!(part.address(), opened.address() + 10);
    drop(opened);
    assert_eq!(
        part.as_cpu().unwrap(),
        slice.as_cpu().unwrap().slice(10, 5).unwrap()
    );
}

#[test]
fn what_is_not_shared_is_not_exported() {
    assert_eq!(why(export(&ordinary(10))), "ERR_OFFHEAP_NOT_SUPPORTED");
    let owned: DeviceBuffer = Buffer::from_owner(vec![1, 2, 3]).unwrap().into();
    assert_eq!(why(export(&owned)), "ERR_OFFHEAP_NOT_SUPPORTED");
    assert_eq!(why(export(&ordinary(0))), "ERR_OFFHEAP_NOT_SUPPORTED");
}

#[test]
fn no_bytes_are_exported_as_no_bytes() {
    let shm = default_shared_memory_manager();
    let nothing = ordinary(0).copy_to(&shm).unwrap();
    let handle = export(&nothing).unwrap();
    assert_eq!((handle.memory.size, handle.length), (0, 0));
    assert!(open(&handle).is_empty());
    let something = ordinary(10).copy_to(&shm).unwrap();
    let handle = export(&something.slice(10, 0).unwrap()).unwrap();
    assert_eq!((handle.offset, open(&handle).len()), (10, 0));
}

#[test]
#[cfg(target_os = "linux")]
fn exported_blocks_are_frozen_and_other_memory_is_not() {
    let bytes = ordinary(100);
    let rw = OpenOptions { read_only: false };
    for manager in [
        default_shared_memory_manager(),
        shared_memory_manager(&pool()).unwrap(),
    ] {
        let handle = export(&bytes.copy_to(&manager).unwrap()).unwrap();
        // Gone as well: the buffer was.
        assert_eq!(
            why(SharedMemory::open(&handle.memory, rw)),
            "ERR_OFFHEAP_DISPOSED"
        );
        let frozen = bytes.copy_to(&manager).unwrap();
        let handle = export(&frozen).unwrap();
        assert_eq!(
            why(SharedMemory::open(&handle.memory, rw)),
            "ERR_OFFHEAP_IMMUTABLE"
        );
    }
    let options = SharedMemoryOptions {
        freezable: true,
        ..SharedMemoryOptions::default()
    };
    let memory = SharedMemory::create(100, &options).unwrap();
    // SAFETY: nobody writes the bytes.
    let buffer = unsafe { memory.buffer(0, 50) }.unwrap();
    SharedMemory::open(&export(&buffer).unwrap().memory, rw).unwrap();
}

#[test]
fn a_revoked_buffer_is_not_opened_any_more() {
    let buffer = ordinary(100)
        .copy_to(&default_shared_memory_manager())
        .unwrap();
    let handle = export(&buffer).unwrap();
    let opened = open(&handle);
    assert_eq!(why(revoke(&opened)), "ERR_OFFHEAP_NOT_SUPPORTED");
    revoke(&buffer.slice(0, 0).unwrap()).unwrap();
    revoke(&buffer).unwrap();
    // SAFETY: refused.
    assert_eq!(why(unsafe { import(&handle) }), "ERR_OFFHEAP_DISPOSED");
    assert_eq!(why(export(&buffer)), "ERR_OFFHEAP_DISPOSED");
    assert_eq!(opened.as_cpu().unwrap(), buffer.as_cpu().unwrap());
    assert_eq!(why(revoke(&ordinary(1))), "ERR_OFFHEAP_NOT_SUPPORTED");
}

#[test]
fn adaptors_work_on_it() {
    let limited = pool().limit(10_000);
    let manager = shared_memory_manager(&limited).unwrap();
    let held = MutableDeviceBuffer::allocate(8000, &manager).unwrap();
    let refused = MutableDeviceBuffer::allocate(8000, &manager).unwrap_err();
    assert!(matches!(
        refused.kind(),
        ErrorKind::OutOfMemory {
            limit: Some(10_000),
            allocated: 8000,
            requested: 8000,
            ..
        }
    ));
    assert_eq!(limited.statistics().bytes_allocated, 8000);
    drop(held);
    assert_eq!((limited.bytes_allocated(), limited.peak_bytes()), (0, 8000));
    let proxy = limited.proxy();
    let manager = shared_memory_manager(&proxy).unwrap();
    let buffer = MutableDeviceBuffer::zeroed(100, &manager).unwrap().freeze();
    assert_eq!(
        (proxy.bytes_allocated(), limited.bytes_allocated()),
        (100, 100)
    );
    assert_eq!(open(&export(&buffer).unwrap()).len(), 100);
    drop(buffer);
    assert_eq!(proxy.close().unwrap().bytes, 0);
}

#[test]
fn blocks_are_zero_aligned_and_grow() {
    let pool = pool();
    for shift in [6, 12, 13, 16, 21, 30] {
        let alignment = Alignment::new(1 << shift).unwrap();
        let mut block = Block::allocate(100, alignment, &pool, false).unwrap();
        let start = block.as_ptr();
        assert!(alignment.is_aligned(start.addr().get()), "{shift}");
        // SAFETY: a block of at least 128 bytes that nobody else has, zero since it is new.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), 128) };
        assert!(bytes.iter().all(|b| *b == 0));
        bytes.fill(5);
        // Within the page in place, beyond it elsewhere.
        block.reallocate(4000).unwrap();
        assert_eq!(block.as_ptr(), start);
        block.reallocate(40_000).unwrap();
        assert!(alignment.is_aligned(block.as_ptr().addr().get()));
        // SAFETY: the block has as many bytes, and nobody writes them.
        let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr().as_ptr(), 100) };
        assert_eq!(bytes, [5; 100]);
        block.reallocate(10).unwrap();
        assert_eq!(pool.bytes_allocated(), 10);
    }
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
    let zeroed = Block::allocate(5000, Alignment::DEFAULT, &pool, true).unwrap();
    assert!(pool.backend_statistics().usable.unwrap() >= 8192);
    assert_eq!(pool.backend_name(), "shm");
    drop(zeroed);
    assert_eq!(
        why(Block::allocate(1 << 60, Alignment::DEFAULT, &pool, false)),
        "ERR_OFFHEAP_OUT_OF_MEMORY"
    );
    assert_eq!(pool.bytes_allocated(), 0);
}

/// Guards and other adaptors give addresses inside of what the source gave.
#[test]
fn blocks_under_debug_hooks_are_exported_where_they_are() {
    let checked = pool().debug(offheap::DebugOptions::default());
    let manager = shared_memory_manager(&checked).unwrap();
    let mut buffer = MutableDeviceBuffer::allocate(100, &manager).unwrap();
    buffer.write(0, &[8; 100]).unwrap();
    let buffer = buffer.freeze();
    let handle = export(&buffer).unwrap();
    assert!(handle.offset > 0);
    assert_eq!(open(&handle).as_cpu().unwrap()[..], [8; 100]);
}

#[test]
fn readers_and_writers_work_on_it() {
    let manager = default_shared_memory_manager();
    let target = MutableDeviceBuffer::allocate(10, &manager).unwrap();
    let mut writer = target.writer().unwrap();
    writer.write(b"hello").unwrap();
    assert_eq!(why(writer.write(b"too long")), "ERR_OFFHEAP_OUT_OF_RANGE");
    writer.write_at(5, b"there").unwrap();
    let written = writer.finish().unwrap();
    assert_eq!(written.location(), SHARED_MEMORY);
    let mut reader = written.freeze().reader().unwrap();
    assert_eq!(reader.read(5).unwrap().location(), SHARED_MEMORY);
    let mut rest = [0; 9];
    assert_eq!(reader.read_into(&mut rest).unwrap(), 5);
    assert_eq!(&rest[..5], b"there");
}

#[test]
fn memory_itself_is_buffers_to_read_and_to_write() {
    let memory = SharedMemory::create(100, &SharedMemoryOptions::default()).unwrap();
    // SAFETY: nobody else uses the bytes meanwhile.
    let mut buffer = unsafe { memory.mutable_buffer(10, 20) }.unwrap();
    buffer.write(0, &[7; 20]).unwrap();
    let frozen = buffer.freeze();
    let mut bytes = [0; 22];
    memory.read(9, &mut bytes).unwrap();
    assert_eq!((bytes[0], bytes[1], bytes[20], bytes[21]), (0, 7, 7, 0));
    assert_eq!(export(&frozen).unwrap().offset, 10);
    let opened = SharedMemory::open(&memory.handle().unwrap(), OpenOptions { read_only: true });
    let opened = opened.unwrap();
    // SAFETY: refused, or nobody writes the bytes.
    unsafe {
        assert_eq!(why(opened.mutable_buffer(0, 1)), "ERR_OFFHEAP_IMMUTABLE");
        assert_eq!(
            why(memory.mutable_buffer(99, 2)),
            "ERR_OFFHEAP_OUT_OF_RANGE"
        );
        assert_eq!(
            why(memory.buffer(1, usize::MAX)),
            "ERR_OFFHEAP_OUT_OF_RANGE"
        );
        assert_eq!(
            opened.buffer(10, 20).unwrap().as_cpu().unwrap()[..],
            [7; 20]
        );
    }
    let held = memory.strong_count();
    let slice = frozen.slice(5, 5).unwrap();
    drop(frozen);
    // The last slice holds the mapping.
    assert_eq!((held, memory.strong_count()), (2, 2));
    drop(slice);
    assert_eq!(memory.strong_count(), 1);
}

#[test]
fn the_default_pool_counts() {
    let pool = shared_memory_pool();
    assert_eq!(pool.backend_name(), "shm");
    let before = pool.total_bytes_allocated();
    let buffer = ordinary(300)
        .copy_to(&default_shared_memory_manager())
        .unwrap();
    assert!(pool.total_bytes_allocated() >= before + 300);
    assert!(buffer.pool() == Some(&pool));
}

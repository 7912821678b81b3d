//! What every manager does.

use crate::where_it_runs::gpu;
use offheap::{
    Alignment, DeviceBuffer, DeviceType, DeviceWriter, Location, MemoryManager,
    MutableDeviceBuffer, default_cpu_memory_manager, memory_manager_of, system_memory_pool,
};
use offheap_cuda::sub_allocator::SubAllocatorOptions;
use offheap_cuda::{
    CopyRange, CudaBufferWriter, CudaMemoryManager, DriverPoolOptions, copy_async, devices,
};
use std::sync::Arc;
use std::sync::mpsc::channel;

pub(crate) fn managers() -> Vec<(&'static str, CudaMemoryManager)> {
    let gpu = gpu();
    // Pools of the test's own: those that all share change under it.
    let own = |shared: CudaMemoryManager| {
        let stream = gpu.create_stream(None).unwrap();
        shared.on(&stream).unwrap()
    };
    vec![
        ("default", own(gpu.manager().unwrap())),
        ("plain", gpu.plain_manager().unwrap()),
        (
            "driver pool",
            gpu.driver_pool_manager(&DriverPoolOptions {
                initial_size: 1 << 20,
                ..DriverPoolOptions::default()
            })
            .unwrap(),
        ),
        (
            "pool",
            gpu.pool_manager(SubAllocatorOptions::new()).unwrap(),
        ),
        ("managed", own(gpu.managed_manager().unwrap())),
    ]
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn case_78_devices_have_names_and_numbers() {
    let gpu = gpu();
    let properties = gpu.properties().unwrap();
    assert!(!properties.name.is_empty() && properties.total_memory >= 1 << 20);
    assert!(devices().contains_ordinal(0));
    for ordinal in [-1, 99] {
        assert_eq!(
            offheap_cuda::CudaDevice::new(ordinal).unwrap_err().code(),
            "ERR_OFFHEAP_INVALID_ARGUMENT"
        );
    }
    let (free, total) = gpu.memory_info().unwrap();
    assert!(free <= total && total == properties.total_memory);
}

trait Contains {
    fn contains_ordinal(&self, ordinal: i32) -> bool;
}

impl Contains for Vec<offheap_cuda::CudaDevice> {
    fn contains_ordinal(&self, ordinal: i32) -> bool {
        self.iter().any(|device| device.ordinal() == ordinal)
    }
}

#[test]
fn case_79_and_85_copies_go_there_and_back_and_count() {
    for (name, manager) in managers() {
        let pool = manager.cuda_pool().clone();
        let before = pool.bytes_allocated();
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        for n in [0, 1, 1000, 300_000] {
            let data = bytes(n);
            let there = DeviceBuffer::copy_from(&data, &manager).unwrap();
            assert_eq!(pool.bytes_allocated(), before + n as u64, "{name}");
            let twice = there.copy_to(&manager).unwrap();
            let back = twice.to_cpu(&system_memory_pool()).unwrap();
            assert_eq!(&*back, &*data, "{name}");
            if n > 0 {
                assert_ne!(there.address(), twice.address());
                let mut byte = [0];
                there.read(n - 1, &mut byte).unwrap();
                assert_eq!(byte[0], data[n - 1]);
            }
            if name != "managed" {
                assert!(there.as_cpu().is_err());
                assert_eq!(there.location(), Location::device(DeviceType::CUDA, 0));
            }
        }
        assert_eq!(pool.bytes_allocated(), before, "{name}");
    }
}

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
fn case_89_and_90_host_memory_is_the_cpus_and_the_gpus() {
    let host: Arc<dyn MemoryManager> = Arc::new(gpu().host_manager().unwrap());
    let there: Arc<dyn MemoryManager> = Arc::new(gpu().manager().unwrap());
    let data = bytes(1000);
    let pinned = DeviceBuffer::copy_from(&data, &host).unwrap();
    assert!(pinned.is_cpu() && pinned.location().device_type == DeviceType::CUDA_HOST);
    assert_eq!(&*pinned.as_cpu().unwrap(), &*data);
    let view = pinned.slice(10, 100).unwrap().view_on(&there).unwrap();
    assert_eq!(view.location().device_type, DeviceType::CUDA);
    assert!(view.as_cpu().is_err());
    assert_eq!(
        &*view.to_cpu(&system_memory_pool()).unwrap(),
        &data[10..110]
    );
    let back = view.view_on(&host).unwrap();
    assert_eq!(back.address(), pinned.address() + 10);
    let on_cpu = pinned.view_on(&default_cpu_memory_manager()).unwrap();
    assert_eq!(on_cpu.address(), pinned.address());
    let copy = pinned.copy_to(&there).unwrap().copy_to(&host).unwrap();
    assert_eq!(&*copy.as_cpu().unwrap(), &*data);
}

#[test]
fn case_91_and_92_writers_stage_and_flush() {
    let there: Arc<dyn MemoryManager> = Arc::new(gpu().manager().unwrap());
    for staging in [0, 4096] {
        let buffer = MutableDeviceBuffer::zeroed(64 << 10, &there).unwrap();
        let mut writer = CudaBufferWriter::new(buffer, staging).unwrap();
        let data = bytes(64 << 10);
        for chunk in data.chunks(1000) {
            writer.write(chunk).unwrap();
        }
        assert_eq!(writer.position().unwrap(), 64 << 10);
        assert!(writer.write(b"!").is_err());
        writer.write_at(100, b"").unwrap();
        writer.close().unwrap();
        assert_eq!(writer.write(b"").unwrap_err().code(), "ERR_OFFHEAP_CLOSED");
        let whole = Box::new(writer).finish().unwrap().freeze();
        assert_eq!(&*whole.to_cpu(&system_memory_pool()).unwrap(), &*data);
        let mut reader = whole.reader().unwrap();
        let mut target = [0; 50];
        reader.seek(65_500).unwrap();
        assert_eq!(reader.read_into(&mut target).unwrap(), 36);
        assert_eq!(target[..36], data[65_500..]);
    }
}

#[test]
fn asynchronous_copies_tell_when_they_are_done() {
    let manager = gpu().manager().unwrap();
    let stream = gpu().create_stream(None).unwrap();
    let host: Arc<dyn MemoryManager> = Arc::new(gpu().host_manager().unwrap());
    let there: Arc<dyn MemoryManager> = Arc::new(manager.on(&stream).unwrap());
    let data = bytes(100_000);
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

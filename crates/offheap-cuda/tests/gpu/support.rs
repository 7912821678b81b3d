//! What the tests have in common.

use crate::where_it_runs::gpu;
use offheap::{DeviceBuffer, MemoryManager, default_cpu_memory_manager};
use offheap_cuda::sub_allocator::SubAllocatorOptions;
use offheap_cuda::{CudaDevice, CudaMemoryManager, DriverPoolOptions};
use std::fmt::Debug;
use std::sync::Arc;

pub(crate) const INVALID: &str = "ERR_OFFHEAP_INVALID_ARGUMENT";
pub(crate) const NOT_SUPPORTED: &str = "ERR_OFFHEAP_NOT_SUPPORTED";
pub(crate) const OUT_OF_RANGE: &str = "ERR_OFFHEAP_OUT_OF_RANGE";
pub(crate) const CLOSED: &str = "ERR_OFFHEAP_CLOSED";
pub(crate) const OUT_OF_MEMORY: &str = "ERR_OFFHEAP_OUT_OF_MEMORY";

/// Managers of every kind of the GPU's memory.
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

/// The same, without the managed one: memory that only the GPU reaches.
pub(crate) fn device_managers() -> Vec<(&'static str, Arc<dyn MemoryManager>)> {
    managers()
        .into_iter()
        .filter(|(name, _)| *name != "managed")
        .map(|(name, manager)| (name, Arc::new(manager) as Arc<dyn MemoryManager>))
        .collect()
}

/// Every kind of memory there is, the CPU's and the other GPU's, too.
pub(crate) fn everywhere() -> Vec<(&'static str, Arc<dyn MemoryManager>)> {
    let mut all: Vec<(&'static str, Arc<dyn MemoryManager>)> = managers()
        .into_iter()
        .map(|(name, manager)| (name, Arc::new(manager) as Arc<dyn MemoryManager>))
        .collect();
    all.push(("host", Arc::new(gpu().host_manager().unwrap())));
    all.push(("cpu", default_cpu_memory_manager()));
    if let Some(other) = other_gpu() {
        all.push(("other GPU", Arc::new(other.manager().unwrap())));
    }
    all
}

/// The second GPU, where there is one.
pub(crate) fn other_gpu() -> Option<CudaDevice> {
    offheap_cuda::devices()
        .into_iter()
        .find(|device| device.ordinal() == gpu().ordinal() + 1)
}

/// The GPU's default memory on a stream of the test's own.
pub(crate) fn manager() -> Arc<dyn MemoryManager> {
    let stream = gpu().create_stream(None).unwrap();
    Arc::new(gpu().manager().unwrap().on(&stream).unwrap())
}

/// So many bytes, of which neighbours differ.
pub(crate) fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// The bytes of a buffer, wherever they are.
pub(crate) fn bytes_of(buffer: &DeviceBuffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.len()];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}

/// The code of an error.
pub(crate) fn code<T: Debug>(result: offheap::Result<T>) -> &'static str {
    result.unwrap_err().code()
}

//! What buffers and managers of the core have to do with GPUs.

use offheap::{DeviceBuffer, DeviceType, Location, MemoryManager};
use offheap_cuda::{CudaMemoryManager, CudaStream};
use std::any::Any;

/// The manager's own kind, behind a trait object.
pub(super) fn cuda_manager(manager: &dyn MemoryManager) -> Option<&CudaMemoryManager> {
    let manager: &dyn Any = manager;
    manager.downcast_ref()
}

/// The stream in whose order a buffer was allocated, and is used where no other is named.
pub(crate) fn own_stream(buffer: &DeviceBuffer) -> Option<CudaStream> {
    cuda_manager(&**buffer.memory_manager()).map(|manager| manager.stream().clone())
}

/// The number of the GPU that uses memory; `None` of memory that is not the driver's.
pub(crate) fn gpu_of(location: Location) -> Option<i64> {
    matches!(
        location.device_type,
        DeviceType::CUDA | DeviceType::CUDA_HOST | DeviceType::CUDA_MANAGED
    )
    .then_some(location.device_id)
}

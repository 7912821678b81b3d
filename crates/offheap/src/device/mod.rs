//! Devices, and what can be done with memory that the CPU may not be able to reach (Arrow's `Device` and
//! `MemoryManager`).
//!
//! ```text
//!   Device ──▶ MemoryManager ──▶ Pool ──▶ Block      allocate: as everywhere, with every adaptor
//!     │            │  copy · view · read · write
//!     └ streams    └ events
//!
//!   copy:   to.copy_from  →  from.copy_to  →  over the CPU
//!   view:   to.view_from  →  from.view_to
//! ```
//!
//! Pools and blocks only know a [`Location`](crate::Location). What can be done there is a manager's matter: a
//! new device is one crate with a [`Device`] and a [`MemoryManager`], and registers itself by
//! [`register_device_mapper`].

mod buffer;
mod cpu;
#[expect(clippy::module_inception, reason = "one type per file")]
mod device;
mod files;
mod manager;
mod mutable;
mod registry;
mod stream;
mod transfer;

pub use buffer::DeviceBuffer;
pub use cpu::{
    CpuDevice, CpuMemoryManager, cpu_device, cpu_memory_manager, default_cpu_memory_manager,
};
pub use device::Device;
pub use files::{DeviceReader, DeviceWriter};
pub use manager::MemoryManager;
pub use mutable::MutableDeviceBuffer;
pub use registry::{DeviceMapper, device_for, memory_manager_of, register_device_mapper};
pub use stream::{Stream, SyncEvent};

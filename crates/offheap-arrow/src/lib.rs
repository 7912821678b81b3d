//! Arrow's C Data and C Device interfaces, and DLPack, for one buffer of offheap: memory of any device goes
//! to another library, or comes from one, without a copy.
//!
//! ```text
//!   DeviceBuffer ──▶ ExportedArray / ExportedTensor ──▶ address ──▶ another library, which releases it
//!   another library ──▶ address ──▶ import_device_array / import_tensor ──▶ DeviceBuffer, which releases it
//! ```
//!
//! - The memory lives until the other side has released it: once, from whichever thread.
//! - Memory that the CPU cannot reach is never read here: only the structs are, which lie in the CPU's.
//! - Events are waited for before a buffer is handed out: by the caller's stream, or else by the caller.
//! - Whatever is refused is released all the same: to import is to take.
//!
//! Everything here is a few allocations for the structs; nothing depends on how long the buffer is.

pub mod arrow;
pub mod dlpack;

mod caught;
mod placing;

pub use arrow::{
    ArrowArray, ArrowDeviceArray, ArrowDeviceArrayStream, ArrowSchema, ExportedArray,
    ExportedArrayStream, Format, ImportedArray, ImportedArrayStream, import_array,
    import_array_from_address, import_device_array, import_device_array_from_address,
    import_device_array_stream, import_device_array_stream_from_address,
};
pub use dlpack::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor,
    ExportedTensor, ImportedTensor, ManagedTensor, TensorExport, TensorLayout, TensorMemory,
    import_tensor, import_tensor_from_address,
};

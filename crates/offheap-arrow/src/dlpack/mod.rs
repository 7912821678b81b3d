//! DLPack 1: tensors over one buffer.

mod abi;
mod data_type;
mod export;
mod import;
mod layout;
mod managed;

pub use abi::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor,
    FLAG_IS_COPIED, FLAG_READ_ONLY, FLAG_SUBBYTE_TYPE_PADDED, VERSION,
};
pub use export::{ExportedTensor, TensorExport, TensorMemory};
pub use import::{ImportedTensor, import_tensor, import_tensor_from_address};
pub use layout::TensorLayout;
pub use managed::ManagedTensor;

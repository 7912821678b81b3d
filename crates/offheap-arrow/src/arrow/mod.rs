//! Arrow's C Data and C Device interfaces for arrays of one buffer: fixed-width elements without nulls.

mod abi;
mod export;
mod format;
mod import;

pub use abi::{ArrowArray, ArrowDeviceArray, ArrowDeviceArrayStream, ArrowSchema};
pub use export::ExportedArray;
pub use format::Format;
pub use import::{
    ImportedArray, import_array, import_array_from_address, import_device_array,
    import_device_array_from_address,
};

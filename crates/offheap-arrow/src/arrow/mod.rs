//! Arrow's C Data and C Device interfaces for arrays of one buffer, and streams of them: fixed-width elements without
//! nulls.

mod abi;
mod export;
mod format;
mod import;
mod stream_export;
mod stream_import;

pub use abi::{ArrowArray, ArrowDeviceArray, ArrowDeviceArrayStream, ArrowSchema};
pub use export::ExportedArray;
pub use format::Format;
pub use import::{
    ImportedArray, import_array, import_array_from_address, import_device_array,
    import_device_array_from_address,
};
pub use stream_export::ExportedArrayStream;
pub use stream_import::{
    ImportedArrayStream, import_device_array_stream, import_device_array_stream_from_address,
};

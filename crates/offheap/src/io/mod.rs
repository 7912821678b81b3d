//! Reading and writing memory as streams and files.

mod fixed_writer;
mod mock;
mod output;
mod reader;

pub use fixed_writer::FixedSizeBufferWriter;
pub use mock::MockOutputStream;
pub use output::BufferOutputStream;
pub use reader::BufferReader;

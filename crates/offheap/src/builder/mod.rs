//! Builders: growing buffers that are handed over without a copy.

mod bitmap;
mod bytes;
mod native;
mod typed;

pub use bitmap::BitmapBuilder;
pub use bytes::BufferBuilder;
pub use native::Native;
pub use typed::TypedBufferBuilder;

//! Builders: growing buffers that are handed over without a copy.

mod bitmap;
mod bytes;
mod typed;

pub use crate::buffer::Native;
pub use bitmap::BitmapBuilder;
pub use bytes::BufferBuilder;
pub use typed::TypedBufferBuilder;

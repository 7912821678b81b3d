//! Buffers: aligned memory from a pool, shared, sliced, resized.

mod bitmap;
mod block;
mod counts;
mod hex;
mod immutable;
mod mutable;
mod native;
mod resizable;
mod uninit;

pub use bitmap::{
    allocate_bitmap, allocate_empty_bitmap, bytes_for_bits, count_set_bits, get_bit, set_bit_to,
};
pub use block::{Block, ParkedBlock};
pub use hex::try_to_hex;
pub use immutable::Buffer;
pub use mutable::MutableBuffer;
pub use native::Native;
pub use resizable::ResizableBuffer;
pub use uninit::UninitBuffer;

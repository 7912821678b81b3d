//! The works of the suite with vortex-buffer's types.

use std::hint::black_box;
use vortex_buffer::{Alignment, BitBufferMut, BufferMut, ByteBuffer, ByteBufferMut};

pub fn allocate(size: usize, n: usize) {
    for _ in 0..n {
        let alignment = Alignment::new(64);
        drop(black_box(ByteBufferMut::with_capacity_aligned(
            size, alignment,
        )));
    }
}

pub fn slice(n: usize) {
    let whole: ByteBuffer = ByteBufferMut::zeroed(4096).freeze();
    let _second = whole.clone();
    for _ in 0..n {
        drop(black_box(black_box(&whole).slice(64..192)));
    }
}

pub fn append_int64(n: usize) {
    let mut values = BufferMut::<i64>::with_capacity(0);
    for i in 0..n {
        values.push((i & 1) as i64);
    }
    black_box(values.freeze());
}

pub fn append_bool(n: usize) {
    let mut bits = BitBufferMut::with_capacity(0);
    for i in 0..n {
        bits.append(i & 1 != 0);
    }
    black_box(bits.freeze());
}

//! Buffers allocated and dropped, slices of them.

use super::measure::{Extra, Plan, entry};
use offheap::{Alignment, Buffer, MutableBuffer, Pool, UninitBuffer, default_memory_pool};
use std::hint::black_box;
use std::sync::Arc;

fn allocate(pool: &Pool, size: usize, n: usize) {
    for _ in 0..n {
        drop(black_box(UninitBuffer::allocate(
            size,
            Alignment::DEFAULT,
            pool,
        )));
    }
}

pub(crate) fn buffers(plan: &Plan, extra: &[Extra]) {
    let pool = &default_memory_pool();
    let limit = &pool.limit(1 << 40);
    for size in [64, 4096, 1 << 20] {
        let mut entries = vec![
            entry("offheap", move |n| allocate(pool, size, n)),
            entry("offheap-limit", move |n| allocate(limit, size, n)),
            entry("arrow-rs", move |n| {
                for _ in 0..n {
                    drop(black_box(arrow_buffer::MutableBuffer::with_capacity(size)));
                }
            }),
            entry("bytes", move |n| {
                for _ in 0..n {
                    drop(black_box(bytes::BytesMut::with_capacity(size)));
                }
            }),
            entry("vec", move |n| {
                for _ in 0..n {
                    drop(black_box(Vec::<u8>::with_capacity(size)));
                }
            }),
        ];
        for peer in extra {
            entries.push(entry(peer.peer, move |n| (peer.allocate)(size, n)));
        }
        plan.compare("allocate-buffer-drop", size, 1, &entries);
    }
    slices(plan, extra);
}

fn slices(plan: &Plan, extra: &[Extra]) {
    let pool = default_memory_pool();
    let whole: &Buffer = &MutableBuffer::zeroed(4096, &pool).unwrap().freeze();
    let arrow = &arrow_buffer::Buffer::from_vec(vec![0_u8; 4096]);
    let bytes = &bytes::Bytes::from(vec![0_u8; 4096]);
    let arc = &Arc::new([0_u8; 4096]);
    // A second handle: some types keep the first one's fast path.
    let _second = (arrow.clone(), bytes.clone(), whole.clone());
    let mut entries = vec![
        entry("offheap", move |n| {
            for _ in 0..n {
                drop(black_box(black_box(whole).slice(64, 128)));
            }
        }),
        entry("offheap-borrowed", move |n| {
            for _ in 0..n {
                black_box(black_box(whole).get(64..192));
            }
        }),
        entry("arc-clone", move |n| {
            for _ in 0..n {
                drop(black_box(Arc::clone(black_box(arc))));
            }
        }),
        entry("arrow-rs", move |n| {
            for _ in 0..n {
                drop(black_box(black_box(arrow).slice_with_length(64, 128)));
            }
        }),
        entry("bytes", move |n| {
            for _ in 0..n {
                drop(black_box(black_box(bytes).slice(64..192)));
            }
        }),
    ];
    for peer in extra {
        entries.push(entry(peer.peer, move |n| (peer.slice)(n)));
    }
    plan.compare("slice-drop", 128, 1, &entries);
}

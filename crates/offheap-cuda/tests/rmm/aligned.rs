//! `aligned_mr_tests.cpp`: every pool of ours aligns; there is no adaptor for it, and no threshold.

use crate::kinds::{KIB, MIB, code, cuda_alignment, kinds};
use offheap::{Alignment, Block, Error, Hook, Pool, Request, Result};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

fn aligned(bytes: usize) -> Alignment {
    Alignment::new(bytes).unwrap()
}

/// `ThrowOnInvalidAllocationAlignment`.
#[test]
fn alignments_are_powers_of_two() {
    for wrong in [0, 255, 768] {
        assert_eq!(code(Alignment::new(wrong)), "ERR_OFFHEAP_INVALID_ARGUMENT");
    }
    assert_eq!(aligned(256), cuda_alignment());
}

/// `AlignRealPointer`, `SmallAlignmentsBumpedTo256Bytes`, `UpstreamAddressAlreadyAligned`, `AlignUpstreamAddress`,
/// `AlignMultiple`: at the largest, too, blocks lie apart and go back as what they came from.
#[test]
fn blocks_are_aligned_and_go_back() {
    for kind in kinds() {
        let mut blocks: Vec<Block> = Vec::new();
        for round in 0..3 {
            for alignment in [32, 64, 128, 256, 512, 4 * KIB, 64 * KIB, 2 * MIB] {
                let size = [alignment, 69_376, 77_568][round];
                let block = kind
                    .manager
                    .allocate(size, aligned(alignment), false)
                    .unwrap();
                let least = aligned(alignment).max(cuda_alignment());
                assert!(
                    least.is_aligned(block.as_ptr().addr().get()),
                    "{} {least:?}",
                    kind.name
                );
                blocks.push(block);
            }
        }
        let mut ranges: Vec<(usize, usize)> = blocks
            .iter()
            .map(|block| (block.as_ptr().addr().get(), block.size()))
            .collect();
        ranges.sort_unstable();
        let are_apart = |pair: &[(usize, usize)]| pair[0].0 + pair[0].1 <= pair[1].0;
        assert!(ranges.windows(2).all(are_apart), "{}", kind.name);
        drop(blocks);
        assert_eq!(kind.pool().live_allocations(), 0, "{}", kind.name);
    }
}

/// `allocation_size` `MultiThreaded`: where a block begins in what the driver gave is forgotten before the driver has it
/// back, so that another thread's block at the same address keeps its own.
#[test]
fn alignment_multi_threaded() {
    for kind in kinds() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let alignment = aligned(64 * KIB);
                        drop(kind.manager.allocate(KIB, alignment, false).unwrap());
                        drop(kind.manager.allocate(0, alignment, false).unwrap());
                    }
                });
            }
        });
        assert_eq!(kind.pool().live_allocations(), 0, "{}", kind.name);
    }
}

#[derive(Debug, Default)]
struct Alignments(Mutex<Vec<usize>>);

impl Hook for Alignments {
    fn after(&self, request: &Request, _answer: Result<Option<NonNull<u8>>, &Error>) {
        if let Request::Allocate { alignment, .. } | Request::Free { alignment, .. } = request {
            self.0.lock().unwrap().push(alignment.get());
        }
    }
}

/// `DefaultAllocationAlignmentPassthrough`, `BelowAlignmentThresholdPassthrough`, and `ForwardsAlignment` of the failure
/// callback: every adaptor passes the alignment on, of the request and of its end.
#[test]
fn adaptors_pass_alignments_on() {
    for kind in kinds() {
        let seen = Arc::new(Alignments::default());
        let under = kind.pool().hook(seen.clone());
        let pool: Pool = under
            .limit(1 << 30)
            .scoped_statistics()
            .track(offheap::TrackOptions::default());
        let over = kind.over(&pool);
        drop(over.manager.allocate(1024, aligned(512), false).unwrap());
        drop(over.manager.allocate(5, aligned(4096), false).unwrap());
        assert_eq!(
            *seen.0.lock().unwrap(),
            [512, 512, 4096, 4096],
            "{}",
            kind.name
        );
    }
}

//! A block between its guards.
//!
//! ```text
//!   upstream's block, a multiple of max(64, alignment)
//!   ├─ 0xFB … ─┬─ header, 32 bytes ─┬─ 0xFB, 32 ─┼─ size ─┼─ 0xFB to the next 64, and 64 more ─┤
//!              │  size, serial,     │            ▲ what the user gets, a multiple of alignment
//!              │  letter, magic     │
//! ```
//!
//! The header is for who reads a core file: what is believed is the table's record. All of it is
//! therefore a guard, too.

use crate::alignment::{Alignment, padded};
use std::ptr::NonNull;

/// New memory.
pub(super) const CLEAN: u8 = 0xCB;
/// Freed memory.
pub(super) const DEAD: u8 = 0xDB;
/// Memory that nobody may write.
pub(super) const FORBIDDEN: u8 = 0xFB;

const HEADER: usize = 32;
/// The header and the guard between it and the user's first byte.
const FRONT: usize = 64;
/// Up to here the bytes in front are guards; a block at a multiple of 2 MiB has more, which stay
/// untouched.
const MAX_FRONT: usize = 4096;
const MAGIC: [u8; 7] = *b"offheap";

/// Where a block's parts are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Bytes between upstream's block and the user's.
    pub(super) head: usize,
    /// How many of them, right before the user's, are guards.
    pub(super) front: usize,
    /// Guards behind the user's bytes.
    pub(super) tail: usize,
    /// Bytes of upstream's block.
    pub(super) total: usize,
}

impl Extent {
    /// Of a block for the user; `None` when it is larger than any object can be.
    pub(super) fn of(size: usize, alignment: Alignment) -> Option<Self> {
        let head = alignment.get().max(FRONT);
        let rounded = padded(size)?;
        let total = rounded
            .checked_add(FRONT)?
            .checked_add(head)
            .filter(|total| *total <= isize::MAX as usize - 63)?;
        Some(Self {
            head,
            front: head.min(MAX_FRONT),
            tail: rounded - size + FRONT,
            total,
        })
    }
}

/// A block of a debug pool, as its record has it. The memory is upstream's until the record goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guarded {
    /// The user's first byte.
    pub(super) start: NonNull<u8>,
    pub(super) size: usize,
    pub(super) extent: Extent,
    pub(super) serial: u64,
    pub(super) letter: u8,
}

/// The first byte of `bytes` that is not `expected`.
fn first_other(bytes: &[u8], expected: u8) -> Option<usize> {
    let differs = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | (byte ^ expected)) != 0;
    let mut at = 0;
    for chunk in bytes.chunks(256) {
        if differs(chunk) {
            return chunk
                .iter()
                .position(|byte| *byte != expected)
                .map(|i| at + i);
        }
        at += chunk.len();
    }
    None
}

impl Guarded {
    fn header(&self) -> [u8; HEADER] {
        let mut header = [FORBIDDEN; HEADER];
        header[..8].copy_from_slice(&(self.size as u64).to_be_bytes());
        header[8..16].copy_from_slice(&self.serial.to_be_bytes());
        header[16] = self.letter;
        header[24..31].copy_from_slice(&MAGIC);
        header
    }

    /// Where upstream's block begins.
    ///
    /// # Safety
    /// - the block's memory was not given back to upstream.
    pub(super) unsafe fn base(&self) -> NonNull<u8> {
        // SAFETY: the user's bytes begin `head` bytes into upstream's block.
        unsafe { self.start.sub(self.extent.head) }
    }

    /// Bytes of the block, `from` the user's first one on, as they are now. What a stray pointer
    /// writes meanwhile may or may not be seen.
    ///
    /// # Safety
    /// - the block's memory was not given back to upstream, and is not while the slice lives;
    /// - the range lies between the first guard and the last, and its bytes were written once.
    pub(super) unsafe fn bytes<'a>(&self, from: isize, length: usize) -> &'a [u8] {
        debug_assert!(from >= -(self.extent.front as isize));
        debug_assert!(from + length as isize <= (self.size + self.extent.tail) as isize);
        // SAFETY: the caller's promises; all of it is one allocation of upstream's.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().offset(from), length) }
    }

    /// Writes the guards and the header.
    ///
    /// # Safety
    /// - the block is new, and nobody else knows it.
    pub(super) unsafe fn arm(&self) {
        let header = self.header();
        // SAFETY: front, header and tail lie inside upstream's block, as `Extent::of` made room.
        unsafe {
            let front = self.start.sub(self.extent.front);
            front.write_bytes(FORBIDDEN, self.extent.front);
            self.start
                .sub(FRONT)
                .copy_from_nonoverlapping(NonNull::from(&header).cast(), HEADER);
            self.start
                .add(self.size)
                .write_bytes(FORBIDDEN, self.extent.tail);
        }
    }

    /// Fills the user's bytes.
    ///
    /// # Safety
    /// - the block's memory was not given back to upstream, and the user does not use it.
    pub(super) unsafe fn fill(&self, byte: u8) {
        // SAFETY: the user's bytes are `size` bytes of upstream's block.
        unsafe { self.start.write_bytes(byte, self.size) };
    }

    /// The first damaged guard in front, seen from the user's first byte: negative.
    ///
    /// # Safety
    /// - the block's memory was not given back to upstream, and is not during the call.
    pub(super) unsafe fn front_damage(&self) -> Option<isize> {
        let header_at = self.extent.front - FRONT;
        // SAFETY: the caller's promise; `arm` wrote the guards.
        let front = unsafe { self.bytes(-(self.extent.front as isize), self.extent.front) };
        let (before, rest) = front.split_at(header_at);
        let (header, after) = rest.split_at(HEADER);
        let expected = self.header();
        let damaged = first_other(before, FORBIDDEN)
            .or_else(|| {
                let mut pairs = header.iter().zip(&expected);
                pairs.position(|(is, was)| is != was).map(|i| header_at + i)
            })
            .or_else(|| first_other(after, FORBIDDEN).map(|i| header_at + HEADER + i))?;
        Some(damaged as isize - self.extent.front as isize)
    }

    /// The first damaged guard behind, seen from the user's first byte.
    ///
    /// # Safety
    /// - as [`front_damage`](Self::front_damage).
    pub(super) unsafe fn tail_damage(&self) -> Option<isize> {
        // SAFETY: the caller's promise; `arm` wrote the guards.
        let tail = unsafe { self.bytes(self.size as isize, self.extent.tail) };
        first_other(tail, FORBIDDEN).map(|i| (self.size + i) as isize)
    }

    /// The first of the user's bytes that changed since they were filled with [`DEAD`].
    ///
    /// # Safety
    /// - as [`front_damage`](Self::front_damage), and the bytes were filled.
    pub(super) unsafe fn dead_damage(&self) -> Option<isize> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.bytes(0, self.size) };
        first_other(bytes, DEAD).map(|i| i as isize)
    }

    /// A number of the user's bytes that changes with any one of them: four lanes of multiply and
    /// rotate, some bytes a cycle.
    ///
    /// # Safety
    /// - as [`front_damage`](Self::front_damage), and all bytes were written once.
    pub(super) unsafe fn fingerprint(&self) -> u64 {
        // SAFETY: the caller's promise.
        fingerprint(unsafe { self.bytes(0, self.size) })
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    // For a given word, each step maps a lane's values one to one: a change of one word stays.
    let step = |lane: u64, word: u64| (lane ^ word).wrapping_mul(ODD).rotate_left(29);
    let mut lanes = [1_u64, 2, 3, 4];
    let mut chunks = bytes.chunks_exact(32);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
            *lane = step(
                *lane,
                word.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)),
            );
        }
    }
    let [a, b, c, d] = lanes;
    let mut last = step(step(step(a, b), c), d);
    for byte in chunks.remainder() {
        last = step(last, u64::from(*byte));
    }
    step(last, bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_leave_room_for_both_guards_or_are_none() {
        for size in [1, 63, 64, 65, 5000, 1 << 30] {
            for shift in 0..=32 {
                let alignment = Alignment::new(1 << shift).unwrap();
                let extent = Extent::of(size, alignment).unwrap();
                assert_eq!(extent.total % 64, 0);
                assert!(alignment.is_aligned(extent.head));
                assert!(extent.front >= 64 && extent.front <= extent.head);
                assert!(extent.tail >= 64 && extent.tail < 128);
                assert_eq!(extent.head + size + extent.tail, extent.total);
            }
        }
        for size in [usize::MAX, isize::MAX as usize, isize::MAX as usize - 190] {
            assert!(Extent::of(size, Alignment::DEFAULT).is_none(), "{size}");
        }
    }

    #[test]
    fn the_first_other_byte_is_found_wherever_it_is() {
        for length in [0, 1, 255, 256, 257, 1000] {
            let mut bytes = vec![7; length];
            assert_eq!(first_other(&bytes, 7), None);
            for at in 0..length {
                bytes[at] = 6;
                assert_eq!(first_other(&bytes, 7), Some(at), "of {length}");
                bytes[at] = 7;
            }
        }
    }

    #[test]
    fn a_fingerprint_changes_with_every_bit() {
        for length in [1, 8, 31, 32, 33, 100] {
            let mut bytes = vec![0; length];
            let before = fingerprint(&bytes);
            for bit in 0..length * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(fingerprint(&bytes), before, "bit {bit} of {length}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(fingerprint(&bytes), before);
            assert_ne!(fingerprint(&bytes[..length - 1]), before);
        }
    }
}

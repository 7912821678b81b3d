//! Bitmaps: one bit a value, the least significant first, as in the Arrow format.

use super::mutable::MutableBuffer;
use super::uninit::UninitBuffer;
use crate::alignment::Alignment;
use crate::error::Result;
use crate::pool::Pool;

/// The bytes that hold `bits` bits.
#[inline]
pub const fn bytes_for_bits(bits: usize) -> usize {
    bits.div_ceil(8)
}

/// A bitmap of `bits` bits, all 0 (Arrow's `AllocateEmptyBitmap`).
///
/// # Errors
/// As [`Pool::allocate`].
pub fn allocate_empty_bitmap(bits: usize, pool: &Pool) -> Result<MutableBuffer> {
    MutableBuffer::zeroed(bytes_for_bits(bits), pool)
}

/// A bitmap of `bits` bits of which only the last byte, so the bits past the end, is 0 (Arrow's
/// `AllocateBitmap`).
///
/// # Errors
/// As [`Pool::allocate`].
pub fn allocate_bitmap(bits: usize, pool: &Pool) -> Result<UninitBuffer> {
    let mut bitmap = UninitBuffer::allocate(bytes_for_bits(bits), Alignment::DEFAULT, pool)?;
    if let Some(last) = bitmap.as_uninit().last_mut() {
        last.write(0);
    }
    Ok(bitmap)
}

/// The bit at `index`.
///
/// # Panics
/// When `index` is past the end of `bitmap`.
#[inline]
pub fn get_bit(bitmap: &[u8], index: usize) -> bool {
    bitmap[index / 8] >> (index % 8) & 1 != 0
}

/// Sets the bit at `index`.
///
/// # Panics
/// When `index` is past the end of `bitmap`.
#[inline]
pub fn set_bit_to(bitmap: &mut [u8], index: usize, value: bool) {
    let mask = 1 << (index % 8);
    if value {
        bitmap[index / 8] |= mask;
    } else {
        bitmap[index / 8] &= !mask;
    }
}

/// How many of the `length` bits from bit `offset` on are 1. Reads whole 64-bit words where it can.
///
/// # Panics
/// When the range is not inside of `bitmap`.
pub fn count_set_bits(bitmap: &[u8], offset: usize, length: usize) -> usize {
    let end = offset
        .checked_add(length)
        .expect("a bit range inside of the bitmap");
    assert!(
        end <= bitmap.len().saturating_mul(8),
        "a bit range inside of the bitmap"
    );
    let mut count = 0;
    let mut at = offset;
    while at < end && !at.is_multiple_of(8) {
        count += usize::from(get_bit(bitmap, at));
        at += 1;
    }
    let whole = &bitmap[at / 8..at / 8 + (end - at) / 8];
    let (words, rest) = whole.as_chunks::<8>();
    count += words
        .iter()
        .map(|word| u64::from_ne_bytes(*word).count_ones() as usize)
        .sum::<usize>();
    count += rest
        .iter()
        .map(|byte| byte.count_ones() as usize)
        .sum::<usize>();
    at += whole.len() * 8;
    while at < end {
        count += usize::from(get_bit(bitmap, at));
        at += 1;
    }
    count
}

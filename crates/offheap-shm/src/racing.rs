//! Copies to and from memory that another process may write at the same time.
//!
//! A plain copy of such bytes would be a data race, which is undefined behaviour; relaxed atomic accesses
//! give whatever bytes are there. Words of 8 bytes, single bytes at the ends.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const WORD: usize = size_of::<u64>();

/// How many bytes of `len` come before the first whole word at `address`.
fn head(address: usize, len: usize) -> usize {
    (address.wrapping_neg() & (WORD - 1)).min(len)
}

/// Copies from `from` to all of `to`.
///
/// # Safety
/// - `from` is valid for reads of `to.len()` bytes, which are accessed atomically, or not written, while
///   this runs.
pub(crate) unsafe fn load(from: *const u8, to: &mut [u8]) {
    let (head, rest) = to.split_at_mut(head(from.addr(), to.len()));
    let words = rest.len() / WORD;
    let (body, tail) = rest.split_at_mut(words * WORD);
    let byte = |at: usize| {
        // SAFETY: `at` is less than the length, so the byte is valid; shared access is atomic.
        unsafe { AtomicU8::from_ptr(from.add(at).cast_mut()) }.load(Ordering::Relaxed)
    };
    for (at, target) in head.iter_mut().enumerate() {
        *target = byte(at);
    }
    for (i, target) in body.chunks_exact_mut(WORD).enumerate() {
        // SAFETY: the word lies in the range, is aligned since the head ends at a multiple of 8, and
        // shared access is atomic.
        let word =
            unsafe { AtomicU64::from_ptr(from.add(head.len() + i * WORD).cast_mut().cast()) };
        target.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    for (i, target) in tail.iter_mut().enumerate() {
        *target = byte(head.len() + words * WORD + i);
    }
}

/// Copies all of `from` to `to`.
///
/// # Safety
/// - `to` is valid for writes of `from.len()` bytes, which are accessed atomically, or not at all, while
///   this runs.
pub(crate) unsafe fn store(from: &[u8], to: *mut u8) {
    let (head, rest) = from.split_at(head(to.addr(), from.len()));
    let words = rest.len() / WORD;
    let (body, tail) = rest.split_at(words * WORD);
    let set = |at: usize, byte: u8| {
        // SAFETY: `at` is less than the length, so the byte is valid; shared access is atomic.
        unsafe { AtomicU8::from_ptr(to.add(at)) }.store(byte, Ordering::Relaxed);
    };
    for (at, source) in head.iter().enumerate() {
        set(at, *source);
    }
    for (i, source) in body.chunks_exact(WORD).enumerate() {
        let mut word = [0; WORD];
        word.copy_from_slice(source);
        // SAFETY: as in `load`.
        let target = unsafe { AtomicU64::from_ptr(to.add(head.len() + i * WORD).cast()) };
        target.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
    for (i, source) in tail.iter().enumerate() {
        set(head.len() + words * WORD + i, *source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_and_length_is_copied_exactly() {
        let source: Vec<u8> = (1..=64).collect();
        for start in 0..17 {
            for len in 0..=source.len() - start {
                let mut read = vec![0; len];
                // SAFETY: the range lies in `source`, which nobody writes.
                unsafe { load(source.as_ptr().add(start), &mut read) };
                assert_eq!(read, source[start..start + len]);
                let mut written = vec![0; 81];
                // SAFETY: at most 64 bytes from 0..17 lie in `written`, which nobody else uses.
                unsafe { store(&source[..len], written.as_mut_ptr().add(start)) };
                assert_eq!(&written[start..start + len], &source[..len]);
                assert_eq!(written.iter().filter(|b| **b != 0).count(), len);
            }
        }
    }
}

//! The builder of bitmaps.

use super::bytes::BufferBuilder;
use crate::alignment::Alignment;
use crate::buffer::{MutableBuffer, bytes_for_bits};
use crate::error::{Error, ErrorKind, Result};
use crate::pool::Pool;
use std::fmt;

/// Collects bits, the least significant first, and hands them over as a buffer (Arrow's
/// `TypedBufferBuilder<bool>`).
///
/// ```text
///   bytes: whole words, written once each │ word: the last 1 to 64 bits, in a register
///   ├── word 0 ──┼── word 1 ──┤           └ room for it behind the bytes is always there
/// ```
///
/// ```
/// # use offheap::{BitmapBuilder, default_memory_pool};
/// let mut builder = BitmapBuilder::new(&default_memory_pool());
/// builder.append(true)?;
/// builder.append_values(&[false, true, true])?;
/// assert_eq!((builder.len(), builder.false_count()), (4, 1));
/// assert_eq!(builder.finish(true)?[..], [0b1101]);
/// # Ok::<(), offheap::Error>(())
/// ```
///
/// Lengths and capacities are numbers of bits. Growth and errors are as for [`BufferBuilder`]. An
/// append costs 0.6 to 0.9 ns, where a read, change and write of memory for each bit costs 2.3
/// (Arrow 26: 7).
pub struct BitmapBuilder {
    /// The whole words.
    bytes: BufferBuilder,
    /// The bits after those: none only if there are no bits at all, or after a bulk append; its
    /// bits past the length are 0.
    word: u64,
    len: usize,
    /// How many bits in `bytes` are 1.
    ones: usize,
}

const WORD: usize = 64;
const WORD_BYTES: usize = WORD / 8;

/// Eight bytes that are 0 or 1 as the low eight bits: the product moves byte `i`'s bit to bit
/// `56 + i`, and no two of its terms meet.
#[inline]
const fn gather(bytes: u64) -> u64 {
    bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Every byte that is not 0 as 1.
#[inline]
const fn normalise(bytes: u64) -> u64 {
    const LOW: u64 = 0x7F7F_7F7F_7F7F_7F7F;
    ((((bytes & LOW) + LOW) | bytes) & !LOW) >> 7
}

/// Up to 64 bytes, one value each, as bits.
#[inline]
fn pack(values: &[u8]) -> u64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut bits = 0;
    for (i, eight) in eights.iter().enumerate() {
        bits |= gather(normalise(u64::from_le_bytes(*eight))) << (8 * i);
    }
    for (i, value) in rest.iter().enumerate() {
        bits |= u64::from(*value != 0) << (8 * eights.len() + i);
    }
    bits
}

/// 64 bytes, one value each, as bits, and how many of them are 1.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[inline]
fn pack_word(values: &[u8; WORD]) -> (u64, usize) {
    use std::arch::x86_64::{
        _mm_add_epi64, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_sad_epu8,
        _mm_set1_epi8, _mm_setzero_si128, _mm_storeu_si128, _mm_sub_epi8,
    };
    let (quarters, _) = values.as_chunks::<16>();
    let mut bits = 0;
    let mut sums = [0_u64; 2];
    // SAFETY: the build has SSE2, which the calls need; the loads are of 16 bytes that there are,
    // and the store is of 16 bytes to as many.
    unsafe {
        let zero = _mm_setzero_si128();
        let mut sum = zero;
        for (i, quarter) in quarters.iter().enumerate() {
            let is_zero = _mm_cmpeq_epi8(_mm_loadu_si128(quarter.as_ptr().cast()), zero);
            bits |= u64::from(!_mm_movemask_epi8(is_zero) as u16) << (16 * i);
            // A byte of -1 where there is a 0: 1 more than that is what to count. One instruction
            // adds them up; a bit count is a dozen where the processor may lack the instruction.
            let ones = _mm_sub_epi8(is_zero, _mm_set1_epi8(-1));
            sum = _mm_add_epi64(sum, _mm_sad_epu8(ones, zero));
        }
        _mm_storeu_si128(sums.as_mut_ptr().cast(), sum);
    }
    (bits, (sums[0] + sums[1]) as usize)
}

/// 64 bytes, one value each, as bits, and how many of them are 1.
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
#[inline]
fn pack_word(values: &[u8; WORD]) -> (u64, usize) {
    let bits = pack(values);
    (bits, bits.count_ones() as usize)
}

/// The lowest `n` bits, at most 64.
#[inline]
const fn mask(n: usize) -> u64 {
    if n >= WORD { u64::MAX } else { (1 << n) - 1 }
}

/// `n` bits, at most 64, of `bitmap` from bit `offset` on, all of them inside.
#[inline]
fn read_bits(bitmap: &[u8], offset: usize, n: usize) -> u64 {
    let (first, shift) = (offset / 8, offset % 8);
    let mut window = [0; 16];
    let bytes = bytes_for_bits(shift + n);
    window[..bytes].copy_from_slice(&bitmap[first..first + bytes]);
    (u128::from_le_bytes(window) >> shift) as u64 & mask(n)
}

impl BitmapBuilder {
    /// An empty builder. Takes no memory yet.
    pub fn new(pool: &Pool) -> Self {
        Self::with_alignment(Alignment::DEFAULT, pool)
    }

    /// An empty builder whose buffer will be at a multiple of `alignment`, however often it grows.
    pub fn with_alignment(alignment: Alignment, pool: &Pool) -> Self {
        let bytes = BufferBuilder::with_alignment(alignment, pool);
        Self {
            bytes,
            word: 0,
            len: 0,
            ones: 0,
        }
    }

    /// An empty builder with room for `capacity` bits.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn with_capacity(capacity: usize, pool: &Pool) -> Result<Self> {
        let mut builder = Self::new(pool);
        builder.reserve(capacity)?;
        Ok(builder)
    }

    /// Appends a bit.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn append(&mut self, value: bool) -> Result<()> {
        // Read before the branch: a loop of appends then keeps both in registers (0.7 ns a bit; read
        // and written in memory, 1.8).
        let (len, mut word) = (self.len, self.word);
        let bit = len % WORD;
        if bit == 0 {
            self.next_word()?;
            word = 0;
        }
        self.word = word | u64::from(value) << bit;
        self.len = len + 1;
        Ok(())
    }

    /// Puts a full word away, and makes room for the next one.
    #[inline(never)]
    fn next_word(&mut self) -> Result<()> {
        // Room first: what follows must not fail.
        self.make_room(1)?;
        if self.pending() == WORD {
            self.flush();
        }
        Ok(())
    }

    /// Bits in `word`: 0 to 64.
    #[inline]
    fn pending(&self) -> usize {
        self.len - self.bytes.len() * 8
    }

    #[inline]
    fn flush(&mut self) {
        self.ones += self.word.count_ones() as usize;
        // SAFETY: room for the word was made before its first bit.
        unsafe { self.bytes.append_unchecked(&self.word.to_le_bytes()) };
        self.word = 0;
    }

    /// The bytes beyond the whole words that `additional` bits more will take.
    #[inline]
    fn bytes_more(&self, additional: usize) -> Result<usize> {
        match self.len.checked_add(additional) {
            // At most an eighth of a usize, rounded up.
            Some(bits) => Ok(bits.div_ceil(WORD) * WORD_BYTES - self.bytes.len()),
            None => Err(self.bytes.overflow((additional / 8) as u64)),
        }
    }

    #[inline]
    fn make_room(&mut self, additional: usize) -> Result<()> {
        let bytes = self.bytes_more(additional)?;
        self.bytes.ensure(bytes)
    }

    /// Appends the low `n` bits of `bits`, 1 to 64; the others are 0, and there is room.
    #[inline]
    fn push(&mut self, bits: u64, n: usize) {
        debug_assert!(n <= WORD && bits & !mask(n) == 0);
        let mut pending = self.pending();
        if pending == WORD {
            self.flush();
            pending = 0;
        }
        self.word |= bits << pending;
        self.len += n;
        if pending + n > WORD {
            self.flush();
            // Not all bits fitted, so some were pending: the shift is less than 64.
            self.word = bits >> (WORD - pending);
        }
    }

    /// Appends bits.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn append_values(&mut self, values: &[bool]) -> Result<()> {
        // SAFETY: a bool is one byte, 0 or 1.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) };
        self.append_bytes(bytes)
    }

    /// Appends a bit a byte: 0 for a byte that is 0, else 1. Cost: below 0.1 ns a bit.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn append_bytes(&mut self, values: &[u8]) -> Result<()> {
        self.make_room(values.len())?;
        let (words, rest) = values.as_chunks::<WORD>();
        let offset = self.len % WORD;
        if !words.is_empty() && offset == 0 {
            if self.pending() == WORD {
                self.flush();
            }
            for values in words {
                let (word, ones) = pack_word(values);
                // SAFETY: there is room for all values.
                unsafe { self.bytes.append_unchecked(&word.to_le_bytes()) };
                self.ones += ones;
            }
        } else if !words.is_empty() {
            // Of each word, the first bits fill up the one before, and the others wait.
            let mut word = self.word;
            for values in words {
                let (next, ones) = pack_word(values);
                let full = word | next << offset;
                // SAFETY: there is room for all values.
                unsafe { self.bytes.append_unchecked(&full.to_le_bytes()) };
                word = next >> (WORD - offset);
                self.ones += ones;
            }
            // Counted with the values they came with, and by the word that they are in now.
            self.ones += self.word.count_ones() as usize;
            self.ones -= word.count_ones() as usize;
            self.word = word;
        }
        self.len += words.len() * WORD;
        if !rest.is_empty() {
            self.push(pack(rest), rest.len());
        }
        Ok(())
    }

    /// Appends `n` bits, `make(0)` to `make(n - 1)`: the result of a comparison, say. Several are
    /// made at once where they can be.
    ///
    /// # Errors
    /// As [`Pool::allocate`]; `make` is then not called.
    pub fn append_from_fn(&mut self, n: usize, mut make: impl FnMut(usize) -> bool) -> Result<()> {
        self.make_room(n)?;
        let words = n / WORD * WORD;
        for first in (0..words).step_by(WORD) {
            let word = (0..WORD).fold(0, |word, i| word | u64::from(make(first + i)) << i);
            self.push(word, WORD);
        }
        let rest = n - words;
        if rest > 0 {
            let word = (0..rest).fold(0, |word, i| word | u64::from(make(words + i)) << i);
            self.push(word, rest);
        }
        Ok(())
    }

    /// Appends what an iterator gives.
    ///
    /// # Errors
    /// As [`Pool::allocate`]; what was appended before is then taken back.
    pub fn append_iter(&mut self, bits: impl IntoIterator<Item = bool>) -> Result<()> {
        let words = self.bytes.len();
        let before = (self.word, self.len, self.ones);
        let mut bits = bits.into_iter().fuse();
        // A wrong lower bound costs memory, not correctness; one that cannot be had, nothing.
        let _ = self.make_room(bits.size_hint().0);
        loop {
            let (mut word, mut n) = (0, 0);
            for bit in bits.by_ref().take(WORD) {
                word |= u64::from(bit) << n;
                n += 1;
            }
            if n == 0 {
                return Ok(());
            }
            if let Err(error) = self.make_room(n) {
                // What was pending then may have been written behind the words since.
                self.bytes.rewind(words)?;
                (self.word, self.len, self.ones) = before;
                return Err(error);
            }
            self.push(word, n);
        }
    }

    /// Appends `n` times the same bit.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn append_copies(&mut self, value: bool, n: usize) -> Result<()> {
        self.make_room(n)?;
        let word = if value { u64::MAX } else { 0 };
        // Up to a whole word, then whole words at once, then the rest.
        let first = n.min((WORD - self.len % WORD) % WORD);
        if first > 0 {
            self.push(word & mask(first), first);
        }
        let words = (n - first) / WORD;
        if words > 0 {
            if self.pending() == WORD {
                self.flush();
            }
            self.bytes.append_copies(word as u8, words * WORD_BYTES)?;
            self.len += words * WORD;
            self.ones += if value { words * WORD } else { 0 };
        }
        let rest = (n - first) % WORD;
        if rest > 0 {
            self.push(word & mask(rest), rest);
        }
        Ok(())
    }

    /// Appends `n` bits of a bitmap from bit `offset` on.
    ///
    /// # Errors
    /// - [`OutOfRange`](ErrorKind::OutOfRange) when the range is not inside of `bitmap`;
    /// - as [`Pool::allocate`].
    pub fn append_packed(&mut self, bitmap: &[u8], offset: usize, n: usize) -> Result<()> {
        let bits = bitmap.len().saturating_mul(8);
        let end = offset
            .checked_add(n)
            .filter(|end| *end <= bits)
            .ok_or_else(|| {
                Error::new(ErrorKind::OutOfRange {
                    what: format!("bit {offset} with length {n} is outside of {bits} bits"),
                })
            })?;
        self.make_room(n)?;
        let mut at = offset;
        while at < end {
            let step = (end - at).min(WORD);
            self.push(read_bits(bitmap, at, step), step);
            at += step;
        }
        Ok(())
    }

    /// Appends `n` bits that are 0.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn advance(&mut self, n: usize) -> Result<()> {
        self.append_copies(false, n)
    }

    /// Makes room for `additional` bits more, exactly.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn reserve(&mut self, additional: usize) -> Result<()> {
        let bytes = self.bytes_more(additional)?;
        self.bytes.reserve(bytes)
    }

    /// Changes the capacity to `capacity` bits, as [`BufferBuilder::resize`] does.
    ///
    /// # Errors
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument) when it is less than the length;
    /// - as [`Pool::allocate`].
    pub fn resize(&mut self, capacity: usize, shrink_to_fit: bool) -> Result<()> {
        if capacity < self.len {
            return Err(Error::invalid_argument(
                "capacity",
                capacity,
                "at least the builder's length",
            ));
        }
        self.bytes
            .resize(capacity.div_ceil(WORD) * WORD_BYTES, shrink_to_fit)
    }

    /// Hands the bits over, 8 a byte, and starts anew. Bits past the length are 0, in the last byte
    /// and in the padding.
    ///
    /// # Errors
    /// As [`BufferBuilder::finish`].
    pub fn finish(&mut self, shrink_to_fit: bool) -> Result<MutableBuffer> {
        self.finish_with_length(self.len, shrink_to_fit)
    }

    /// As [`finish`](Self::finish), with only the first `length` bits, or with zeros added up to
    /// `length`.
    ///
    /// # Errors
    /// As [`BufferBuilder::finish_with_length`].
    pub fn finish_with_length(
        &mut self,
        length: usize,
        shrink_to_fit: bool,
    ) -> Result<MutableBuffer> {
        let size = bytes_for_bits(length);
        let words = self.bytes.len();
        // Whatever can fail comes first. It may cut the words, not their first `size` bytes.
        self.bytes.settle(size, shrink_to_fit)?;
        if size <= words {
            self.bytes.rewind(size)?;
        } else {
            let word = self.word.to_le_bytes();
            let tail = &word[..WORD_BYTES.min(size - words)];
            // SAFETY: the block has `size` bytes, so room for as many behind the words.
            unsafe { self.bytes.append_unchecked(tail) };
            self.bytes.append_copies(0, size - self.bytes.len())?;
        }
        if let Some(last) = self.bytes.as_mut_slice().last_mut() {
            *last &= mask((length - 1) % 8 + 1) as u8;
        }
        let buffer = self.bytes.hand_over()?;
        self.reset();
        Ok(buffer)
    }

    /// Forgets everything and gives the memory back.
    pub fn reset(&mut self) {
        self.bytes.reset();
        (self.word, self.len, self.ones) = (0, 0, 0);
    }

    /// The bit at `index`; `None` past the end.
    pub fn get(&self, index: usize) -> Option<bool> {
        if index >= self.len {
            return None;
        }
        let byte = match self.bytes.as_slice().get(index / 8) {
            Some(byte) => *byte,
            None => self.word.to_le_bytes()[index / 8 - self.bytes.len()],
        };
        Some(byte >> (index % 8) & 1 != 0)
    }

    /// How many bits were appended.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bits up to which appending takes no memory.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity().saturating_mul(8)
    }

    /// How many bits are 0. Cost: none, they are counted a word at a time.
    #[inline]
    pub fn false_count(&self) -> usize {
        self.len - self.ones - self.word.count_ones() as usize
    }

    /// The pool that the memory comes from.
    pub fn pool(&self) -> &Pool {
        self.bytes.pool()
    }
}

impl fmt::Debug for BitmapBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BitmapBuilder")
            .field("len", &self.len)
            .field("false_count", &self.false_count())
            .field("capacity", &self.capacity())
            .field("pool", &self.pool().name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::get_bit;
    use crate::pool::system_memory_pool;

    fn bits_of(builder: &BitmapBuilder) -> Vec<bool> {
        (0..builder.len()).map_while(|i| builder.get(i)).collect()
    }

    /// A few thousand reproducible bits (xorshift).
    fn some_bits(n: usize) -> Vec<bool> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state & 8 != 0
            })
            .collect()
    }

    #[test]
    fn packing_takes_eight_bytes_at_once() {
        for pattern in 0..=255_u8 {
            let bytes: Vec<u8> = (0..8).map(|i| (pattern >> i & 1) * 200).collect();
            assert_eq!(pack(&bytes), u64::from(pattern));
            assert_eq!(pack(&bytes[..5]), u64::from(pattern & 31));
        }
        assert_eq!(normalise(0x00FF_8001_7F02_0000), 0x0001_0101_0101_0000);
        for seed in 0..64_usize {
            let word: [u8; WORD] = std::array::from_fn(|i| match (i * 7 + seed) % 5 {
                0 | 3 => 0,
                n => (n * 97 + seed) as u8 | 1,
            });
            let bits = pack(&word);
            assert_eq!(pack_word(&word), (bits, bits.count_ones() as usize));
        }
        for byte in 0..=255 {
            let expected = if byte == 0 { (0, 0) } else { (u64::MAX, WORD) };
            assert_eq!(pack_word(&[byte; WORD]), expected);
        }
    }

    #[test]
    fn every_append_agrees_with_a_vector_of_bools() {
        let source = some_bits(300);
        let mut packed = vec![0_u8; 38];
        for (i, bit) in source.iter().enumerate() {
            packed[i / 8] |= u8::from(*bit) << (i % 8);
        }
        // Every kind of append, at every offset within a word, with lengths around a word's.
        for start in [0, 1, 7, 8, 31, 63, 64, 65, 127, 128] {
            for n in [0, 1, 2, 8, 63, 64, 65, 127, 128, 129, 170] {
                let mut builder = BitmapBuilder::new(&system_memory_pool());
                let mut model = source[..start].to_vec();
                for bit in &model {
                    builder.append(*bit).unwrap();
                }
                builder.append_values(&source[..n]).unwrap();
                model.extend(&source[..n]);
                builder.append_packed(&packed, start, n).unwrap();
                model.extend(&source[start..start + n]);
                for value in [true, false] {
                    builder.append_copies(value, n).unwrap();
                    model.extend(vec![value; n]);
                }
                builder.append(true).unwrap();
                model.push(true);
                assert_eq!(bits_of(&builder), model, "start {start}, n {n}");
                assert_eq!(
                    builder.false_count(),
                    model.iter().filter(|bit| !**bit).count()
                );
                let buffer = builder.finish(n % 2 == 0).unwrap();
                assert_eq!(buffer.len(), bytes_for_bits(model.len()));
                assert!(
                    model
                        .iter()
                        .enumerate()
                        .all(|(i, bit)| get_bit(&buffer, i) == *bit)
                );
                assert!((model.len()..buffer.len() * 8).all(|i| !get_bit(&buffer, i)));
                assert!(builder.is_empty() && builder.false_count() == 0);
            }
        }
    }

    #[test]
    fn finishing_with_any_length_cuts_or_adds_zeros() {
        let pool = system_memory_pool().proxy();
        for len in [0, 1, 63, 64, 65, 128, 200] {
            for length in [
                0, 1, 7, 8, 63, 64, 65, 66, 127, 128, 129, 199, 200, 201, 500,
            ] {
                for shrink in [true, false] {
                    let mut builder = BitmapBuilder::with_capacity(500, &pool).unwrap();
                    builder.append_copies(true, len).unwrap();
                    let buffer = builder.finish_with_length(length, shrink).unwrap();
                    assert_eq!(buffer.len(), bytes_for_bits(length));
                    for i in 0..buffer.len() * 8 {
                        assert_eq!(
                            get_bit(&buffer, i),
                            i < len.min(length),
                            "{len} {length} {i}"
                        );
                    }
                    if shrink {
                        assert_eq!(pool.bytes_allocated(), buffer.len() as u64);
                    }
                }
            }
        }
        assert_eq!(pool.bytes_allocated(), 0);
    }

    #[test]
    fn errors_leave_the_builder_as_it_was() {
        let pool = system_memory_pool().limit(64);
        let mut builder = BitmapBuilder::new(&pool);
        builder.append_copies(true, 509).unwrap();
        builder.append(false).unwrap();
        for failure in [
            builder.append_values(&[true; 3]),
            builder.append_bytes(&[1; 100]),
            builder.append_copies(true, usize::MAX),
            builder.append_copies(true, usize::MAX / 2),
            builder.append_packed(&[0xFF; 8], 0, 64),
            builder.advance(3),
            builder.reserve(usize::MAX),
            builder.resize(513, false),
        ] {
            assert!(failure.unwrap_err().is_out_of_memory());
        }
        let range = builder.append_packed(&[0xFF; 8], 1, 64).unwrap_err();
        assert_eq!(range.code(), "ERR_OFFHEAP_OUT_OF_RANGE");
        assert!(builder.append_packed(&[0xFF; 8], usize::MAX, 2).is_err());
        assert!(builder.resize(509, true).is_err());
        assert!(builder.finish_with_length(513, true).is_err());
        assert_eq!((builder.len(), builder.false_count()), (510, 1));
        builder.append_copies(true, 2).unwrap();
        assert!(builder.append(true).unwrap_err().is_out_of_memory());
        assert!(builder.append(true).is_err());
        assert_eq!((builder.len(), builder.false_count()), (512, 1));
        let buffer = builder.finish(true).unwrap();
        assert_eq!((buffer[63], buffer[62]), (0b1101_1111, 0xFF));
    }
}

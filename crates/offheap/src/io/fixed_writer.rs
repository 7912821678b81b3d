//! Writing to a buffer that does not grow.

use super::reader::target_of;
use crate::buffer::MutableBuffer;
use crate::error::{Error, Result};
use std::io::{self, SeekFrom};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Writes to a mutable buffer at a position that moves (Arrow's `FixedSizeBufferWriter`).
///
/// ```
/// # use offheap::{FixedSizeBufferWriter, MutableBuffer, default_memory_pool};
/// let buffer = MutableBuffer::zeroed(8, &default_memory_pool())?;
/// let mut writer = FixedSizeBufferWriter::new(buffer);
/// writer.write(b"abc")?;
/// writer.write_at(6, b"yz")?;
/// assert!(writer.write(b"!").is_err());
/// assert_eq!(&writer.into_inner()[..], b"abc\0\0\0yz");
/// # Ok::<(), offheap::Error>(())
/// ```
///
/// A write that does not fit writes nothing. After [`close`](Self::close) every write is refused
/// (Arrow 26 accepts them).
#[derive(Debug)]
pub struct FixedSizeBufferWriter {
    buffer: MutableBuffer,
    position: usize,
    closed: bool,
    threads: usize,
    threshold: usize,
}

/// From here on a write may use threads: Arrow's figure.
const DEFAULT_THRESHOLD: usize = 1 << 20;
/// Threads copy multiples of a cache line, so that no two write the same one.
const LINE: usize = 64;

impl FixedSizeBufferWriter {
    /// A writer at the start of `buffer`.
    pub fn new(buffer: MutableBuffer) -> Self {
        Self {
            buffer,
            position: 0,
            closed: false,
            threads: 1,
            threshold: DEFAULT_THRESHOLD,
        }
    }

    /// Copies writes of `threshold` bytes and more with `threads` threads, this one included
    /// (Arrow's `set_memcopy_threads` and `set_memcopy_threshold`). Worth it from some megabytes
    /// on: each write starts its threads, which costs some 20 us.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for no thread, or more than 1024.
    pub fn with_threads(mut self, threads: usize, threshold: usize) -> Result<Self> {
        if !(1..=1024).contains(&threads) {
            return Err(Error::invalid_argument("threads", threads, "1 to 1024"));
        }
        (self.threads, self.threshold) = (threads, threshold);
        Ok(self)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed {
            Err(Error::closed("the writer"))
        } else {
            Ok(())
        }
    }

    /// Writes all of `bytes` at the position, which moves behind them.
    ///
    /// # Errors
    /// - [`OutOfRange`](crate::ErrorKind::OutOfRange) when they do not fit; nothing is written;
    /// - [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_at(self.position, bytes)
    }

    /// Writes all of `bytes` at `position`, and moves behind them, as Arrow's `WriteAt` does.
    ///
    /// # Errors
    /// As [`write`](Self::write); the position then stays.
    pub fn write_at(&mut self, position: usize, bytes: &[u8]) -> Result<()> {
        self.check_open()?;
        let target = self.buffer.slice_mut(position, bytes.len())?;
        if self.threads > 1 && bytes.len() >= self.threshold {
            copy_with_threads(target, bytes, self.threads);
        } else {
            target.copy_from_slice(bytes);
        }
        self.position = position + bytes.len();
        Ok(())
    }

    /// Moves to `position`: 0 to the size.
    ///
    /// # Errors
    /// - [`OutOfRange`](crate::ErrorKind::OutOfRange) past the end; the position then stays;
    /// - [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn seek(&mut self, position: usize) -> Result<()> {
        self.check_open()?;
        if position > self.buffer.len() {
            return Err(Error::position("position", position, self.buffer.len()));
        }
        self.position = position;
        Ok(())
    }

    /// The position.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn position(&self) -> Result<usize> {
        self.check_open()?;
        Ok(self.position)
    }

    /// How many bytes can be written in all.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Refuses later writes. Closing twice does nothing.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The buffer, closed or not.
    pub fn into_inner(self) -> MutableBuffer {
        self.buffer
    }
}

/// Copies `source` to `target`, which are as long, in parts of whole cache lines.
fn copy_with_threads(target: &mut [u8], source: &[u8], threads: usize) {
    let head = target.as_ptr().align_offset(LINE).min(target.len());
    let (target_head, target) = target.split_at_mut(head);
    let (source_head, source) = source.split_at(head);
    target_head.copy_from_slice(source_head);
    let part = target
        .len()
        .div_ceil(threads)
        .next_multiple_of(LINE)
        .max(LINE);
    let helpers = target.len().div_ceil(part).saturating_sub(1);
    // A queue, so that the work is done even where no further thread can be had.
    let parts = Mutex::new(target.chunks_mut(part).zip(source.chunks(part)));
    let work = || {
        loop {
            let next = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((target, source)) = next else { break };
            target.copy_from_slice(source);
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}

impl io::Write for FixedSizeBufferWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Seek for FixedSizeBufferWriter {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = target_of(to, self.position()?, self.size())?;
        Self::seek(self, position)?;
        Ok(position as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::system_memory_pool;
    use std::io::{Seek, Write};

    fn writer(size: usize) -> FixedSizeBufferWriter {
        FixedSizeBufferWriter::new(MutableBuffer::zeroed(size, &system_memory_pool()).unwrap())
    }

    #[test]
    fn a_write_that_does_not_fit_writes_nothing() {
        let mut writer = writer(8);
        writer.write(b"12345").unwrap();
        for error in [
            writer.write(b"6789").unwrap_err(),
            writer.write_at(9, b"").unwrap_err(),
            writer.write_at(usize::MAX, b"xy").unwrap_err(),
            writer.seek(9).unwrap_err(),
        ] {
            assert_eq!(error.code(), "ERR_OFFHEAP_OUT_OF_RANGE");
        }
        assert_eq!(writer.position().unwrap(), 5);
        writer.write_at(8, b"").unwrap();
        assert_eq!(&writer.into_inner()[..], b"12345\0\0\0");
    }

    #[test]
    fn it_is_a_write_and_a_seek() {
        let mut writer = writer(6);
        Write::write_all(&mut writer, b"abc").unwrap();
        Write::flush(&mut writer).unwrap();
        Seek::seek(&mut writer, SeekFrom::End(-1)).unwrap();
        write!(writer, "{}", 7).unwrap();
        assert!(write!(writer, "8").is_err());
        assert!(Seek::seek(&mut writer, SeekFrom::Start(7)).is_err());
        assert_eq!(&writer.into_inner()[..], b"abc\0\x007");
    }

    #[test]
    fn threads_copy_every_byte_at_every_offset() {
        let source: Vec<u8> = (0..10_000_u32).map(|i| (i % 251) as u8).collect();
        for (offset, n) in [
            (0, 10_000),
            (1, 9_999),
            (63, 64),
            (63, 1),
            (64, 0),
            (5, 130),
        ] {
            for threads in [1, 2, 3, 7, 200] {
                let mut writer = writer(10_100).with_threads(threads, 0).unwrap();
                writer.write_at(offset, &source[..n]).unwrap();
                assert_eq!(writer.position().unwrap(), offset + n);
                let buffer = writer.into_inner();
                assert_eq!(buffer[offset..offset + n], source[..n]);
                assert!(
                    buffer[..offset]
                        .iter()
                        .chain(&buffer[offset + n..])
                        .all(|byte| *byte == 0)
                );
            }
        }
        assert!(writer(1).with_threads(0, 0).is_err());
        assert!(writer(1).with_threads(1025, 0).is_err());
    }
}

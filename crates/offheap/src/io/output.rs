//! Streams that write to growing memory.

use crate::buffer::{MutableBuffer, ResizableBuffer};
use crate::builder::BufferBuilder;
use crate::error::{Error, Result};
use crate::pool::Pool;
use std::io;

/// The first growth's least capacity, as Arrow's: allocators serve it as fast as less.
const MIN_CAPACITY: usize = 256;

/// Writes to memory that grows, and hands it over as a buffer, without a copy (Arrow's
/// `BufferOutputStream`).
///
/// ```
/// # use offheap::{BufferOutputStream, default_memory_pool};
/// let mut stream = BufferOutputStream::create(1024, &default_memory_pool())?;
/// stream.write(b"hello")?;
/// let buffer = stream.finish(true)?;
/// assert_eq!((&buffer[..], buffer.capacity()), (&b"hello"[..], 64));
/// # Ok::<(), offheap::Error>(())
/// ```
///
/// Arrow 26 never shrinks: 600,000 bytes written keep 1,048,576. Here [`finish`](Self::finish)
/// decides.
#[derive(Debug)]
pub struct BufferOutputStream {
    bytes: BufferBuilder,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more is written; the bytes wait for [`BufferOutputStream::finish`].
    Closed,
    Finished,
}

impl BufferOutputStream {
    /// An empty stream with room for `capacity` bytes.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn create(capacity: usize, pool: &Pool) -> Result<Self> {
        Ok(Self {
            bytes: BufferBuilder::with_capacity(capacity, pool)?,
            state: State::Open,
        })
    }

    /// A stream that writes over `buffer` from its start, and grows it.
    pub fn over(buffer: ResizableBuffer) -> Self {
        let mut bytes = BufferBuilder::from(buffer);
        // SAFETY: no byte need be initialised.
        unsafe { bytes.set_len(0) };
        Self {
            bytes,
            state: State::Open,
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.state == State::Open {
            Ok(())
        } else {
            Err(Error::closed("the output stream"))
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// - [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close) or
    ///   [`finish`](Self::finish);
    /// - as [`Pool::allocate`]. Nothing is written then.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check_open()?;
        if bytes.len() > self.bytes.capacity() - self.bytes.len() {
            self.first_growth(bytes.len());
        }
        self.bytes.append(bytes)
    }

    #[cold]
    fn first_growth(&mut self, additional: usize) {
        if self.bytes.capacity() < MIN_CAPACITY && additional < MIN_CAPACITY - self.bytes.len() {
            // Only a matter of speed: where a limit refuses it, the append may still fit.
            let _ = self.bytes.resize(MIN_CAPACITY, false);
        }
    }

    /// How many bytes were written.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close) or
    /// [`finish`](Self::finish).
    pub fn position(&self) -> Result<usize> {
        self.check_open()?;
        Ok(self.bytes.len())
    }

    /// Bytes up to which writing takes no memory.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Refuses later writes. [`finish`](Self::finish) still gives the bytes. Closing twice does
    /// nothing.
    pub fn close(&mut self) {
        if self.state == State::Open {
            self.state = State::Closed;
        }
    }

    /// Whether it was closed or finished.
    pub fn is_closed(&self) -> bool {
        self.state != State::Open
    }

    /// Closes the stream and hands its bytes over. `shrink_to_fit` gives memory beyond them back,
    /// which may move them.
    ///
    /// # Errors
    /// - [`Closed`](crate::ErrorKind::Closed) the second time (Arrow 26 crashes);
    /// - as [`BufferBuilder::finish`]; the stream is then as it was.
    pub fn finish(&mut self, shrink_to_fit: bool) -> Result<MutableBuffer> {
        if self.state == State::Finished {
            return Err(Error::closed("the output stream"));
        }
        let buffer = self.bytes.finish(shrink_to_fit)?;
        self.state = State::Finished;
        Ok(buffer)
    }

    /// Opens the stream again, empty, with room for `capacity` bytes. What was written and not
    /// handed over is lost.
    ///
    /// # Errors
    /// As [`Pool::allocate`]; the stream is then as it was.
    pub fn reset(&mut self, capacity: usize) -> Result<()> {
        let mut bytes = BufferBuilder::with_alignment(self.bytes.alignment(), self.bytes.pool());
        bytes.reserve(capacity)?;
        (self.bytes, self.state) = (bytes, State::Open);
        Ok(())
    }
}

impl io::Write for BufferOutputStream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::system_memory_pool;

    #[test]
    fn a_stream_grows_from_256_bytes_by_doubling() {
        let pool = system_memory_pool().proxy();
        let mut stream = BufferOutputStream::create(0, &pool).unwrap();
        assert_eq!(stream.capacity(), 0);
        for (n, capacity) in [
            (1, 256),
            (255, 256),
            (1, 512),
            (256, 1024),
            (10_000, 10_560),
        ] {
            stream.write(&vec![7; n]).unwrap();
            assert_eq!(stream.capacity(), capacity);
        }
        assert_eq!(stream.position().unwrap(), 10_513);
        assert_eq!(stream.finish(true).unwrap().len(), 10_513);
    }

    #[test]
    fn a_small_limit_does_not_refuse_a_small_write() {
        let pool = system_memory_pool().limit(10);
        let mut stream = BufferOutputStream::create(0, &pool).unwrap();
        stream.write(&[1; 4]).unwrap();
        stream.write(&[2; 6]).unwrap();
        assert!(stream.write(&[3]).unwrap_err().is_out_of_memory());
        assert_eq!(stream.position().unwrap(), 10);
        assert!(stream.reset(11).is_err());
        assert_eq!(
            stream.finish(true).unwrap()[..],
            [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
        );
    }

    #[test]
    fn a_finished_stream_refuses_everything_until_it_is_reset() {
        let pool = system_memory_pool().proxy();
        let mut stream = BufferOutputStream::create(10, &pool).unwrap();
        stream.write(b"one").unwrap();
        stream.close();
        assert_eq!(stream.write(b"x").unwrap_err().code(), "ERR_OFFHEAP_CLOSED");
        assert_eq!(&stream.finish(false).unwrap()[..], b"one");
        assert!(stream.is_closed());
        for error in [
            stream.write(b"x").unwrap_err(),
            stream.position().unwrap_err(),
            stream.finish(true).unwrap_err(),
        ] {
            assert_eq!(error.code(), "ERR_OFFHEAP_CLOSED");
        }
        assert!(io::Write::write(&mut stream, b"x").is_err());
        stream.reset(0).unwrap();
        stream.write(b"two").unwrap();
        assert_eq!(&stream.finish(true).unwrap()[..], b"two");
        assert_eq!(pool.bytes_allocated(), 0);
    }

    #[test]
    fn a_stream_writes_over_a_buffer_from_its_start() {
        let mut buffer = ResizableBuffer::zeroed(100, &system_memory_pool()).unwrap();
        buffer.fill(9);
        let address = buffer.address();
        let mut stream = BufferOutputStream::over(buffer);
        stream.write(b"new").unwrap();
        let buffer = stream.finish(false).unwrap();
        assert_eq!((&buffer[..], buffer.address()), (&b"new"[..], address));
    }
}

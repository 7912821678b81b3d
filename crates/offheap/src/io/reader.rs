//! Reading a buffer as a file.

use crate::buffer::Buffer;
use crate::error::{Error, ErrorKind, Result};
use std::io::{self, SeekFrom};
use std::ops::Range;

/// Reads a buffer at a position that moves, without copying: what is read is a slice that keeps the
/// memory (Arrow's `BufferReader`).
///
/// ```
/// # use offheap::{Buffer, BufferReader};
/// let mut reader = BufferReader::new(Buffer::from_owner("data123456".to_owned())?);
/// assert_eq!(&reader.read(4)?[..], b"data");
/// assert_eq!(reader.peek(3)?, b"123");
/// assert_eq!(&reader.read_at(7, 100)?[..], b"456");
/// # Ok::<(), offheap::Error>(())
/// ```
///
/// Reads past the end are short. It is also a [`Read`](io::Read), [`BufRead`](io::BufRead) and
/// [`Seek`](io::Seek).
#[derive(Debug)]
pub struct BufferReader {
    /// `None` once closed.
    buffer: Option<Buffer>,
    position: usize,
}

impl BufferReader {
    /// A reader at the start of `buffer`.
    pub fn new(buffer: Buffer) -> Self {
        Self {
            buffer: Some(buffer),
            position: 0,
        }
    }

    fn open(&self) -> Result<&Buffer> {
        self.buffer
            .as_ref()
            .ok_or_else(|| Error::closed("the reader"))
    }

    /// The next `n` bytes, or as many as are left, without a copy.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn read(&mut self, n: usize) -> Result<Buffer> {
        let bytes = self.read_at(self.position, n)?;
        self.position += bytes.len();
        Ok(bytes)
    }

    /// Copies the next bytes to `target`, as many as there are; returns how many.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn read_into(&mut self, target: &mut [u8]) -> Result<usize> {
        let bytes = self.peek(target.len())?;
        let n = bytes.len();
        target[..n].copy_from_slice(bytes);
        self.position += n;
        Ok(n)
    }

    /// `n` bytes from `position`, or as many as there are, without a copy. The reader's own
    /// position stays.
    ///
    /// # Errors
    /// - [`OutOfRange`](ErrorKind::OutOfRange) when `position` is past the end;
    /// - [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn read_at(&self, position: usize, n: usize) -> Result<Buffer> {
        let buffer = self.open()?;
        match buffer.len().checked_sub(position) {
            Some(left) => buffer.slice(position, n.min(left)),
            None => Err(Error::position("position", position, buffer.len())),
        }
    }

    /// The next `n` bytes, or as many as are left. The position stays.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn peek(&self, n: usize) -> Result<&[u8]> {
        let rest = &self.open()?[self.position..];
        Ok(&rest[..n.min(rest.len())])
    }

    /// Moves to `position`: 0 to the size.
    ///
    /// # Errors
    /// - [`OutOfRange`](ErrorKind::OutOfRange) past the end; the position then stays;
    /// - [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn seek(&mut self, position: usize) -> Result<()> {
        let size = self.open()?.len();
        if position > size {
            return Err(Error::position("position", position, size));
        }
        self.position = position;
        Ok(())
    }

    /// The position.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn position(&self) -> Result<usize> {
        self.open()?;
        Ok(self.position)
    }

    /// How many bytes there are in all.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn size(&self) -> Result<usize> {
        Ok(self.open()?.len())
    }

    /// The buffer that is read.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn buffer(&self) -> Result<&Buffer> {
        self.open()
    }

    /// A reader of its own over `length` bytes from `start`, with a position of its own. It keeps
    /// the memory, and goes on when this one is closed.
    ///
    /// # Errors
    /// - [`OutOfRange`](ErrorKind::OutOfRange) when the range is not inside;
    /// - [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn stream(&self, start: usize, length: usize) -> Result<Self> {
        Ok(Self::new(self.open()?.slice(start, length)?))
    }

    /// Tells the system that these ranges will be read soon, so that it may load their pages. Ranges
    /// that end past the end are cut. What the system answers is not asked: it is advice.
    ///
    /// # Errors
    /// - [`OutOfRange`](ErrorKind::OutOfRange) when a range starts past the end, or ends before its
    ///   start;
    /// - [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn will_need(&self, ranges: &[Range<usize>]) -> Result<()> {
        let buffer = self.open()?;
        for range in ranges {
            if range.start > buffer.len() || range.end < range.start {
                let length = range.end.saturating_sub(range.start);
                return Err(Error::range(range.start, length, buffer.len()));
            }
        }
        for range in ranges {
            advise(&buffer[range.start..range.end.min(buffer.len())]);
        }
        Ok(())
    }

    /// Lets the buffer go and refuses later calls. Closing twice does nothing.
    pub fn close(&mut self) {
        self.buffer = None;
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.buffer.is_none()
    }
}

#[cfg(unix)]
fn advise(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    // SAFETY: sysconf has no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let into_page = bytes.as_ptr().addr() % page;
    let start = bytes
        .as_ptr()
        .map_addr(|address| address - into_page)
        .cast_mut();
    // SAFETY: WILLNEED changes no byte, and a range that is not mapped is refused with an error,
    // which does not matter.
    unsafe { libc::madvise(start.cast(), bytes.len() + into_page, libc::MADV_WILLNEED) };
}

#[cfg(not(unix))]
fn advise(_bytes: &[u8]) {}

impl From<Buffer> for BufferReader {
    fn from(buffer: Buffer) -> Self {
        Self::new(buffer)
    }
}

impl io::Read for BufferReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_into(target)?)
    }
}

impl io::BufRead for BufferReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.peek(usize::MAX)?)
    }

    fn consume(&mut self, n: usize) {
        let size = self.buffer.as_ref().map_or(0, Buffer::len);
        self.position = self.position.saturating_add(n).min(size);
    }
}

impl io::Seek for BufferReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = target_of(to, self.position()?, self.size()?)?;
        Self::seek(self, position)?;
        Ok(position as u64)
    }
}

/// Where a [`SeekFrom`] leads. Positions past `size` are left to the caller to refuse.
pub(super) fn target_of(to: SeekFrom, position: usize, size: usize) -> Result<usize> {
    let target = match to {
        SeekFrom::Start(start) => usize::try_from(start).ok(),
        SeekFrom::Current(by) => isize::try_from(by)
            .ok()
            .and_then(|by| position.checked_add_signed(by)),
        SeekFrom::End(by) => isize::try_from(by)
            .ok()
            .and_then(|by| size.checked_add_signed(by)),
    };
    target.ok_or_else(|| {
        Error::new(ErrorKind::OutOfRange {
            what: format!("{to:?} is outside of {size} bytes"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, Read, Seek};

    fn reader() -> BufferReader {
        BufferReader::new(Buffer::from_owner("line 1\nline 2\nrest").unwrap())
    }

    #[test]
    fn it_is_a_read_a_buf_read_and_a_seek() {
        let mut reader = reader();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "line 1\n");
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"line 2\nrest");
        assert_eq!(Seek::seek(&mut reader, SeekFrom::End(-4)).unwrap(), 14);
        assert_eq!(Seek::seek(&mut reader, SeekFrom::Current(-2)).unwrap(), 12);
        assert_eq!(reader.stream_position().unwrap(), 12);
        for to in [
            SeekFrom::Current(-13),
            SeekFrom::End(1),
            SeekFrom::Start(u64::MAX),
        ] {
            assert!(Seek::seek(&mut reader, to).is_err());
        }
        assert_eq!(reader.position().unwrap(), 12);
        reader.consume(usize::MAX);
        assert_eq!(reader.position().unwrap(), 18);
    }

    #[test]
    fn a_closed_reader_refuses_everything_and_lets_the_memory_go() {
        let mut reader = reader();
        let word = reader.read(4).unwrap();
        assert_eq!(word.strong_count(), 2);
        reader.close();
        reader.close();
        assert_eq!(word.strong_count(), 1);
        let mut target = [0; 4];
        for error in [
            reader.read(1).unwrap_err(),
            reader.read_into(&mut target).unwrap_err(),
            reader.read_at(0, 1).unwrap_err(),
            reader.peek(1).unwrap_err(),
            reader.seek(0).unwrap_err(),
            reader.position().unwrap_err(),
            reader.size().unwrap_err(),
            reader.stream(0, 1).unwrap_err(),
            reader.will_need(&[]).unwrap_err(),
            reader.buffer().unwrap_err(),
        ] {
            assert_eq!(error.code(), "ERR_OFFHEAP_CLOSED");
        }
        assert!(Read::read(&mut reader, &mut target).is_err());
        assert!(reader.fill_buf().is_err());
        reader.consume(5);
        assert!(reader.is_closed());
    }
}

//! A stream that only counts.

use crate::error::{Error, Result};
use std::io;

/// Counts what is written to it, to find out how much room something takes (Arrow's
/// `MockOutputStream`).
#[derive(Debug, Default)]
pub struct MockOutputStream {
    position: u64,
    closed: bool,
}

impl MockOutputStream {
    /// A stream to which nothing was written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts `bytes`.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.closed {
            return Err(Error::closed("the output stream"));
        }
        // 2^64 bytes cannot be written in a machine's life.
        self.position = self.position.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// How many bytes were written.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Refuses later writes. Closing twice does nothing.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

impl io::Write for MockOutputStream {
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

    #[test]
    fn it_counts_until_it_is_closed() {
        let mut stream = MockOutputStream::new();
        stream.write(b"abc").unwrap();
        io::Write::write_all(&mut stream, &[0; 1000]).unwrap();
        assert_eq!(stream.position(), 1003);
        stream.close();
        stream.close();
        assert_eq!(
            stream.write(b"").unwrap_err().to_string(),
            "the output stream is closed"
        );
        assert_eq!(stream.position(), 1003);
        assert!(stream.is_closed());
    }
}

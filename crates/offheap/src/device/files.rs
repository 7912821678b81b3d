//! Readers and writers of any device's memory.

use super::buffer::{DeviceBuffer, not_of_the_cpu};
use super::manager::MemoryManager;
use super::mutable::MutableDeviceBuffer;
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::io::{BufferReader, FixedSizeBufferWriter};
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// Reads a device's memory at a position that moves (Arrow's `RandomAccessFile` of a
/// `MemoryManager::GetBufferReader`). Reads past the end are short.
pub trait DeviceReader: Debug + Send {
    /// Bytes in all.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close), as all methods.
    fn size(&self) -> Result<usize>;

    /// The position.
    ///
    /// # Errors
    /// After [`close`](Self::close).
    fn position(&self) -> Result<usize>;

    /// Sets the position.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) past the end; the position stays.
    fn seek(&mut self, position: usize) -> Result<()>;

    /// The next `n` bytes, or as many as are left, as a slice on the device: no byte moves.
    ///
    /// # Errors
    /// After [`close`](Self::close).
    fn read(&mut self, n: usize) -> Result<DeviceBuffer>;

    /// Copies the next bytes to `target`, as many as there are; returns how many.
    ///
    /// # Errors
    /// What the device says; the position stays.
    fn read_into(&mut self, target: &mut [u8]) -> Result<usize>;

    /// `n` bytes from `position`, or as many as there are, as a slice on the device.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) when `position` is past the end.
    fn read_at(&self, position: usize, n: usize) -> Result<DeviceBuffer>;

    /// Says which ranges are read soon (Arrow's `WillNeed`). Memory that is there already has no use for it,
    /// so only the ranges are checked; what they have past the end is ignored, as in reads.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) for a range that begins past the end, or ends before it
    /// begins.
    fn will_need(&self, ranges: &[Range<usize>]) -> Result<()> {
        let size = self.size()?;
        for range in ranges {
            if range.start > size || range.end < range.start {
                let length = range.end.saturating_sub(range.start);
                return Err(Error::range(range.start, length, size));
            }
        }
        Ok(())
    }

    /// Ends reading and lets the memory go.
    fn close(&mut self);

    /// Whether it was closed.
    fn is_closed(&self) -> bool;
}

/// Writes a device's memory at a position that moves (Arrow's `WritableFile` of a
/// `MemoryManager::GetBufferWriter`). A write that does not fit writes nothing.
pub trait DeviceWriter: Debug + Send {
    /// Bytes in all.
    fn size(&self) -> usize;

    /// The position: that of the next write.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close), as all methods below.
    fn position(&self) -> Result<usize>;

    /// Sets the position. What was written before it is flushed first.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) past the end; the position stays.
    fn seek(&mut self, position: usize) -> Result<()>;

    /// Writes all of `bytes`; the position moves behind them.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) when they do not fit.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Writes all of `bytes` at `position`. What was written before is flushed first; the position moves
    /// behind the bytes, as in Arrow.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_at(&mut self, position: usize, bytes: &[u8]) -> Result<()>;

    /// Brings what waits in a staging buffer to the device.
    ///
    /// # Errors
    /// What the device says.
    fn flush(&mut self) -> Result<()>;

    /// Flushes, and ends writing.
    ///
    /// # Errors
    /// What the device says; the writer is closed all the same.
    fn close(&mut self) -> Result<()>;

    /// Whether it was closed.
    fn is_closed(&self) -> bool;

    /// The buffer, after a [`close`](Self::close).
    ///
    /// # Errors
    /// As [`close`](Self::close).
    fn finish(self: Box<Self>) -> Result<MutableDeviceBuffer>;
}

/// Over memory that the CPU reads.
#[derive(Debug)]
pub(super) struct CpuReader {
    bytes: BufferReader,
    manager: Arc<dyn MemoryManager>,
}

impl CpuReader {
    pub(super) fn new(buffer: DeviceBuffer) -> Result<Self> {
        Ok(Self {
            bytes: BufferReader::new(buffer.as_cpu()?),
            manager: Arc::clone(buffer.memory_manager()),
        })
    }

    fn on_device(&self, bytes: Buffer) -> DeviceBuffer {
        let block = bytes.block().clone();
        let offset = bytes.address() - block.as_ptr().addr().get();
        // SAFETY: a slice of a buffer that this manager manages.
        unsafe { DeviceBuffer::from_block(block, offset, bytes.len(), Arc::clone(&self.manager)) }
    }
}

impl DeviceReader for CpuReader {
    fn size(&self) -> Result<usize> {
        self.bytes.size()
    }

    fn position(&self) -> Result<usize> {
        self.bytes.position()
    }

    fn seek(&mut self, position: usize) -> Result<()> {
        self.bytes.seek(position)
    }

    fn read(&mut self, n: usize) -> Result<DeviceBuffer> {
        let bytes = self.bytes.read(n)?;
        Ok(self.on_device(bytes))
    }

    fn read_into(&mut self, target: &mut [u8]) -> Result<usize> {
        self.bytes.read_into(target)
    }

    fn read_at(&self, position: usize, n: usize) -> Result<DeviceBuffer> {
        Ok(self.on_device(self.bytes.read_at(position, n)?))
    }

    fn will_need(&self, ranges: &[Range<usize>]) -> Result<()> {
        self.bytes.will_need(ranges)
    }

    fn close(&mut self) {
        self.bytes.close();
    }

    fn is_closed(&self) -> bool {
        self.bytes.is_closed()
    }
}

/// Over memory that the CPU writes.
#[derive(Debug)]
pub(super) struct CpuWriter {
    bytes: FixedSizeBufferWriter,
    manager: Arc<dyn MemoryManager>,
}

impl CpuWriter {
    pub(super) fn new(buffer: MutableDeviceBuffer) -> Result<Self> {
        let manager = Arc::clone(buffer.memory_manager());
        let bytes = buffer
            .into_cpu()
            .map_err(|buffer| not_of_the_cpu(buffer.location(), "written"))?;
        Ok(Self {
            bytes: FixedSizeBufferWriter::new(bytes),
            manager,
        })
    }
}

impl DeviceWriter for CpuWriter {
    fn size(&self) -> usize {
        self.bytes.size()
    }

    fn position(&self) -> Result<usize> {
        self.bytes.position()
    }

    fn seek(&mut self, position: usize) -> Result<()> {
        self.bytes.seek(position)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.write(bytes)
    }

    fn write_at(&mut self, position: usize, bytes: &[u8]) -> Result<()> {
        self.bytes.write_at(position, bytes)
    }

    fn flush(&mut self) -> Result<()> {
        // Nothing is staged.
        self.bytes.position().map(drop)
    }

    fn close(&mut self) -> Result<()> {
        self.bytes.close();
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.bytes.is_closed()
    }

    fn finish(self: Box<Self>) -> Result<MutableDeviceBuffer> {
        let (block, offset, len) = self.bytes.into_inner().into_block();
        // SAFETY: the buffer that the writer had alone, of this manager.
        Ok(unsafe { MutableDeviceBuffer::from_block(block, offset, len, self.manager) })
    }
}

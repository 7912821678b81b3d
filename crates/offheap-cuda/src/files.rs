//! Readers and writers of a GPU's memory.

use offheap::{
    DeviceBuffer, DeviceReader, DeviceWriter, Error, MutableBuffer, MutableDeviceBuffer, Result,
};

/// Reads a GPU's memory (Arrow's `CudaBufferReader`): to the CPU by copies, or as slices that stay there.
#[derive(Debug)]
pub struct CudaBufferReader {
    /// `None` once closed.
    buffer: Option<DeviceBuffer>,
    position: usize,
}

impl CudaBufferReader {
    pub(crate) fn new(buffer: DeviceBuffer) -> Self {
        Self {
            buffer: Some(buffer),
            position: 0,
        }
    }

    fn open(&self) -> Result<&DeviceBuffer> {
        self.buffer
            .as_ref()
            .ok_or_else(|| Error::closed("the reader"))
    }
}

impl DeviceReader for CudaBufferReader {
    fn size(&self) -> Result<usize> {
        Ok(self.open()?.len())
    }

    fn position(&self) -> Result<usize> {
        self.open()?;
        Ok(self.position)
    }

    fn seek(&mut self, position: usize) -> Result<()> {
        let size = self.open()?.len();
        if position > size {
            return Err(Error::position("position", position, size));
        }
        self.position = position;
        Ok(())
    }

    fn read(&mut self, n: usize) -> Result<DeviceBuffer> {
        let slice = self.read_at(self.position, n)?;
        self.position += slice.len();
        Ok(slice)
    }

    fn read_into(&mut self, target: &mut [u8]) -> Result<usize> {
        let buffer = self.open()?;
        let n = target.len().min(buffer.len() - self.position);
        buffer.read(self.position, &mut target[..n])?;
        self.position += n;
        Ok(n)
    }

    fn read_at(&self, position: usize, n: usize) -> Result<DeviceBuffer> {
        let buffer = self.open()?;
        match buffer.len().checked_sub(position) {
            Some(left) => buffer.slice(position, n.min(left)),
            None => Err(Error::position("position", position, buffer.len())),
        }
    }

    fn close(&mut self) {
        self.buffer = None;
    }

    fn is_closed(&self) -> bool {
        self.buffer.is_none()
    }
}

/// Writes a GPU's memory (Arrow's `CudaBufferWriter`), at once, or through a page-locked staging buffer: small
/// writes are then one copy together.
#[derive(Debug)]
pub struct CudaBufferWriter {
    buffer: MutableDeviceBuffer,
    /// The position on the GPU: of the first staged byte.
    position: usize,
    /// What waits, and how much of it is filled.
    staging: Option<MutableBuffer>,
    staged: usize,
    closed: bool,
}

impl CudaBufferWriter {
    /// A writer at the start of `buffer`, with so many bytes of staging; 0 for none.
    ///
    /// # Errors
    /// As [`set_buffer_size`](Self::set_buffer_size).
    pub fn new(buffer: MutableDeviceBuffer, staging: usize) -> Result<Self> {
        let mut writer = Self {
            buffer,
            position: 0,
            staging: None,
            staged: 0,
            closed: false,
        };
        writer.set_buffer_size(staging)?;
        Ok(writer)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed {
            Err(Error::closed("the writer"))
        } else {
            Ok(())
        }
    }

    /// Bytes of staging.
    pub fn buffer_size(&self) -> usize {
        self.staging.as_ref().map_or(0, MutableBuffer::len)
    }

    /// Bytes that wait in the staging buffer.
    pub fn num_bytes_buffered(&self) -> usize {
        self.staged
    }

    /// Flushes, and changes the staging buffer; 0 for none.
    ///
    /// # Errors
    /// - [`OutOfMemory`](offheap::ErrorKind::OutOfMemory) for the staging buffer, which then stays as it was;
    /// - what the driver says; [`Closed`](offheap::ErrorKind::Closed) after a close.
    pub fn set_buffer_size(&mut self, bytes: usize) -> Result<()> {
        self.check_open()?;
        self.flush()?;
        self.staging = if bytes == 0 {
            None
        } else {
            let ordinal = self.buffer.location().device_id;
            let host = crate::CudaDevice::new(ordinal)?.host_manager()?;
            Some(MutableBuffer::zeroed(bytes, host.cuda_pool())?)
        };
        Ok(())
    }

    fn check_room(&self, position: usize, bytes: usize) -> Result<()> {
        match position.checked_add(bytes) {
            Some(end) if end <= self.buffer.len() => Ok(()),
            _ => Err(Error::range(position, bytes, self.buffer.len())),
        }
    }
}

impl DeviceWriter for CudaBufferWriter {
    fn size(&self) -> usize {
        self.buffer.len()
    }

    fn position(&self) -> Result<usize> {
        self.check_open()?;
        Ok(self.position + self.staged)
    }

    fn seek(&mut self, position: usize) -> Result<()> {
        self.check_open()?;
        if position > self.buffer.len() {
            return Err(Error::position("position", position, self.buffer.len()));
        }
        self.flush()?;
        self.position = position;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check_open()?;
        self.check_room(self.position + self.staged, bytes.len())?;
        let room = self.buffer_size() - self.staged;
        if bytes.len() > room {
            self.flush()?;
        }
        match &mut self.staging {
            Some(staging) if bytes.len() <= staging.len() => {
                staging[self.staged..][..bytes.len()].copy_from_slice(bytes);
                self.staged += bytes.len();
                if self.staged == staging.len()
                    && let Err(error) = self.flush()
                {
                    // What was there before still waits; these bytes were not written.
                    self.staged -= bytes.len();
                    return Err(error);
                }
            }
            _ => {
                self.buffer.write(self.position, bytes)?;
                self.position += bytes.len();
            }
        }
        Ok(())
    }

    fn write_at(&mut self, position: usize, bytes: &[u8]) -> Result<()> {
        self.check_open()?;
        self.check_room(position, bytes.len())?;
        self.seek(position)?;
        self.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.check_open()?;
        if let Some(staging) = &self.staging
            && self.staged > 0
        {
            self.buffer.write(self.position, &staging[..self.staged])?;
            self.position += self.staged;
            self.staged = 0;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.flush();
        self.closed = true;
        self.staging = None;
        self.staged = 0;
        flushed
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn finish(mut self: Box<Self>) -> Result<MutableDeviceBuffer> {
        self.close()?;
        Ok(self.buffer)
    }
}

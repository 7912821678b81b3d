//! What is done to the bytes of blocks.

use super::streams::StreamId;
use offheap::Result;
use std::ptr;

/// Fills and copies blocks where they lie, in the order of a stream.
///
/// # Safety
/// - after `zero`, work given to `stream` finds all of the bytes zero;
/// - after `copy`, work given to `stream` finds the bytes of the source in the target.
pub unsafe trait Bytes: Send + Sync + 'static {
    /// Fills `size` bytes at `address` with zeros.
    ///
    /// # Errors
    /// What the driver says.
    ///
    /// # Safety
    /// - a live block of at least `size` bytes is at `address`, and nobody else uses it.
    unsafe fn zero(&self, address: u64, size: u64, stream: StreamId) -> Result<()>;

    /// Copies `size` bytes.
    ///
    /// # Errors
    /// What the driver says.
    ///
    /// # Safety
    /// - live blocks of at least `size` bytes are at both addresses, which do not overlap, and nobody
    ///   else uses them.
    unsafe fn copy(&self, from: u64, to: u64, size: u64, stream: StreamId) -> Result<()>;
}

/// The CPU fills and copies, at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostBytes;

// SAFETY: the CPU's writes are done when the functions return, before any work is given to a stream.
unsafe impl Bytes for HostBytes {
    unsafe fn zero(&self, address: u64, size: u64, _stream: StreamId) -> Result<()> {
        let to: *mut u8 = ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: a live block of that size, which the CPU may write: `SubAllocatorSource` pairs
        // these bytes with such memory only.
        unsafe { to.write_bytes(0, size as usize) };
        Ok(())
    }

    unsafe fn copy(&self, from: u64, to: u64, size: u64, _stream: StreamId) -> Result<()> {
        let from: *const u8 = ptr::with_exposed_provenance(from as usize);
        let to: *mut u8 = ptr::with_exposed_provenance_mut(to as usize);
        // SAFETY: as above; the caller promises that the blocks do not overlap.
        unsafe { ptr::copy_nonoverlapping(from, to, size as usize) };
        Ok(())
    }
}

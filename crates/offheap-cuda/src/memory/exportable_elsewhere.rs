//! Pools are shared between processes by file descriptors, on Linux only: elsewhere there is no such pool.

use crate::gpu::Gpu;
use crate::ipc::CudaIpcMemory;
use crate::stream::CudaStream;
use offheap::{Error, Result};

/// A pool of which there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Exportable {}

/// Whether a GPU's pools can be shared.
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(crate) fn can_export(_gpu: &Gpu) -> Result<bool> {
    Ok(false)
}

impl Exportable {
    pub(crate) const HANDLE_TYPE: u32 = 0;

    fn refused() -> Error {
        Error::not_supported("pools of the driver's are shared between processes on Linux only")
    }

    pub(super) fn must_be_possible(_gpu: &Gpu) -> Result<()> {
        Err(Self::refused())
    }

    pub(super) fn new(_gpu: &Gpu, _pool: crate::driver::abi::MemPool) -> Result<Self> {
        Err(Self::refused())
    }

    pub(super) fn allocated(
        &self,
        _gpu: &'static Gpu,
        _address: u64,
        _size: usize,
        _stream: &CudaStream,
    ) -> Result<()> {
        match *self {}
    }

    pub(super) fn freed(&self, _address: u64) {
        match *self {}
    }

    pub(crate) fn export(&self, _gpu: &Gpu, _address: u64) -> Result<(CudaIpcMemory, u64)> {
        match *self {}
    }
}

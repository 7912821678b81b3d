//! Every kind of memory, and what RMM's tests do with each.

use crate::where_it_runs::gpu;
use offheap::{Alignment, Block, MemoryManager, MutableDeviceBuffer, Pool, memory_manager_of};
use offheap_cuda::sub_allocator::SubAllocatorOptions;
use offheap_cuda::{CudaMemoryManager, CudaStream, DriverPoolOptions};
use std::sync::Arc;

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;
/// More than anybody has.
pub(crate) const TOO_MUCH: usize = 1 << 50;

/// RMM's `CUDA_ALLOCATION_ALIGNMENT`.
pub(crate) fn cuda_alignment() -> Alignment {
    Alignment::new(256).unwrap()
}

/// One kind of memory (RMM's `mr_factory`).
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) manager: Arc<dyn MemoryManager>,
    /// `None` for page-locked memory, which has no stream.
    pub(crate) cuda: Option<CudaMemoryManager>,
}

/// All of them, each with an account of the test's own.
pub(crate) fn kinds() -> Vec<Kind> {
    let gpu = gpu();
    let pinned = gpu.host_manager().unwrap().cuda_pool().proxy();
    let mut all: Vec<Kind> = device_managers()
        .into_iter()
        .map(|(name, manager)| Kind::of(name, manager))
        .collect();
    all.push(Kind {
        name: "pinned",
        manager: memory_manager_of(&pinned).unwrap(),
        cuda: None,
    });
    all
}

/// Those of a GPU's own memory and of managed memory.
pub(crate) fn device_managers() -> Vec<(&'static str, CudaMemoryManager)> {
    let gpu = gpu();
    let stream = gpu.create_stream(None).unwrap();
    let options = DriverPoolOptions::default();
    vec![
        ("plain", gpu.plain_manager().unwrap()),
        ("driver pool", gpu.driver_pool_manager(&options).unwrap()),
        (
            "pool",
            gpu.pool_manager(SubAllocatorOptions::new()).unwrap(),
        ),
        (
            "managed",
            gpu.managed_manager().unwrap().on(&stream).unwrap(),
        ),
    ]
}

impl Kind {
    pub(crate) fn of(name: &'static str, manager: CudaMemoryManager) -> Self {
        Self {
            name,
            manager: Arc::new(manager.clone()),
            cuda: Some(manager),
        }
    }

    pub(crate) fn pool(&self) -> Pool {
        self.manager.pool().unwrap()
    }

    /// The same memory for another stream's buffers, where it has streams.
    pub(crate) fn on(&self, stream: &CudaStream) -> Self {
        match &self.cuda {
            Some(manager) => Self::of(self.name, manager.on(stream).unwrap()),
            None => self.clone(),
        }
    }

    /// The same memory through another pool.
    pub(crate) fn over(&self, pool: &Pool) -> Self {
        Self {
            name: self.name,
            manager: memory_manager_of(pool).unwrap(),
            cuda: self
                .cuda
                .as_ref()
                .map(|manager| manager.with_pool(pool).unwrap()),
        }
    }

    pub(crate) fn block(&self, size: usize) -> offheap::Result<Block> {
        self.manager.allocate(size, cuda_alignment(), false)
    }

    /// RMM's `test_allocate`: a block, aligned, that the GPU reaches, which it proves by a copy there and back.
    pub(crate) fn check_allocation(&self, size: usize) {
        let alignment = cuda_alignment();
        let mut buffer =
            MutableDeviceBuffer::allocate_aligned(size, alignment, &self.manager).unwrap();
        if size == 0 {
            return;
        }
        assert!(alignment.is_aligned(buffer.address()), "{}", self.name);
        let (first, last) = ([size as u8], [!(size as u8)]);
        buffer.write(0, &first).unwrap();
        buffer.write(size - 1, &last).unwrap();
        let (buffer, mut found) = (buffer.freeze(), [0]);
        buffer.read(size - 1, &mut found).unwrap();
        assert_eq!(found, last, "{} of {size} bytes", self.name);
        if size > 1 {
            buffer.read(0, &mut found).unwrap();
            assert_eq!(found, first, "{} of {size} bytes", self.name);
        }
    }
}

/// xorshift64*, for RMM's uniform distributions.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let next = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((u128::from(next) * limit as u128) >> 64) as usize
    }
}

pub(crate) fn code<T: std::fmt::Debug>(result: offheap::Result<T>) -> &'static str {
    result.unwrap_err().code()
}

//! One allocation, of any kind of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::arena::{Arena, Mapping};

/// Sizes of device memory are counted in this unit.
pub(crate) const GRANULE: u64 = 512;

/// What a block is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// From `cuMemAlloc`.
    Plain,
    /// From a pool, by its handle.
    Pool(u64),
    /// From `cuMemHostAlloc`, with its flags.
    Host(u32),
    /// The program's own memory, registered, with its flags.
    Registered(u32),
    Managed,
    /// Another process's plain block, with the number of times it was opened and the handle it came from.
    Imported {
        opened: AtomicU32,
        handle: [u8; 64],
    },
    /// Another process's pool block.
    ImportedFromPool(u64),
}

/// Where the bytes are.
#[derive(Debug)]
pub(crate) enum Backing {
    Arena(Arc<Arena>),
    Mapped(Mapping),
    /// The program's own memory.
    Foreign,
}

/// One allocation. Work in flight holds it, so its bytes stay mapped until the work has run.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) id: u64,
    pub(crate) address: u64,
    /// As asked for: one byte beyond is an error.
    pub(crate) size: u64,
    pub(crate) device: usize,
    pub(crate) context: u64,
    pub(crate) kind: Kind,
    pub(crate) backing: Backing,
    /// The allocation has run, in stream order.
    pub(crate) allocated: AtomicBool,
    /// The free has run, in stream order.
    pub(crate) freed: AtomicBool,
    /// The slot of its export, plus one.
    pub(crate) exported: AtomicU32,
}

impl Block {
    /// Bytes that it takes from the device.
    pub(crate) fn rounded(&self) -> u64 {
        self.size.next_multiple_of(GRANULE)
    }

    /// Where the byte of an address inside the block is mapped.
    pub(crate) fn data(&self, address: u64) -> usize {
        match &self.backing {
            Backing::Arena(arena) => arena.data(address),
            Backing::Mapped(mapping) => {
                debug_assert!(address >= mapping.base() as u64);
                address as usize
            }
            Backing::Foreign => address as usize,
        }
    }

    pub(crate) fn is_device(&self) -> bool {
        matches!(
            self.kind,
            Kind::Plain | Kind::Pool(_) | Kind::Imported { .. } | Kind::ImportedFromPool(_)
        )
    }

    /// Whether work that runs now may touch it.
    pub(crate) fn is_usable(&self) -> bool {
        self.allocated.load(Ordering::Acquire) && !self.freed.load(Ordering::Acquire)
    }
}

/// The start of the bytes that an operation reads or writes.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where the bytes are mapped.
    pub(crate) data: usize,
    /// `None` for the program's own, pageable memory.
    pub(crate) block: Option<Arc<Block>>,
}

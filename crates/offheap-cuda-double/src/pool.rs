//! A stream-ordered memory pool, the driver's `cuMemPool`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::arena::Arena;
use crate::device::{Device, address_space};
use crate::free_space::FreeSpace;
use crate::result::{CUDA_ERROR_OUT_OF_MEMORY, CUresult};
use crate::stream::Point;

/// Pools take memory from the device in this unit when the device has it.
const CHUNK: u64 = 32 << 20;
/// The unit when it has not.
const SMALL_CHUNK: u64 = 2 << 20;

/// Memory whose free is submitted and has not run.
#[derive(Debug)]
struct Pending {
    address: u64,
    size: u64,
    /// Where the free stands.
    point: Point,
    /// The number of the free.
    number: u64,
}

/// How memory came back that a stream may take.
pub(crate) enum Reuse {
    /// It was free.
    Free(u64),
    /// Its free has not run; this stream comes after it, or must be made to wait for the point.
    After(u64, Option<Point>),
}

/// Memory of its own, for the pool of an exported handle.
#[derive(Debug)]
pub(crate) struct OwnArena {
    pub(crate) arena: Arc<Arena>,
    pub(crate) space: FreeSpace,
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) device: usize,
    /// An exportable or an imported pool has an arena of its own; others share their device's.
    pub(crate) own: Option<OwnArena>,
    /// From another process: nothing can be allocated in it.
    pub(crate) imported: bool,
    pub(crate) is_default: bool,
    pub(crate) destroyed: bool,
    /// The most it may hold, 0 for no limit.
    pub(crate) maximum: u64,
    pub(crate) threshold: u64,
    /// Follow events, opportunistic, internal dependencies.
    pub(crate) reuse: [bool; 3],
    pub(crate) used: u64,
    pub(crate) used_high: u64,
    pub(crate) reserved: u64,
    pub(crate) reserved_high: u64,
    /// Access of other devices.
    pub(crate) access: HashMap<usize, u32>,
    /// Blocks whose free has not run.
    pub(crate) live: u64,
    chunks: BTreeMap<u64, u64>,
    free: FreeSpace,
    pending: Vec<Pending>,
}

impl Pool {
    pub(crate) fn new(
        device: usize,
        own: Option<Arc<Arena>>,
        imported: bool,
        maximum: u64,
    ) -> Self {
        let own = own.map(|arena| OwnArena {
            arena,
            space: FreeSpace::default(),
        });
        Self {
            device,
            own,
            imported,
            is_default: false,
            destroyed: false,
            maximum,
            threshold: 0,
            reuse: [true; 3],
            used: 0,
            used_high: 0,
            reserved: 0,
            reserved_high: 0,
            access: HashMap::new(),
            live: 0,
            chunks: BTreeMap::new(),
            free: FreeSpace::default(),
            pending: Vec::new(),
        }
    }

    /// A pool that can be exported: its memory is a file of its own.
    ///
    /// # Errors
    /// `CUDA_ERROR_OPERATING_SYSTEM` when the operating system refuses.
    pub(crate) fn exportable(device: &Device, maximum: u64) -> Result<Self, CUresult> {
        let size = address_space(device.total);
        let mut pool = Self::new(
            device.ordinal,
            Some(Arc::new(Arena::create(size)?)),
            false,
            maximum,
        );
        if let Some(own) = &mut pool.own {
            own.space.release(own.arena.base(), size);
        }
        Ok(pool)
    }

    /// Takes `size` bytes for a stream. `knows` says how far other streams have run when its work does, `executed`
    /// how far they have run now.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY`: the device, or the pool's maximum.
    pub(crate) fn allocate(
        &mut self,
        device: &mut Device,
        size: u64,
        stream: u64,
        knows: &HashMap<u64, u64>,
        executed: impl Fn(u64) -> u64,
    ) -> Result<Reuse, CUresult> {
        let follow = self.reuse[0];
        let ordered = |pending: &Pending| {
            let (other, number) = pending.point;
            other == stream || follow && knows.get(&other).is_some_and(|&known| known >= number)
        };
        // Frees that have run are in `free` already: that is the opportunistic reuse of the driver.
        let found = if let Some(address) = self.take_pending(size, ordered) {
            Reuse::After(address, None)
        } else if let Some(address) = self.free.allocate(size) {
            Reuse::Free(address)
        } else if self.grow(device, size).is_ok() {
            Reuse::Free(self.free.allocate(size).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?)
        } else if self.reuse[2] {
            let index = self
                .best_pending(size, |_| true)
                .ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
            let point = self.pending[index].point;
            let wait = (executed(point.0) < point.1).then_some(point);
            Reuse::After(self.cut_pending(index, size), wait)
        } else {
            return Err(CUDA_ERROR_OUT_OF_MEMORY);
        };
        self.used += size;
        self.used_high = self.used_high.max(self.used);
        self.live += 1;
        Ok(found)
    }

    fn best_pending(&self, size: u64, fits: impl Fn(&Pending) -> bool) -> Option<usize> {
        let candidates = self
            .pending
            .iter()
            .enumerate()
            .filter(|(_, p)| p.size >= size && fits(p));
        candidates
            .min_by_key(|(_, p)| (p.size, p.address))
            .map(|(index, _)| index)
    }

    fn take_pending(&mut self, size: u64, fits: impl Fn(&Pending) -> bool) -> Option<u64> {
        self.best_pending(size, fits)
            .map(|index| self.cut_pending(index, size))
    }

    fn cut_pending(&mut self, index: usize, size: u64) -> u64 {
        let pending = &mut self.pending[index];
        let address = pending.address;
        if pending.size == size {
            self.pending.swap_remove(index);
        } else {
            pending.address += size;
            pending.size -= size;
        }
        address
    }

    fn grow(&mut self, device: &mut Device, size: u64) -> Result<(), CUresult> {
        let sizes = [
            size.next_multiple_of(CHUNK),
            size.next_multiple_of(SMALL_CHUNK),
            size,
        ];
        let fits = |chunk: u64| {
            chunk <= device.free()
                && (self.maximum == 0 || self.reserved + chunk <= self.maximum.max(size))
        };
        for chunk in sizes
            .into_iter()
            .filter(|&chunk| fits(chunk))
            .collect::<Vec<_>>()
        {
            let address = match &mut self.own {
                Some(own) => own.space.allocate(chunk).inspect(|_| device.used += chunk),
                None => device.allocate(chunk).ok(),
            };
            let Some(address) = address else { continue };
            self.chunks.insert(address, chunk);
            self.free.release(address, chunk);
            self.reserved += chunk;
            self.reserved_high = self.reserved_high.max(self.reserved);
            return Ok(());
        }
        Err(CUDA_ERROR_OUT_OF_MEMORY)
    }

    /// A free is submitted.
    pub(crate) fn defer(&mut self, address: u64, size: u64, point: Point, number: u64) {
        self.pending.push(Pending {
            address,
            size,
            point,
            number,
        });
    }

    /// A free has run: what nobody has taken meanwhile is free.
    pub(crate) fn settle(&mut self, size: u64, number: u64) {
        let mut index = 0;
        while index < self.pending.len() {
            if self.pending[index].number == number {
                let pending = self.pending.swap_remove(index);
                self.free.release(pending.address, pending.size);
            } else {
                index += 1;
            }
        }
        self.used -= size;
        self.live -= 1;
    }

    /// Gives chunks back that are wholly free until at most `keep` bytes are held.
    pub(crate) fn trim(&mut self, device: &mut Device, keep: u64) {
        let chunks: Vec<(u64, u64)> = self
            .chunks
            .iter()
            .rev()
            .map(|(&address, &size)| (address, size))
            .collect();
        for (address, size) in chunks {
            if self.reserved <= keep {
                break;
            }
            // The last chunks stay when giving one back would leave less than was to be kept.
            if self.reserved - size < keep || !self.free.take(address, size) {
                continue;
            }
            self.chunks.remove(&address);
            self.reserved -= size;
            match &mut self.own {
                Some(own) => {
                    own.space.release(address, size);
                    device.used -= size;
                }
                None => device.release(address, size),
            }
        }
    }

    pub(crate) fn arena<'a>(&'a self, device: &'a Device) -> &'a Arc<Arena> {
        self.own.as_ref().map_or(&device.arena, |own| &own.arena)
    }
}

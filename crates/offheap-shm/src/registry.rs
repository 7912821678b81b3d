//! Which shared memory an address lies in: for blocks of pools, which are addresses alone.

use crate::memory::SharedMemory;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By first address. Few: each costs a descriptor.
static MEMORIES: Mutex<BTreeMap<usize, SharedMemory>> = Mutex::new(BTreeMap::new());

fn memories() -> MutexGuard<'static, BTreeMap<usize, SharedMemory>> {
    MEMORIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps memory until it is taken [out](remove).
pub(crate) fn insert(memory: SharedMemory) {
    let before = memories().insert(memory.as_ptr().addr().get(), memory);
    debug_assert!(before.is_none(), "two mappings at one address");
}

/// The memory that starts at `address`, which nobody else finds any more.
pub(crate) fn remove(address: usize) -> Option<SharedMemory> {
    memories().remove(&address)
}

/// The memory in which `address` lies.
pub(crate) fn find(address: usize) -> Option<SharedMemory> {
    let memories = memories();
    let (start, memory) = memories.range(..=address).next_back()?;
    (address - start < memory.whole_len()).then(|| memory.clone())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::options::SharedMemoryOptions;

    #[test]
    fn an_address_finds_the_memory_it_lies_in() {
        let memory = SharedMemory::create(100, &SharedMemoryOptions::default()).unwrap();
        let start = memory.as_ptr().addr().get();
        assert!(find(start).is_none());
        insert(memory.clone());
        for inside in [0, 99, memory.whole_len() - 1] {
            assert!(find(start + inside).unwrap().ptr_eq(&memory), "{inside}");
        }
        for outside in [start.wrapping_sub(1), start + memory.whole_len()] {
            assert!(find(outside).is_none_or(|other| !other.ptr_eq(&memory)));
        }
        assert!(remove(start).unwrap().ptr_eq(&memory));
        assert!(find(start).is_none() && remove(start).is_none());
    }
}

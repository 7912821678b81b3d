//! Memory of a GPU that other code of the process made: case 141.

use crate::children::{self, PART};
use crate::support::{INVALID, OUT_OF_RANGE, bytes_of, code, manager, other_gpu, pattern};
use crate::where_it_runs::gpu;
use offheap::{DeviceBuffer, MemoryManager};
use std::sync::Arc;

#[test]
fn case_141_foreign_memory_keeps_its_owner() {
    let (gpu, manager) = (gpu(), manager());
    let theirs = Arc::new(DeviceBuffer::copy_from(&pattern(1000), &manager).unwrap());
    let address = theirs.address() as u64;
    let pool = manager.pool().unwrap();
    // SAFETY: the owner keeps the memory, which was written by a call that waited.
    let mut foreign = unsafe { gpu.foreign(address + 10, 900, Arc::clone(&theirs)) }.unwrap();
    assert_eq!(Arc::strong_count(&theirs), 2);
    assert_eq!(
        (foreign.address() as u64, foreign.len()),
        (address + 10, 900)
    );
    assert!(foreign.device().equals(&gpu) && !foreign.is_cpu());
    assert!(foreign.block().pool().is_none(), "nobody counts it twice");
    // It is the same memory.
    foreign.write(0, b"theirs, too").unwrap();
    assert_eq!(&bytes_of(&theirs)[10..21], b"theirs, too");
    let slice = foreign.freeze().slice(500, 10).unwrap();
    assert_eq!(bytes_of(&slice), pattern(1000)[510..520]);
    // The slice keeps the owner, and so the memory.
    drop(theirs);
    assert_eq!(pool.bytes_allocated(), 1000);
    assert_eq!(bytes_of(&slice), pattern(1000)[510..520]);
    drop(slice);
    assert_eq!(pool.bytes_allocated(), 0);
}

/// As pyarrow's test: page-locked memory, by its address.
#[test]
fn case_141_page_locked_memory_is_foreign_memory_of_the_gpu() {
    let gpu = gpu();
    let host: Arc<dyn MemoryManager> = Arc::new(gpu.host_manager().unwrap());
    let here = DeviceBuffer::copy_from(&pattern(10), &host).unwrap();
    let address = here.address() as u64;
    // SAFETY: the owner keeps the memory.
    let there = unsafe { gpu.foreign(address, 10, here) }.unwrap().freeze();
    assert!(there.as_cpu().is_err());
    assert_eq!(bytes_of(&there), pattern(10));
    // A foreign buffer is no view: it leads nowhere but to the GPU.
    assert_eq!(code(there.view_on(&host)), "ERR_OFFHEAP_NOT_SUPPORTED");
    assert_eq!(bytes_of(&there.copy_to(&host).unwrap()), pattern(10));
}

#[test]
fn case_141_addresses_of_no_memory_are_refused_and_let_the_owner_go() {
    let (gpu, owner) = (gpu(), Arc::new(()));
    let on_cpu = 0_u64;
    // SAFETY: none of them opens.
    let open = |address: u64, size| unsafe { gpu.foreign(address, size, Arc::clone(&owner)) };
    for address in [
        0,
        1,
        0x1000,
        &raw const on_cpu as u64,
        u64::MAX,
        u64::MAX - 10,
    ] {
        let error = open(address, 4).unwrap_err();
        assert_eq!(error.code(), INVALID, "{address:#x}: {error}");
    }
    let theirs: Arc<dyn MemoryManager> = Arc::new(gpu.plain_manager().unwrap());
    let theirs = DeviceBuffer::copy_from(&pattern(1000), &theirs).unwrap();
    let address = theirs.address() as u64;
    for (offset, size) in [
        (0, 1 << 40),
        (999, 1 << 40),
        (0, usize::MAX),
        (10, usize::MAX),
    ] {
        assert_eq!(
            code(open(address + offset, size)),
            OUT_OF_RANGE,
            "{offset}, {size}"
        );
    }
    assert_eq!(Arc::strong_count(&owner), 1);
    // No bytes are nowhere.
    assert_eq!(open(0, 0).unwrap().len(), 0);
    if let Some(other) = other_gpu() {
        // SAFETY: it does not open.
        let error = unsafe { other.foreign(address, 4, ()) }.unwrap_err();
        assert_eq!(error.code(), INVALID, "{error}");
    }
}

/// A process of its own: nobody else may get the address in between.
#[test]
fn case_141_the_address_of_memory_that_was_freed_is_an_error() {
    children::run(
        "acceptance::foreign::part_stale_address",
        "stale address",
        &[],
    );
}

/// Not a test of its own.
#[test]
fn part_stale_address() {
    if std::env::var(PART).as_deref() != Ok("stale address") {
        return;
    }
    let gpu = gpu();
    let manager: Arc<dyn MemoryManager> = Arc::new(gpu.plain_manager().unwrap());
    let theirs = DeviceBuffer::copy_from(&pattern(1000), &manager).unwrap();
    let address = theirs.address() as u64;
    // SAFETY: the owner keeps the memory.
    let there = unsafe { gpu.foreign(address, 1000, theirs.clone()) }
        .unwrap()
        .freeze();
    drop(theirs);
    assert_eq!(bytes_of(&there), pattern(1000));
    drop(there);
    // SAFETY: it does not open.
    let error = unsafe { gpu.foreign(address, 1000, ()) }.unwrap_err();
    assert_eq!(error.code(), INVALID, "{error}");
    assert!(
        error.to_string().contains(&format!("{address:#x}")),
        "{error}"
    );
    // The GPU goes on.
    assert_eq!(
        bytes_of(&DeviceBuffer::copy_from(b"on", &manager).unwrap()),
        b"on"
    );
}

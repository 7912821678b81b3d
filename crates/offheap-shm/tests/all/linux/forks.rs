//! Processes that fork, and that become another program.

use crate::peer::Peer;
use offheap_shm::{OpenOptions, SharedMemory, SharedMemoryHandle};

const RO: OpenOptions = OpenOptions { read_only: true };

#[test]
fn a_forked_child_has_the_memory_and_names_itself() {
    let mut peer = Peer::start();
    let of_parent: SharedMemoryHandle = peer.must("create 100").parse().unwrap();
    // From now on the child answers.
    let child: u32 = peer.must("fork").parse().unwrap();
    assert_ne!(child, of_parent.process);
    peer.must("write 0 100 1");
    let of_child: SharedMemoryHandle = peer.must("handle").parse().unwrap();
    assert_eq!(of_child.process, child);
    let mut bytes = [0; 100];
    for handle in [&of_parent, &of_child] {
        let opened = SharedMemory::open(handle, RO).unwrap();
        opened.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [1; 100]);
    }
    // The child lets its own share go; the parent's stays.
    peer.must("drop");
    let result = SharedMemory::open(&of_child, RO);
    assert_eq!(crate::why(result), "ERR_OFFHEAP_DISPOSED");
    SharedMemory::open(&of_parent, RO).unwrap();
}

/// The other process keeps its descriptor: what ends its handle is that the memory lost its random bits.
#[test]
fn revoking_in_one_process_ends_the_handles_of_its_forks() {
    let mut peer = Peer::start();
    let of_parent: SharedMemoryHandle = peer.must("create 100").parse().unwrap();
    peer.must("fork");
    peer.must("revoke");
    let result = SharedMemory::open(&of_parent, RO);
    assert_eq!(crate::why(result), "ERR_OFFHEAP_DISPOSED");
    assert!(super::counts_of(&of_parent.process.to_string()).1 == 1);
}

#[test]
fn a_program_that_becomes_another_lets_its_memory_go() {
    let mut peer = Peer::start();
    let handle: SharedMemoryHandle = peer.must("create 100").parse().unwrap();
    let opened = SharedMemory::open(&handle, RO).unwrap();
    assert_eq!(peer.must("exec"), "ready");
    let result = SharedMemory::open(&handle, RO);
    assert_eq!(crate::why(result), "ERR_OFFHEAP_DISPOSED");
    assert_eq!(super::counts_of(&handle.process.to_string()).1, 0);
    opened.read(0, &mut [0; 100]).unwrap();
}

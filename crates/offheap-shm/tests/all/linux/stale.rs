//! Handles whose numbers mean something else by now.

use crate::peer::Peer;
use offheap_shm::{OpenOptions, SharedMemory, SharedMemoryHandle};

fn open(handle: &SharedMemoryHandle) -> String {
    match SharedMemory::open(handle, OpenOptions { read_only: true }) {
        Ok(_) => "opened".to_owned(),
        Err(error) => error.code().to_owned(),
    }
}

const GONE: &str = "ERR_OFFHEAP_DISPOSED";

#[test]
fn a_descriptor_that_was_used_again_is_not_the_memory() {
    for kind in ["pipe", "socket", "memfd", "null", "directory", "program"] {
        let mut peer = Peer::start();
        let handle: SharedMemoryHandle = peer.must("create 100").parse().unwrap();
        assert_eq!(open(&handle), "opened");
        peer.must(&format!("replace {} {kind}", handle.descriptor));
        assert_eq!(open(&handle), GONE, "{kind}");
    }
}

#[test]
fn a_descriptor_that_new_memory_took_is_not_the_old_memory() {
    let mut peer = Peer::start();
    let old: SharedMemoryHandle = peer.must("create 100").parse().unwrap();
    peer.must("drop");
    let new: SharedMemoryHandle = peer.must("create 100").parse().unwrap();
    assert_eq!(
        (old.process, old.descriptor, old.size),
        (new.process, new.descriptor, new.size)
    );
    assert_eq!(
        (open(&old), open(&new).as_str()),
        (GONE.to_owned(), "opened")
    );
}

#[test]
fn a_process_number_that_another_process_took_is_not_the_process() {
    let (mut old, mut new) = (Peer::start(), Peer::start());
    let old_handle: SharedMemoryHandle = old.must("create 100").parse().unwrap();
    let new_handle: SharedMemoryHandle = new.must("create 100").parse().unwrap();
    old.kill();
    assert_eq!(open(&old_handle), GONE);
    // As if the number had been given out again.
    let taken = SharedMemoryHandle {
        process: new_handle.process,
        descriptor: new_handle.descriptor,
        ..old_handle
    };
    assert_eq!(open(&taken), GONE);
    assert_eq!(open(&new_handle), "opened");
}

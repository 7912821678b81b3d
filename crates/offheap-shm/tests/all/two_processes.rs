//! What one process writes another reads, and each may end when it likes.

use crate::peer::Peer;
use crate::why;
use offheap_shm::{OpenOptions, SharedMemory, SharedMemoryOptions};

const RW: OpenOptions = OpenOptions { read_only: false };
const RO: OpenOptions = OpenOptions { read_only: true };

fn make(size: usize) -> SharedMemory {
    SharedMemory::create(size, &SharedMemoryOptions::default()).unwrap()
}

#[test]
fn bytes_go_both_ways() {
    let memory = make(100_000);
    assert_eq!(memory.as_ptr().addr().get() % 64, 0);
    memory.write(99_999, &[7]).unwrap();
    let mut peer = Peer::start();
    let handle = memory.handle().unwrap();
    assert_eq!(peer.must(&format!("open rw {handle}")), "100000");
    assert_eq!(peer.must("sum 0 100000"), "7");
    peer.must("write 10 1000 3");
    let mut bytes = [0; 1002];
    memory.read(9, &mut bytes).unwrap();
    assert_eq!((bytes[0], bytes[1], bytes[1000], bytes[1001]), (0, 3, 3, 0));
    // A third one that only reads.
    let mut reader = Peer::start();
    reader.must(&format!("open ro {handle}"));
    assert_eq!(reader.must("sum 0 100000"), "3007");
    assert_eq!(reader.ask("write 0 1 1"), "ERR_OFFHEAP_IMMUTABLE");
    assert_eq!(reader.ask("sum 0 100001"), "ERR_OFFHEAP_OUT_OF_RANGE");
    assert_eq!(reader.ask("revoke"), "ERR_OFFHEAP_NOT_SUPPORTED");
    assert_eq!(reader.ask("freeze"), "ERR_OFFHEAP_NOT_SUPPORTED");
    // What was opened is named as its creator named it.
    assert_eq!(reader.must("handle"), handle.to_string());
}

#[test]
fn memory_outlives_its_killed_creator_while_it_is_mapped() {
    let mut creator = Peer::start();
    let handle = creator.must("create 5000 reserve").parse().unwrap();
    creator.must("write 0 5000 1");
    let memory = SharedMemory::open(&handle, RW).unwrap();
    creator.kill();
    let mut bytes = vec![0; 5000];
    memory.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|b| *b == 1));
    memory.write(4999, &[9]).unwrap();
    // But nobody else gets there any more.
    assert_eq!(why(SharedMemory::open(&handle, RO)), "ERR_OFFHEAP_DISPOSED");
}

#[test]
fn a_killed_opener_leaves_the_memory_as_it_is() {
    let memory = make(5000);
    let mut peer = Peer::start();
    peer.must(&format!("open rw {}", memory.handle().unwrap()));
    peer.must("write 0 5000 1");
    peer.kill();
    let mut bytes = vec![0; 5000];
    memory.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|b| *b == 1));
    SharedMemory::open(&memory.handle().unwrap(), RW).unwrap();
}

#[test]
fn memory_is_gone_for_others_when_its_creator_lets_it_go() {
    let mut peer = Peer::start();
    let handle = peer.must("create 64").parse().unwrap();
    let opened = SharedMemory::open(&handle, RO).unwrap();
    peer.must("drop");
    assert_eq!(why(SharedMemory::open(&handle, RO)), "ERR_OFFHEAP_DISPOSED");
    opened.read(0, &mut [0; 64]).unwrap();
}

#[test]
fn a_revoked_handle_opens_nothing_and_mappings_stay() {
    let memory = make(64);
    let handle = memory.handle().unwrap();
    let mut peer = Peer::start();
    peer.must(&format!("open rw {handle}"));
    memory.revoke().unwrap();
    memory.revoke().unwrap();
    assert_eq!(
        peer.ask(&format!("open rw {handle}")),
        "ERR_OFFHEAP_DISPOSED"
    );
    assert_eq!(why(SharedMemory::open(&handle, RO)), "ERR_OFFHEAP_DISPOSED");
    assert_eq!(why(memory.handle()), "ERR_OFFHEAP_DISPOSED");
    peer.must("write 0 64 2");
    let mut bytes = [0; 64];
    memory.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [2; 64]);
    drop(memory);
    assert_eq!(peer.must("sum 0 64"), "128");
}

#[test]
fn a_process_opens_its_own_memory_again() {
    let memory = make(64);
    let again = SharedMemory::open(&memory.handle().unwrap(), RW).unwrap();
    assert_ne!(memory.as_ptr(), again.as_ptr());
    again.write(1, b"x").unwrap();
    let mut byte = [0];
    memory.read(1, &mut byte).unwrap();
    assert_eq!((byte[0], again.is_creator()), (b'x', false));
}

#[test]
fn sizes_at_the_ends() {
    for size in [0, 1, 63, 64, 4031, 4032, 4033, 4096, 65_536] {
        let memory = make(size);
        assert_eq!((memory.len(), memory.is_empty()), (size, size == 0));
        assert!(memory.whole_len() >= size + 64 && memory.whole_len().is_multiple_of(4096));
        let opened = SharedMemory::open(&memory.handle().unwrap(), RW).unwrap();
        assert_eq!(opened.len(), size);
        opened.write(0, &vec![1; size]).unwrap();
        assert_eq!(
            why(opened.write(0, &vec![1; size + 1])),
            "ERR_OFFHEAP_OUT_OF_RANGE"
        );
        assert_eq!(
            why(opened.write(usize::MAX, &[1])),
            "ERR_OFFHEAP_OUT_OF_RANGE"
        );
        // Writing all of it did not reach what proves the handle.
        SharedMemory::open(&memory.handle().unwrap(), RO).unwrap();
    }
    for size in [
        1 << 46,
        (1 << 53) - 64,
        1 << 53,
        isize::MAX as usize - 4096,
        isize::MAX as usize,
        1 << 63,
        usize::MAX,
    ] {
        let result = SharedMemory::create(size, &SharedMemoryOptions::default());
        assert_eq!(why(result), "ERR_OFFHEAP_OUT_OF_MEMORY", "{size}");
    }
}

#[test]
fn labels_are_checked() {
    for label in ["\0", &"x".repeat(201)] {
        let options = SharedMemoryOptions {
            label: label.into(),
            ..SharedMemoryOptions::default()
        };
        assert_eq!(
            why(SharedMemory::create(1, &options)),
            "ERR_OFFHEAP_INVALID_ARGUMENT"
        );
    }
    let options = SharedMemoryOptions {
        label: "é".repeat(100),
        ..SharedMemoryOptions::default()
    };
    SharedMemory::create(1, &options).unwrap();
}

//! A system that gives no more: typed errors, and a process that goes on.

use crate::peer::Peer;
use offheap_shm::{SharedMemory, SharedMemoryOptions};

const NO_MEMORY: &str = "ERR_OFFHEAP_OUT_OF_MEMORY";

#[test]
fn a_limit_of_file_sizes_is_no_signal() {
    let mut peer = Peer::start();
    peer.must("limit fsize 65536");
    assert_eq!(peer.ask("create 65536"), NO_MEMORY);
    assert_eq!(peer.ask("create 1000000 reserve"), NO_MEMORY);
    peer.must("create 60000 reserve");
    peer.must("write 0 60000 1");
    assert_eq!(peer.must("sum 0 60000"), "60000");
}

#[test]
fn a_limit_of_addresses_refuses_creating_and_opening() {
    let size = 2_u64 << 30;
    let big = SharedMemory::create(size as usize, &SharedMemoryOptions::default()).unwrap();
    let mut peer = Peer::start();
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", peer.id())).unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    if pages * 4096 > size {
        eprintln!("not run: a sanitizer has more addresses than the limit");
        return;
    }
    peer.must(&format!("limit as {size}"));
    assert_eq!(peer.ask(&format!("create {size}")), NO_MEMORY);
    let handle = big.handle().unwrap();
    assert_eq!(peer.ask(&format!("open ro {handle}")), NO_MEMORY);
    assert_eq!(peer.ask(&format!("open rw {handle}")), NO_MEMORY);
    peer.must("create 4096");
}

#[test]
fn no_descriptor_left_is_said() {
    let none = "ERR_OFFHEAP_DEVICE_UNAVAILABLE descriptors";
    let memory = SharedMemory::create(100, &SharedMemoryOptions::default()).unwrap();
    let handle = memory.handle().unwrap();
    let mut peer = Peer::start();
    let made = peer.must("create 100");
    peer.must("limit nofile 3");
    assert_eq!(peer.ask("create 100"), none);
    assert_eq!(peer.ask(&format!("open ro {handle}")), none);
    assert_eq!(peer.ask("export 100 1 0 100"), none);
    // What it has it can still name.
    let named = peer.must("handle").parse().unwrap();
    let options = offheap_shm::OpenOptions::default();
    SharedMemory::open(&named, options).unwrap();
    SharedMemory::open(&made.parse().unwrap(), options).unwrap();
    peer.must("limit nofile 1024");
    peer.must(&format!("open ro {handle}"));
}

#[test]
fn more_than_the_machine_has_is_refused() {
    let mut peer = Peer::start();
    for size in [1_u64 << 44, 1 << 50, (1 << 53) - 1, 1 << 62] {
        assert_eq!(peer.ask(&format!("create {size}")), NO_MEMORY);
    }
    assert_eq!(peer.must("create 0").split(':').nth(3), Some("0"));
}

//! Other users. Only root can become them, so the tests say when they were not run.

use crate::peer::Peer;
use crate::why;
use offheap_shm::{OpenOptions, SharedMemory, SharedMemoryOptions};

const RO: OpenOptions = OpenOptions { read_only: true };
const REFUSED: &str = "ERR_OFFHEAP_DEVICE_UNAVAILABLE permission";

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("not run: only root can become another user");
    }
    root
}

fn user(id: u32) -> Peer {
    let mut peer = Peer::start();
    peer.must(&format!("setuid {id}"));
    peer
}

#[test]
fn another_user_is_refused_in_either_direction() {
    if !is_root() {
        return;
    }
    let memory = SharedMemory::create(100, &SharedMemoryOptions::default()).unwrap();
    let mut other = user(65_534);
    let handle = memory.handle().unwrap();
    assert_eq!(other.ask(&format!("open ro {handle}")), REFUSED);
    assert_eq!(other.ask(&format!("open rw {handle}")), REFUSED);
    // Root could, but memory of another user is not its own.
    let theirs = other.must("create 100").parse().unwrap();
    assert_eq!(why(SharedMemory::open(&theirs, RO)), REFUSED);
    let mut third = user(65_533);
    assert_eq!(third.ask(&format!("open ro {theirs}")), REFUSED);
}

#[test]
fn two_processes_of_one_user_without_rights_share() {
    if !is_root() {
        return;
    }
    let (mut one, mut two) = (user(65_534), user(65_534));
    let handle = one.must("create 100");
    two.must(&format!("open rw {handle}"));
    two.must("write 0 100 1");
    assert_eq!(one.must("sum 0 100"), "100");
}

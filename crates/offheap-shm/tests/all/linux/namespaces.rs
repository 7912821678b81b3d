//! Processes that see other processes otherwise, or not at all. Where the system lets nobody make such
//! processes, the tests say that they were not run.

use crate::peer::Peer;
use crate::why;
use offheap_shm::{OpenOptions, SharedMemory, SharedMemoryOptions};
use std::env;
use std::process::{Command, Stdio};

const RO: OpenOptions = OpenOptions { read_only: true };
const GONE: &str = "ERR_OFFHEAP_DISPOSED";
const REFUSED: &str = "ERR_OFFHEAP_DEVICE_UNAVAILABLE permission";

/// `unshare(1)` with these arguments, if it works here.
fn unshare(arguments: &[&str]) -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(arguments);
    let works = Command::new("unshare")
        .args(arguments)
        .arg("true")
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        eprintln!("not run: unshare {arguments:?} does not work here");
        return None;
    }
    command.arg(env::current_exe().unwrap());
    Some(command)
}

#[test]
fn another_pid_namespace_is_said_to_be_one() {
    let elsewhere = "ERR_OFFHEAP_NOT_SUPPORTED";
    let memory = SharedMemory::create(100, &SharedMemoryOptions::default()).unwrap();
    // With a /proc of its own, and with ours.
    for arguments in [
        &["--pid", "--fork", "--kill-child", "--mount-proc"][..],
        &["--pid", "--fork", "--kill-child"],
    ] {
        let Some(command) = unshare(arguments) else {
            return;
        };
        let mut peer = Peer::start_by(command);
        let handle = memory.handle().unwrap();
        assert_eq!(peer.ask(&format!("open ro {handle}")), elsewhere);
        let theirs = peer.must("create 100").parse().unwrap();
        assert_eq!(why(SharedMemory::open(&theirs, RO)), elsewhere);
        // Among themselves they share: with our /proc by pidfd_getfd alone.
        peer.must("write 0 100 1");
        let theirs = peer.must("handle");
        peer.must(&format!("open rw {theirs}"));
        assert_eq!(peer.must("sum 0 100"), "100");
    }
}

fn without_proc() -> Option<Peer> {
    let mut peer = Peer::start();
    if peer.ask("hideproc") != "done" {
        eprintln!("not run: only root can hide /proc");
        return None;
    }
    Some(peer)
}

#[test]
fn without_proc_memory_is_found_by_pidfd() {
    let Some(mut peer) = without_proc() else {
        return;
    };
    let memory = SharedMemory::create(100, &SharedMemoryOptions::default()).unwrap();
    let handle = memory.handle().unwrap();
    peer.must(&format!("open rw {handle}"));
    peer.must("write 0 100 1");
    peer.must(&format!("open ro {handle}"));
    assert_eq!(peer.must("sum 0 100"), "100");
    assert_eq!(peer.ask("write 0 1 1"), "ERR_OFFHEAP_IMMUTABLE");
    // Its own memory has no start and no namespace to show, and is found all the same.
    let theirs = peer.must("create 100").parse().unwrap();
    SharedMemory::open(&theirs, RO).unwrap();
    // What is not there, or not ours, is refused as with /proc.
    let descriptor = handle.descriptor;
    memory.revoke().unwrap();
    assert_eq!(peer.ask(&format!("open ro {handle}")), GONE, "{descriptor}");
    let mut other = Peer::start();
    let handle = other.must("create 100");
    other.kill();
    assert_eq!(peer.ask(&format!("open ro {handle}")), GONE);
    let memory = SharedMemory::create(100, &SharedMemoryOptions::default()).unwrap();
    let handle = memory.handle().unwrap();
    peer.must("setuid 65534");
    assert_eq!(peer.ask(&format!("open ro {handle}")), REFUSED);
}

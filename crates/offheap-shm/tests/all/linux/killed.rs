//! Whoever ends leaves nothing, in the other process or in the system.

use super::counts_of;
use crate::peer::Peer;
use std::fs;
use std::sync::{Mutex, PoisonError};

const SIZE: usize = 64 << 20;
const ROUNDS: usize = 3;

/// Only one test at a time looks at the whole system's memory.
static SYSTEM: Mutex<()> = Mutex::new(());

/// Whether most of it went back to the system, which other programs use at the same time.
fn went_back(with: usize) -> bool {
    with.saturating_sub(system_shared()) > SIZE / 2
}

fn names_in_shm() -> usize {
    fs::read_dir("/dev/shm").unwrap().count()
}

/// Bytes of memory files of the whole system.
fn system_shared() -> usize {
    let all = fs::read_to_string("/proc/meminfo").unwrap();
    let line = all.lines().find(|line| line.starts_with("Shmem:")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        << 10
}

#[test]
fn killing_the_creator_leaks_nothing_in_the_opener() {
    let _alone = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names_in_shm();
    let mut freed = 0;
    let mut opener = Peer::start();
    let id = opener.id().to_string();
    // Once for whatever is made once.
    let mut creator = Peer::start();
    let handle = creator.must("create 64");
    opener.must(&format!("open rw {handle}"));
    opener.must("drop");
    let before = counts_of(&id);
    for round in 0..ROUNDS {
        let mut creator = Peer::start();
        let handle = creator.must(&format!("create {SIZE} reserve"));
        creator.must(&format!("write 0 {SIZE} 1"));
        opener.must(&format!("open rw {handle}"));
        assert_eq!(opener.must(&format!("sum 0 {SIZE}")), SIZE.to_string());
        let (descriptors, maps, resident) = counts_of(&id);
        // An opener holds a mapping, and no descriptor.
        assert_eq!((descriptors, maps), (before.0, before.1 + 1));
        assert!(resident - before.2 >= SIZE >> 10, "{resident}");
        creator.kill();
        assert_eq!(counts_of(&id), (descriptors, maps, resident));
        opener.must("write 0 1 2");
        let with = system_shared();
        opener.must("drop");
        assert_eq!(counts_of(&id), before, "round {round}");
        freed += usize::from(went_back(with));
    }
    assert!(freed > 0, "in none of {ROUNDS} rounds the memory went back");
    assert_eq!(names_in_shm(), names);
}

#[test]
fn killing_the_opener_leaks_nothing_in_the_creator() {
    let _alone = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    let mut creator = Peer::start();
    let id = creator.id().to_string();
    creator.must("create 64");
    creator.must("drop");
    let before = counts_of(&id);
    let mut freed = 0;
    for _ in 0..ROUNDS {
        let handle = creator.must(&format!("create {SIZE} reserve"));
        creator.must(&format!("write 0 {SIZE} 1"));
        let with = counts_of(&id);
        assert_eq!((with.0, with.1), (before.0 + 1, before.1 + 1));
        let mut opener = Peer::start();
        opener.must(&format!("open rw {handle}"));
        opener.must("write 0 4096 1");
        opener.kill();
        assert_eq!(counts_of(&id), with);
        let held = system_shared();
        creator.must("drop");
        assert_eq!(counts_of(&id), before);
        freed += usize::from(went_back(held));
    }
    assert!(freed > 0, "in none of {ROUNDS} rounds the memory went back");
}

#[test]
fn killing_either_side_of_a_buffer_leaks_nothing_in_the_other() {
    let (mut exporter, mut importer) = (Peer::start(), Peer::start());
    let ids = [exporter.id().to_string(), importer.id().to_string()];
    let handle = exporter.must("export 1 1 0 1");
    importer.must(&format!("import {handle}"));
    exporter.must("drop");
    importer.must("drop");
    let before = [counts_of(&ids[0]), counts_of(&ids[1])];
    let handle = exporter.must("export 1000000 3 100 999000");
    let mut other = Peer::start();
    assert_eq!(other.must(&format!("import {handle}")), "999000 2997000");
    other.kill();
    exporter.must("drop");
    assert_eq!(counts_of(&ids[0]), before[0]);
    let mut other = Peer::start();
    let handle = other.must("export 1000000 3 100 999000");
    assert_eq!(importer.must(&format!("import {handle}")), "999000 2997000");
    other.kill();
    assert_eq!(
        importer.ask(&format!("import {handle}")),
        "ERR_OFFHEAP_DISPOSED"
    );
    importer.must("drop");
    assert_eq!(counts_of(&ids[1]), before[1]);
}

#[test]
fn many_rounds_on_many_threads_leave_nothing() {
    let mut peer = Peer::start();
    let id = peer.id().to_string();
    peer.must("stress 2");
    let before = counts_of(&id);
    peer.must("stress 200");
    assert_eq!(counts_of(&id), before);
}

/// Addresses that were only reserved to find an aligned place go back.
#[test]
fn aligned_memory_leaves_no_addresses() {
    let addresses = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmSize:"));
        line.unwrap().to_owned()
    };
    let mut peer = Peer::start();
    peer.must("aligned 100 16");
    let before = addresses(peer.id());
    for shift in [6, 12, 13, 16, 21, 30] {
        peer.must(&format!("aligned 100000 {shift}"));
        assert_eq!(addresses(peer.id()), before, "{shift}");
    }
}

/// Opening while the memory goes away is one or the other, never a fault.
#[test]
fn opening_races_with_dropping() {
    use offheap_shm::{SharedMemory, SharedMemoryOptions};
    let mut peer = Peer::start();
    let mut opened = 0;
    for round in 0..300 {
        let memory = SharedMemory::create(9000, &SharedMemoryOptions::default()).unwrap();
        let handle = memory.handle().unwrap();
        let end = move || {
            if round % 2 == 0 {
                memory.revoke().unwrap();
            }
            drop(memory);
        };
        let answer = std::thread::scope(|scope| {
            scope.spawn(end);
            peer.ask(&format!("open ro {handle}"))
        });
        match answer.as_str() {
            "9000" => {
                opened += 1;
                assert_eq!(peer.must("sum 0 9000"), "0");
            }
            other => assert_eq!(other, "ERR_OFFHEAP_DISPOSED"),
        }
        peer.must("drop");
    }
    println!("{opened} of 300 were opened");
    assert_eq!(counts_of(&peer.id().to_string()).1, 0);
}

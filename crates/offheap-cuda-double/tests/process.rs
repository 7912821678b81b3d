//! The double and its process: environment, failures, log, forks, threads, exit.

#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "calls of the double: wrong arguments are errors, not crashes"
)]

mod support;

use offheap_cuda_double::api::{device, event, init};
use offheap_cuda_double::control;
use support::*;

const INVALID_VALUE: u32 = 1;

#[test]
fn nothing_works_before_init() {
    let _double = Double::configured(&[]);
    let mut count = 0;
    assert_eq!(unsafe { device::cuDeviceGetCount(&mut count) }, 3);
    assert_eq!(unsafe { init::cuInit(0) }, 0);
    assert_eq!(unsafe { device::cuDeviceGetCount(&mut count) }, 0);
    assert_eq!(count, 2);
    assert_eq!(unsafe { init::cuInit(1) }, INVALID_VALUE);
}

#[test]
fn the_environment_makes_drivers_that_do_not_work() {
    let init = |variables: &[(&str, &str)]| {
        let _double = Double::configured(variables);
        unsafe { init::cuInit(0) }
    };
    assert_eq!(init(&[("NO_DEVICE", "1")]), 100);
    assert_eq!(init(&[("DEVICES", "0")]), 100);
    assert_eq!(init(&[("STUB", "1")]), 34);
    assert_eq!(init(&[("FAIL", "cuInit:803")]), 803);
    assert_eq!(init(&[("POOLS", "perhaps")]), 999);
    let _double = Double::configured(&[("DRIVER_VERSION", "11040")]);
    let mut version = 0;
    assert_eq!(unsafe { init::cuDriverGetVersion(&mut version) }, 0);
    assert_eq!(version, 11040);
}

#[test]
fn the_cpu_cannot_touch_device_memory() {
    if std::env::args().any(|argument| argument == "--ignored") {
        return;
    }
    let child = child("reads_device_memory_and_dies", &[]).output().unwrap();
    use std::os::unix::process::ExitStatusExt;
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(text.contains("about to read"), "{text}");
    assert!(!text.contains("read it"), "{text}");
    // Sanitizers turn the signal into exits of their own.
    assert!(
        child.status.signal() == Some(libc::SIGSEGV) || matches!(child.status.code(), Some(1 | 66)),
        "{:?}",
        child.status
    );
}

#[test]
#[ignore = "a child process of the_cpu_cannot_touch_device_memory"]
fn reads_device_memory_and_dies() {
    let _double = Double::new(&[]);
    let address = allocate(4096);
    upload(address, &[7; 4096]);
    println!("about to read");
    // SAFETY: none. This is the crash that the test is about.
    let byte = unsafe { std::ptr::with_exposed_provenance::<u8>(address as usize).read_volatile() };
    println!("read it: {byte}");
}

#[test]
fn failures_are_injected_per_symbol() {
    let _double = Double::new(&[("FAIL", "cuMemAlloc:2:1:1")]);
    allocate(64);
    assert_eq!(try_allocate(64), Err(2));
    allocate(64);
    fail("cuStreamSynchronize", 719, 0, 1);
    assert_eq!(sync(NULL), 719);
    assert_eq!(sync(NULL), 0);
    assert_eq!(calls("cuMemAlloc_v2"), 3);
    assert_eq!(calls("cuStreamSynchronize"), 2);
    control::offheap_cuda_double_clear_calls();
    assert_eq!(calls("cuMemAlloc_v2"), 0);
}

#[test]
fn calls_are_logged_in_order() {
    let path = std::env::temp_dir().join(format!("offheap-cuda-double-{}.log", std::process::id()));
    {
        let _double = Double::new(&[("LOG", path.to_str().unwrap())]);
        allocate(0x123);
        unsafe { control::offheap_cuda_double_mark(c"here".as_ptr()) };
        free(0xABC);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap())
        .collect();
    assert!(lines[0].starts_with("cuInit flags=0x0 -> 0"), "{text}");
    let tail = &lines[lines.len() - 3..];
    assert!(
        tail[0].starts_with("cuMemAlloc_v2 dptr=0x") && tail[0].ends_with("bytesize=0x123 -> 0"),
        "{text}"
    );
    assert_eq!(tail[1..], ["mark: here", "cuMemFree_v2 dptr=0xabc -> 1"]);
}

#[test]
fn a_forked_child_cannot_use_the_driver() {
    let _double = Double::new(&[]);
    // SAFETY: the child calls the double, which takes no lock before it refuses, and ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = try_allocate(64).unwrap_err();
        // SAFETY: ends the child without running the parent's handlers.
        unsafe { libc::_exit(code as i32) };
    }
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 3);
    allocate(64);
}

#[test]
fn many_threads() {
    let _double = Double::new(&[("MEMORY", "268435456")]);
    let context = retain(0).addr();
    let threads: Vec<_> = (0..6_u8)
        .map(|number| {
            std::thread::spawn(move || {
                bind(std::ptr::without_provenance_mut(context));
                let stream = if number % 2 == 0 {
                    new_stream()
                } else {
                    stream_with(0)
                };
                let event = new_event(CU_EVENT_DISABLE_TIMING);
                for turn in 0..200_u8 {
                    // Above and below the size from which the bytes move outside the lock.
                    let size = if turn % 8 == 0 { 200_000 } else { 1000 };
                    let address = allocate_async(size, stream);
                    let byte = number.wrapping_mul(37) ^ turn;
                    fill_async(address, byte, size, stream);
                    let mut bytes = vec![0; size];
                    download_async(&mut bytes, address, stream);
                    free_async(address, stream);
                    record(event, stream);
                    match turn % 3 {
                        0 => assert_eq!(sync(stream), 0),
                        1 => assert_eq!(unsafe { event::cuEventSynchronize(event) }, 0),
                        _ => while unsafe { event::cuEventQuery(event) } == 600 {},
                    }
                    assert!(bytes.iter().all(|&found| found == byte));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!((violations(), live_blocks()), (0, 0));
}

#[test]
fn after_exit_has_begun_calls_are_refused_and_the_log_says_what_is_left() {
    let path = std::env::temp_dir().join(format!(
        "offheap-cuda-double-exit-{}.log",
        std::process::id()
    ));
    let output = child(
        "exits_with_a_block",
        &[("EXIT_LOG", path.to_str().unwrap())],
    )
    .output()
    .unwrap();
    let (log, text) = (
        std::fs::read_to_string(&path),
        String::from_utf8_lossy(&output.stdout),
    );
    let _ = std::fs::remove_file(&path);
    assert!(
        output.status.success() && text.contains("after exit: 4"),
        "{text}"
    );
    let log = log.unwrap();
    let lines: Vec<&str> = log
        .lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap())
        .collect();
    let exit = lines
        .iter()
        .position(|line| line.starts_with("exit "))
        .expect(&log);
    assert_eq!(
        lines[exit],
        "exit blocks=2 bytes=100 registrations=0 streams=1 events=0 pending=1 violations=0"
    );
    assert_eq!(
        lines.len(),
        exit + 2,
        "the call after the exit is in the log: {log}"
    );
    assert!(lines[exit + 1].starts_with("cuMemAlloc_v2") && lines[exit + 1].ends_with("-> 4"));
}

#[test]
#[ignore = "a child process"]
fn exits_with_a_block() {
    extern "C" fn last() {
        println!("after exit: {}", try_allocate(64).unwrap_err());
    }
    // Handlers run in reverse order: this one after the double's, which `cuInit` adds.
    assert_eq!(unsafe { libc::atexit(last) }, 0);
    let double = Double::new(&[("LOG", &std::env::var("EXIT_LOG").unwrap())]);
    let (stream, address) = (new_stream(), allocate(64));
    host_allocate(36, 0);
    fill_async(address, 1, 64, stream);
    drop(double);
    std::process::exit(0);
}

//! Two processes and a pool of the driver's: memory by handles, and the end of either.

use crate::acceptance::ipc::{answer, handle_of, hex, line_of};
use crate::children::{self, PART};
use crate::where_it_runs::{gpu, is_double, start};
use offheap::{Alignment, DeviceBuffer, MemoryManager, MutableDeviceBuffer, system_memory_pool};
use offheap_cuda::{
    CudaIpcHandle, CudaMemoryManager, DriverPoolOptions, export_memory, open_memory,
};
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout};
use std::sync::Arc;

/// Where pools cannot be exported, there is nothing to see.
fn can_export() -> bool {
    let can = gpu().properties().unwrap().has_exportable_memory_pools;
    assert!(can || !is_double());
    if !can {
        eprintln!("not run: the driver's pools cannot be exported here");
    }
    can
}

fn exportable() -> CudaMemoryManager {
    let options = DriverPoolOptions {
        exportable: true,
        ..DriverPoolOptions::default()
    };
    gpu().driver_pool_manager(&options).unwrap()
}

/// Another process, which does what lines of words say.
struct Other {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start() -> Self {
        let mut process = children::talk("pools::child", "pools");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    fn ask(&mut self, words: &str) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{words}").unwrap();
        answer(&mut self.lines, "ANSWER ")
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn open(handle: &CudaIpcHandle) -> offheap::Result<MutableDeviceBuffer> {
    // SAFETY: the two processes take turns.
    unsafe { open_memory(handle) }
}

fn code(handle: &CudaIpcHandle) -> &'static str {
    open(handle).map_or_else(|error| error.code(), |_| "opened")
}

fn bytes_of(buffer: &DeviceBuffer) -> Vec<u8> {
    buffer.to_cpu(&system_memory_pool()).unwrap().to_vec()
}

/// Not a test of its own: what the other process does.
#[test]
fn child() {
    if std::env::var(PART).is_err() {
        return;
    }
    let mut manager: Option<Arc<dyn MemoryManager>> = None;
    let (mut made, mut opened) = (Vec::new(), Vec::new());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let said = match word {
            "make" => {
                let manager = manager.get_or_insert_with(|| Arc::new(exportable()));
                let buffer = DeviceBuffer::copy_from(rest.as_bytes(), manager).unwrap();
                let handle = export_memory(&buffer).unwrap();
                made.push(buffer);
                line_of(&handle)
            }
            "free" => {
                made.clear();
                "freed".to_owned()
            }
            "end-pool" => {
                made.clear();
                manager = None;
                "ended".to_owned()
            }
            "open" => match open(&handle_of(rest)) {
                Ok(buffer) => {
                    let buffer = buffer.freeze();
                    let text = format!("{:x} {}", buffer.address(), hex(&bytes_of(&buffer)));
                    opened.push(buffer);
                    text
                }
                Err(error) => error.code().to_owned(),
            },
            "write" => {
                let (text, handle) = rest.split_once(' ').unwrap();
                let mut buffer = open(&handle_of(handle)).unwrap();
                buffer.write(0, text.as_bytes()).unwrap();
                "written".to_owned()
            }
            "export-again" => export_memory(&opened[0]).unwrap_err().code().to_owned(),
            "together" => {
                let handle = handle_of(rest);
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        let handle = handle.clone();
                        std::thread::spawn(move || open(&handle).unwrap())
                    })
                    .collect();
                let all: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
                let one = all[0].address();
                all.iter().all(|each| each.address() == one).to_string()
            }
            "close" => {
                opened.clear();
                let left = std::fs::read_dir("/proc/self/fd").unwrap().count();
                left.to_string()
            }
            other => panic!("no such word: {other}"),
        };
        println!("ANSWER {said}");
    }
}

#[test]
fn another_process_opens_a_pools_memory_in_place() {
    if !can_export() {
        return;
    }
    let manager = exportable();
    // Adaptors and limits between change nothing.
    let limited = manager.cuda_pool().limit(1 << 20);
    let manager: Arc<dyn MemoryManager> = Arc::new(manager.with_pool(&limited).unwrap());
    let mut other = Other::start();
    let big: Vec<u8> = (0..10_000).map(|i| (i * 7) as u8).collect();
    let small = DeviceBuffer::copy_from(b"0123456789", &manager).unwrap();
    let big = DeviceBuffer::copy_from(&big, &manager).unwrap();
    let slice = big.slice(301, 9_000).unwrap();
    let handles = [&small, &slice].map(|buffer| export_memory(buffer).unwrap());
    assert_eq!((handles[1].offset, handles[1].length), (301, 9_000));
    // Twice is the same.
    assert_eq!(export_memory(&small).unwrap(), handles[0]);
    let mut addresses = Vec::new();
    for (buffer, handle) in [&small, &slice].into_iter().zip(&handles) {
        for _ in 0..2 {
            let said = other.ask(&format!("open {}", line_of(handle)));
            let (address, bytes) = said.split_once(' ').unwrap();
            assert_eq!(bytes, hex(&bytes_of(buffer)));
            addresses.push(address.to_owned());
        }
    }
    assert_eq!(addresses[0], addresses[1]);
    assert_eq!(addresses[2], addresses[3]);
    assert_eq!(other.ask("export-again"), "ERR_OFFHEAP_NOT_SUPPORTED");
    // A slice at the very end, and what is written there is here.
    let end = export_memory(&big.slice(9_995, 5).unwrap()).unwrap();
    other.ask(&format!("write child {}", line_of(&end)));
    assert_eq!(bytes_of(&big.slice(9_994, 6).unwrap())[1..], *b"child");
    assert_eq!(other.ask(&format!("together {}", line_of(&end))), "true");
    // Again and again: nothing is left.
    let descriptors = other.ask("close");
    for _ in 0..3 {
        other.ask(&format!("open {}", line_of(&handles[0])));
        other.ask(&format!("open {}", line_of(&handles[1])));
        assert_eq!(other.ask("close"), descriptors);
    }
    // It is killed with memory open: nothing changes here.
    other.ask(&format!("open {}", line_of(&handles[0])));
    other.kill();
    assert_eq!(bytes_of(&small), b"0123456789");
}

#[test]
fn what_is_freed_or_ended_is_gone() {
    if !can_export() {
        return;
    }
    let mut other = Other::start();
    let handle = handle_of(&other.ask("make of the child"));
    assert_eq!(bytes_of(&open(&handle).unwrap().freeze()), b"of the child");
    other.ask("free");
    assert_eq!(code(&handle), "ERR_OFFHEAP_DISPOSED");
    let next = handle_of(&other.ask("make another"));
    assert_eq!(
        code(&handle),
        "ERR_OFFHEAP_DISPOSED",
        "its address is another's now"
    );
    assert_eq!(code(&next), "opened");
    other.ask("end-pool");
    assert_eq!(code(&next), "ERR_OFFHEAP_DISPOSED");
    let last = handle_of(&other.ask("make once more"));
    let there = open(&last).unwrap().freeze();
    other.kill();
    assert_eq!(code(&last), "ERR_OFFHEAP_DISPOSED");
    // What is open goes on to be there, and ends without its maker.
    let slice = there.slice(5, 4).unwrap();
    drop(there);
    if is_double() {
        assert_eq!(bytes_of(&slice), b"more");
    }
    drop(slice);
    gpu().synchronize().unwrap();
    let manager: Arc<dyn MemoryManager> = Arc::new(exportable());
    let own = DeviceBuffer::copy_from(b"works", &manager).unwrap();
    assert_eq!(bytes_of(&own), b"works");
}

#[test]
fn forged_handles_and_ranges_are_refused() {
    if !can_export() {
        return;
    }
    let mut other = Other::start();
    let line = other.ask("make secret");
    let good = handle_of(&line);
    // device, text, offset, length; text is prefix:number:secret:prefix:process:descriptor:size:key
    let words: Vec<&str> = line.split_whitespace().collect();
    let parts: Vec<&str> = words[1].split(':').collect();
    assert_eq!(parts.len(), 8, "{parts:?}");
    let with = |index: usize, part: &str| {
        let mut parts = parts.clone();
        parts[index] = part;
        CudaIpcHandle {
            handle: parts.join(":").parse().unwrap(),
            ..good.clone()
        }
    };
    let flipped = |text: &str, at: usize| {
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &text[..at], &text[at + 1..])
    };
    let invalid = "ERR_OFFHEAP_INVALID_ARGUMENT";
    for at in [0, 15, 31] {
        assert_eq!(code(&with(2, &flipped(parts[2], at))), invalid);
    }
    assert_eq!(code(&with(1, "18446744073709551615")), invalid);
    assert_eq!(code(&with(6, "33")), invalid);
    assert_eq!(code(&with(7, &flipped(parts[7], 99))), invalid);
    assert_eq!(code(&with(7, &parts[7][..98])), invalid);
    assert_eq!(code(&with(5, "1000000")), "ERR_OFFHEAP_DISPOSED");
    let unknown = CudaIpcHandle {
        device: [9; 16],
        ..good.clone()
    };
    assert_eq!(code(&unknown), invalid);
    if let Some(second) = offheap_cuda::devices().get(1) {
        let wrong = CudaIpcHandle {
            device: second.properties().unwrap().uuid,
            ..good.clone()
        };
        assert_eq!(code(&wrong), invalid);
    }
    // The allocation is rounded up, to less than this.
    for (offset, length) in [
        (0, 4097),
        (4096, 1),
        (0, 1 << 40),
        (1 << 40, 1),
        (u64::MAX, 2),
    ] {
        let wrong = CudaIpcHandle {
            offset,
            length,
            ..good.clone()
        };
        assert_eq!(code(&wrong), "ERR_OFFHEAP_OUT_OF_RANGE");
    }
    // A process does not open its own.
    let manager: Arc<dyn MemoryManager> = Arc::new(exportable());
    let own = DeviceBuffer::copy_from(b"own", &manager).unwrap();
    assert_eq!(code(&export_memory(&own).unwrap()), invalid);
    // After all that, the right one is as good as before.
    assert_eq!(bytes_of(&open(&good).unwrap().freeze()), b"secret");
}

#[test]
fn an_export_waits_until_the_stream_has_the_memory() {
    if !can_export() {
        return;
    }
    let gpu = gpu();
    let stream = gpu.create_stream(None).unwrap();
    let manager: Arc<dyn MemoryManager> = Arc::new(exportable().on(&stream).unwrap());
    let filled = manager.allocate(1 << 20, Alignment::DEFAULT, true).unwrap();
    let before = stream.record().unwrap();
    let second = MutableDeviceBuffer::allocate(1 << 20, &manager).unwrap();
    let second = second.freeze();
    let handle = export_memory(&second).unwrap();
    assert!(before.is_complete().unwrap(), "the stream has the memory");
    let mut other = Other::start();
    let said = other.ask(&format!("open {}", line_of(&handle)));
    assert_eq!(said.split_once(' ').unwrap().1.len(), 2 << 20);
    drop(filled);
}

/// Stopped, the maker cannot answer: an error, not a process that hangs.
#[test]
fn a_maker_that_does_not_answer_holds_nobody_up_for_ever() {
    if !can_export() {
        return;
    }
    let mut other = Other::start();
    let handle = handle_of(&other.ask("make stopped"));
    let signal = |name: &str| {
        let id = other.process.id().to_string();
        let status = std::process::Command::new("kill")
            .args([name, &id])
            .status();
        assert!(status.unwrap().success());
    };
    signal("-STOP");
    let error = open(&handle).unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_DEVICE_UNAVAILABLE", "{error}");
    signal("-CONT");
    assert_eq!(bytes_of(&open(&handle).unwrap().freeze()), b"stopped");
}

#[test]
fn where_pools_cannot_be_shared_there_is_no_such_manager() {
    start();
    if !is_double() {
        eprintln!("not run: the double's environment says that pools cannot be shared");
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["pools::has_no_exportable_pools", "--exact"])
        .env(PART, "none")
        .env("OFFHEAP_CUDA_DOUBLE_POOL_HANDLES", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

/// Not a test of its own.
#[test]
fn has_no_exportable_pools() {
    if std::env::var(PART).as_deref() != Ok("none") {
        return;
    }
    let gpu = gpu();
    let properties = gpu.properties().unwrap();
    assert!(properties.has_memory_pools && !properties.has_exportable_memory_pools);
    let options = DriverPoolOptions {
        exportable: true,
        ..DriverPoolOptions::default()
    };
    let error = gpu.driver_pool_manager(&options).unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_NOT_SUPPORTED", "{error}");
    gpu.driver_pool_manager(&DriverPoolOptions::default())
        .unwrap();
}

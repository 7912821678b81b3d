//! Two processes: memory and events by handles, and the end of one of them. Cases 88 and 145.

use crate::children::{self, PART};
use crate::support::{bytes_of, pattern};
use crate::where_it_runs::gpu;
use offheap::{DeviceBuffer, MemoryManager, system_memory_pool};
use offheap_cuda::sub_allocator::SubAllocatorOptions;
use offheap_cuda::{
    CudaIpcEventHandle, CudaIpcHandle, CudaIpcMemory, create_shared_event, export_event,
    export_memory, open_event, open_memory,
};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::sync::Arc;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn array_of<const N: usize>(hex: &str) -> [u8; N] {
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
}

pub(crate) fn line_of(handle: &CudaIpcHandle) -> String {
    let device = hex(&handle.device);
    format!(
        "{device} {} {} {}",
        handle.handle, handle.offset, handle.length
    )
}

pub(crate) fn handle_of(line: &str) -> CudaIpcHandle {
    let words: Vec<&str> = line.split_whitespace().collect();
    CudaIpcHandle {
        device: array_of(words[0]),
        handle: words[1].parse().unwrap(),
        offset: words[2].parse().unwrap(),
        length: words[3].parse().unwrap(),
    }
}

/// This test program again, as another process that plays a part of `child`.
fn start_child(part: &str) -> Child {
    children::talk("acceptance::ipc::child", part)
}

/// The child's next line with this word at its start, without it.
pub(crate) fn answer(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    word: &str,
) -> String {
    lines
        .map(|line| line.unwrap())
        .find_map(|line| {
            line.split_once(word)
                .map(|(_, rest)| rest.trim().to_owned())
        })
        .expect("the child went on")
}

/// Not a test of its own: what the other process does.
#[test]
fn child() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let mut lines = std::io::stdin().lines();
    match part.as_str() {
        "opens" => {
            let handle = handle_of(&lines.next().unwrap().unwrap());
            // SAFETY: the parent waits for the answer.
            let mut there = unsafe { open_memory(&handle) }.unwrap();
            let mut bytes = vec![0; there.len()];
            there.write(0, b"child").unwrap();
            let there = there.freeze();
            there.read(0, &mut bytes).unwrap();
            println!("READ {}", hex(&bytes));
            let again = handle_of(&line_of(&handle));
            // SAFETY: as above; the driver opens each allocation once, we as often as one likes.
            let twice = unsafe { open_memory(&again) }.unwrap();
            println!("SAME {}", twice.address() == there.address());
            // Until the parent says so, or ends.
            drop(lines.next());
        }
        "reads" => {
            let handle = handle_of(&lines.next().unwrap().unwrap());
            // SAFETY: nobody writes.
            let there = unsafe { open_memory(&handle) }.unwrap().freeze();
            // Nobody here counts it.
            assert_eq!(
                there
                    .block()
                    .pool()
                    .map_or(0, |pool| pool.bytes_allocated()),
                0
            );
            assert!(there.device().equals(&gpu()) && !there.is_cpu());
            println!("READ {}", hex(&bytes_of(&there)));
        }
        "makes" => {
            let manager: Arc<dyn MemoryManager> = Arc::new(gpu().plain_manager().unwrap());
            let there = DeviceBuffer::copy_from(b"made by the child", &manager).unwrap();
            println!("HANDLE {}", line_of(&export_memory(&there).unwrap()));
            drop(lines.next());
        }
        "waits" => {
            let line = lines.next().unwrap().unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let event = open_event(&CudaIpcEventHandle {
                device: array_of(words[0]),
                handle: array_of(words[1]),
            })
            .unwrap();
            event.synchronize().unwrap();
            println!("DONE {}", event.is_complete().unwrap());
        }
        other => panic!("no such part: {other}"),
    }
}

#[test]
fn case_88_145_another_process_opens_memory_in_place() {
    for manager in [
        gpu().plain_manager().unwrap(),
        gpu().pool_manager(SubAllocatorOptions::new()).unwrap(),
    ] {
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        for n in [10, 1000] {
            let data: Vec<u8> = (0..n).map(|i| i as u8).collect();
            let there = DeviceBuffer::copy_from(&data, &manager).unwrap();
            let slice = there.slice(3, n - 3).unwrap();
            let mut other = start_child("opens");
            let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
            let handle = export_memory(&slice).unwrap();
            assert_eq!(handle.length, n as u64 - 3);
            writeln!(other.stdin.as_mut().unwrap(), "{}", line_of(&handle)).unwrap();
            let read = answer(&mut lines, "READ ");
            assert_eq!(read, hex(&[b"child", &data[8..]].concat()));
            assert_eq!(answer(&mut lines, "SAME "), "true");
            let mut mine = [0; 5];
            there.read(3, &mut mine).unwrap();
            assert_eq!(&mine, b"child");
            // It may be killed: what it had open is its own.
            other.kill().unwrap();
            other.wait().unwrap();
            there.read(3, &mut mine).unwrap();
        }
    }
}

/// pyarrow's `test_IPC`: the same bytes in a process that only reads, of any size.
#[test]
fn case_145_two_processes_read_the_same_bytes() {
    for (name, manager) in [
        ("plain", gpu().plain_manager().unwrap()),
        (
            "pool",
            gpu().pool_manager(SubAllocatorOptions::new()).unwrap(),
        ),
    ] {
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        for n in [0, 1, 1000] {
            let there = DeviceBuffer::copy_from(&pattern(n), &manager).unwrap();
            let mut other = start_child("reads");
            let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
            let handle = export_memory(&there).unwrap();
            assert_eq!(handle.length, n as u64);
            writeln!(other.stdin.as_mut().unwrap(), "{}", line_of(&handle)).unwrap();
            assert_eq!(answer(&mut lines, "READ "), hex(&pattern(n)), "{name}, {n}");
            assert!(other.wait().unwrap().success(), "{name}, {n}");
            assert_eq!(bytes_of(&there), pattern(n), "{name}, {n}");
        }
    }
}

#[test]
fn case_88_a_maker_that_ends_leaves_nothing() {
    let mut other = start_child("makes");
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    let handle = handle_of(&answer(&mut lines, "HANDLE "));
    // SAFETY: the child only waits.
    let there = unsafe { open_memory(&handle) }.unwrap().freeze();
    let back = there.to_cpu(&system_memory_pool()).unwrap();
    assert_eq!(&*back, b"made by the child");
    drop(there);
    other.kill().unwrap();
    other.wait().unwrap();
    // SAFETY: nobody has the memory.
    let error = unsafe { open_memory(&handle) }.unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT", "{error}");
}

#[test]
fn case_88_events_are_waited_for_in_another_process() {
    let gpu = gpu();
    let event = create_shared_event(&gpu).unwrap();
    let stream = gpu.create_stream(None).unwrap();
    event.record_on(&stream).unwrap();
    stream.synchronize().unwrap();
    let handle = export_event(&event).unwrap();
    let mut other = start_child("waits");
    let (device, words) = (hex(&handle.device), hex(&handle.handle));
    writeln!(other.stdin.as_mut().unwrap(), "{device} {words}").unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert_eq!(answer(&mut lines, "DONE "), "true");
    assert!(other.wait().unwrap().success());
    assert!(export_event(&stream.record().unwrap()).is_err());
}

#[test]
fn case_88_handles_that_are_none_are_refused() {
    let gpu = gpu();
    let host: Arc<dyn MemoryManager> = Arc::new(gpu.host_manager().unwrap());
    let pinned = DeviceBuffer::copy_from(b"abc", &host).unwrap();
    let code = |result: offheap::Result<CudaIpcHandle>| result.unwrap_err().code();
    assert_eq!(code(export_memory(&pinned)), "ERR_OFFHEAP_NOT_SUPPORTED");
    let manager: Arc<dyn MemoryManager> = Arc::new(gpu.plain_manager().unwrap());
    let there = DeviceBuffer::copy_from(b"abc", &manager).unwrap();
    let good = export_memory(&there).unwrap();
    let open = |handle: &CudaIpcHandle| {
        // SAFETY: none of them opens.
        unsafe { open_memory(handle) }.unwrap_err().code()
    };
    // A process does not open its own.
    assert_eq!(open(&good), "ERR_OFFHEAP_INVALID_ARGUMENT");
    let forged = [
        CudaIpcHandle {
            handle: CudaIpcMemory::Legacy([7; 64]),
            ..good.clone()
        },
        CudaIpcHandle {
            device: [9; 16],
            ..good.clone()
        },
    ];
    for handle in &forged {
        assert_eq!(open(handle), "ERR_OFFHEAP_INVALID_ARGUMENT", "{handle:?}");
    }
    let pooled: Arc<dyn MemoryManager> = Arc::new(
        gpu.driver_pool_manager(&offheap_cuda::DriverPoolOptions::default())
            .unwrap(),
    );
    let there = DeviceBuffer::copy_from(b"abc", &pooled).unwrap();
    assert_eq!(code(export_memory(&there)), "ERR_OFFHEAP_NOT_SUPPORTED");
}

/// A range beyond the allocation is refused though the handle is right.
#[test]
fn case_88_a_length_beyond_the_allocation_is_refused() {
    let mut other = start_child("makes");
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    let handle = handle_of(&answer(&mut lines, "HANDLE "));
    for (offset, length) in [(0, 1 << 40), (1 << 40, 1), (u64::MAX, 2)] {
        let wrong = CudaIpcHandle {
            offset,
            length,
            ..handle.clone()
        };
        // SAFETY: it does not open.
        let error = unsafe { open_memory(&wrong) }.unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_OUT_OF_RANGE", "{error}");
    }
    drop(other.stdin.take());
    other.wait().unwrap();
}

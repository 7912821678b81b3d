//! Memory, events and pools of two processes.

#![cfg(target_os = "linux")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "calls of the double: wrong arguments are errors, not crashes"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use offheap_cuda_double::api::{event, ipc, memory, pool};
use support::*;

const INVALID_VALUE: u32 = 1;
const INVALID_HANDLE: u32 = 400;

fn export(address: u64) -> Result<[u8; 64], u32> {
    let mut handle = CUipcMemHandle { reserved: [0; 64] };
    match unsafe { ipc::cuIpcGetMemHandle(&mut handle, address) } {
        0 => Ok(handle.reserved.map(|byte| byte as u8)),
        code => Err(code),
    }
}

fn open(handle: [u8; 64]) -> Result<u64, u32> {
    let handle = CUipcMemHandle {
        reserved: handle.map(|byte| byte as std::ffi::c_char),
    };
    let mut address = 0;
    match unsafe {
        ipc::cuIpcOpenMemHandle_v2(&mut address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
    } {
        0 => Ok(address),
        code => Err(code),
    }
}

fn close(address: u64) -> u32 {
    unsafe { ipc::cuIpcCloseMemHandle(address) }
}

fn export_event(event: CUevent) -> Result<[u8; 64], u32> {
    let mut handle = CUipcEventHandle { reserved: [0; 64] };
    match unsafe { ipc::cuIpcGetEventHandle(&mut handle, event) } {
        0 => Ok(handle.reserved.map(|byte| byte as u8)),
        code => Err(code),
    }
}

fn open_event(handle: [u8; 64]) -> Result<CUevent, u32> {
    let handle = CUipcEventHandle {
        reserved: handle.map(|byte| byte as std::ffi::c_char),
    };
    let mut event = NULL;
    match unsafe { ipc::cuIpcOpenEventHandle(&mut event, handle) } {
        0 => Ok(event),
        code => Err(code),
    }
}

const SHARED: u32 = CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING;

fn variable<const N: usize>(name: &str) -> [u8; N] {
    from_hex(&std::env::var(name).unwrap())
}

fn run(test: &str, variables: &[(&str, &str)]) {
    let output = child(test, variables).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{errors}"
    );
}

/// Starts a child that goes on until it is killed, and returns what it says.
fn start(test: &str, variables: &[(&str, &str)]) -> (Child, BufReader<ChildStdout>) {
    let mut child = child(test, variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

/// The rest of the first line that holds the word.
fn said(output: &mut BufReader<ChildStdout>, word: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(
            output.read_line(&mut line).unwrap(),
            0,
            "the child ended without saying `{word}`"
        );
        if let Some((_, rest)) = line.split_once(word) {
            return rest.trim().to_owned();
        }
    }
}

/// Until the parent kills this process, or ends.
fn stay() -> ! {
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    std::process::exit(0);
}

#[test]
fn two_processes_share_bytes() {
    let _double = Double::new(&[]);
    let padding = allocate(700);
    let address = allocate(10_000);
    assert_ne!(address % 4096, 0, "not at a page, after {padding:#x}");
    upload(address, &[1; 10_000]);
    // An address inside names the whole allocation.
    let handle = export(address + 77).unwrap();
    assert_eq!(export(address), Ok(handle));
    run("opens_memory", &[("IPC_MEMORY", &to_hex(&handle))]);
    let bytes = download(address, 10_000);
    assert_eq!(bytes[..9_999], [1; 9_999]);
    assert_eq!(bytes[9_999], 2, "the child wrote it");
}

#[test]
#[ignore = "a child process of two_processes_share_bytes"]
fn opens_memory() {
    let _double = Double::new(&[]);
    let handle = variable("IPC_MEMORY");
    let address = open(handle).unwrap();
    assert_eq!(download(address, 10_000), [1; 10_000]);
    assert_eq!(upload(address, &[0; 10_001]), INVALID_VALUE);
    assert_eq!(upload(address + 9_999, &[2]), 0);
    assert_eq!(open(handle), Ok(address), "the same address, opened twice");
    assert_eq!(live_blocks(), 1);
    assert_eq!(free(address), INVALID_VALUE, "it is closed, not freed");
    assert_eq!(
        export(address),
        Err(INVALID_VALUE),
        "it is exported where it was made"
    );
    assert_eq!(
        [close(address), close(address), close(address)],
        [0, 0, INVALID_VALUE]
    );
    assert_eq!(live_blocks(), 0);
}

#[test]
fn what_has_no_handle() {
    let _double = Double::new(&[]);
    assert_eq!(
        export(allocate_async(64, NULL)),
        Err(INVALID_VALUE),
        "legacy IPC is not for pools"
    );
    let host = host_allocate(64, 0).as_ptr().addr() as u64;
    assert_eq!(export(host), Err(INVALID_VALUE));
    let address = allocate(64);
    assert_eq!(
        open(export(address).unwrap()),
        Err(201),
        "not in the process that made it"
    );
    free(address);
    assert_eq!(export(address), Err(INVALID_VALUE));
    assert_eq!(export_event(new_event(0)), Err(INVALID_HANDLE));
    let event = new_event(SHARED);
    assert_eq!(open_event(export_event(event).unwrap()), Err(201));
    let mut wrong = NULL;
    assert_eq!(
        unsafe { event::cuEventCreate(&mut wrong, CU_EVENT_INTERPROCESS) },
        INVALID_VALUE,
        "events of several processes have no times"
    );
}

#[test]
fn forged_and_stale_handles_are_refused() {
    let _double = Double::new(&[]);
    assert_eq!(open([0; 64]), Err(INVALID_VALUE));
    assert_eq!(open_event([7; 64]).map(|_| ()), Err(INVALID_VALUE));
    let (mut child, mut output) = start("exports_and_stays", &[]);
    let handle = from_hex(&said(&mut output, "freed "));
    assert_eq!(open(handle), Err(INVALID_HANDLE), "freed there");
    let handle: [u8; 64] = from_hex(&said(&mut output, "memory "));
    let mut forged = handle;
    forged[40] ^= 1;
    assert_eq!(open(forged), Err(INVALID_VALUE));
    let address = open(handle).unwrap();
    assert_eq!(download(address, 64), [3; 64]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        download(address, 64),
        [3; 64],
        "what is open outlives the process that made it"
    );
    assert_eq!(close(address), 0);
    assert_eq!(open(handle), Err(INVALID_HANDLE), "the process is gone");
    assert_eq!(live_blocks(), 0);
}

#[test]
#[ignore = "a child process"]
fn exports_and_stays() {
    let _double = Double::new(&[]);
    let freed = allocate(64);
    let handle = export(freed).unwrap();
    free(freed);
    println!("freed {}", to_hex(&handle));
    let address = allocate(64);
    upload(address, &[3; 64]);
    println!("memory {}", to_hex(&export(address).unwrap()));
    stay();
}

#[test]
fn killing_who_opened_it_leaves_the_owner_alone() {
    let _double = Double::new(&[]);
    let address = allocate(4096);
    upload(address, &[4; 4096]);
    let handle = to_hex(&export(address).unwrap());
    let (mut child, mut output) = start("opens_and_stays", &[("IPC_MEMORY", &handle)]);
    said(&mut output, "opened");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(download(address, 4096), [4; 4096]);
    assert_eq!(free(address), 0);
    assert_eq!(live_blocks(), 0);
}

#[test]
#[ignore = "a child process"]
fn opens_and_stays() {
    let _double = Double::new(&[]);
    open(variable("IPC_MEMORY")).unwrap();
    println!("opened");
    stay();
}

#[test]
fn a_stream_waits_for_an_event_of_another_process() {
    let _double = Double::new(&[]);
    let (stream, address, event) = (new_stream(), allocate(4096), new_event(SHARED));
    upload(address, &[0; 4096]);
    fill_async(address, 5, 4096, stream);
    record(event, stream);
    let memory = to_hex(&export(address).unwrap());
    let event = to_hex(&export_event(event).unwrap());
    // Nobody in this process waits: the child's wait lets the stream run.
    run(
        "waits_for_an_event",
        &[("IPC_MEMORY", &memory), ("IPC_EVENT", &event)],
    );
    assert_eq!(query(stream), 0);
}

#[test]
#[ignore = "a child process"]
fn waits_for_an_event() {
    let _double = Double::new(&[("QUERIES", "0")]);
    let (address, event) = (
        open(variable("IPC_MEMORY")).unwrap(),
        open_event(variable("IPC_EVENT")).unwrap(),
    );
    assert_eq!(unsafe { event::cuEventQuery(event) }, 600);
    assert_eq!(download(address, 4096), [0; 4096], "the fill has not run");
    let stream = new_stream();
    wait_event(stream, event);
    let mut bytes = vec![0; 4096];
    download_async(&mut bytes, address, stream);
    assert_eq!(sync(stream), 0);
    assert_eq!(bytes, [5; 4096]);
    assert_eq!(unsafe { event::cuEventQuery(event) }, 0);
    assert_eq!(unsafe { event::cuEventSynchronize(event) }, 0);
    assert_eq!(unsafe { event::cuEventDestroy_v2(event) }, 0);
}

#[test]
fn an_event_of_a_dead_process_holds_nobody_up() {
    let _double = Double::new(&[]);
    let (mut child, mut output) = start("records_and_stays", &[]);
    let event = open_event(from_hex(&said(&mut output, "event "))).unwrap();
    child.kill().unwrap();
    // Not waited for: a process that is dead and listed has ended too.
    assert_eq!(unsafe { event::cuEventSynchronize(event) }, 0);
    let stream = new_stream();
    wait_event(stream, event);
    assert_eq!(sync(stream), 0);
    child.wait().unwrap();
}

#[test]
#[ignore = "a child process"]
fn records_and_stays() {
    let _double = Double::new(&[]);
    let (stream, address, event) = (new_stream(), allocate(4096), new_event(SHARED));
    fill_async(address, 5, 4096, stream);
    record(event, stream);
    println!("event {}", to_hex(&export_event(event).unwrap()));
    stay();
}

#[test]
fn pools_are_shared_by_descriptor() {
    let _double = Double::new(&[]);
    let properties = CUmemPoolProps {
        allocType: CU_MEM_ALLOCATION_TYPE_PINNED,
        handleTypes: CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        location: CUmemLocation {
            type_: CU_MEM_LOCATION_TYPE_DEVICE,
            id: 1,
        },
        win32SecurityAttributes: NULL,
        maxSize: 0,
        usage: 0,
        reserved: [0; 54],
    };
    let (mut shared, mut fd, stream) = (NULL, -1_i32, new_stream());
    assert_eq!(
        unsafe { pool::cuMemPoolCreate(&mut shared, &properties) },
        0
    );
    let export = |pool, fd: &mut i32| unsafe {
        pool::cuMemPoolExportToShareableHandle((&raw mut *fd).cast(), pool, 1, 0)
    };
    assert_eq!(export(shared, &mut fd), 0);
    let mut default = NULL;
    assert_eq!(
        unsafe { pool::cuDeviceGetDefaultMemPool(&mut default, 0) },
        0
    );
    assert_eq!(
        export(default, &mut 0),
        INVALID_VALUE,
        "made without a handle type"
    );
    let mut address = 0;
    assert_eq!(
        unsafe { memory::cuMemAllocFromPoolAsync(&mut address, 5000, shared, stream) },
        0
    );
    fill_async(address, 6, 5000, stream);
    assert_eq!(sync(stream), 0);
    let mut data = CUmemPoolPtrExportData { reserved: [0; 64] };
    assert_eq!(
        unsafe { pool::cuMemPoolExportPointer(&mut data, address) },
        0
    );
    let unshared = allocate_async(64, stream);
    assert_eq!(
        unsafe { pool::cuMemPoolExportPointer(&mut data.clone(), unshared) },
        INVALID_VALUE
    );
    let path = format!("/proc/{}/fd/{fd}", std::process::id());
    run(
        "imports_a_pool",
        &[
            ("IPC_POOL", &path),
            ("IPC_POINTER", &to_hex(&data.reserved)),
        ],
    );
    assert_eq!(download(address, 1), [8], "the child wrote it");
    assert_eq!(free_async(address, stream), 0);
    assert_eq!(sync(stream), 0);
    // SAFETY: the descriptor is this test's.
    unsafe { libc::close(fd) };
}

#[test]
#[ignore = "a child process"]
fn imports_a_pool() {
    use std::os::fd::AsRawFd;
    let _double = Double::new(&[]);
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(std::env::var("IPC_POOL").unwrap())
        .unwrap();
    let import = |fd: i32| {
        let (mut pool, handle) = (NULL, std::ptr::without_provenance_mut(fd as usize));
        match unsafe { pool::cuMemPoolImportFromShareableHandle(&mut pool, handle, 1, 0) } {
            0 => Ok(pool),
            code => Err(code),
        }
    };
    assert_eq!(import(9999), Err(INVALID_VALUE));
    let other = std::fs::File::open("/proc/self/exe").unwrap();
    assert_eq!(
        import(other.as_raw_fd()),
        Err(INVALID_VALUE),
        "no pool's descriptor"
    );
    let pool = import(file.as_raw_fd()).unwrap();
    let mut address = 0;
    let code = unsafe { memory::cuMemAllocFromPoolAsync(&mut address, 64, pool, NULL) };
    assert_eq!(code, INVALID_VALUE, "an imported pool allocates nothing");
    let mut data = CUmemPoolPtrExportData {
        reserved: variable("IPC_POINTER"),
    };
    let mut open = || unsafe { pool::cuMemPoolImportPointer(&mut address, pool, &mut data) };
    assert_eq!(open(), 0);
    assert_eq!(open(), 208);
    assert_eq!(download(address, 5000), [6; 5000]);
    assert_eq!(upload(address, &[8]), 0);
    assert_eq!(unsafe { pool::cuMemPoolDestroy(pool) }, 0);
    assert_eq!(free_async(address, NULL), 0);
    assert_eq!(sync(NULL), 0);
    assert_eq!(live_blocks(), 0);
}

//! `failure_callback_mr_tests.cpp`: `on_out_of_memory`. Page-locked memory has it in TypeScript only.

use crate::kinds::{Kind, MIB, TOO_MUCH, device_managers};
use crate::where_it_runs::{gpu, is_double, start};
use offheap_cuda::CudaMemoryManager;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Notes the calls for so many bytes, and asks for another try at the first.
fn ask_once(manager: &CudaMemoryManager, size: usize) -> (u64, Arc<Mutex<Vec<u64>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let id = manager
        .on_out_of_memory(move |bytes| {
            let mut seen = seen.lock().unwrap();
            // Managed memory is everybody's, and so is what other tests ask of it.
            seen.extend((bytes == size as u64).then_some(bytes));
            bytes == size as u64 && seen.len() == 1
        })
        .unwrap();
    (id, asked)
}

/// `RetryAllocationOnce`, on each kind, and on a stream's pool of the same allocator.
#[test]
fn retry_allocation_once() {
    for (name, manager) in device_managers() {
        const SIZE: usize = TOO_MUCH + 4096;
        let (id, asked) = ask_once(&manager, SIZE);
        let stream = gpu().create_stream(None).unwrap();
        let other = manager.on(&stream).unwrap();
        let error = Kind::of(name, other).block(SIZE).unwrap_err();
        assert!(error.is_out_of_memory(), "{name}: {error}");
        assert_eq!(*asked.lock().unwrap(), [SIZE as u64; 2], "{name}");
        manager.remove_out_of_memory_handler(id).unwrap();
        assert!(Kind::of(name, manager).block(SIZE).is_err());
        assert_eq!(asked.lock().unwrap().len(), 2, "{name}");
    }
}

/// A callback that frees what the request needs has it succeed: nobody hears of the shortage.
#[test]
fn a_callback_that_frees_helps() {
    let options = offheap_cuda::sub_allocator::SubAllocatorOptions::new().maximum(8 * MIB as u64);
    let manager = gpu().pool_manager(options).unwrap();
    let kind = Kind::of("pool", manager.clone());
    let spill = Arc::new(Mutex::new(Some(kind.block(6 * MIB).unwrap())));
    let spilt = Arc::clone(&spill);
    manager
        .on_out_of_memory(move |_| spilt.lock().unwrap().take().is_some())
        .unwrap();
    drop(kind.block(5 * MIB).unwrap());
    assert!(spill.lock().unwrap().is_none());
}

/// Tells the other process that it is one.
const IS_CHILD: &str = "OFFHEAP_CUDA_TEST_RMM_CHILD";

/// `DifferentExceptionTypes`: only a want of memory is retried; whatever else the driver says goes on. On the double,
/// which can be told to say it.
#[test]
fn other_errors_are_not_retried() {
    start();
    if std::env::var_os(IS_CHILD).is_some() {
        let manager = gpu().plain_manager().unwrap();
        let (_, asked) = ask_once(&manager, MIB);
        let kind = Kind::of("plain", manager);
        // CUDA_ERROR_UNKNOWN, once; then CUDA_ERROR_OUT_OF_MEMORY, twice.
        let unknown = kind.block(MIB).unwrap_err();
        assert!(!unknown.is_out_of_memory(), "{unknown}");
        assert_eq!(asked.lock().unwrap().len(), 0);
        // Tried, tried again with room made, asked, tried again.
        drop(kind.block(MIB).unwrap());
        assert_eq!(*asked.lock().unwrap(), [MIB as u64]);
    } else if is_double() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "failure_callback::other_errors_are_not_retried",
                "--exact",
                "--nocapture",
            ])
            .env(IS_CHILD, "1")
            .env(
                "OFFHEAP_CUDA_DOUBLE_FAIL",
                "cuMemAlloc_v2:999:0:1,cuMemAlloc_v2:2:0:2",
            )
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{text}");
    }
}

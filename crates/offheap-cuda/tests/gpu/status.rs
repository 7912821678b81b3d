//! What a process is told when there is no driver, and what happens at its end.

use crate::children::{self, PART};
use crate::where_it_runs::{gpu, is_double, start};
use offheap::{DeviceBuffer, DeviceType, Location, MemoryManager, MutableDeviceBuffer, device_for};
use offheap_cuda::sub_allocator::SubAllocatorOptions;
use offheap_cuda::{CudaIpcHandle, CudaMemoryManager, Status, open_memory, status};
use std::process::Stdio;
use std::sync::Arc;

/// Every reason, each in a process of its own: what it says, and that nothing panics.
#[test]
fn without_a_gpu_every_call_says_why() {
    start();
    if !is_double() {
        eprintln!("not run: the double's environment chooses the reasons");
        return;
    }
    let double = std::env::var("OFFHEAP_CUDA_LIBRARY").unwrap();
    let on_double = |variable| (double.as_str(), Some(variable));
    // The reason, the library, the double's variable, and words of the text.
    let cases = [
        (
            "no-library",
            ("/nowhere/libcuda.so.1", None),
            &["/nowhere/libcuda.so.1"][..],
        ),
        ("no-device", on_double(("NO_DEVICE", "1")), &[]),
        ("no-device", on_double(("DEVICES", "0")), &[]),
        ("stub-library", on_double(("STUB", "1")), &["stub"]),
        (
            "driver-too-old",
            on_double(("DRIVER_VERSION", "11040")),
            &["11.4", "12.2"],
        ),
        (
            "driver-error",
            on_double(("FAIL", "cuInit:999")),
            &["999", "cuInit"],
        ),
        // A code that nobody knows.
        (
            "driver-error",
            on_double(("FAIL", "cuInit:919")),
            &["919", "cuInit"],
        ),
        // A library, but no driver's.
        ("missing-symbol", ("libm.so.6", None), &["cu"]),
    ];
    for (reason, (library, variable), words) in cases {
        let name;
        let mut variables = vec![("OFFHEAP_CUDA_LIBRARY", library)];
        if let Some((suffix, value)) = variable {
            name = format!("OFFHEAP_CUDA_DOUBLE_{suffix}");
            variables.push((&name, value));
        }
        let text = children::run("status::says_why", reason, &variables);
        let (_, why) = text.split_once("WHY ").unwrap_or_else(|| panic!("{text}"));
        for word in words {
            assert!(why.contains(word), "{reason}: {why}");
        }
    }
}

/// Not a test of its own.
#[test]
fn says_why() {
    let Ok(reason) = std::env::var(PART) else {
        return;
    };
    assert!(!offheap_cuda::is_available());
    assert!(offheap_cuda::devices().is_empty());
    let Status::Unavailable(why) = status() else {
        panic!("available");
    };
    assert_eq!(why.reason(), reason);
    let errors = [
        offheap_cuda::CudaDevice::new(0).unwrap_err(),
        // A number is not even looked at.
        offheap_cuda::CudaDevice::new(-1).unwrap_err(),
        device_for(Location::device(DeviceType::CUDA, 0)).unwrap_err(),
        device_for(Location::device(DeviceType::CUDA_HOST, 0)).unwrap_err(),
        // SAFETY: nothing opens.
        unsafe {
            open_memory(&CudaIpcHandle {
                device: [0; 16],
                handle: offheap_cuda::CudaIpcMemory::Legacy([0; 64]),
                offset: 0,
                length: 1,
            })
        }
        .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code(), "ERR_OFFHEAP_DEVICE_UNAVAILABLE", "{error}");
        assert!(error.to_string().contains(&why.to_string()), "{error}");
    }
    // Asking again gives the same answer.
    assert_eq!(status(), Status::Unavailable(why.clone()));
    println!("WHY {why}");
}

#[test]
fn a_driver_that_works_says_what_it_is() {
    start();
    if !is_double() {
        eprintln!("not run: the double's environment says how many GPUs there are");
        return;
    }
    let variables = [("OFFHEAP_CUDA_DOUBLE_DEVICES", "3")];
    let text = children::run("status::says_what", "available", &variables);
    assert!(text.contains("WHAT 12080 3 3"), "{text}");
}

/// Not a test of its own.
#[test]
fn says_what() {
    if std::env::var(PART).as_deref() != Ok("available") {
        return;
    }
    let Status::Available(driver) = status() else {
        panic!("unavailable");
    };
    assert!(offheap_cuda::is_available() && !driver.library.is_empty());
    let count = offheap_cuda::devices().len();
    println!("WHAT {} {} {count}", driver.version, driver.device_count);
}

/// Where no library is named, the system's is looked for, by all names that drivers have.
#[test]
fn the_systems_driver_or_none() {
    let variables = [("OFFHEAP_CUDA_LIBRARY", "")];
    let text = children::run("status::says_which", "which", &variables);
    assert!(text.contains("WHICH "), "{text}");
    if text.contains("WHICH no-library") {
        let names = ["libcuda.so.1", "nvcuda"];
        assert!(names.iter().any(|name| text.contains(name)), "{text}");
    }
}

/// Not a test of its own.
#[test]
fn says_which() {
    if std::env::var(PART).as_deref() != Ok("which") {
        return;
    }
    match status() {
        Status::Available(driver) => println!("WHICH {}", driver.library),
        Status::Unavailable(why) => println!("WHICH {}: {why:?}", why.reason()),
    }
}

/// Once the process exits the driver is not called any more: what is freed is left, the rest is an error.
#[test]
fn a_process_that_exits_calls_no_driver() {
    start();
    if !is_double() {
        eprintln!("not run: the double's log shows the calls");
        return;
    }
    let log = std::env::temp_dir().join(format!("offheap-cuda-exiting-{}.log", std::process::id()));
    let variables = [("OFFHEAP_CUDA_DOUBLE_LOG", log.to_str().unwrap())];
    children::run("status::frees_while_exiting", "exiting", &variables);
    let calls = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert!(calls.contains("cuMemAllocFromPoolAsync"), "{calls}");
    for free in [
        "cuMemFree",
        "cuStreamDestroy",
        "cuMemPoolDestroy",
        "cuEventDestroy",
    ] {
        assert!(!calls.contains(free), "{free}: {calls}");
    }
}

/// Not a test of its own.
#[test]
fn frees_while_exiting() {
    if std::env::var(PART).as_deref() != Ok("exiting") {
        return;
    }
    let options = offheap_cuda::DriverPoolOptions::default();
    let manager: Arc<dyn MemoryManager> = Arc::new(gpu().driver_pool_manager(&options).unwrap());
    let stream = gpu().create_stream(None).unwrap();
    let event = gpu().create_event(true).unwrap();
    let buffer = DeviceBuffer::copy_from(&[7; 1000], &manager).unwrap();
    offheap_cuda::set_process_is_exiting();
    drop((buffer, stream, event));
    for error in [
        DeviceBuffer::copy_from(&[7; 1000], &manager).unwrap_err(),
        offheap_cuda::CudaDevice::new(0).unwrap_err(),
    ] {
        assert_eq!(error.code(), "ERR_OFFHEAP_DEVICE_UNAVAILABLE", "{error}");
    }
    drop(manager);
}

/// What is alive at the end is not freed through a driver that may be gone.
#[test]
fn nothing_is_called_after_exit() {
    start();
    if !is_double() {
        eprintln!("not run: the double's log shows the calls");
        return;
    }
    let log = std::env::temp_dir().join(format!("offheap-cuda-exit-{}.log", std::process::id()));
    let status = children::command("status::ends_with_live_memory", "exit")
        .env("OFFHEAP_CUDA_DOUBLE_LOG", &log)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert!(status.success());
    let after = text
        .split("exit blocks=")
        .nth(1)
        .expect("the double notes the end");
    assert!(!after.contains("cu"), "{after}");
}

/// Not a test of its own: statics of a program live to its end, and their destructors run then.
#[test]
fn ends_with_live_memory() {
    extern "C" fn late() {
        LIVE.lock().unwrap().clear();
    }
    unsafe extern "C" {
        fn atexit(function: extern "C" fn()) -> std::ffi::c_int;
    }
    static LIVE: std::sync::Mutex<Vec<MutableDeviceBuffer>> = std::sync::Mutex::new(Vec::new());
    if std::env::var_os(PART).is_none() {
        return;
    }
    // Registered first, so it runs after the crate's own.
    // SAFETY: a function that frees what is in a static.
    assert_eq!(unsafe { atexit(late) }, 0);
    let managers: [CudaMemoryManager; 3] = [
        gpu().manager().unwrap(),
        gpu().plain_manager().unwrap(),
        gpu().pool_manager(SubAllocatorOptions::new()).unwrap(),
    ];
    for manager in managers {
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        let live = MutableDeviceBuffer::allocate(1000, &manager).unwrap();
        LIVE.lock().unwrap().push(live);
    }
}

//! Devices and contexts: cases 14, 78, 84, 134 and 137.

use crate::support::{INVALID, code, everywhere, manager, managers, other_gpu, pattern};
use crate::where_it_runs::{gpu, raw};
use offheap::{
    Device, DeviceBuffer, DeviceType, Location, MemoryManager, cpu_device,
    default_cpu_memory_manager, device_for, memory_manager_of, system_memory_pool,
};
use offheap_cuda::{CudaDevice, devices, status};
use std::ffi::{c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

#[test]
fn case_14_134_devices_and_managers_of_a_gpu_are_equal_when_they_are_the_same() {
    let (gpu, cpu) = (gpu(), cpu_device());
    assert!(!gpu.is_cpu());
    assert!(gpu.equals(&CudaDevice::new(0).unwrap()));
    assert!(!gpu.equals(&*cpu) && !cpu.equals(&gpu));
    assert_eq!((gpu.device_id(), gpu.device_type()), (0, DeviceType::CUDA));
    assert_eq!((gpu.type_name(), gpu.ordinal()), ("cuda", 0));
    assert_eq!(gpu.location().to_string(), "cuda:0");
    // A GPU's kinds of memory are devices of their own.
    let host = gpu.host_manager().unwrap().device();
    let managed = gpu.managed_manager().unwrap().device();
    assert_eq!(
        (host.type_name(), managed.type_name()),
        ("cuda_host", "cuda_managed")
    );
    assert!(!gpu.equals(&*host) && !host.equals(&*managed) && !managed.equals(&gpu));
    // Each manager is equal to itself, to one that is made of its pool, and to no other.
    let all = everywhere();
    for (i, (name, one)) in all.iter().enumerate() {
        for (j, (other_name, other)) in all.iter().enumerate() {
            assert_eq!(one.equals(&**other), i == j, "{name}, {other_name}");
        }
        assert!(format!("{one:?}").contains("MemoryManager"), "{one:?}");
    }
    for (name, one) in managers() {
        assert!(
            memory_manager_of(one.cuda_pool()).unwrap().equals(&one),
            "{name}"
        );
        assert!(
            one.with_pool(one.cuda_pool()).unwrap().equals(&one),
            "{name}"
        );
        assert!(
            !one.with_pool(&one.cuda_pool().limit(1))
                .unwrap()
                .equals(&one),
            "{name}"
        );
        assert!(
            format!("{one:?}").starts_with("CudaMemoryManager"),
            "{one:?}"
        );
    }
    // The default ones are the same at each call.
    assert!(
        gpu.manager()
            .unwrap()
            .equals(&*gpu.default_memory_manager().unwrap())
    );
    assert!(
        gpu.host_manager()
            .unwrap()
            .equals(&*host.default_memory_manager().unwrap())
    );
    assert!(
        !gpu.manager()
            .unwrap()
            .equals(&*default_cpu_memory_manager())
    );
    assert!(format!("{gpu:?}").starts_with("CudaDevice"), "{gpu:?}");
    // A pool of other memory is none of the GPU's.
    assert_eq!(code(gpu.memory_manager(&system_memory_pool())), INVALID);
    assert_eq!(
        code(gpu.manager().unwrap().with_pool(&system_memory_pool())),
        INVALID
    );
}

#[test]
fn case_78_a_gpu_says_what_it_is() {
    let gpu = gpu();
    let properties = gpu.properties().unwrap();
    assert!(!properties.name.is_empty());
    assert!(properties.total_memory >= 1 << 20);
    assert!(properties.compute_capability.0 >= 3 && properties.multiprocessors >= 1);
    assert_ne!(properties.uuid, [0; 16]);
    assert!(
        properties.pci_bus_id.contains(':'),
        "{}",
        properties.pci_bus_id
    );
    let (free, total) = gpu.memory_info().unwrap();
    assert!(free <= total && total > 0);
    // A second handle is of the same GPU.
    let again = CudaDevice::new(0).unwrap();
    assert!(again.equals(&gpu));
    assert_eq!(again.properties().unwrap(), properties);
    assert!(devices().iter().any(|device| device.equals(&gpu)));
    match other_gpu() {
        Some(other) => {
            assert!(!other.is_cpu() && !other.equals(&gpu));
            assert_eq!(other.device_id(), 1);
            assert_ne!(other.properties().unwrap().uuid, properties.uuid);
            assert_ne!(other.location().to_string(), gpu.location().to_string());
        }
        None => eprintln!("only one GPU"),
    }
}

#[test]
fn case_78_locations_lead_to_devices() {
    for (kind, name) in [
        (DeviceType::CUDA, "cuda"),
        (DeviceType::CUDA_HOST, "cuda_host"),
        (DeviceType::CUDA_MANAGED, "cuda_managed"),
    ] {
        gpu();
        let device = device_for(Location::device(kind, 0)).unwrap();
        assert_eq!(device.type_name(), name);
        assert_eq!((device.device_type(), device.device_id()), (kind, 0));
        let manager = device.default_memory_manager().unwrap();
        assert!(manager.device().equals(&*device), "{name}");
        assert_eq!(code(device_for(Location::device(kind, 99))), INVALID);
    }
}

#[test]
fn case_78_two_gpus_reach_each_other_or_say_that_they_do_not() {
    let first = gpu();
    assert!(first.can_access_peer(&first).unwrap());
    assert_eq!(
        code(first.enable_peer_access(&first)),
        "ERR_OFFHEAP_NOT_SUPPORTED"
    );
    let Some(second) = other_gpu() else {
        eprintln!("only one GPU");
        return;
    };
    if first.can_access_peer(&second).unwrap() {
        first.enable_peer_access(&second).unwrap();
        // Doing it twice does nothing.
        first.enable_peer_access(&second).unwrap();
    } else {
        assert_eq!(
            code(first.enable_peer_access(&second)),
            "ERR_OFFHEAP_NOT_SUPPORTED"
        );
    }
    assert_eq!(
        code(first.manager().unwrap().on(&second.default_stream())),
        INVALID
    );
}

#[test]
fn case_84_a_thread_needs_no_context_and_keeps_its_own() {
    type Context = *mut c_void;
    type Current = unsafe extern "C" fn(*mut Context) -> c_uint;
    let (gpu, manager) = (gpu(), manager());
    assert!(manager.device().equals(&gpu));
    // SAFETY: the driver's functions have these types (cuda.h).
    let (current, set_current, create, destroy) = unsafe {
        (
            raw::<Current>("cuCtxGetCurrent").unwrap(),
            raw::<unsafe extern "C" fn(Context) -> c_uint>("cuCtxSetCurrent").unwrap(),
            raw::<unsafe extern "C" fn(*mut Context, c_uint, c_int) -> c_uint>("cuCtxCreate_v2"),
            raw::<unsafe extern "C" fn(Context) -> c_uint>("cuCtxDestroy_v2"),
        )
    };
    let now = move || {
        let mut context = ptr::null_mut();
        // SAFETY: the out-pointer is ours.
        assert_eq!(unsafe { current(&raw mut context) }, 0);
        context
    };
    let use_gpu = |manager: &Arc<dyn MemoryManager>| {
        let there = DeviceBuffer::copy_from(&pattern(100), manager).unwrap();
        assert_eq!(
            &*there.to_cpu(&system_memory_pool()).unwrap(),
            &*pattern(100)
        );
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A thread that never saw CUDA has no context, before and after.
            assert!(now().is_null());
            use_gpu(&manager);
            assert!(now().is_null());
            // One that has a context of another library's keeps it.
            let mut own = ptr::null_mut();
            match (create, destroy) {
                // SAFETY: the out-pointer is ours; the first device is there.
                (Some(create), Some(_)) => unsafe {
                    assert_eq!(create(&raw mut own, 0, 0), 0);
                },
                // The double has no contexts of others: that of its other GPU does as well.
                _ if other_gpu().is_some() => {
                    type Retain = unsafe extern "C" fn(*mut Context, c_int) -> c_uint;
                    // SAFETY: the driver's functions; there is a second device.
                    unsafe {
                        let retain: Retain = raw("cuDevicePrimaryCtxRetain").unwrap();
                        assert_eq!(retain(&raw mut own, 1), 0);
                        assert_eq!(set_current(own), 0);
                    }
                }
                _ => eprintln!("no other context than the GPU's own"),
            }
            assert_eq!(now(), own);
            use_gpu(&manager);
            assert_eq!(now(), own);
            // SAFETY: made above, and nothing uses it.
            unsafe {
                assert_eq!(set_current(ptr::null_mut()), 0);
                if let (Some(_), Some(destroy)) = (create, destroy) {
                    assert_eq!(destroy(own), 0);
                }
            }
        });
    });
}

/// `GetDeviceAddress` of what is on the GPU already.
#[test]
fn case_84_an_address_on_the_gpu_is_its_own() {
    let (first, second) = (manager(), manager());
    let there = DeviceBuffer::copy_from(&pattern(100), &first).unwrap();
    let view = there.view_on(&second).unwrap();
    assert_eq!(view.address(), there.address());
    assert_eq!(view.view_on(&first).unwrap().address(), there.address());
    assert!(view.memory_manager().equals(&*second));
    assert_eq!(view.block().pool(), there.block().pool());
    // Of no bytes, too.
    let empty = there.slice(100, 0).unwrap();
    assert_eq!(empty.view_on(&second).unwrap().len(), 0);
}

#[test]
fn case_137_a_number_that_no_gpu_has_is_an_error() {
    gpu();
    let offheap_cuda::Status::Available(driver) = status() else {
        panic!("gpu() found one");
    };
    let count = i64::from(driver.device_count);
    assert_eq!(devices().len() as i64, count);
    for ordinal in [-1, count, 99, i64::MAX, i64::MIN, 1 << 32] {
        let error = CudaDevice::new(ordinal).unwrap_err();
        assert_eq!(error.code(), INVALID);
        assert!(error.to_string().contains(&ordinal.to_string()), "{error}");
    }
    assert_eq!(CudaDevice::new(count - 1).unwrap().device_id(), count - 1);
}

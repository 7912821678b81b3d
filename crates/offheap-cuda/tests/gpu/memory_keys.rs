//! Streams of other kinds, and which memory a pool leads to.

use crate::where_it_runs::gpu;
use offheap::{DeviceBuffer, MemoryManager, default_memory_pool};
use offheap_cuda::sub_allocator::SubAllocatorOptions;
use offheap_cuda::{CopyRange, copy_async, fill_async, memory_key};
use std::sync::Arc;
use std::sync::mpsc::channel;

#[test]
fn a_blocking_stream_and_the_legacy_default_stream_wait_for_each_other() {
    let gpu = gpu();
    let stream = gpu.create_blocking_stream(Some(i32::MIN)).unwrap();
    let legacy = gpu.default_stream();
    let usual = gpu.create_stream(None).unwrap();
    assert!(stream.is_blocking().unwrap() && legacy.is_blocking().unwrap());
    assert!(!usual.is_blocking().unwrap());
    assert_eq!(usual.priority().unwrap(), 0);
    assert!((i32::MIN + 1..=0).contains(&stream.priority().unwrap()));

    let manager: Arc<dyn MemoryManager> = Arc::new(gpu.manager().unwrap().on(&stream).unwrap());
    let host: Arc<dyn MemoryManager> = Arc::new(gpu.host_manager().unwrap());
    let there = DeviceBuffer::copy_from(&[0; 4096], &manager).unwrap();
    let back = DeviceBuffer::copy_from(&[0; 4096], &host).unwrap();
    let range = |buffer: &DeviceBuffer| CopyRange {
        block: buffer.block().clone(),
        offset: 0,
    };
    for value in [1, 2, 3] {
        let (done, wait) = channel();
        // SAFETY: nothing else uses either until the copy is done, which comes after the fill by the streams' own order.
        unsafe {
            fill_async(&stream, range(&there), value, 4096, || ()).unwrap();
            let told = move || done.send(()).unwrap();
            copy_async(&legacy, range(&back), range(&there), 4096, told).unwrap();
        }
        wait.recv().unwrap();
        assert_eq!(&*back.as_cpu().unwrap(), &[value; 4096][..]);
        stream.synchronize().unwrap();
    }
}

#[test]
fn a_pool_leads_to_the_same_memory_over_accounts_and_on_every_stream() {
    let gpu = gpu();
    let first = gpu.pool_manager(SubAllocatorOptions::new()).unwrap();
    let second = gpu.pool_manager(SubAllocatorOptions::new()).unwrap();
    let key = memory_key(first.cuda_pool()).unwrap();
    let stream = gpu.create_stream(None).unwrap();
    let on_stream = first.on(&stream).unwrap();
    assert_eq!(memory_key(on_stream.cuda_pool()), Some(key));
    assert_eq!(memory_key(&first.cuda_pool().limit(1000)), Some(key));
    assert_ne!(memory_key(second.cuda_pool()), Some(key));
    let host = gpu.host_manager().unwrap();
    assert!(memory_key(host.cuda_pool()).is_some_and(|host| host != key));
    assert_eq!(memory_key(&default_memory_pool()), None);
}

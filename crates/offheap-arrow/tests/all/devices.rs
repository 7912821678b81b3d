//! Memory that the CPU cannot reach, and its events.

use crate::foreign::{Foreign, ForeignTensor};
use offheap::{
    Device, DeviceBuffer, DeviceReader, DeviceType, DeviceWriter, Error, Location, MemoryManager,
    MutableDeviceBuffer, Pool, Result, Stream, SyncEvent, register_device_mapper,
};
use offheap_arrow::{
    DLDataType, ExportedArray, ExportedTensor, TensorExport, TensorLayout, import_device_array,
    import_tensor,
};
use std::any::Any;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Once};

/// In no address that a program has: touching it ends the test's process.
const FAR: usize = 1 << 60;

#[derive(Debug)]
struct Vpi(i64);

/// A handle that counts its waits: by the CPU, and by streams.
#[derive(Debug, Default)]
struct Handle {
    by_cpu: AtomicUsize,
    by_stream: AtomicUsize,
}

#[derive(Debug)]
struct Event(NonNull<Handle>);

// SAFETY: the handles of these tests are atomic and outlive their events.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    fn handle(&self) -> &Handle {
        // SAFETY: the handles of these tests outlive their events.
        unsafe { self.0.as_ref() }
    }
}

impl SyncEvent for Event {
    fn record(&self, _stream: &dyn Stream) -> Result<()> {
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        self.handle().by_cpu.fetch_add(1, SeqCst);
        Ok(())
    }

    fn is_complete(&self) -> Result<bool> {
        Ok(true)
    }

    fn as_raw(&self) -> *mut c_void {
        self.0.as_ptr().cast()
    }
}

#[derive(Debug)]
struct Queue;

impl Stream for Queue {
    fn device(&self) -> Arc<dyn Device> {
        Arc::new(Vpi(1))
    }

    fn wait_event(&self, event: &dyn SyncEvent) -> Result<()> {
        // SAFETY: events of these tests.
        let handle = unsafe { &*event.as_raw().cast::<Handle>() };
        handle.by_stream.fetch_add(1, SeqCst);
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn is_complete(&self) -> Result<bool> {
        Ok(true)
    }

    fn as_raw(&self) -> *mut c_void {
        ptr::null_mut()
    }
}

impl Device for Vpi {
    fn type_name(&self) -> &'static str {
        "vpi"
    }

    fn location(&self) -> Location {
        Location::device(DeviceType::VPI, self.0)
    }

    fn default_memory_manager(&self) -> Result<Arc<dyn MemoryManager>> {
        Ok(Arc::new(Manager(self.0, false)))
    }

    fn memory_manager(&self, _pool: &Pool) -> Result<Arc<dyn MemoryManager>> {
        self.default_memory_manager()
    }
}

/// A device's manager, and whether it is one on a stream.
#[derive(Debug)]
struct Manager(i64, bool);

impl MemoryManager for Manager {
    fn device(&self) -> Arc<dyn Device> {
        Arc::new(Vpi(self.0))
    }

    fn pool(&self) -> Option<Pool> {
        None
    }

    fn read(&self, _source: &DeviceBuffer, _offset: usize, _target: &mut [u8]) -> Result<()> {
        Err(Error::not_supported("reading"))
    }

    fn write(&self, _to: &mut MutableDeviceBuffer, _offset: usize, _bytes: &[u8]) -> Result<()> {
        Err(Error::not_supported("writing"))
    }

    fn reader(&self, _buffer: DeviceBuffer) -> Result<Box<dyn DeviceReader>> {
        Err(Error::not_supported("reading"))
    }

    fn writer(&self, _buffer: MutableDeviceBuffer) -> Result<Box<dyn DeviceWriter>> {
        Err(Error::not_supported("writing"))
    }

    fn own_stream(&self) -> Option<Arc<dyn Stream>> {
        Some(Arc::new(Queue))
    }

    unsafe fn wrap_sync_event(&self, event: NonNull<c_void>) -> Result<Arc<dyn SyncEvent>> {
        Ok(Arc::new(Event(event.cast())))
    }

    fn on_stream(&self, _stream: &dyn Stream) -> Result<Option<Arc<dyn MemoryManager>>> {
        Ok(Some(Arc::new(Manager(self.0, true))))
    }
}

/// Whether a buffer is used in the order of a stream that was named.
fn is_on_stream(buffer: &DeviceBuffer) -> bool {
    let manager: &dyn Any = &**buffer.memory_manager();
    manager.downcast_ref::<Manager>().unwrap().1
}

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        register_device_mapper(DeviceType::VPI, |id| match id {
            0 | 1 => Ok(Arc::new(Vpi(id))),
            _ => Err(Error::device_unavailable(
                "no-device",
                format!("no vpi {id}"),
            )),
        })
        .unwrap();
    });
}

fn far(format: &str, handle: Option<&Handle>) -> Foreign {
    register();
    let mut foreign = Foreign::new(format, 4, ptr::without_provenance(FAR));
    foreign.array.device_type = DeviceType::VPI.code();
    foreign.array.device_id = 1;
    if let Some(handle) = handle {
        foreign.array.sync_event = ptr::from_ref(handle).cast_mut().cast();
    }
    foreign
}

#[test]
fn a_devices_memory_goes_around_untouched_and_its_event_is_waited_for() {
    let handle = Handle::default();
    let mut foreign = far("g", Some(&handle));
    // SAFETY: structs of the test's, over memory that only the device has.
    let imported =
        unsafe { import_device_array(&raw mut foreign.array, &raw mut foreign.schema, None) }
            .unwrap();
    assert_eq!(
        (handle.by_cpu.load(SeqCst), handle.by_stream.load(SeqCst)),
        (1, 0)
    );
    assert_eq!(imported.buffer.address(), FAR);
    assert!(!is_on_stream(&imported.buffer));
    assert_eq!(
        imported.buffer.location(),
        Location::device(DeviceType::VPI, 1)
    );
    assert!(!imported.buffer.is_cpu() && imported.buffer.as_cpu().is_err());

    // The stream waits instead of the CPU, and so does the one by which the buffer is read; of our own export.
    let event = Event(NonNull::from(&handle));
    let exported = ExportedArray::new(&imported.buffer, "g", 1, 3, Some(Arc::new(event))).unwrap();
    // SAFETY: structs of ours.
    let again = unsafe {
        assert_eq!((*exported.array()).device_id, 1);
        assert_eq!((*exported.array()).device_type, 9);
        assert_eq!(
            (*exported.array()).sync_event,
            ptr::from_ref(&handle).cast_mut().cast()
        );
        import_device_array(exported.array(), exported.schema(), Some(&Queue)).unwrap()
    };
    assert_eq!(
        (handle.by_cpu.load(SeqCst), handle.by_stream.load(SeqCst)),
        (1, 2)
    );
    assert_eq!(again.buffer.address(), FAR + 8);
    assert!(is_on_stream(&again.buffer));
    drop(imported);
    assert_eq!(foreign.arrays.times(), 0);
    drop(again);
    assert_eq!(foreign.arrays.times(), 1);
}

#[test]
fn a_devices_tensor_goes_around_untouched_after_its_event() {
    register();
    let handle = Handle::default();
    let mut foreign = ForeignTensor::new(
        DLDataType::FLOAT32,
        &[2, 3],
        None,
        ptr::without_provenance_mut(FAR),
    );
    foreign.tensor.dl_tensor.device.device_type = DeviceType::VPI.code();
    foreign.tensor.dl_tensor.device.device_id = 1;
    // SAFETY: a struct of the test's.
    let imported = unsafe { import_tensor(&raw mut foreign.tensor, None) }.unwrap();
    let event = Event(NonNull::from(&handle));
    for (stream, waits) in [(None, (1, 0)), (Some(&Queue as &dyn Stream), (1, 1))] {
        let export = TensorExport {
            event: Some(&event),
            stream,
            is_copied: false,
        };
        let layout = TensorLayout::vector(DLDataType::FLOAT32, 6);
        let exported: ExportedTensor =
            ExportedTensor::new(imported.buffer.clone(), &layout, &export).unwrap();
        assert_eq!(
            (handle.by_cpu.load(SeqCst), handle.by_stream.load(SeqCst)),
            waits
        );
        let tensor = exported.consume().unwrap();
        // SAFETY: a tensor of ours that we consumed.
        let again = unsafe {
            assert_eq!(tensor.as_ref().dl_tensor.device.device_id, 1);
            import_tensor(tensor.as_ptr(), stream).unwrap()
        };
        assert_eq!(again.buffer.address(), FAR);
        assert_eq!(is_on_stream(&again.buffer), stream.is_some());
    }
    assert_eq!(foreign.deleted.times(), 0);
    drop(imported);
    assert_eq!(foreign.deleted.times(), 1);
}

#[test]
fn a_device_that_is_not_there_is_an_error_and_releases() {
    let mut foreign = far("g", None);
    foreign.array.device_id = 7;
    // SAFETY: structs of the test's.
    let error =
        unsafe { import_device_array(&raw mut foreign.array, &raw mut foreign.schema, None) }
            .unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_DEVICE_UNAVAILABLE");
    assert_eq!((foreign.arrays.times(), foreign.schemas.times()), (1, 1));
}

#[test]
fn the_cpu_has_no_events() {
    let handle = Handle::default();
    let event: Arc<dyn SyncEvent> = Arc::new(Event(NonNull::from(&handle)));
    let manager = offheap::default_cpu_memory_manager();
    let buffer = DeviceBuffer::copy_from(&[0; 8], &manager).unwrap();
    let error = ExportedArray::new(&buffer, "g", 0, 1, Some(event)).unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
}

//! Readers and writers: cases 91 to 94 and 144.

use crate::support::{CLOSED, OUT_OF_RANGE, bytes_of, code, manager, managers, pattern};
use crate::where_it_runs::gpu;
use offheap::{DeviceBuffer, DeviceWriter, MemoryManager, MutableDeviceBuffer};
use offheap_cuda::CudaBufferWriter;
use std::ops::Range;
use std::sync::Arc;

fn new_writer(size: usize, staging: usize) -> CudaBufferWriter {
    let buffer = MutableDeviceBuffer::zeroed(size, &manager()).unwrap();
    CudaBufferWriter::new(buffer, staging).unwrap()
}

fn written(writer: CudaBufferWriter) -> Vec<u8> {
    bytes_of(&Box::new(writer).finish().unwrap().freeze())
}

/// `TestWrites` of Arrow's.
fn writes(mut writer: CudaBufferWriter) {
    let data = pattern(1 << 16);
    assert_eq!((writer.size(), writer.position().unwrap()), (1 << 16, 0));
    writer.write(&data[..1000]).unwrap();
    assert_eq!(writer.position().unwrap(), 1000);
    writer.seek(0).unwrap();
    assert_eq!(writer.position().unwrap(), 0);
    for (i, chunk) in data.chunks(1000).enumerate() {
        assert_eq!(writer.position().unwrap(), i * 1000);
        writer.write(chunk).unwrap();
        assert!(writer.num_bytes_buffered() <= writer.buffer_size());
    }
    assert_eq!(writer.position().unwrap(), 1 << 16);
    writer.flush().unwrap();
    assert_eq!(writer.num_bytes_buffered(), 0);
    // What does not fit is refused whole, and the rest stays.
    assert_eq!(code(writer.write(b"!")), OUT_OF_RANGE);
    assert_eq!(writer.position().unwrap(), 1 << 16);
    assert_eq!(written(writer), data);
}

#[test]
fn case_91_chunks_arrive_without_staging() {
    writes(new_writer(1 << 16, 0));
}

#[test]
fn case_91_chunks_arrive_through_staging() {
    writes(new_writer(1 << 16, 4096));
}

#[test]
fn case_91_every_kind_of_memory_has_a_writer() {
    for (name, manager) in managers() {
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        let buffer = MutableDeviceBuffer::zeroed(1000, &manager).unwrap();
        let mut writer = buffer.writer().unwrap();
        writer.write(&pattern(600)).unwrap();
        writer.write_at(600, &pattern(1000)[600..]).unwrap();
        let whole = writer.finish().unwrap();
        assert!(whole.memory_manager().equals(&*manager), "{name}");
        assert_eq!(bytes_of(&whole.freeze()), pattern(1000), "{name}");
    }
}

#[test]
fn case_92_the_edges_of_staging() {
    let data = pattern(1000);
    let mut writer = new_writer(1000, 0);
    assert_eq!(writer.buffer_size(), 0);
    writer.set_buffer_size(100).unwrap();
    assert_eq!(writer.buffer_size(), 100);
    // No bytes.
    writer.write(&[]).unwrap();
    assert_eq!(
        (writer.position().unwrap(), writer.num_bytes_buffered()),
        (0, 0)
    );
    // Another size flushes.
    writer.write(&data[..10]).unwrap();
    assert_eq!(writer.num_bytes_buffered(), 10);
    writer.set_buffer_size(200).unwrap();
    assert_eq!(
        (writer.buffer_size(), writer.num_bytes_buffered()),
        (200, 0)
    );
    // More than the staging has room for, and exactly as much.
    writer.write(&data[10..310]).unwrap();
    assert_eq!(writer.num_bytes_buffered(), 0);
    writer.write(&data[310..510]).unwrap();
    assert_eq!(writer.num_bytes_buffered(), 0);
    // What is staged goes before what is too large for it.
    writer.write(&data[510..520]).unwrap();
    assert_eq!(writer.num_bytes_buffered(), 10);
    writer.write(&data[520..900]).unwrap();
    assert_eq!(
        (writer.num_bytes_buffered(), writer.position().unwrap()),
        (0, 900)
    );
    writer.write(&data[900..]).unwrap();
    assert_eq!(
        (writer.num_bytes_buffered(), writer.position().unwrap()),
        (100, 1000)
    );
    // Close flushes.
    writer.close().unwrap();
    assert!(writer.is_closed());
    assert_eq!(written(writer), data);
}

#[test]
fn case_92_what_is_staged_is_written_before_what_comes_elsewhere() {
    let mut writer = new_writer(1000, 200);
    writer.write(&[1; 150]).unwrap();
    assert_eq!(writer.num_bytes_buffered(), 150);
    // Over a part of it: what was written last is there.
    writer.write_at(100, &[2; 100]).unwrap();
    assert_eq!(writer.position().unwrap(), 200);
    writer.seek(50).unwrap();
    assert_eq!(writer.num_bytes_buffered(), 0);
    writer.write(&[3; 10]).unwrap();
    // A seek or write that is refused moves nothing and loses nothing.
    assert_eq!(code(writer.seek(1001)), OUT_OF_RANGE);
    assert_eq!(code(writer.write_at(999, &[9; 2])), OUT_OF_RANGE);
    assert_eq!(code(writer.write_at(usize::MAX, &[9; 2])), OUT_OF_RANGE);
    assert_eq!(code(writer.write(&[9; 941])), OUT_OF_RANGE);
    assert_eq!(
        (writer.position().unwrap(), writer.num_bytes_buffered()),
        (60, 10)
    );
    writer.seek(1000).unwrap();
    writer.write(&[]).unwrap();
    let bytes = written(writer);
    let expected = [
        vec![1; 50],
        vec![3; 10],
        vec![1; 40],
        vec![2; 100],
        vec![0; 800],
    ]
    .concat();
    assert_eq!(bytes, expected);
}

#[test]
fn case_92_a_closed_writer_says_so() {
    for staging in [0, 10] {
        let mut writer = new_writer(100, staging);
        writer.write(b"kept").unwrap();
        writer.close().unwrap();
        assert!(writer.is_closed());
        // Closing twice does nothing.
        writer.close().unwrap();
        assert_eq!(code(writer.write(b"x")), CLOSED);
        assert_eq!(code(writer.write(b"")), CLOSED);
        assert_eq!(code(writer.write_at(0, b"x")), CLOSED);
        assert_eq!(code(writer.flush()), CLOSED);
        assert_eq!(code(writer.seek(0)), CLOSED);
        assert_eq!(code(writer.position()), CLOSED);
        assert_eq!(code(writer.set_buffer_size(1)), CLOSED);
        assert_eq!(&written(writer)[..5], b"kept\0");
    }
}

/// Staging that cannot be had: the writer goes on with what it has.
#[test]
fn case_92_staging_that_cannot_be_had_is_an_error() {
    let mut writer = new_writer(100, 10);
    writer.write(b"staged").unwrap();
    assert_eq!(
        code(writer.set_buffer_size(1 << 60)),
        "ERR_OFFHEAP_OUT_OF_MEMORY"
    );
    assert_eq!(writer.buffer_size(), 10);
    writer.write(b", too").unwrap();
    assert_eq!(&written(writer)[..12], b"staged, too\0");
}

#[test]
fn case_93_a_reader_reads_for_the_host_and_slices_on_the_gpu() {
    let data = pattern(1000);
    let there = DeviceBuffer::copy_from(&data, &manager()).unwrap();
    let mut reader = there.reader().unwrap();
    assert_eq!(
        (reader.size().unwrap(), reader.position().unwrap()),
        (1000, 0)
    );
    let mut target = [0; 100];
    // To the host: 50 of 100 bytes are left.
    reader.seek(950).unwrap();
    assert_eq!(reader.position().unwrap(), 950);
    assert_eq!(reader.read_into(&mut target).unwrap(), 50);
    assert_eq!(target[..50], data[950..]);
    assert_eq!(reader.position().unwrap(), 1000);
    assert_eq!(reader.read_into(&mut target).unwrap(), 0);
    // 45 bytes from 123, at no cost of the position.
    let slice = reader.read_at(123, 45).unwrap();
    assert_eq!(
        (bytes_of(&slice), reader.position().unwrap()),
        (data[123..168].to_vec(), 1000)
    );
    // On the GPU: 75 of 100 bytes, and 20 of 30.
    reader.seek(925).unwrap();
    let slice = reader.read(100).unwrap();
    assert_eq!((slice.len(), reader.position().unwrap()), (75, 1000));
    assert!(!slice.is_cpu() && slice.device().equals(&gpu()));
    assert_eq!(slice.address(), there.address() + 925);
    assert_eq!(bytes_of(&slice), data[925..]);
    reader.seek(42).unwrap();
    let slice = reader.read_at(980, 30).unwrap();
    assert_eq!((slice.len(), reader.position().unwrap()), (20, 42));
    assert!(!slice.is_cpu() && slice.device().equals(&gpu()));
    assert_eq!(bytes_of(&slice), data[980..]);
    // Out of range, and the position stays.
    assert_eq!(code(reader.seek(1001)), OUT_OF_RANGE);
    assert_eq!(code(reader.read_at(1001, 0)), OUT_OF_RANGE);
    assert_eq!(reader.position().unwrap(), 42);
    assert_eq!(reader.read_at(1000, 1).unwrap().len(), 0);
    reader.close();
    assert!(reader.is_closed());
    assert_eq!(code(reader.size()), CLOSED);
    assert_eq!(code(reader.position()), CLOSED);
    assert_eq!(code(reader.seek(0)), CLOSED);
    assert_eq!(code(reader.read(1)), CLOSED);
    assert_eq!(code(reader.read_at(0, 1)), CLOSED);
    assert_eq!(code(reader.read_into(&mut target)), CLOSED);
    // A slice outlives its reader and the buffer.
    drop((reader, there));
    assert_eq!(bytes_of(&slice), data[980..]);
}

#[test]
fn case_94_a_reader_is_told_what_is_needed() {
    let there = DeviceBuffer::copy_from(&pattern(1000), &manager()).unwrap();
    let mut reader = there.reader().unwrap();
    reader.will_need(&[]).unwrap();
    reader.will_need(&[0..1000, 5..5]).unwrap();
    // What is past the end is ignored, as in reads; a range that begins there is wrong.
    reader.will_need(&[0..10, 990..2000, 1000..1000]).unwrap();
    let range = |start, end| Range::<usize> { start, end };
    for wrong in [range(1001, 1001), range(1001, 1002), range(10, 9)] {
        assert_eq!(code(reader.will_need(&[0..10, wrong])), OUT_OF_RANGE);
    }
    assert_eq!(reader.position().unwrap(), 0);
    reader.close();
    assert_eq!(code(reader.will_need(&[])), CLOSED);
}

/// pyarrow's: writes at a place, and goes on behind it.
#[test]
fn case_144_writes_at_a_place_go_on_behind_it() {
    let numbers: Vec<u8> = (0..100).collect();
    for staging in [0, 16, 1000] {
        let mut writer = new_writer(100, staging);
        writer.write(&numbers).unwrap();
        writer.write_at(50, &numbers[..25]).unwrap();
        assert_eq!(writer.position().unwrap(), 75);
        writer.write(&numbers[..25]).unwrap();
        writer.flush().unwrap();
        let expected = [&numbers[..50], &numbers[..25], &numbers[..25]].concat();
        assert_eq!(written(writer), expected);
    }
}

#[test]
fn case_144_nothing_is_read_and_written() {
    for (name, manager) in managers() {
        let manager: Arc<dyn MemoryManager> = Arc::new(manager);
        let nothing = MutableDeviceBuffer::allocate(0, &manager).unwrap();
        let mut writer = nothing.writer().unwrap();
        writer.write(&[]).unwrap();
        writer.write_at(0, &[]).unwrap();
        assert_eq!(code(writer.write(&[1])), OUT_OF_RANGE, "{name}");
        let nothing = writer.finish().unwrap().freeze();
        let mut reader = nothing.reader().unwrap();
        reader.seek(0).unwrap();
        assert_eq!(reader.read(10).unwrap().len(), 0, "{name}");
        assert_eq!(reader.read_into(&mut [0; 10]).unwrap(), 0, "{name}");
        assert_eq!(
            (reader.size().unwrap(), reader.position().unwrap()),
            (0, 0),
            "{name}"
        );
        reader.will_need(&[0..0, 0..10]).unwrap();
    }
    let mut writer = new_writer(0, 10);
    writer.write(&[]).unwrap();
    assert_eq!(code(writer.write(&[1])), OUT_OF_RANGE);
    assert_eq!(written(writer), b"");
}

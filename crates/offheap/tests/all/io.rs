//! Reading and writing: Arrow's cases 33, 34, 57 to 73 (`io/memory_test.cc`), 114, 131 and 133
//! (`test_io.py`).

use crate::every_pool::own;
use offheap::{
    Buffer, BufferOutputStream, BufferReader, FixedSizeBufferWriter, MockOutputStream,
    MutableBuffer, ResizableBuffer, default_memory_pool, system_memory_pool,
};
use std::io::{self, Read, SeekFrom, Write};

const OUT_OF_RANGE: &str = "ERR_OFFHEAP_OUT_OF_RANGE";
const CLOSED: &str = "ERR_OFFHEAP_CLOSED";

fn reader(text: &'static str) -> BufferReader {
    BufferReader::new(Buffer::from_owner(text).unwrap())
}

fn writer(size: usize) -> FixedSizeBufferWriter {
    FixedSizeBufferWriter::new(MutableBuffer::zeroed(size, &default_memory_pool()).unwrap())
}

/// Case 33: a reader over a buffer.
#[test]
fn case_33_reader_of_a_buffer() {
    let buffer = Buffer::copy_from(b"some data", &default_memory_pool()).unwrap();
    let reader = BufferReader::from(buffer.clone());
    let read = reader.read_at(5, 4).unwrap();
    assert_eq!(
        (&read[..], read.address()),
        (&b"data"[..], buffer.address() + 5)
    );
    assert_eq!(reader.position().unwrap(), 0);
}

/// Case 34: a writer over a mutable buffer. That an immutable one has none is in the types.
#[test]
fn case_34_writer_of_a_buffer() {
    let buffer = MutableBuffer::copy_from(b"some data", &default_memory_pool()).unwrap();
    let mut writer = FixedSizeBufferWriter::new(buffer);
    writer.write_at(5, b"DATA").unwrap();
    assert_eq!(&writer.into_inner()[..], b"some DATA");
}

/// Case 57: what was written is there without an explicit close.
#[test]
fn case_57_no_close_needed() {
    for pool in own() {
        let mut stream = BufferOutputStream::over(ResizableBuffer::zeroed(0, &pool).unwrap());
        for _ in 0..100 {
            stream.write(b"data123456").unwrap();
        }
        let buffer = stream.finish(true).unwrap();
        assert_eq!((buffer.len(), pool.bytes_allocated()), (1000, 1000));
        // A stream that is dropped unfinished gives its memory back.
        let mut stream = BufferOutputStream::create(10, &pool).unwrap();
        stream.write(&[0; 1000]).unwrap();
        drop((stream, buffer));
        assert_eq!(pool.bytes_allocated(), 0);
    }
}

/// Case 58: the result has the size of what was written.
#[test]
fn case_58_close_sets_the_size() {
    for shrink in [true, false] {
        let mut stream = BufferOutputStream::create(4096, &default_memory_pool()).unwrap();
        for i in 0..100 {
            stream.write(b"data123456").unwrap();
            assert_eq!(stream.position().unwrap(), 10 * (i + 1));
        }
        stream.close();
        assert_eq!(stream.finish(shrink).unwrap().len(), 1000);
    }
}

/// Case 59: writing after a finish is refused.
#[test]
fn case_59_write_after_finish() {
    let mut stream = BufferOutputStream::create(0, &default_memory_pool()).unwrap();
    stream.write(b"0123456789").unwrap();
    let buffer = stream.finish(true).unwrap();
    assert_eq!(stream.write(b"0123456789").unwrap_err().code(), CLOSED);
    assert_eq!(&buffer[..], b"0123456789");
}

/// Case 60: a stream that was reset starts anew.
#[test]
fn case_60_reset() {
    let pool = system_memory_pool().proxy();
    let mut stream = BufferOutputStream::create(4096, &pool).unwrap();
    let first = Write::write(&mut stream, b"one").unwrap();
    let one = stream.finish(false).unwrap();
    for (reset, text) in [(16, "two"), (0, "three")] {
        stream.reset(reset).unwrap();
        assert!(!stream.is_closed());
        assert_eq!(stream.position().unwrap(), 0);
        stream.write(text.as_bytes()).unwrap();
        assert_eq!(&stream.finish(true).unwrap()[..], text.as_bytes());
    }
    assert_eq!((first, &one[..]), (3, &b"one"[..]));
    // Unfinished bytes are lost, and their memory with them.
    stream.reset(0).unwrap();
    stream.write(&[1; 1000]).unwrap();
    stream.reset(0).unwrap();
    assert_eq!(pool.bytes_allocated(), 4096);
}

/// Case 61: positions of a writer of fixed size.
#[test]
fn case_61_fixed_size_basics() {
    let mut writer = writer(1024);
    assert_eq!(writer.position().unwrap(), 0);
    writer.write(b"data123456").unwrap();
    assert_eq!(writer.position().unwrap(), 10);
    writer.seek(4).unwrap();
    assert_eq!(writer.position().unwrap(), 4);
    writer.seek(1024).unwrap();
    assert_eq!(writer.position().unwrap(), 1024);
    assert_eq!(writer.write(b"1").unwrap_err().code(), OUT_OF_RANGE);
    for position in [1025, usize::MAX] {
        assert_eq!(writer.seek(position).unwrap_err().code(), OUT_OF_RANGE);
    }
    assert!(io::Seek::seek(&mut writer, SeekFrom::Current(-1025)).is_err());
    assert_eq!(writer.position().unwrap(), 1024);
    writer.close();
    assert_eq!(&writer.into_inner()[..10], b"data123456");
}

/// Case 62: writes outside of the buffer write nothing, wherever they start.
#[test]
fn case_62_invalid_writes() {
    let mut writer = writer(1024);
    // Arrow's -1, and the end of what can be counted (where Arrow's sum overflows).
    for position in [1025, isize::MAX as usize, usize::MAX - 9, usize::MAX] {
        let error = writer.write_at(position, b"data123456").unwrap_err();
        assert_eq!(error.code(), OUT_OF_RANGE);
    }
    assert_eq!(
        writer.write_at(1020, b"data123456").unwrap_err().code(),
        OUT_OF_RANGE
    );
    assert_eq!(writer.position().unwrap(), 0);
    assert!(writer.into_inner().iter().all(|byte| *byte == 0));
}

/// Case 63: readers over strings.
#[test]
fn case_63_reader_of_strings() {
    for mut reader in [
        reader("data123456"),
        BufferReader::new(Buffer::from_owner("data123456".to_owned()).unwrap()),
        BufferReader::new(Buffer::copy_from(b"data123456", &default_memory_pool()).unwrap()),
    ] {
        assert_eq!(&reader.read(4).unwrap()[..], b"data");
        assert_eq!(&reader.read(6).unwrap()[..], b"123456");
        assert_eq!(reader.size().unwrap(), 10);
    }
}

/// Case 64: a reader of nothing.
#[test]
fn case_64_reader_of_nothing() {
    let nothing = Buffer::copy_from(b"", &default_memory_pool()).unwrap();
    let mut reader = BufferReader::new(nothing);
    assert_eq!(reader.size().unwrap(), 0);
    assert!(reader.read(10).unwrap().is_empty());
    assert!(reader.peek(10).unwrap().is_empty());
    reader.will_need(std::slice::from_ref(&(0..10))).unwrap();
}

/// Case 65: seeking to the end is fine, past it an error that keeps the position.
#[test]
fn case_65_seek() {
    let mut reader = reader("data123456");
    reader.seek(9).unwrap();
    assert_eq!(reader.position().unwrap(), 9);
    reader.seek(10).unwrap();
    assert_eq!(reader.position().unwrap(), 10);
    assert_eq!(reader.seek(11).unwrap_err().code(), OUT_OF_RANGE);
    assert_eq!(reader.position().unwrap(), 10);
}

/// Case 66: peeking shows what is left, and moves nothing.
#[test]
fn case_66_peek() {
    let mut reader = reader("data123456");
    assert_eq!(reader.peek(4).unwrap(), b"data");
    assert_eq!(reader.peek(20).unwrap(), b"data123456");
    reader.seek(9).unwrap();
    assert_eq!(reader.peek(4).unwrap(), b"6");
    reader.seek(10).unwrap();
    assert_eq!(reader.peek(4).unwrap(), b"");
    assert_eq!(reader.position().unwrap(), 10);
}

/// Cases 67 and 68: reads need no waiting, whatever the position: many threads read at once, and
/// ranges past the end are short or errors.
#[test]
fn case_67_68_reads_at_any_position() {
    let reader = reader("data123456");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert_eq!(&reader.read_at(2, 6).unwrap()[..], b"ta1234");
                assert_eq!(&reader.read_at(2, 100).unwrap()[..], b"ta123456");
                assert_eq!(&reader.read_at(2, usize::MAX).unwrap()[..], b"ta123456");
                assert!(reader.read_at(10, 1).unwrap().is_empty());
                for position in [11, usize::MAX] {
                    assert_eq!(
                        reader.read_at(position, 1).unwrap_err().code(),
                        OUT_OF_RANGE
                    );
                }
            });
        }
    });
    assert_eq!(reader.position().unwrap(), 0);
}

/// Cases 69 and 71: what was read keeps the memory when the reader and the buffer are gone.
#[test]
fn case_69_71_reads_keep_the_memory() {
    let pool = system_memory_pool().proxy();
    let buffer = Buffer::copy_from(b"data123456", &pool).unwrap();
    let mut reader = BufferReader::new(buffer);
    let first = reader.read(4).unwrap();
    let second = reader.read_at(4, 6).unwrap();
    assert!(first.block().ptr_eq(second.block()));
    assert_eq!(first.strong_count(), 3);
    drop(reader);
    assert_eq!((&first[..], &second[..]), (&b"data"[..], &b"123456"[..]));
    drop(first);
    assert_eq!(pool.bytes_allocated(), 10);
    drop(second);
    assert_eq!(pool.bytes_allocated(), 0);
}

/// Case 70: ranges that will be read soon, some of them whole pages.
#[test]
fn case_70_will_need() {
    let small = reader("data123456");
    small.will_need(&[]).unwrap();
    small.will_need(&[0..4, 4..10]).unwrap();
    small.will_need(&[10..10, 5..usize::MAX]).unwrap();
    let backwards = std::ops::Range { start: 5, end: 4 };
    for range in [11..12, 11..11, usize::MAX..usize::MAX, backwards] {
        let error = small.will_need(&[0..4, range]).unwrap_err();
        assert_eq!(error.code(), OUT_OF_RANGE);
    }
    for pool in own() {
        let large = MutableBuffer::zeroed(100_000, &pool).unwrap().freeze();
        let reader = BufferReader::new(large.slice_from(7).unwrap());
        reader
            .will_need(&[0..99_993, 5000..5001, 99_992..99_993])
            .unwrap();
        assert!(large.iter().all(|byte| *byte == 0));
    }
}

/// Case 72: streams over parts have positions of their own, and end where the part does.
#[test]
fn case_72_streams() {
    let file = reader("data1data2data3data4data5");
    let mut first = file.stream(0, 10).unwrap();
    let mut second = file.stream(9, 16).unwrap();
    assert_eq!(
        (first.position().unwrap(), second.position().unwrap()),
        (0, 0)
    );
    assert_eq!(&first.read(4).unwrap()[..], b"data");
    assert_eq!(&second.read(4).unwrap()[..], b"2dat");
    assert_eq!(&first.read(4).unwrap()[..], b"1dat");
    let mut bytes = [0; 20];
    assert_eq!(second.read_into(&mut bytes[..6]).unwrap(), 6);
    assert_eq!(&bytes[..6], b"a3data");
    assert_eq!(&first.read(20).unwrap()[..], b"a2");
    assert_eq!(second.read_into(&mut bytes).unwrap(), 6);
    assert_eq!(&bytes[..6], b"4data5");
    assert!(first.read(1).unwrap().is_empty() && second.read(1).unwrap().is_empty());
    assert_eq!(
        (first.position().unwrap(), second.position().unwrap()),
        (10, 16)
    );
    assert_eq!(file.position().unwrap(), 0);
    first.close();
    assert_eq!(first.read(1).unwrap_err().code(), CLOSED);
    assert_eq!(first.position().unwrap_err().code(), CLOSED);
    second.seek(0).unwrap();
    for (start, length) in [(0, 26), (26, 0), (25, 1), (usize::MAX, 2)] {
        assert_eq!(file.stream(start, length).unwrap_err().code(), OUT_OF_RANGE);
    }
}

/// Case 73: large writes with several threads, at odd places.
#[test]
fn case_73_parallel_copy() {
    let size = (3 << 20) + 12_345;
    let source: Vec<u8> = (0..size as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for threads in [1, 4] {
        let mut writer = writer(size + 17).with_threads(threads, 1 << 20).unwrap();
        writer.write_at(17, &source).unwrap();
        // Below the threshold, on the calling thread.
        writer.write_at(0, &source[..17]).unwrap();
        let buffer = writer.into_inner();
        assert!(buffer[17..] == source[..] && buffer[..17] == source[..17]);
    }
}

/// Case 114: reading, seeking and closing, as pyarrow's `BytesReader`.
#[test]
fn case_114_bytes_reader() {
    let bytes = b"some sample data".to_vec();
    let mut reader = BufferReader::new(Buffer::from_owner(bytes).unwrap());
    assert_eq!(
        (reader.position().unwrap(), reader.size().unwrap()),
        (0, 16)
    );
    assert_eq!(&reader.read(4).unwrap()[..], b"some");
    assert_eq!(reader.position().unwrap(), 4);
    reader.seek(0).unwrap();
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    assert_eq!(all, "some sample data");
    assert!(reader.read(1).unwrap().is_empty());
    reader.seek(5).unwrap();
    assert_eq!(&reader.read(10_000).unwrap()[..], b"sample data");
    reader.close();
    assert_eq!(reader.read(1).unwrap_err().code(), CLOSED);
}

/// Case 131: a thousand times ten bytes, and none after the close.
#[test]
fn case_131_output_stream() {
    for pool in own() {
        let mut stream = BufferOutputStream::create(0, &pool).unwrap();
        for _ in 0..1000 {
            stream.write(b"dataabcdef").unwrap();
        }
        let buffer = stream.finish(true).unwrap();
        assert!(stream.is_closed());
        assert_eq!(stream.write(b"x").unwrap_err().code(), CLOSED);
        assert_eq!(buffer[..], b"dataabcdef".repeat(1000));
        assert_eq!(pool.bytes_allocated(), 10_000);
        let mut stream = BufferOutputStream::create(0, &pool).unwrap();
        stream.write(b"x").unwrap();
        stream.close();
        assert_eq!(stream.write(b"x").unwrap_err().code(), CLOSED);
    }
}

/// Case 133: counting gives the size that writing does.
#[test]
fn case_133_mock_output_stream() {
    fn write(target: &mut dyn Write) {
        for i in 0..1000 {
            writeln!(target, "line {i}").unwrap();
        }
    }
    let mut stream = BufferOutputStream::create(0, &default_memory_pool()).unwrap();
    let mut mock = MockOutputStream::new();
    write(&mut stream);
    write(&mut mock);
    assert_eq!(mock.position(), stream.finish(true).unwrap().len() as u64);
    assert_eq!(mock.position(), 8890);
}

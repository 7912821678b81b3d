//! Logged pools: Arrow's cases 8 and 100, the alignment that its logging pool loses, and RMM's
//! format.

use crate::alone::{is_alone, run};
use crate::every_pool::{backends, own};
use crate::refusing::Refusing;
use offheap::{
    Alignment, Block, LogAction, LogEvent, LogFormat, LogReader, LogSink, MutableBuffer, Pool,
    ResizableBuffer, read_log, system_memory_pool,
};
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const FORMATS: [LogFormat; 3] = [LogFormat::Text, LogFormat::Json, LogFormat::RmmCsv];

/// Bytes that a test looks at while a log is written there.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(base: &Pool, format: LogFormat) -> (Pool, Shared) {
    let lines = Shared::default();
    let sink = LogSink::Writer(Box::new(lines.clone()));
    (base.log(format, sink).unwrap(), lines)
}

fn events(text: &str) -> Vec<LogEvent<'static>> {
    LogReader::new(text.as_bytes())
        .map(Result::unwrap)
        .collect()
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("offheap-{}-{name}", std::process::id()))
}

/// Case 8: the peak of a logged pool and of what is under it is the same.
#[test]
fn case_8_a_logged_pool_counts_as_what_it_logs() {
    for base in backends() {
        let base = base.proxy();
        let (pool, lines) = logged(&base, LogFormat::Text);
        let first = Block::allocate(150, Alignment::DEFAULT, &pool, false).unwrap();
        let second = Block::allocate(50, Alignment::DEFAULT, &pool, false).unwrap();
        drop((first, second));
        assert_eq!((pool.peak_bytes(), base.peak_bytes()), (200, 200));
        assert_eq!((pool.bytes_allocated(), base.bytes_allocated()), (0, 0));
        assert_eq!(lines.text().lines().count(), 4);
    }
}

const CASE_100: &str = "log::case_100_a_log_has_as_many_frees_as_allocations";

/// Case 100: the log on stderr of a process that frees all has as many frees as allocations.
#[test]
fn case_100_a_log_has_as_many_frees_as_allocations() {
    if is_alone() {
        let pool = system_memory_pool()
            .log(LogFormat::Text, LogSink::Stderr)
            .unwrap();
        for size in [1, 100, 10_000] {
            drop(MutableBuffer::zeroed(size, &pool).unwrap());
        }
        return;
    }
    let output = run(CASE_100, &[]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert_eq!(
        (
            text.matches("Allocate:").count(),
            text.matches("Free:").count()
        ),
        (3, 3)
    );
}

#[test]
fn each_format_tells_what_happened() {
    for base in own() {
        for format in FORMATS {
            let (pool, lines) = logged(&base, format);
            let alignment = Alignment::new(256).unwrap();
            let mut block = Block::allocate(100, alignment, &pool, false).unwrap();
            let first = block.as_ptr().addr().get() as u64;
            block.reallocate(5000).unwrap();
            let second = block.as_ptr().addr().get() as u64;
            assert!(block.reallocate(isize::MAX as usize - 4096).is_err());
            drop(block);
            assert!(Block::allocate(isize::MAX as usize - 4096, alignment, &pool, true).is_err());
            drop(Block::allocate(0, alignment, &pool, false).unwrap());
            let all = events(&lines.text());
            let seen: Vec<_> = all.iter().map(|e| (e.action, e.address, e.size)).collect();
            let huge = isize::MAX as u64 - 4096;
            use LogAction::{Allocate, AllocateFailure, Free, Reallocate, ReallocateFailure};
            let expected = if format == LogFormat::RmmCsv {
                vec![
                    (Allocate, first, 100),
                    (Free, first, 100),
                    (Allocate, second, 5000),
                    (Free, second, 5000),
                    (AllocateFailure, 0, huge),
                    (Allocate, second, 5000),
                    (Free, second, 5000),
                    (AllocateFailure, 0, huge),
                ]
            } else {
                vec![
                    (Allocate, first, 100),
                    (Reallocate, second, 5000),
                    (ReallocateFailure, 0, huge),
                    (Free, second, 5000),
                    (AllocateFailure, 0, huge),
                ]
            };
            assert_eq!(seen, expected, "{}", lines.text());
            if format != LogFormat::RmmCsv {
                assert!(
                    all.iter()
                        .all(|e| e.alignment == 256 && e.pool == base.name())
                );
                assert_eq!((all[1].old_address, all[1].old_size), (first, 100));
            }
            if format != LogFormat::Text {
                assert!(
                    all.iter()
                        .all(|e| e.thread == all[0].thread && e.thread > 0)
                );
                assert!(
                    all.windows(2).all(|two| two[0].time <= two[1].time),
                    "{all:?}"
                );
            }
            assert_eq!(pool.logger().unwrap().dropped(), 0);
        }
    }
}

/// Arrow's logging pool reallocates without the alignment: 64 of 64 blocks lost it.
#[test]
fn a_logged_reallocation_keeps_the_alignment() {
    for base in backends() {
        let (pool, _) = logged(&base, LogFormat::Text);
        let alignment = Alignment::new(4096).unwrap();
        for size in 1..=64 {
            let mut block = Block::allocate(size, alignment, &pool, false).unwrap();
            for size in [size * 100, size * 10_000, 1] {
                block.reallocate(size).unwrap();
                assert!(alignment.is_aligned(block.as_ptr().addr().get()));
            }
        }
    }
}

/// As RMM's `parse_csv` and `replay` go through a log: known columns, known actions, every free of
/// a block that was allocated before and not freed since.
#[test]
fn rmms_replay_can_follow_a_csv_of_many_threads() {
    for base in backends() {
        let path = temporary(&format!("{}.csv", base.name()));
        let pool = base
            .log(LogFormat::RmmCsv, LogSink::File(path.clone()))
            .unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for i in 0..200_usize {
                        let mut buffer = ResizableBuffer::zeroed(i % 90 + 1, pool).unwrap();
                        buffer.resize((i * 31 + thread) % 3000 + 1, true).unwrap();
                        kept.push(buffer);
                        if i % 3 == 0 {
                            kept.swap_remove(i % kept.len());
                        }
                    }
                });
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().next(),
            Some("Thread,Time,Action,Pointer,Size,Stream")
        );
        let mut live = HashMap::new();
        let mut threads = std::collections::HashSet::new();
        let mut rows = 0;
        for line in text.lines().skip(1) {
            let row: Vec<_> = line.split(',').collect();
            let [thread, time, action, pointer, size, stream] = row[..] else {
                panic!("{line}");
            };
            assert_eq!(
                (time.len(), &time[2..3], &time[8..9], stream),
                (15, ":", ".", "0")
            );
            threads.insert(thread.parse::<usize>().unwrap());
            let pointer = u64::from_str_radix(pointer.strip_prefix("0x").unwrap(), 16).unwrap();
            let size: usize = size.parse().unwrap();
            match action {
                "allocate" => assert_eq!(live.insert(pointer, size), None, "{line}"),
                "free" => assert_eq!(live.remove(&pointer), Some(size), "{line}"),
                _ => panic!("{line}"),
            }
            rows += 1;
        }
        assert!(live.is_empty());
        assert_eq!(threads.len(), 4);
        assert!(rows >= 4 * 200 * 2);
        assert_eq!(read_log(&path).unwrap().filter(Result::is_ok).count(), rows);
        std::fs::remove_file(path).unwrap();
    }
}

/// Lines of many threads never mix, each one call of the writer.
#[test]
fn one_event_is_one_write() {
    struct Calls(Arc<Mutex<Vec<String>>>);
    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.lock().unwrap().push(text);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for format in FORMATS {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let sink = LogSink::Writer(Box::new(Calls(Arc::clone(&calls))));
        let pool = system_memory_pool().log(format, sink).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for size in 1..100 {
                        drop(MutableBuffer::zeroed(size, &pool).unwrap());
                    }
                });
            }
        });
        let calls = calls.lock().unwrap();
        let header = usize::from(format.header().is_some());
        assert_eq!(calls.len(), 4 * 99 * 2 + header);
        for call in &calls[header..] {
            assert!(call.ends_with('\n') && call.matches('\n').count() == 1);
        }
        assert_eq!(events(&calls.concat()).len(), 4 * 99 * 2);
    }
}

/// A sink that fails, panics or allocates from the logged pool fails no request.
#[test]
fn a_failing_sink_fails_no_allocation() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let sink = LogSink::Writer(Box::new(Full));
    let pool = system_memory_pool().log(LogFormat::Text, sink).unwrap();
    let logger = pool.logger().unwrap();
    drop(MutableBuffer::zeroed(10, &pool).unwrap());
    assert_eq!(logger.dropped(), 2);
    logger.flush();
    assert_eq!(logger.dropped(), 3);

    let sink = LogSink::Call(Arc::new(|event| assert!(event.size != 10, "on purpose")));
    let pool = system_memory_pool().log(LogFormat::Json, sink).unwrap();
    drop(MutableBuffer::zeroed(10, &pool).unwrap());
    drop(MutableBuffer::zeroed(20, &pool).unwrap());
    assert_eq!(pool.logger().unwrap().dropped(), 2);

    // A log that cannot have its header is refused; so is a file that cannot be made.
    let sink = LogSink::Writer(Box::new(Full));
    let error = system_memory_pool()
        .log(LogFormat::RmmCsv, sink)
        .unwrap_err();
    assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT");
    let nowhere = LogSink::File(PathBuf::from("/nonexistent/offheap.log"));
    let error = system_memory_pool()
        .log(LogFormat::Text, nowhere)
        .unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/offheap.log"),
        "{error}"
    );
}

#[test]
fn a_sink_may_allocate_from_the_pool_that_it_logs() {
    let seen = Arc::new(Mutex::new((None::<Pool>, Vec::new())));
    let sink = LogSink::Call({
        let seen = Arc::clone(&seen);
        Arc::new(move |event| {
            let pool = seen.lock().unwrap().0.clone();
            if let Some(pool) = pool {
                drop(MutableBuffer::zeroed(7, &pool).unwrap());
            }
            seen.lock().unwrap().1.push(event.to_string());
        })
    });
    let pool = system_memory_pool().log(LogFormat::Json, sink).unwrap();
    seen.lock().unwrap().0 = Some(pool.clone());
    drop(MutableBuffer::zeroed(100, &pool).unwrap());
    let (_, lines) = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains(r#""action":"allocate""#) && lines[0].contains(r#""size":100"#));
}

#[test]
fn an_upstream_that_refuses_is_logged_as_that() {
    let (pool, lines) = logged(&Pool::custom(Refusing), LogFormat::Text);
    assert!(MutableBuffer::zeroed(100, &pool).is_err());
    assert_eq!(
        lines.text(),
        "Allocate: size = 100, alignment = 64, failed, pool = refusing\n"
    );
}

const FLUSHED: &str = "log::a_writer_is_flushed_at_the_end";

/// A buffered writer loses nothing: it is flushed with the pool, and at exit when that still lives.
#[test]
fn a_writer_is_flushed_at_the_end() {
    let buffered = |path: &str| {
        let file = std::fs::File::create(path).unwrap();
        LogSink::Writer(Box::new(io::BufWriter::new(file)))
    };
    if is_alone() {
        let path = std::env::var("OFFHEAP_TEST_LOG").unwrap();
        let sink = buffered(&path);
        let pool = system_memory_pool().log(LogFormat::Text, sink).unwrap();
        drop(MutableBuffer::zeroed(100, &pool).unwrap());
        std::mem::forget(pool);
        return;
    }
    let path = temporary("flushed.log");
    let name = path.to_str().unwrap();
    let pool = system_memory_pool()
        .log(LogFormat::Text, buffered(name))
        .unwrap();
    drop(MutableBuffer::zeroed(100, &pool).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    drop(pool);
    assert_eq!(read_log(&path).unwrap().count(), 2);
    let output = run(FLUSHED, &[("OFFHEAP_TEST_LOG", name)]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read_log(&path).unwrap().count(), 2);
    std::fs::remove_file(path).unwrap();
}

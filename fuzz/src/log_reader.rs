//! The reader of logs: any bytes, and what our own log writes.

use offheap::{Alignment, LogFormat, LogReader, LogSink, system_memory_pool};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How many events and errors a log gives.
fn read(log: &[u8]) -> (usize, usize) {
    let (mut events, mut errors) = (0, 0);
    for event in LogReader::new(log) {
        match event {
            Ok(event) => {
                events += 1;
                // What was read can be printed.
                assert!(!event.to_string().is_empty());
            }
            Err(error) => {
                errors += 1;
                assert!(!error.to_string().is_empty());
            }
        }
        // No line gives more than a few of either.
        assert!(events + errors <= 4 * (log.len() + 1));
    }
    (events, errors)
}

/// Reads `data` as a log; then writes a log of requests of the sizes in `data`, and reads that back:
/// every event, and no error.
pub fn log_reader(data: &[u8]) {
    read(data);
    for format in [LogFormat::Text, LogFormat::Json, LogFormat::RmmCsv] {
        let written = Shared::default();
        let Ok(pool) = system_memory_pool().log(format, LogSink::Writer(Box::new(written.clone())))
        else {
            panic!("a sink that takes everything")
        };
        let mut pairs = 0;
        for pair in data.chunks(2).take(50) {
            let size = usize::from(pair[0]) * 13 + 1;
            if let Ok(block) = pool.allocate(size, Alignment::DEFAULT) {
                // SAFETY: the block just allocated.
                unsafe { pool.free(block, size, Alignment::DEFAULT) };
                pairs += 1;
            }
        }
        if let Some(logger) = pool.logger() {
            logger.flush();
        }
        let log = written
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        assert_eq!(
            read(&log),
            (2 * pairs, 0),
            "{}",
            String::from_utf8_lossy(&log)
        );
    }
}

//! What was called: a count for each symbol, and one line per call in the file of `OFFHEAP_CUDA_DOUBLE_LOG`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Counts and the file.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    counts: HashMap<&'static str, u64>,
    file: Option<File>,
    number: u64,
}

impl CallLog {
    /// Opens the file to append: several processes may share it, each line is one write.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn open(&mut self, path: Option<&Path>) -> std::io::Result<()> {
        self.file = match path {
            Some(path) => Some(File::options().create(true).append(true).open(path)?),
            None => None,
        };
        Ok(())
    }

    pub(crate) fn count(&mut self, symbol: &'static str) {
        *self.counts.entry(symbol).or_default() += 1;
    }

    pub(crate) fn calls(&self, symbol: &str) -> u64 {
        self.counts.get(symbol).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(crate) fn clear(&mut self) {
        self.counts.clear();
    }

    /// `number pid tid symbol name=value … -> code`.
    pub(crate) fn call(&mut self, symbol: &str, arguments: &[(&str, u64)], code: u32) {
        if self.file.is_none() {
            return;
        }
        let mut line = String::from(symbol);
        for (name, value) in arguments {
            // Writing to a string cannot fail.
            let _ = write!(line, " {name}={value:#x}");
        }
        let _ = write!(line, " -> {code}");
        self.line(&line);
    }

    pub(crate) fn line(&mut self, text: &str) {
        let Some(file) = &mut self.file else { return };
        self.number += 1;
        // SAFETY: neither takes arguments; both always succeed.
        let (process, thread) = unsafe { (libc::getpid(), libc::gettid()) };
        let line = format!("{} {process} {thread} {text}\n", self.number);
        // A log that cannot be written must not change what the program under test sees.
        let _ = file.write_all(line.as_bytes());
    }
}

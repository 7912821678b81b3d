//! How memory is made and opened.

use offheap::{Error, Result};

/// How [`SharedMemory::create`](crate::SharedMemory::create) makes memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedMemoryOptions {
    /// What the memory is called in listings of the system (`/proc/<pid>/maps` on Linux; unused where names
    /// are random): at most 200 bytes, and no zero byte. It says nothing to handles.
    pub label: String,
    /// Takes the pages now, so that running out of them is an error here. Otherwise a page is taken when
    /// it is first written, and a system without any then ends a process, as for ordinary memory. Where
    /// Linux does not overcommit (`vm.overcommit_memory` 2), and on Windows, memory is always reserved.
    pub reserve: bool,
    /// Whether [`freeze`](crate::SharedMemory::freeze) can be called later. Without it the seals are final
    /// from the start: nobody can add one.
    pub freezable: bool,
}

/// The longest label: Linux takes names of up to 249 bytes.
const MAX_LABEL: usize = 200;

impl SharedMemoryOptions {
    /// # Errors
    /// [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for the label, on every system.
    pub(crate) fn check(&self) -> Result<()> {
        if self.label.len() > MAX_LABEL || self.label.contains('\0') {
            return Err(Error::invalid_argument(
                "label",
                format_args!("{:?}", self.label),
                "at most 200 bytes without a zero byte",
            ));
        }
        Ok(())
    }
}

/// How [`SharedMemory::open`](crate::SharedMemory::open) opens memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Only for reading: writing through this opening is impossible, by the system's page tables.
    pub read_only: bool,
}

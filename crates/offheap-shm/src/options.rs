//! How memory is made and opened.

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

/// How [`SharedMemory::open`](crate::SharedMemory::open) opens memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Only for reading: writing through this opening is impossible, by the system's page tables.
    pub read_only: bool,
}

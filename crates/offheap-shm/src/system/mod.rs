//! What each system has: making an object of memory, mapping it, and finding it from another process.
//!
//! Each gives the same names: `Owned`, what keeps the memory open for others; `create` and `open`;
//! `page_size`; `Mapping`.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(target_vendor = "apple")]
mod macos;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod process;
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod unix_mapping;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    windows
)))]
mod unsupported;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
mod windows_mapping;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use linux::{Owned, create, open, page_size};
#[cfg(target_vendor = "apple")]
pub(crate) use macos::{Owned, create, open, page_size};
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(crate) use unix_mapping::Mapping;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    windows
)))]
pub(crate) use unsupported::{Mapping, Owned, create, open, page_size};
#[cfg(windows)]
pub(crate) use windows::{Owned, create, open, page_size};
#[cfg(windows)]
pub(crate) use windows_mapping::Mapping;

use crate::key::Place;
use crate::options::SharedMemoryOptions;
use crate::secret::Secret;

/// What is to be made.
pub(crate) struct Wanted<'a> {
    /// Bytes of data.
    pub(crate) size: usize,
    /// Bytes of the system's memory: [`whole`](crate::trailer::whole) pages.
    pub(crate) whole: usize,
    /// Of the first byte.
    pub(crate) alignment: usize,
    #[cfg_attr(
        not(unix),
        expect(
            dead_code,
            reason = "nothing is named, sealed or left unreserved there"
        )
    )]
    pub(crate) options: &'a SharedMemoryOptions,
    /// For the trailer, which is written before anybody else can open the memory.
    pub(crate) secret: &'a Secret,
}

/// Where others find memory.
pub(crate) struct Address {
    pub(crate) process: u32,
    pub(crate) descriptor: u32,
    pub(crate) place: Place,
}

/// What is to be found.
pub(crate) struct Sought<'a> {
    pub(crate) process: u32,
    pub(crate) descriptor: u32,
    pub(crate) place: &'a Place,
    /// Bytes of data, as the handle says.
    pub(crate) size: usize,
    /// Bytes of the system's memory, if the handle's size is right.
    pub(crate) whole: usize,
    pub(crate) secret: &'a Secret,
    pub(crate) access: Access,
}

/// What a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whoever writes ends the process.
    Read,
    /// What is written goes to pages of the mapping's own; on macOS, to the memory.
    ReadPrivately,
    Write,
}

#[cfg(any(target_vendor = "apple", windows))]
impl Sought<'_> {
    /// Whether this is what systems with names make: a name of so many bytes, and the process, which is so
    /// in both places of the handle.
    fn is_of_name(&self, bytes: usize) -> bool {
        let (process, rest) = self.place[bytes..].split_at(4);
        self.process != 0
            && self.descriptor == 0
            && process == self.process.to_le_bytes()
            && rest.iter().all(|byte| *byte == 0)
    }
}

//! Nobody can pull pages from under a mapping.

use super::errno;
use crate::peer::Peer;
use crate::why;
use offheap_shm::{OpenOptions, SharedMemory, SharedMemoryHandle, SharedMemoryOptions};
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};

const INVALID: &str = "ERR_OFFHEAP_INVALID_ARGUMENT";
const RO: OpenOptions = OpenOptions { read_only: true };
const RW: OpenOptions = OpenOptions { read_only: false };

fn options(freezable: bool) -> SharedMemoryOptions {
    SharedMemoryOptions {
        freezable,
        ..SharedMemoryOptions::default()
    }
}

#[test]
fn the_size_is_final() {
    let mut peer = Peer::start();
    for freezable in [false, true] {
        let memory = SharedMemory::create(8192, &options(freezable)).unwrap();
        memory.write(8191, &[1]).unwrap();
        let handle = memory.handle().unwrap();
        for size in [0, 1, 8192, 1 << 20] {
            let command = format!("truncate {} {} {size}", handle.process, handle.descriptor);
            assert_eq!(peer.must(&command), libc::EPERM.to_string());
        }
        let mut byte = [0];
        memory.read(8191, &mut byte).unwrap();
        assert_eq!(byte, [1]);
    }
}

#[test]
fn only_its_user_may_open_the_file_and_it_is_no_program() {
    let memory = SharedMemory::create(1, &options(false)).unwrap();
    let descriptor = memory.handle().unwrap().descriptor;
    let about = std::fs::metadata(format!("/proc/self/fd/{descriptor}")).unwrap();
    assert_eq!(about.mode() & 0o7777, 0o600);
    // SAFETY: F_GETFD takes no argument.
    let flags = unsafe { libc::fcntl(descriptor as i32, libc::F_GETFD) };
    assert_eq!(flags, libc::FD_CLOEXEC);
}

#[test]
fn what_was_opened_for_reading_cannot_become_writable() {
    let memory = SharedMemory::create(8192, &options(false)).unwrap();
    let opened = SharedMemory::open(&memory.handle().unwrap(), RO).unwrap();
    // SAFETY: only asks for more rights to pages of ours, which nobody uses here.
    let result = unsafe {
        libc::mprotect(
            opened.as_ptr().as_ptr().cast(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
        )
    };
    assert_eq!((result, errno()), (-1, libc::EACCES));
}

#[test]
fn frozen_memory_is_opened_for_reading_alone() {
    let memory = SharedMemory::create(100, &options(true)).unwrap();
    let handle = memory.handle().unwrap();
    let early = SharedMemory::open(&handle, RW).unwrap();
    memory.freeze().unwrap();
    memory.freeze().unwrap();
    assert_eq!(
        why(SharedMemory::open(&handle, RW)),
        "ERR_OFFHEAP_IMMUTABLE"
    );
    let late = SharedMemory::open(&handle, RO).unwrap();
    // Who could write still can.
    memory.write(0, &[1]).unwrap();
    early.write(1, &[2]).unwrap();
    let mut bytes = [0; 2];
    late.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2]);
    // And revoking needs no new right to write.
    memory.revoke().unwrap();
    assert_eq!(why(memory.freeze()), "ERR_OFFHEAP_DISPOSED");
    let never = SharedMemory::create(100, &options(false)).unwrap();
    assert_eq!(why(never.freeze()), "ERR_OFFHEAP_NOT_SUPPORTED");
    SharedMemory::open(&never.handle().unwrap(), RW).unwrap();
}

/// A file as [`SharedMemory::create`] makes it, but for what a forger changes.
struct Forged {
    name: &'static CStr,
    flags: u32,
    seals: i32,
    file_size: u64,
    /// What the handle says.
    size: u64,
    /// What the trailer says.
    trailer_size: u64,
    trailer_at: u64,
}

const TRUE: Forged = Forged {
    name: c"offheap",
    flags: libc::MFD_ALLOW_SEALING,
    seals: libc::F_SEAL_SHRINK | libc::F_SEAL_GROW,
    file_size: 8192,
    size: 8128,
    trailer_size: 8128,
    trailer_at: 8128,
};

impl Forged {
    fn open(&self, options: OpenOptions) -> String {
        // SAFETY: the name is a C string.
        let made = unsafe { libc::memfd_create(self.name.as_ptr(), self.flags) };
        if made < 0 {
            return format!("errno {}", errno());
        }
        // SAFETY: a new descriptor that nobody else has.
        let file = unsafe { File::from_raw_fd(made) };
        file.set_len(self.file_size).unwrap();
        let secret = [0x5a; 16];
        let mut trailer = [0; 64];
        trailer[..8].copy_from_slice(b"offheap\n");
        trailer[8] = 1;
        trailer[16..24].copy_from_slice(&self.trailer_size.to_le_bytes());
        trailer[24..40].copy_from_slice(&secret);
        if self.flags & libc::MFD_HUGETLB == 0 {
            file.write_all_at(&trailer, self.trailer_at).unwrap();
            file.set_len(self.file_size).unwrap();
        }
        if self.seals != 0 {
            // SAFETY: F_ADD_SEALS takes an integer.
            let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, self.seals) };
            assert_eq!(sealed, 0);
        }
        let about = file.metadata().unwrap();
        // No start, and no namespace: those are not asked then.
        let mut key = vec![b'L', 1];
        for number in [about.dev(), about.ino(), 0, 0] {
            key.extend(number.to_le_bytes());
        }
        key.extend(secret);
        let handle = SharedMemoryHandle {
            process: std::process::id(),
            descriptor: file.as_raw_fd() as u32,
            size: self.size,
            key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        match SharedMemory::open(&handle, options) {
            Ok(memory) => format!("opened {}", memory.len()),
            Err(error) => error.code().to_owned(),
        }
    }
}

#[test]
fn a_file_that_could_shrink_is_never_mapped() {
    assert_eq!(TRUE.open(RW), "opened 8128");
    assert_eq!(TRUE.open(RO), "opened 8128");
    for seals in [
        0,
        libc::F_SEAL_SHRINK,
        libc::F_SEAL_GROW,
        libc::F_SEAL_WRITE,
    ] {
        assert_eq!(Forged { seals, ..TRUE }.open(RW), INVALID, "{seals}");
        assert_eq!(Forged { seals, ..TRUE }.open(RO), INVALID, "{seals}");
    }
    // Without the flag it can never be sealed.
    let unsealable = Forged {
        flags: 0,
        seals: 0,
        ..TRUE
    };
    assert_eq!(unsealable.open(RO), INVALID);
}

#[test]
fn a_size_that_is_not_the_file_s_is_never_mapped() {
    for (file_size, size) in [
        (4096, 8128),
        (12_288, 8128),
        (0, 8128),
        (8191, 8128),
        (0, 0),
    ] {
        let lying = Forged {
            file_size,
            size,
            ..TRUE
        };
        assert_eq!(lying.open(RO), INVALID, "{file_size} {size}");
    }
    // The file's size is right, and the data's is not.
    for size in [8127, 4033] {
        assert_eq!(Forged { size, ..TRUE }.open(RO), INVALID, "{size}");
    }
    let elsewhere = Forged {
        trailer_at: 8000,
        ..TRUE
    };
    assert_eq!(elsewhere.open(RO), INVALID);
    let other = Forged {
        trailer_size: 1 << 40,
        ..TRUE
    };
    assert_eq!(other.open(RO), INVALID);
}

#[test]
fn other_kinds_of_files_are_never_mapped() {
    let renamed = Forged {
        name: c"another",
        ..TRUE
    };
    assert_eq!(renamed.open(RO), "ERR_OFFHEAP_DISPOSED");
    // Huge pages that are missing when they are touched end a process.
    let huge = Forged {
        flags: libc::MFD_ALLOW_SEALING | libc::MFD_HUGETLB,
        file_size: 2 << 20,
        size: (2 << 20) - 64,
        ..TRUE
    };
    let result = huge.open(RO);
    assert!(result == INVALID || result.starts_with("errno"), "{result}");
    // A frozen one, from whatever seal.
    for seal in [libc::F_SEAL_WRITE, libc::F_SEAL_FUTURE_WRITE] {
        let frozen = Forged {
            seals: TRUE.seals | seal,
            ..TRUE
        };
        assert_eq!(frozen.open(RW), "ERR_OFFHEAP_IMMUTABLE");
        assert_eq!(frozen.open(RO), "opened 8128");
    }
}

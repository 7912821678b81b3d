//! The state of an event that several processes use, in memory that they share.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::result::{CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_OPERATING_SYSTEM, CUresult};

const MAGIC: u64 = 0x4F48_4355_4441_4556;
const SIZE: usize = 4096;

/// The words in the file. Recordings have numbers, whichever process makes them.
#[repr(C)]
struct State {
    magic: AtomicU64,
    nonce: AtomicU64,
    /// The number of the last recording.
    recorded: AtomicU64,
    /// The number of the last recording that has run.
    completed: AtomicU64,
    /// The last recording that somebody waits for.
    wanted: AtomicU64,
    /// The process that made the last recording.
    recorder: AtomicU64,
    /// Set when the exporter destroys it.
    destroyed: AtomicU64,
}

/// One event of several processes.
#[derive(Debug)]
pub(crate) struct SharedEvent {
    file: File,
    state: *const State,
}

// SAFETY: the state is only accessed through atomics, and stays mapped until the object is dropped.
unsafe impl Send for SharedEvent {}
// SAFETY: as above.
unsafe impl Sync for SharedEvent {}

impl SharedEvent {
    /// # Errors
    /// `CUDA_ERROR_OPERATING_SYSTEM` when the operating system refuses.
    pub(crate) fn create() -> Result<Self, CUresult> {
        // SAFETY: the name is a literal that ends in NUL.
        let fd =
            unsafe { libc::memfd_create(c"offheap-cuda-double-event".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(CUDA_ERROR_OPERATING_SYSTEM);
        }
        // SAFETY: just opened, and nobody else has it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.set_len(SIZE as u64)
            .map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)?;
        let event = Self::map(file)?;
        let mut nonce = [0_u8; 8];
        // SAFETY: the buffer is 8 bytes long.
        if unsafe { libc::getrandom(nonce.as_mut_ptr().cast(), 8, 0) } != 8 {
            return Err(CUDA_ERROR_OPERATING_SYSTEM);
        }
        event
            .state()
            .nonce
            .store(u64::from_ne_bytes(nonce), Ordering::Relaxed);
        event.state().magic.store(MAGIC, Ordering::Release);
        Ok(event)
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE` when the file is not the one meant.
    pub(crate) fn open(file: File, nonce: u64) -> Result<Self, CUresult> {
        if file
            .metadata()
            .map_err(|_| CUDA_ERROR_INVALID_HANDLE)?
            .len()
            != SIZE as u64
        {
            return Err(CUDA_ERROR_INVALID_HANDLE);
        }
        let event = Self::map(file)?;
        let state = event.state();
        let genuine = state.magic.load(Ordering::Acquire) == MAGIC
            && state.nonce.load(Ordering::Relaxed) == nonce
            && state.destroyed.load(Ordering::Acquire) == 0;
        if genuine {
            Ok(event)
        } else {
            Err(CUDA_ERROR_INVALID_HANDLE)
        }
    }

    fn map(file: File) -> Result<Self, CUresult> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no fixed address, so nothing that exists is replaced.
        let state = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if state == libc::MAP_FAILED {
            return Err(CUDA_ERROR_OPERATING_SYSTEM);
        }
        Ok(Self {
            file,
            state: state.cast(),
        })
    }

    fn state(&self) -> &State {
        // SAFETY: mapped for as long as `self`, aligned to a page, zeroes or valid words, atomics only.
        unsafe { &*self.state }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn nonce(&self) -> u64 {
        self.state().nonce.load(Ordering::Relaxed)
    }

    /// Begins a recording and returns its number.
    pub(crate) fn record(&self) -> u64 {
        self.state()
            .recorder
            .store(u64::from(std::process::id()), Ordering::Release);
        self.state().recorded.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn recorded(&self) -> u64 {
        self.state().recorded.load(Ordering::Acquire)
    }

    pub(crate) fn complete(&self, generation: u64) {
        self.state()
            .completed
            .fetch_max(generation, Ordering::AcqRel);
    }

    /// Whether a recording has run, or never will because the process that made it is gone.
    pub(crate) fn is_complete(&self, generation: u64) -> bool {
        if self.state().completed.load(Ordering::Acquire) >= generation {
            return true;
        }
        let recorder = self.state().recorder.load(Ordering::Acquire);
        recorder != 0 && is_gone(recorder)
    }

    /// Asks the process that made a recording to let its stream run that far.
    pub(crate) fn want(&self, generation: u64) {
        self.state().wanted.fetch_max(generation, Ordering::AcqRel);
    }

    pub(crate) fn wanted(&self) -> u64 {
        self.state().wanted.load(Ordering::Acquire)
    }

    pub(crate) fn destroy(&self) {
        self.state().destroyed.store(1, Ordering::Release);
    }
}

/// Whether a process has ended. One that nobody has waited for yet has.
fn is_gone(process: u64) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/stat")) else {
        return true;
    };
    // `pid (name) state …`, where the name may hold anything.
    matches!(status.rsplit(')').next().map(str::trim_start), Some(rest) if rest.starts_with(['Z', 'X']))
}

impl Drop for SharedEvent {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this size, and nobody else has the pointer.
        unsafe { libc::munmap(self.state.cast_mut().cast(), SIZE) };
    }
}

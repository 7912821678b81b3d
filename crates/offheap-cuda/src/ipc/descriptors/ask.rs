//! Asking a maker for one of its allocations.

use super::desk::{is_own, own_namespace};
use super::message::{Answer, Page, Question};
use super::socket;
use crate::ipc::CudaPoolHandle;
use offheap::{Error, ErrorKind, Result};
use offheap_shm::{OpenOptions, SharedMemory};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A maker answers in a thread that does nothing else; this long it is held up only when it is stopped.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a maker gave.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The pool's name.
    pub(crate) pool: [u8; 16],
    /// The GPU's UUID.
    pub(crate) device: [u8; 16],
    /// What the driver finds the allocation in the pool by.
    pub(crate) pointer: [u8; 64],
    /// Bytes of the allocation.
    pub(crate) size: u64,
    /// The pool's.
    pub(crate) descriptor: OwnedFd,
}

#[cold]
fn gone() -> Error {
    Error::new(ErrorKind::Disposed {
        what: "memory of another process's pool",
    })
}

#[cold]
fn invalid(got: &'static str) -> Error {
    Error::invalid_argument("handle", got, "a handle as its maker gave it")
}

/// What the system says of a conversation.
fn refused(error: &io::Error) -> Error {
    use io::ErrorKind as Io;
    match error.kind() {
        // The maker, or its thread's descriptor of this, is gone.
        Io::ConnectionRefused
        | Io::ConnectionReset
        | Io::BrokenPipe
        | Io::NotConnected
        | Io::UnexpectedEof => gone(),
        Io::WouldBlock | Io::TimedOut => Error::device_unavailable(
            "no-answer",
            format!("the maker of the memory did not answer for {PATIENCE:?}"),
        ),
        _ => {
            let reason = match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => "descriptors",
                Some(libc::EACCES | libc::EPERM) => "permission",
                _ => "system",
            };
            Error::device_unavailable(reason, format!("asking the maker of the memory: {error}"))
        }
    }
}

/// Asks the maker of a handle for its allocation.
///
/// Nothing of the handle is believed: that its process is the one that made it, and of this user, is the
/// system's word, and the rest is the maker's.
///
/// # Errors
/// As [`open_memory`](crate::open_memory) says of pools' memory.
pub(crate) fn ask(handle: &CudaPoolHandle) -> Result<Taken> {
    if is_own(&handle.maker) {
        return Err(invalid("one of this process"));
    }
    let memory = SharedMemory::open(&handle.maker, OpenOptions { read_only: true })?;
    let mut bytes = [0; Page::BYTES];
    if memory.len() != bytes.len() {
        return Err(invalid("one of other memory"));
    }
    memory.read(0, &mut bytes)?;
    let page = Page::decode(&bytes).ok_or_else(|| invalid("one of another version"))?;
    let own = own_namespace();
    if page.namespace != 0 && own != 0 && page.namespace != own {
        return Err(Error::not_supported(
            "the memory is of a process in another network namespace, whose sockets cannot be reached from here",
        ));
    }
    let (answer, descriptor) = converse(handle, &page).map_err(|error| refused(&error))?;
    match Answer::decode(&answer) {
        Some(Answer::Given(given)) => Ok(Taken {
            pool: given.pool,
            device: given.device,
            pointer: given.pointer,
            size: given.size,
            // The system drops it where this process has no number left for it.
            descriptor: descriptor.ok_or_else(|| {
                Error::device_unavailable("descriptors", "no file descriptor is left for the pool")
            })?,
        }),
        Some(Answer::Gone) => Err(gone()),
        Some(Answer::Unknown) => Err(invalid("one that its maker did not give")),
        None => Err(invalid("one of another version")),
    }
}

fn converse(
    handle: &CudaPoolHandle,
    page: &Page,
) -> io::Result<([u8; Answer::BYTES], Option<OwnedFd>)> {
    let stream = socket::connect(&page.socket(), PATIENCE)?;
    let listener = socket::peer(&stream)?;
    // The maker has ended and somebody else took the name: who knows it may, and is not told the secret.
    if listener.uid != socket::own_user() || u32::try_from(listener.pid) != Ok(handle.maker.process)
    {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let question = Question {
        number: handle.number,
        secret: handle.secret,
    };
    socket::send(&stream, &question.encode(), None)?;
    let mut answer = [0; Answer::BYTES];
    let (received, descriptor) = socket::receive(&stream, &mut answer)?;
    if received != answer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((answer, descriptor))
}

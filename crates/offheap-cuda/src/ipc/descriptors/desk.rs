//! Where other processes ask: a thread and its socket, from the first export to the end of the process.

use super::message::{Answer, Page, Question};
use super::offers;
use super::socket;
use offheap::{Error, ErrorKind, Result};
use offheap_shm::{Secret, SharedMemory, SharedMemoryHandle, SharedMemoryOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long one who asks may take: others wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Without descriptors or memory nobody is let in: a pause, and another try.
const PAUSE: Duration = Duration::from_millis(10);

static PAGE: Mutex<Option<SharedMemory>> = Mutex::new(None);

/// The memory that says where this process can be asked; the first call opens the desk.
///
/// # Errors
/// [`DeviceUnavailable`](ErrorKind::DeviceUnavailable) when the system has no descriptor, thread or random bits.
pub(crate) fn maker() -> Result<SharedMemoryHandle> {
    let mut page = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *page {
        Some(page) => page.handle(),
        empty => empty.insert(open()?).handle(),
    }
}

/// Whether a handle's memory is what [`maker`] says of this process.
pub(super) fn is_own(handle: &SharedMemoryHandle) -> bool {
    let page = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let own = page.as_ref().and_then(|page| page.handle().ok());
    own.as_ref() == Some(handle)
}

/// The network namespace of this process; 0 where the system does not say.
pub(super) fn own_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/net").map_or(0, |found| found.ino())
}

fn refused(call: &str, error: &io::Error) -> Error {
    let reason = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => "descriptors",
        _ => "system",
    };
    Error::device_unavailable(reason, format!("{call}, to share pools: {error}"))
}

fn open() -> Result<SharedMemory> {
    let told = Page {
        namespace: own_namespace(),
        name: Secret::new()?.bytes(),
    };
    let page = SharedMemory::create(
        Page::BYTES,
        &SharedMemoryOptions {
            label: "cuda-pools".to_owned(),
            freezable: true,
            ..SharedMemoryOptions::default()
        },
    )?;
    page.write(0, &told.encode())?;
    match page.freeze() {
        Err(error) if !matches!(error.kind(), ErrorKind::NotSupported { .. }) => return Err(error),
        _ => {}
    }
    let listener = SocketAddr::from_abstract_name(told.socket())
        .and_then(|address| UnixListener::bind_addr(&address))
        .map_err(|error| refused("a socket", &error))?;
    std::thread::Builder::new()
        .name("offheap-cuda-fd".to_owned())
        .spawn(move || {
            loop {
                match listener.accept() {
                    // One who asks wrongly, or goes, is no concern of the next.
                    Ok((stream, _)) => drop(serve(&stream)),
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
        })
        .map_err(|error| refused("a thread", &error))?;
    Ok(page)
}

fn serve(mut stream: &UnixStream) -> io::Result<()> {
    // The name alone is no secret: the system lists it for everybody.
    if socket::peer(stream)?.uid != socket::own_user() {
        return Ok(());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut question = [0; Question::BYTES];
    stream.read_exact(&mut question)?;
    let (answer, pool) = match Question::decode(&question) {
        Some(question) => offers::answer(&question),
        None => (Answer::Unknown, None),
    };
    let descriptor = pool.as_ref().map(|pool| pool.descriptor.as_fd());
    socket::send(stream, &answer.encode(), descriptor)
}

#[cfg(test)]
mod tests {
    use super::super::offers::{SharedPool, offer, withdraw};
    use super::*;
    use std::os::fd::AsRawFd;
    use std::sync::Arc;

    /// What comes back for these bytes.
    fn told(question: &[u8]) -> (usize, Option<Answer>, bool) {
        let (here, there) = UnixStream::pair().unwrap();
        socket::send(&here, question, None).unwrap();
        here.shutdown(std::net::Shutdown::Write).unwrap();
        let served = serve(&there);
        assert_eq!(served.is_ok(), question.len() >= Question::BYTES);
        drop(there);
        let mut bytes = [0; Answer::BYTES];
        let (received, descriptor) = socket::receive(&here, &mut bytes).unwrap();
        (received, Answer::decode(&bytes), descriptor.is_some())
    }

    #[test]
    fn a_question_is_answered_and_nothing_else_is() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let number_here = file.as_raw_fd();
        let pool = Arc::new(SharedPool {
            descriptor: file.into(),
            name: [1; 16],
            device: [2; 16],
        });
        assert!(number_here > 2);
        let (number, secret) = offer(pool, [3; 64], 4).unwrap();
        let good = Question { number, secret }.encode();
        let (received, answer, has_descriptor) = told(&good);
        assert!(received == Answer::BYTES && has_descriptor);
        assert!(matches!(answer, Some(Answer::Given(given)) if given.size == 4));
        let mut forged = good;
        forged[23] ^= 1;
        let unknown = (Answer::BYTES, Some(Answer::Unknown), false);
        assert_eq!(told(&forged), unknown);
        assert_eq!(told(&[0xFF; Question::BYTES]), unknown);
        for cut in [0, 1, Question::BYTES - 1] {
            assert_eq!(told(&good[..cut]).0, 0, "{cut}");
        }
        withdraw(number);
        assert_eq!(told(&good), (Answer::BYTES, Some(Answer::Gone), false));
    }

    #[test]
    fn the_page_says_where_the_desk_is_and_nobody_writes_it() {
        let handle = maker().unwrap();
        assert_eq!(maker().unwrap(), handle);
        assert!(is_own(&handle));
        let options = offheap_shm::OpenOptions { read_only: true };
        let page = SharedMemory::open(&handle, options).unwrap();
        let mut bytes = [0; Page::BYTES];
        page.read(0, &mut bytes).unwrap();
        let told = Page::decode(&bytes).unwrap();
        assert_eq!(told.namespace, own_namespace());
        let stream = socket::connect(&told.socket(), Duration::from_secs(60)).unwrap();
        let question = Question {
            number: u64::MAX,
            secret: Secret::new().unwrap(),
        };
        socket::send(&stream, &question.encode(), None).unwrap();
        let mut answer = [0; Answer::BYTES];
        let (received, _) = socket::receive(&stream, &mut answer).unwrap();
        assert_eq!(received, Answer::BYTES);
        assert_eq!(Answer::decode(&answer), Some(Answer::Unknown));
        // (Linux before 5.1 cannot freeze memory.)
        let writable = offheap_shm::OpenOptions { read_only: false };
        let error = SharedMemory::open(&handle, writable).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_IMMUTABLE");
    }
}

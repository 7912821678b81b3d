//! Sockets that send descriptors, as far as the standard library has none.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::time::Duration;

/// Room for one descriptor beside a message, aligned as the system wants it.
type Control = [u64; 4];

const DESCRIPTOR: u32 = size_of::<RawFd>() as u32;

fn result(value: isize) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::Error::last_os_error())
}

/// Calls again while signals interrupt.
fn uninterrupted(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match result(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// A stream to the socket with an abstract name; this and all that is done with it waits at most so long.
pub(super) fn connect(name: &[u8], patience: Duration) -> io::Result<UnixStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: integers alone.
    let made = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    let stream = UnixStream::from(unsafe { OwnedFd::from_raw_fd(made) });
    stream.set_read_timeout(Some(patience))?;
    // Connecting counts as writing: it waits while too many others do.
    stream.set_write_timeout(Some(patience))?;
    // SAFETY: a struct of integers.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // An abstract name begins with a zero and has no end but its length.
    let Some(path) = address.sun_path.get_mut(1..=name.len()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    for (to, from) in path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let length = mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    uninterrupted(|| {
        let address = (&raw const address).cast();
        // SAFETY: as many bytes of an address, which the call only reads.
        let code = unsafe { libc::connect(stream.as_raw_fd(), address, length as libc::socklen_t) };
        code as isize
    })?;
    Ok(stream)
}

/// Who is at the other end: who connected, or who listened.
pub(super) fn peer(stream: &UnixStream) -> io::Result<libc::ucred> {
    let mut found = libc::ucred {
        pid: 0,
        uid: libc::uid_t::MAX,
        gid: libc::gid_t::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the out-pointers are ours, and the length is the struct's.
    let code = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    result(code as isize)?;
    Ok(found)
}

/// This user, as files and [`peer`] have it.
pub(super) fn own_user() -> libc::uid_t {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() }
}

fn message(bytes: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: a struct of integers and pointers that may be null.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: arithmetic.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(DESCRIPTOR) } as _;
    message
}

/// Sends all bytes at once, and a descriptor with them.
pub(super) fn send(
    stream: &UnixStream,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control: Control = [0; 4];
    let mut message = message(&mut vector, &mut control);
    match descriptor {
        // SAFETY: the message's control has room for one descriptor, so the first header and its data are in it.
        Some(descriptor) => unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(DESCRIPTOR) as _;
            let data: *mut RawFd = libc::CMSG_DATA(header).cast();
            data.write_unaligned(descriptor.as_raw_fd());
        },
        None => {
            message.msg_control = ptr::null_mut();
            message.msg_controllen = 0;
        }
    }
    let sent = uninterrupted(|| {
        // SAFETY: the message points to what lives here; the call only reads.
        unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }
    })?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Receives as many bytes as there are, and the descriptor that came with them.
pub(super) fn receive(
    stream: &UnixStream,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control: Control = [0; 4];
    let mut message = message(&mut vector, &mut control);
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_WAITALL;
    let received = uninterrupted(|| {
        // SAFETY: the message points to what lives here and may be written.
        unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, flags) }
    })?;
    // SAFETY: the system has filled the control as far as its length now says. One that is whole is in it, and the
    // descriptor is new here and nobody else's; of more than one, the system has closed what has no room.
    let descriptor = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_one = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize == libc::CMSG_LEN(DESCRIPTOR) as usize;
        is_one.then(|| {
            let data: *const RawFd = libc::CMSG_DATA(header).cast();
            OwnedFd::from_raw_fd(data.read_unaligned())
        })
    };
    Ok((received, descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_descriptor_goes_with_its_message() {
        let (here, there) = UnixStream::pair().unwrap();
        // SAFETY: the name is a C string.
        let raw = unsafe { libc::memfd_create(c"test".as_ptr(), 0) };
        // SAFETY: a new descriptor.
        let mut file = unsafe { File::from_raw_fd(raw) };
        file.write_all(b"the same").unwrap();
        send(&here, b"one", Some(file.as_fd())).unwrap();
        send(&here, b"two", None).unwrap();
        drop(here);
        let mut bytes = [0; 3];
        let (received, descriptor) = receive(&there, &mut bytes).unwrap();
        assert_eq!((received, &bytes), (3, b"one"));
        let mut other = File::from(descriptor.unwrap());
        // SAFETY: F_GETFD takes no argument.
        let flags = unsafe { libc::fcntl(other.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
        other.rewind().unwrap();
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text, "the same");
        let (received, descriptor) = receive(&there, &mut bytes).unwrap();
        assert_eq!((received, &bytes), (3, b"two"));
        assert!(descriptor.is_none());
        assert_eq!(receive(&there, &mut bytes).unwrap().0, 0);
    }

    #[test]
    fn who_is_at_the_other_end_is_known() {
        let name = format!("offheap-cuda-test-{}", std::process::id());
        assert_eq!(
            connect(name.as_bytes(), PATIENCE).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let stream = connect(name.as_bytes(), PATIENCE).unwrap();
        let (other, _) = listener.accept().unwrap();
        for end in [stream, other] {
            let found = peer(&end).unwrap();
            assert_eq!(found.pid as u32, std::process::id());
            assert_eq!(found.uid, own_user());
        }
        let error = connect(&[b'x'; 200], PATIENCE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

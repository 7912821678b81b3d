//! What Linux does: seals, descriptors, users, namespaces, limits.

mod forks;
mod killed;
mod limits;
mod namespaces;
mod sealing;
mod stale;
mod users;

use offheap::Result;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, fs};

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

/// Descriptors, mappings of shared memory and their resident KiB of a process.
fn counts_of(process: &str) -> (usize, usize, usize) {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("RssShmem:"))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap();
    (
        descriptors,
        maps.lines().filter(|m| m.contains("memfd:offheap")).count(),
        resident.parse().unwrap(),
    )
}

fn check(result: i32) {
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

fn limit(kind: &str, bytes: u64) {
    let kind = match kind {
        "as" => libc::RLIMIT_AS,
        "fsize" => libc::RLIMIT_FSIZE,
        _ => libc::RLIMIT_NOFILE,
    };
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    let mut now = limit;
    // SAFETY: both structs live during the calls.
    unsafe {
        check(libc::getrlimit(kind, &raw mut now));
        now.rlim_cur = bytes;
        check(libc::setrlimit(kind, &raw const now));
    }
}

/// Puts something else in a descriptor's place.
fn replace(descriptor: i32, kind: &str) {
    let mut pair = [0; 2];
    // SAFETY: these take integers, C strings and a place for two integers.
    unsafe {
        let other = match kind {
            "pipe" => {
                check(libc::pipe(pair.as_mut_ptr()));
                pair[0]
            }
            "socket" => {
                check(libc::socketpair(
                    libc::AF_UNIX,
                    libc::SOCK_STREAM,
                    0,
                    pair.as_mut_ptr(),
                ));
                pair[0]
            }
            "memfd" => libc::memfd_create(c"offheap".as_ptr(), libc::MFD_ALLOW_SEALING),
            "null" => libc::open(c"/dev/null".as_ptr(), libc::O_RDWR),
            "directory" => libc::open(c"/".as_ptr(), libc::O_RDONLY),
            _ => libc::open(c"/proc/self/exe".as_ptr(), libc::O_RDONLY),
        };
        assert!(other >= 0);
        assert_eq!(libc::dup2(other, descriptor), descriptor);
    }
}

/// Hides `/proc` from this process.
fn hide_proc() -> Result<&'static str, &'static str> {
    // SAFETY: these take integers and C strings.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0 {
            return Err("no privilege");
        }
        let none = std::ptr::null();
        check(libc::mount(
            c"none".as_ptr(),
            c"/".as_ptr(),
            none,
            libc::MS_REC | libc::MS_PRIVATE,
            none.cast(),
        ));
        check(libc::mount(
            c"none".as_ptr(),
            c"/proc".as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            none.cast(),
        ));
    }
    Ok("done")
}

/// From root to a user of no other rights.
fn become_user(id: u32) {
    // SAFETY: these take integers.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()));
        check(libc::setgid(id));
        check(libc::setuid(id));
        // As a process has it that a user has started.
        check(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0));
    }
}

/// Commands of [`Peer`](crate::peer::Peer) that only this system knows.
pub(crate) fn obey(command: &str, rest: &[&str]) -> Result<String> {
    let number = |at: usize| rest[at].parse::<u64>().unwrap();
    match command {
        "truncate" => {
            let file = File::options()
                .write(true)
                .open(format!("/proc/{}/fd/{}", rest[0], rest[1]))
                .unwrap();
            // SAFETY: ftruncate takes integers.
            let result = unsafe { libc::ftruncate(file.as_raw_fd(), number(2) as i64) };
            return Ok(if result == 0 { 0 } else { errno() }.to_string());
        }
        "limit" => limit(rest[0], number(1)),
        "replace" => replace(number(0) as i32, rest[1]),
        "hideproc" => return Ok(hide_proc().unwrap_or_else(|why| why).to_owned()),
        "setuid" => become_user(number(0) as u32),
        "exec" => {
            let program = env::current_exe().unwrap();
            panic!(
                "{}",
                Command::new(program).args(crate::peer::ARGUMENTS).exec()
            );
        }
        "fork" => {
            // SAFETY: the harness runs one test on one thread here, so the child may do as it likes.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            if child > 0 {
                // SAFETY: waits for the child, and leaves without any more ado.
                unsafe {
                    libc::waitpid(child, std::ptr::null_mut(), 0);
                    libc::_exit(0);
                }
            }
            return Ok(std::process::id().to_string());
        }
        _ => panic!("unknown command {command}"),
    }
    Ok("done".to_owned())
}

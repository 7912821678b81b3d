//! Shared memory between processes: what one makes, another opens.

mod device;
mod handles;
#[cfg(target_os = "linux")]
mod linux;
mod peer;
mod two_processes;

/// Why a call was refused: its code and, where it has one, the reason.
fn why<T: std::fmt::Debug>(result: offheap::Result<T>) -> String {
    peer::describe(&result.unwrap_err())
}

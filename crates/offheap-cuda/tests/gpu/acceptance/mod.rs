//! The cases of Arrow's suites that need a GPU, by their numbers in docs/acceptance.md.

mod buffers;
mod copies;
mod devices;
mod events;
mod exchange;
mod files;
mod foreign;
mod host;
pub(crate) mod ipc;
mod streams;

//! GPU memory: `offheap/cuda`. Nothing here looks for a driver before a function of it is called.

mod copies;
mod devices;
mod events;
mod exchange;
mod files;
mod managers;
mod memory;
mod promises;
mod registrations;
mod state;
mod status;
mod streams;
mod watch;

pub(crate) use memory::{gpu_of, own_stream};
pub(crate) use state::Cuda;

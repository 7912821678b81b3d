//! A test double of libcuda: real bytes in host memory, virtual time. Never published.
//!
//! The crate builds a shared object that exports the C symbols of the CUDA driver API. A program that loads it in
//! place of `libcuda.so.1` runs without a GPU: device memory is host memory that the CPU cannot reach at its device
//! address, streams run when somebody waits for them, and every handle is checked. README.md says what it models,
//! which environment it reads, and what it does not do. It is for Linux; elsewhere the crate is empty.

#![cfg(target_os = "linux")]
#![allow(
    non_snake_case,
    reason = "the exported functions have the names of the driver API"
)]

pub mod abi;
pub mod api;
mod arena;
mod block;
mod call_log;
mod config;
mod context;
pub mod control;
mod device;
mod driver;
mod engine;
mod entry;
mod event;
mod failures;
mod free_space;
mod ipc_handle;
mod left;
mod pool;
pub mod result;
mod shared_event;
mod stream;

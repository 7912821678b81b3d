//! The CUDA suite: on a GPU where there is one (or where OFFHEAP_CUDA_LIBRARY names its driver), else on the
//! test double of libcuda, whose library cargo puts beside this program.

mod acceptance;
mod adaptors;
mod children;
mod foreign_events;
mod memory;
mod memory_keys;
mod orders;
mod pools;
mod staged;
mod status;
mod support;
mod where_it_runs;

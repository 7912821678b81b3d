//! RMM's tests of its memory resources, on every kind of memory of ours: on a GPU where there is one (or where
//! OFFHEAP_CUDA_LIBRARY names its driver), else on the test double of libcuda. `docs/acceptance-rmm.md` has RMM's
//! cases one by one.

mod adaptors;
mod aligned;
mod arena;
mod failure_callback;
mod figures;
mod kinds;
mod mr_ref;
mod pool;
mod table;
mod threads;
#[path = "../gpu/where_it_runs.rs"]
mod where_it_runs;
mod wrong_frees;

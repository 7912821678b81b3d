//! The CUDA suite: on a GPU where there is one (or where OFFHEAP_CUDA_LIBRARY names its driver), else on the
//! test double of libcuda, whose library cargo puts beside this program.

mod adaptors;
mod basics;
mod foreign;
mod processes;
mod staged;
mod where_it_runs;

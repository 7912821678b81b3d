//! The benchmarks of the core, one part per file.

mod buffers;
mod builders;
mod c_abi;
mod figure;
mod growth;
mod measure;
mod memory;
mod page;
mod pools;
mod process;
mod random;
mod resident;
mod run;
mod scaling;
mod workload;

pub(crate) use measure::Extra;
pub(crate) use run::run;

//! The benchmarks of `crates/offheap`, with vortex-buffer as one more peer.

mod vortex;

#[cfg(unix)]
#[path = "../../../crates/offheap/benches/core/suite/mod.rs"]
mod suite;

fn main() {
    #[cfg(unix)]
    suite::run(&[suite::Extra {
        peer: "vortex",
        allocate: vortex::allocate,
        slice: vortex::slice,
        append_int64: vortex::append_int64,
        append_bool: vortex::append_bool,
    }]);
    #[cfg(not(unix))]
    eprintln!("the benchmarks of the core need a Unix system");
}

//! The core beside its peers: `cargo bench`. The suite itself is shared with `bench/rust`, which
//! adds the peers that ask for a newer Rust.

#[cfg(unix)]
mod suite;

/// None here: see `bench/rust`.
#[cfg(unix)]
const EXTRA: &[suite::Extra] = &[];

fn main() {
    #[cfg(unix)]
    suite::run(EXTRA);
    #[cfg(not(unix))]
    eprintln!("the benchmarks of the core need a Unix system");
}

//! Compiles the C programs.

fn main() {
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-changed=../../crates/offheap/include/offheap.h");
    cc::Build::new()
        .files(["c/use_case_1.c", "c/use_case_2.c", "c/use_case_3.c"])
        .include("../../crates/offheap/include")
        .warnings_into_errors(true)
        .extra_warnings(true)
        .std("c11")
        .compile("pep445");
}

//! Names the shared object `libcuda.so`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // With this name, a program that has loaded the double by its path finds it again when it
    // asks the dynamic linker for `libcuda.so`: glibc compares names before it searches.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    }
}

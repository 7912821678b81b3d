//! Names the shared object `libcuda.so`, and keeps it loaded.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // With this name, a program that has loaded the double by its path finds it again when it asks the dynamic
        // linker for `libcuda.so`: glibc compares names before it searches.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
        // Its background thread and its exit handler outlive a `dlclose`.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

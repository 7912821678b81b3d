//! Compiles expat and libxml2 from the sources that crates of the registry bundle.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let metadata = metadata();
    let expat = source_of("expat-sys", &metadata).join("expat/lib");
    cc::Build::new()
        .include(&expat)
        .files(["xmlparse.c", "xmlrole.c", "xmltok.c"].map(|file| expat.join(file)))
        .define("HAVE_MEMMOVE", None)
        .define("XML_STATIC", None)
        .define("XML_CONTEXT_BYTES", "1024")
        .define("XML_DTD", None)
        .define("XML_NS", None)
        .cargo_warnings(false)
        .compile("expat");
    let libxml2 = source_of("xml2-src", &metadata).join("vendor/libxml2-2.10.3");
    cc::Build::new()
        .include(libxml2.join("include"))
        // Reads compressed files with the zlib that libz-sys has compiled.
        .include(env::var_os("DEP_Z_INCLUDE").expect("libz-sys says where zlib.h is"))
        .files(c_files(&libxml2))
        .define("HAVE_CONFIG_H", None)
        .define("_REENTRANT", None)
        .cargo_warnings(false)
        .compile("xml2");
}

/// What cargo knows of the dependencies, as JSON.
fn metadata() -> String {
    let output = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {errors}");
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Where cargo has unpacked a crate. These are dependencies for a target that does not exist, so
/// that cargo downloads them but does not run their build scripts.
fn source_of(name: &str, metadata: &str) -> PathBuf {
    let start = format!("{name}-");
    metadata
        .split("\"manifest_path\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter_map(|path| Some(Path::new(&path.replace("\\\\", "\\")).parent()?.to_owned()))
        .find(|folder| {
            let folder = folder.file_name().unwrap_or_default();
            folder.to_string_lossy().starts_with(&start)
        })
        .unwrap_or_else(|| panic!("cargo metadata does not know {name}"))
}

fn c_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the crate has its sources")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "c"))
        .collect();
    files.sort();
    files
}

//! `docs/acceptance-rmm.md` names tests that there are.

use std::path::Path;

/// Where tests of such a name are.
fn source_of(place: &str, module: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = match place {
        "rmm" => root.join("tests/rmm"),
        "gpu" => root.join("tests/gpu"),
        "unit" => root.join("src/sub_allocator"),
        other => panic!("no tests in {other}"),
    };
    let among = folder.join("tests").join(format!("{module}.rs"));
    let file = if among.exists() {
        among
    } else {
        folder.join(format!("{module}.rs"))
    };
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn every_test_that_is_named_exists() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/acceptance-rmm.md");
    let text = std::fs::read_to_string(table).unwrap();
    let mut count = 0;
    for name in text.split('`').skip(1).step_by(2) {
        if let [place, module, test] = name.split("::").collect::<Vec<_>>()[..] {
            let source = source_of(place, module);
            assert!(source.contains(&format!("fn {test}(")), "no test {name}");
            count += 1;
        }
    }
    assert!(count > 80, "{count} names");
}

/// And every test here is in it.
#[test]
fn every_test_is_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("../../docs/acceptance-rmm.md")).unwrap();
    for file in std::fs::read_dir(root.join("tests/rmm")).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&path).unwrap();
        if module == "table" {
            continue;
        }
        for rest in source.split("#[test]\nfn ").skip(1) {
            let test = rest.split('(').next().unwrap();
            assert!(text.contains(&format!("`rmm::{module}::{test}`")), "{test}");
        }
    }
}

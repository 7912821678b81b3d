//! The guide quotes code that is tested.

use std::fs;
use std::path::Path;

/// What a module shows: the lines between its marks.
fn shown(module: &str, folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("src").join(format!("{module}.rs"))).unwrap();
    let start = format!("// [{module}]\n");
    let from = text
        .find(&start)
        .unwrap_or_else(|| panic!("{module}: {start}"))
        + start.len();
    let to = text.find("// [end]\n").unwrap();
    text[from..to].to_owned()
}

#[test]
fn the_guide_quotes_every_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(folder.join("../../docs/c-libraries.md")).unwrap();
    let mut quoted: Vec<_> = guide
        .split("```rust\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect();
    for module in ["zlib", "sqlite", "expat", "libxml2", "openssl"] {
        let shown = shown(module, folder);
        let found = quoted.iter().position(|block| *block == shown);
        let found =
            found.unwrap_or_else(|| panic!("not quoted, or in another form: {module}\n{shown}"));
        quoted.remove(found);
    }
    assert!(quoted.is_empty(), "quoted and not tested: {quoted:?}");
}

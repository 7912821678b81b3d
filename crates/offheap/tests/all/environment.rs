//! The environment variables that name the default pool: Arrow's case 104.

use crate::alone::{is_alone, run};
use offheap::{default_memory_pool, supported_memory_backends};

const NAME: &str = "environment::case_104_default_from_the_environment";

/// The default backend and what a process says to stderr, with these variables.
fn default_with(variables: &[(&str, &str)]) -> (String, String) {
    let output = run(NAME, variables);
    assert!(output.status.success());
    let stdout = String::from_utf8(output.stdout).unwrap();
    let name = stdout
        .split_once("default is <")
        .unwrap()
        .1
        .split_once('>')
        .unwrap()
        .0;
    (name.to_owned(), String::from_utf8(output.stderr).unwrap())
}

/// Case 104: a valid name chooses the backend and says nothing; an unknown one warns once, naming
/// the valid ones, and the default stays. Ours goes before Arrow's, Arrow's before Alkaid's; an
/// empty one is none.
#[test]
fn case_104_default_from_the_environment() {
    if is_alone() {
        // Threads that ask at once must not warn twice.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(default_memory_pool);
            }
        });
        println!("default is <{}>", default_memory_pool().backend_name());
        return;
    }
    const OURS: &str = "OFFHEAP_DEFAULT_MEMORY_POOL";
    const ARROWS: &str = "ARROW_DEFAULT_MEMORY_POOL";
    const ALKAIDS: &str = "ALKAID_DEFAULT_MEMORY_POOL";
    let preferred = supported_memory_backends()[0];
    assert_eq!(default_with(&[]), (preferred.to_owned(), String::new()));
    for backend in supported_memory_backends() {
        for variable in [OURS, ARROWS, ALKAIDS] {
            let (name, stderr) = default_with(&[(variable, backend)]);
            assert_eq!(
                (name.as_str(), stderr.as_str()),
                (backend, ""),
                "{variable}"
            );
        }
        let all = [(ALKAIDS, "nonsense"), (ARROWS, "nonsense"), (OURS, backend)];
        assert_eq!(default_with(&all), (backend.to_owned(), String::new()));
        let two = [(ALKAIDS, "nonsense"), (ARROWS, backend), (OURS, "")];
        assert_eq!(default_with(&two), (backend.to_owned(), String::new()));
    }
    // Names are as they are written, as in Arrow.
    for unknown in ["nonexistent", "System", " system"] {
        for variable in [OURS, ARROWS, ALKAIDS] {
            let (name, stderr) = default_with(&[(variable, unknown)]);
            assert_eq!(name, preferred);
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(stderr.contains(&format!("'{unknown}'")), "{stderr}");
            assert!(stderr.contains(variable), "{stderr}");
            for backend in supported_memory_backends() {
                assert!(stderr.contains(&format!("'{backend}'")), "{stderr}");
            }
        }
    }
    // A backend that this build lacks is as unknown.
    for backend in ["mimalloc", "jemalloc"] {
        if !supported_memory_backends().contains(&backend) {
            let (name, stderr) = default_with(&[(OURS, backend)]);
            assert_eq!((name.as_str(), stderr.lines().count()), (preferred, 1));
        }
    }
}

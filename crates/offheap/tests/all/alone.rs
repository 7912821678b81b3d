//! Tests that need a process of their own: they read totals that others change, or change what is
//! the process's own.

use std::process::{Command, Output};

/// Set in a process that runs one test alone.
const MARK: &str = "OFFHEAP_TEST_ALONE";

/// Runs `body` in a process where nothing else allocates: this test binary again, with only the
/// test `name` (its path without the crate).
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if is_alone() {
        body();
    } else {
        let output = run(name, &[]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{name} alone: {}\n{text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Whether this is such a process.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs the test `name` in a process of its own, with these environment variables.
pub(crate) fn run(name: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1");
    for prefix in ["OFFHEAP", "ARROW", "ALKAID"] {
        command.env_remove(format!("{prefix}_DEFAULT_MEMORY_POOL"));
    }
    for prefix in ["OFFHEAP", "ARROW"] {
        command.env_remove(format!("{prefix}_DEBUG_MEMORY_POOL"));
    }
    command.envs(variables.iter().copied());
    command.output().unwrap()
}

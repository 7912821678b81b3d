//! This program again, as another process that plays a part.

use crate::where_it_runs::start;
use std::process::{Child, Command, Stdio};

/// Tells the child what to do. A test that is a part does nothing without it.
pub(crate) const PART: &str = "OFFHEAP_CUDA_TEST_PART";

/// One test of this program, to be run in a process of its own.
pub(crate) fn command(test: &str, part: &str) -> Command {
    start();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(PART, part);
    command
}

/// Runs a part to its end, with these variables. Returns what it printed.
pub(crate) fn run(test: &str, part: &str, variables: &[(&str, &str)]) -> String {
    let mut command = command(test, part);
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{part}: {}\n{text}\n{errors}",
        output.status
    );
    assert!(text.contains("1 passed"), "{part}: no such test\n{text}");
    assert!(!errors.contains("panicked"), "{part}: {errors}");
    text
}

/// Starts a part that the test talks with.
pub(crate) fn talk(test: &str, part: &str) -> Child {
    command(test, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

//! Random programs over pools, buffers, slices, resizable buffers and builders, against a model.
//!
//! The [model](model) knows every byte and every counter, and which call a limit refuses. After each
//! step: contents, alignments and counters are the model's, and no two blocks overlap; at the end
//! everything is zero.
//!
//! `OFFHEAP_PROPTEST_CASES` sets the number of programs (default 4000), and
//! `PROPTEST_MAX_SHRINK_ITERS` how long a failure is made smaller.

mod model;
mod program;
mod system;

use proptest::test_runner::Config;
use proptest_state_machine::prop_state_machine;
use system::System;

fn config() -> Config {
    let cases = std::env::var("OFFHEAP_PROPTEST_CASES").ok();
    Config {
        cases: cases.and_then(|cases| cases.parse().ok()).unwrap_or(4000),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn every_program_agrees_with_the_model(sequential 1..120 => System);
}

/// The same programs with every pool under debug hooks, which end the process at the first damage:
/// the crate itself writes no byte beyond what it asked for, and gives every block back once.
#[cfg(feature = "hooks")]
#[test]
fn every_program_agrees_with_the_model_under_debug_hooks() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["every_program_agrees_with_the_model", "--exact"])
        .env("OFFHEAP_DEBUG_MEMORY_POOL", "abort")
        .env(
            "OFFHEAP_PROPTEST_CASES",
            (config().cases / 10).max(10).to_string(),
        )
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
